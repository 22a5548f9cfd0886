"""Adapting before playing: what moves, what stays as it was, and what is refused."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import mql, propensity
from pipelines.algos.adaptation import Round
from pipelines.core.configs.adapt import AdaptConfig
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.eval import EvalConfig
from pipelines.core.configs.report import ReportConfig
from pipelines.core.errors import InputMissing, StageFailed, UsageError, WrongKind
from pipelines.stages import learners, protocols, results, seating, tables
from pipelines.stages.adapt_papers import BODIES, settled
from pipelines.stages.adapting import Adapter
from pipelines.stages.registry import STAGES
from pipelines.stages.report import page
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.stages.evaluations import evaluation, toward
from tests.toys import DISCOUNT, SPACE, bits, make_log, run, stacked, work

POINT = {"family": "point-semicircle/time"}
SHORT = {"new_updates": 3, "old_updates": 4, "old_batch": 24, "new_batch": 0}
ADAPT = {"protocol": "adapt", "curve_episodes": 0, "adapt": SHORT}


def learned(algorithm="mql", **layer):
    """(policy, the log that it was learned from), as the store would link them."""
    log = run("online", {}, POINT, {"algorithm": algorithm}, layer)
    log.card.digest = algorithm
    policy = run("metatrain", {"log": log}, {"algorithm": algorithm, "online": True})
    policy.card.parents = {"log": SimpleNamespace(id=log.card.id, digest=log.card.digest)}
    return policy, log


@pytest.fixture(scope="module")
def made():
    return learned()


@pytest.fixture(scope="module")
def report(made):
    """(report, the policy's and the log's bits before it)"""
    policy, log = made
    before = bits(policy), bits(log)
    return run("eval", {"policy": policy, "log": log}, ADAPT), before


# ---- the stage -------------------------------------------------------------------------------------------------------


def test_nothing_of_the_meta_policy_or_its_log_has_changed(made, report):
    policy, log = made
    assert (bits(policy), bits(log)) == report[1]


def test_an_adaptation_that_diverges_names_its_task(made):
    policy, log = made
    with pytest.raises(StageFailed, match=r"adapting to task .* gave numbers that are not finite"):
        run("eval", {"policy": policy, "log": log}, ADAPT, {"adapt": {"learning_rate": 1e30}})


def test_what_a_report_says(made, report):
    """Returns before and after of the same episodes, rows, beta, ESS and lambda of each task, and how it was done."""
    found, extra = report[0].tree, report[0].card.extra
    zero_shot = run("eval", {"policy": made[0]}, {"curve_episodes": 0})
    assert found["adapt_before"].tobytes() == zero_shot.tree["returns"].tobytes()
    assert (found["returns"] != found["adapt_before"]).any(1).all()
    assert found["adapt_rows"].tolist() == [20, 20, 20]
    assert ((found["adapt_beta"] > 0) & (found["adapt_beta"] <= 1)).all()  # clipped there
    np.testing.assert_allclose(found["adapt_pull"], 1 - found["adapt_ess"], atol=1e-6)
    assert len(set(found["adapt_ess"].tolist())) == 3
    assert extra["protocol"] == "adapt, to one episode by 3 + 4 updates, lambda 1 - ESS"
    assert extra["adapt"] | SHORT == extra["adapt"]
    assert (extra["adapt"]["log"], extra["adapt"]["clip"], extra["label"]) == ("online", 1.0, "MQL")


@pytest.mark.parametrize("mapping", ["auto", "vmap"])
def test_no_updates_are_td3_context(made, mapping):
    """Of the policy that was trained without keeping what adaptation needs: to the bit where tasks follow each other,
    as on a CPU; beside each other they have products of other shapes, and last digits may differ."""
    none = {**ADAPT, "mapping": mapping, "adapt": {**SHORT, "new_updates": 0, "old_updates": 0}}
    found = run("eval", {"policy": made[0], "log": made[1]}, none).tree
    context, _ = learned("td3-context")
    plain = run("eval", {"policy": context}, {"curve_episodes": 0, "mapping": mapping}).tree
    for name in ("returns", "value", "obs", "discounted_return"):
        if mapping == "vmap":
            np.testing.assert_allclose(found[name], plain[name], rtol=1e-4, atol=1e-4, err_msg=name)
        else:
            assert found[name].tobytes() == plain[name].tobytes(), name
    assert mapping == "vmap" or found["adapt_before"].tobytes() == plain["returns"].tobytes()


def test_no_updates_are_td3_context_behind_a_simulator(monkeypatch):
    family = hosted(line(horizon=5, ends_at=4.0, num_tasks=3))
    monkeypatch.setattr(registry, "find", lambda name, **more: family)
    policy, log = learned(family="line/toy", random_steps=30)
    none = {**ADAPT, "adapt": {**SHORT, "new_updates": 0, "old_updates": 0}}
    found = run("eval", {"policy": policy, "log": log}, none).tree
    context, _ = learned("td3-context", family="line/toy", random_steps=30)
    plain = run("eval", {"policy": context}, {"curve_episodes": 0}).tree
    for name in ("returns", "value", "obs", "discounted_return"):
        assert found[name].tobytes() == plain[name].tobytes(), name


def test_a_chosen_snapshot_adapts_as_its_point_of_the_curve(made, monkeypatch):
    """On the log as it was when the snapshot was taken, here the first one."""

    def first(bench):
        return protocols.Checkpoint(0, int(bench.steps[0]), np.zeros(len(bench.steps)))

    monkeypatch.setattr(seating.Bench, "choose", first)
    chosen = {**ADAPT, "curve_episodes": 1, "checkpoint": "best-on-train"}
    found = run("eval", {"policy": made[0], "log": made[1]}, chosen).tree
    for name in ("ess", "beta", "pull"):
        first_point, last_point = found[f"curve_adapt_{name}"]
        assert found[f"adapt_{name}"].tobytes() == first_point.tobytes() != last_point.tobytes(), name


@pytest.mark.optimised
def test_curves_adapt_every_snapshot(made, report):
    """Beside them the evaluation's bits are what they were: a killed one is begun anew."""
    again = run("eval", {"policy": made[0], "log": made[1]}, {**ADAPT, "curve_episodes": 2}).tree
    assert {name: leaf.tobytes() for name, leaf in again.items() if not name.startswith("curve")} == {
        name: leaf.tobytes() for name, leaf in report[0].tree.items() if not name.startswith("curve")
    }
    assert again["curve_adapt_beta"].shape == again["curve_return"].shape == (2, 3)
    assert (again["curve_adapt_before"] != again["curve_return"]).any()
    assert not np.array_equal(*again["curve_adapt_ess"])


def test_a_snapshot_of_an_online_policy_adapts_on_the_log_as_it_was_then(made):
    policy, log = made
    config = resolve(EvalConfig, ADAPT, {"curve_episodes": 1})
    family = registry.find("point-semicircle/time")
    logs, *_ = learners.read_log(log)
    steps = policy.tree["snapshot_step"]
    adapter = Adapter(config.adapt, 0, policy, log, family)
    random = int((logs.behaviour == 0).sum() - (logs.behaviour.size - logs.size.sum()))  # less what is padded
    assert random >= 15
    sizes = [adapter.sizes_at(logs, int(step)) for step in steps]
    assert [int(one.sum()) - random for one in sizes] == steps.tolist()  # episodes run to the horizon
    assert adapter.sizes_at(logs, 0).sum() == random
    np.testing.assert_array_equal(sizes[-1], logs.size)
    offline = type(policy)(SimpleNamespace(**{**vars(policy.card), "extra": {**policy.card.extra}}), policy.tree)
    offline.card.extra["trained"] = "offline"
    np.testing.assert_array_equal(Adapter(config.adapt, 0, offline, log, family).sizes_at(logs, 0), logs.size)
    own, whole = (
        run("eval", {"policy": one, "log": log}, ADAPT, {"curve_episodes": 1}).tree for one in (policy, offline)
    )
    first, last = (own["curve_adapt_ess"][at] == whole["curve_adapt_ess"][at] for at in (0, -1))
    assert not first.any() and last.all()


@pytest.mark.optimised
def test_an_episode_of_one_step(monkeypatch):
    """Episodes that die at once are all that there is to adapt to."""
    family = line(horizon=5, ends_at=-10.0, num_tasks=3)
    monkeypatch.setattr(registry, "find", lambda name, **more: family)
    policy, log = learned(family="line/toy", random_steps=12)
    order = work("eval", {"policy": policy, "log": log}, ADAPT)
    found = STAGES["eval"].load()(order).arrays
    assert "fewer rows than the 4 features of propensities in task" in order.tell.notes[-1]
    assert order.tell.notes[-1].count("(1)") == 3
    assert found["adapt_rows"].tolist() == [1, 1, 1]
    assert all(
        np.isfinite(leaf).all() for name, leaf in found.items() if "oracle" not in name and "ceiling" not in name
    )


def test_what_is_refused(made):
    policy, log = made

    def refused(error, cause, **inputs):
        with pytest.raises(error, match=cause) as caught:
            run("eval", {"policy": policy, "log": log, **inputs}, ADAPT)
        assert caught.value.hint

    def as_if(artifact, **card):
        return type(artifact)(SimpleNamespace(**{**vars(artifact.card), **card}), artifact.tree)

    refused(InputMissing, "needs the log online that metatrain was learned from", log=None)
    family = {**log.card.extra, "family": "halfcheetah-vel/mql"}
    refused(WrongKind, "is of halfcheetah-vel/mql, the policy of point-semi", log=as_if(log, extra=family, id="x"))
    refused(WrongKind, "was learned from the log online, not from other", log=as_if(log, id="other"))
    refused(WrongKind, "was learned from the log online", log=as_if(log, digest="another generation"))
    blind = {**policy.card.extra, "algorithm": "td3-context"}
    refused(UsageError, "td3-context keeps nothing", policy=as_if(policy, extra=blind))
    refused(UsageError, "a replay-log keeps nothing", policy=log)
    with pytest.raises(UsageError, match="adapts nothing and reads no --log"):
        run("eval", {"policy": policy, "log": log}, {"curve_episodes": 0})


def test_its_tasks_share_one_policy(made):
    with pytest.raises(WrongKind, match="share one policy"):
        run("replay", {"policies": made[1]})


# ---- a round ---------------------------------------------------------------------------------------------------------

AGENT = resolve(MqlConfig, {"hidden": [8], "batch_size": 6, "context_dim": 3, "history": 3})


@pytest.fixture(scope="module")
def parts():
    logs = jax.tree.map(jnp.asarray, stacked(make_log(0, (5, 4)), make_log(1, (6,))))
    state = jax.jit(mql.Core(AGENT, SPACE, DISCOUNT).init)(jax.random.key(0), logs)
    start = mql.Adaptable(*(getattr(state, name) for name in mql.Adaptable._fields))
    return start, logs, jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], make_log(2, (7,)))


def rounded(parts, **fields):
    return program(tuple(fields.items()))(*parts, jax.random.key(1))


@functools.cache
def program(fields):
    said = {"settings": "code", "new_updates": 2, "old_updates": 3, "old_batch": 16, **dict(fields)}
    config = settled(resolve(AdaptConfig, said), "point/toy")
    core = mql.Core(AGENT, SPACE, DISCOUNT, config.learning_rate)
    return jax.jit(Round(config, core).run)


def far(parts, adapted, net="actor"):
    return float(mql.distance(getattr(adapted, net), getattr(parts[0], net)))


def test_each_step_of_a_round_moves_the_nets(parts):
    adapted, _ = rounded(parts, old_updates=0)
    assert far(parts, adapted) > 0 and far(parts, adapted, "critics") > 0
    assert far(parts, adapted) != far(parts, rounded(parts)[0])
    adapted, told = rounded(parts, new_updates=0, old_updates=0)
    assert bits(adapted._asdict()) == bits(parts[0]._asdict())
    assert 0 < told.ess <= 1 and told.rows == 7


@pytest.mark.optimised
def test_the_proximal_term_holds_what_it_is_to_hold(parts):
    """In Eq. 19 and, if it is asked to, in Eq. 18; the critics only where both are anchored."""
    more = {"learning_rate": 1e-2, "new_updates": 0, "old_updates": 25}
    free, strong = (rounded(parts, proximal=pull, **more)[0] for pull in (0.0, 1e3))
    assert far(parts, strong) < 0.5 * far(parts, free)
    assert far(parts, strong, "critics") < 0.5 * far(parts, free, "critics")
    actors = rounded(parts, proximal=1e3, anchored="actor", **more)[0]
    assert far(parts, actors) < 0.5 * far(parts, free)
    assert far(parts, actors, "critics") > 0.5 * far(parts, free, "critics")
    new = {"learning_rate": 1e-2, "new_updates": 25, "old_updates": 0, "proximal": 1e3}
    without, within = (rounded(parts, proximal_new=said, **new)[0] for said in (False, True))
    assert far(parts, within) < 0.5 * far(parts, without)


def test_propensities_are_of_the_new_task_against_the_log(parts):
    """An episode like the log's rows leaves every weight near 1; of a log with a task like the episode and one far
    from it, the rows of the first have the weight."""
    start, _, _ = parts
    near, far_off = make_log(2, (7,)), make_log(3, (7,))
    far_off.obs[:] += 100
    far_off.action[:] = -1
    pair = jax.tree.map(jnp.asarray, stacked(near, far_off))
    alike, new = jax.tree.map(lambda leaf: leaf[:1], pair), jax.tree.map(lambda leaf: leaf[:1], pair)
    said = {"settings": "code", "features": "obs+z", "strength": 1.0, "new_rows": "once"}
    config = settled(resolve(AdaptConfig, said), "point/toy")
    core = mql.Core(AGENT, SPACE, DISCOUNT)
    a_round = Round(config, core)
    fit = jax.jit(a_round.fit)
    same, mixed, apart = (
        fit(start, logs, new, jax.random.key(4)) for logs in (alike, pair, jax.tree.map(lambda leaf: leaf[1:], pair))
    )
    assert same.ess > 0.9
    assert same.beta > mixed.beta > apart.beta
    rows = [core.batch(pair, jnp.full(7, task), jnp.arange(7)) for task in (0, 1)]
    odds = [propensity.log_odds(mixed.model, a_round.seen(start, one, jax.random.key(5))) for one in rows]
    assert odds[0].max() < 0 < odds[1].min()  # below 0 a row is rather a new one


def test_rows_of_no_weight_teach_nothing(parts):
    """Where every beta is 0 and nothing pulls, Eq. 19 leaves the actor's and the critics' parameters alone."""
    adapted, told = rounded(parts, new_updates=0, floor=1e6, clip=20.0, strength=1e-9, proximal=0.0)
    assert (float(told.beta), float(told.ess), far(parts, adapted)) == (0, 0, 0)


def test_what_lies_behind_an_episode_is_not_seen(parts):
    """A log of 7 rows in room for 7, or for more: rows past its end count nothing, in the fit and in updates."""
    start, logs, new = parts
    spoilt = new._replace(reward=new.reward.at[:, 4:].set(1e3), size=jnp.array([4]))
    clean = new._replace(size=jnp.array([4]))
    (one, told), (other, same) = (rounded((start, logs, each)) for each in (clean, spoilt))
    assert bits(one._asdict()) == bits(other._asdict())
    assert bits(told._asdict()) == bits(same._asdict()) and told.rows == 4
    assert bits(rounded(parts)[0]._asdict()) != bits(one._asdict())
    single, told = rounded((start, logs, new._replace(size=jnp.array([1]))))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((single, told))) and told.rows == 1


# ---- settings --------------------------------------------------------------------------------------------------------

# clip, Eq. 18, Eq. 19, its batch, C, features, recent rows: the released scripts
CODE = {
    "humanoid-dir": (2, 5, 15, 1280, 0.1, "obs+z", 2000),
    "halfcheetah-vel": (1, 10, 100, 1280, 0.1, "z", 2000),
    "ant-fwd-back": (1.2, 5, 400, 1280, 0.05, "z", 2000),
    "ant-goal": (2, 10, 150, 256, 0.1, "obs+z", 1000),
    "walker-params": (1.1, 10, 400, 1280, 0.06, "obs+z", 4000),
    "halfcheetah-dir": (1.5, 10, 50, 2560, 0.5, "z", 2000),
}
# clip, Eq. 18, Eq. 19: Table 1, its header turned by one
PAPER = {
    "halfcheetah-dir": (1, 10, 200),
    "humanoid-dir": (1.1, 5, 400),
    "halfcheetah-vel": (1, 10, 100),
    "ant-fwd-back": (1.2, 5, 400),
    "ant-goal": (2, 10, 400),
    "walker-params": (0.8, 10, 300),
}


def as_settled(family, **fields):
    return settled(resolve(AdaptConfig, fields), family)


@pytest.mark.parametrize("body", sorted(CODE))
def test_the_rows_of_the_scripts_and_of_the_table(body):
    code, paper = (as_settled(f"{body}/mql", settings=name) for name in ("code", "paper"))
    found = (code.clip, code.new_updates, code.old_updates, code.old_batch, code.strength, code.features, code.recent)
    assert found == CODE[body]
    assert (paper.clip, paper.new_updates, paper.old_updates) == PAPER[body]
    assert (paper.strength, paper.features, paper.old_batch, paper.learning_rate) == (*CODE[body][4:6], 256, None)
    assert (code.proximal, code.learning_rate, code.clip_on, code.floor) == (0.1, 1e-3, "logit", 0.1)
    assert (paper.proximal, paper.half, paper.proximal_new, paper.anchored) == ("ess", True, True, "actor")
    assert BODIES.keys() == {"code", "paper"}


def test_what_is_said_wins_and_bodies_are_known():
    mine = as_settled("point-semicircle/time", body="ant-goal", proximal=0.5, settings="code")
    assert (mine.clip, mine.proximal, mine.body) == (2.0, 0.5, "ant-goal")
    assert as_settled("point-semicircle/time").old_updates == 100  # the cheetah's, of those that have no row
    with pytest.raises(UsageError, match="ant-gaol has no row") as caught:
        as_settled("x/y", body="ant-gaol")
    assert "ant-goal" in caught.value.hint


def test_a_floor_above_every_beta_is_refused():
    """exp(clip) is the most where the logit is clipped, clip where beta is."""
    assert as_settled("x/y", settings="code", floor=2.7).floor == 2.7
    for fields in ({"settings": "code", "floor": 2.8}, {"floor": 1.1}, {"clip": 0.05}):
        with pytest.raises(UsageError, match="above the greatest beta there can be"):
            as_settled("x/y", **fields)
    assert as_settled("x/y").floor == 0.1


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_tables_say_what_was_gained():
    """Means over seeds of what the cards say, in a table of its own, in the tidy one and in JSON; nothing of a method
    that did not adapt."""
    said = {"before": -30.0, "gain_spread": 1.0, "spread_before": 4.0, "spread_after": 3.0, "rows": 20.0}
    runs = [evaluation("MQL", toward(), seed) for seed in (0, 1)]
    for run_, gain in zip(runs, (2.0, 4.0), strict=True):
        told = {**said, "gain": gain, "beta": 0.8, "ess": 0.45, "lambda": 0.55}
        run_.card.metrics = {"return": 1.0, **{f"adapt/{name}": value for name, value in told.items()}}
    [section] = results.sections([*runs, evaluation("TD3-context", toward())])
    head, line_ = tables.adapted(section, bounded=False)
    assert (head[:3], line_[:3]) == (["method", "before", "gain"], ["MQL", "-30.0", "3.0"])
    assert line_[-3:] == ["0.80", "0.45", "0.55"]
    gains = [row for row in tables.records([section]) if row.stat == "adapt_gain"]
    assert [(row.label, row.point, row.n) for row in gains] == [("MQL", 3.0, 2)]
    assert tables.as_json([section])[0]["methods"][0]["all"]["adapt_lambda"]["point"] == 0.55
    assert "Adaptation" in tables.as_text([section]) and "lambda" in tables.as_markdown([section])
    html = page(ReportConfig(proposition=False), [section], {section.title: []}, [], "")
    assert "Adaptation, before and after" in html and ">-30.0" in html
    assert tables.adapted(results.sections([evaluation("TD3-context", toward())])[0]) == []

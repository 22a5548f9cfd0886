"""distill --method mbml as a stage: relabelled rows stored and asked on the fly, any teacher, what it refuses."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.distilled import teaching
from pipelines.core.configs.algorithms import MbmlConfig, TimeConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.samplers import Pool
from pipelines.core.trees import from_dict, to_dict
from pipelines.core.types import transitions
from pipelines.stages import distill, learners
from pipelines.stages.registry import STAGES
from tests.lines import line
from tests.toys import AGENTS, DISCOUNT, SPACE, Memory, Stored, data_of, make, make_log, run, stored, work

from .relabelling import found_as, log_of

SHORT = {"method": "mbml", "updates": 4, "block_updates": 2, "agent": {**AGENTS["mbml"], "noise_dim": None}}
ASK = {"reward": "known", "dynamics": "same"}


def teachers_of(log: Stored, name: str) -> Stored:
    """Untrained teachers of the log's tasks."""
    logs, _, space, discount = learners.read_log(log)
    algorithm = learners.make(name, AGENTS[name], space, discount)
    state = jax.jit(jax.vmap(algorithm.init))(jax.random.split(jax.random.key(0), len(logs.size)), logs)
    extra = log.card.extra | {"algorithm": name, "agent": AGENTS[name]}
    card = SimpleNamespace(id="set", tasks=log.card.tasks, extra=extra)
    return Stored(card, {"acting": to_dict(algorithm.acting(state))})


def relabelled_of(log: Stored, **fields) -> Stored:
    with pytest.MonkeyPatch.context() as patch:
        found_as(line(num_tasks=3), patch)
        found = run("relabel", {"log": log}, ASK, fields)
    found.card.parents = {"log": SimpleNamespace(id=log.card.id, digest=log.card.digest)}
    return found


@pytest.fixture(scope="module")
def log():
    return log_of(line(num_tasks=3), num_episodes=8)


@pytest.fixture(scope="module")
def teachers(log):
    return teachers_of(log, "bcq")


@pytest.fixture(scope="module")
def kept(log):
    return relabelled_of(log, rows_per_pair=5)


@pytest.fixture(scope="module")
def made(log, teachers, kept):
    """(the meta-policy, the checkpoints on the way)"""
    memory = Memory(every=1)
    inputs = {"log": log, "teachers": teachers, "relabelled": kept}
    order = work("distill", inputs, SHORT, {"agent": {"relabel": "known"}}, checkpoint=memory)
    return stored("distill", distill.run(order), order.config), memory


def test_the_policy_is_rebuilt_from_its_card(made):
    """What was left to the teachers is on it: BCQ's noise of twice the action, its Phi."""
    extra, tree = made[0].card.extra, made[0].arrays()
    assert extra["algorithm"] == "mbml"
    settled = {name: extra["agent"][name] for name in ("noise_dim", "noise_clip", "perturbation_scale")}
    assert settled == {"noise_dim": 2, "noise_clip": 0.5, "perturbation_scale": 0.05}
    space = learners.Space.from_json(extra["space"])
    algorithm = learners.make(extra["algorithm"], extra["agent"], space, extra["discount"])
    acting = learners.acting_of(made[0], algorithm.acting_type)
    assert {"encoder", "q", "generator", "perturbation"} == set(acting.params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(acting))
    memory = algorithm.policy.begin(acting, jax.random.key(0))
    action = algorithm.policy.act(acting, memory, jnp.zeros(1), jax.random.key(1), 0.0)
    assert action.shape == (1,)
    assert len(tree["snapshot_step"]) == 2


def test_killed_half_way_it_comes_to_the_same_bits(made, log, teachers, kept):
    whole, memory = made
    half = Memory(kept=memory.kept[:1])
    inputs = {"log": log, "teachers": teachers, "relabelled": kept}
    again = distill.run(work("distill", inputs, SHORT, {"agent": {"relabel": "known"}}, checkpoint=half))
    for old, new in zip(
        jax.tree.leaves(whole.arrays()["acting"]), jax.tree.leaves(again.arrays["acting"]), strict=True
    ):
        np.testing.assert_array_equal(old, new)


def test_ensembles_are_asked_on_the_fly(log, teachers):
    found = relabelled_of(log, reward="model", apply="on-the-fly", threshold=1e9)
    rows, asks = distill.relabelled_rows(MbmlConfig(), log, found)
    agent = {**SHORT["agent"], "noise_dim": 2}
    logs, _, space, discount = learners.read_log(log)
    teach = teaching(learners.make("bcq", AGENTS["bcq"], space, discount))
    algorithm = learners.make("mbml", agent, space, discount, teach=teach, **asks)
    acting = from_dict(learners.make("bcq", AGENTS["bcq"], space, discount).acting_type, teachers.tree["acting"])
    data = distill.mbml_batch.Data(logs, np.zeros(logs.reward.shape, np.float32), acting, rows)
    batch = jax.jit(algorithm.sample)(jax.tree.map(jnp.asarray, data), jax.random.key(0))
    assert batch.pairs.valid.sum() == 3 * 2 * 4
    np.testing.assert_array_equal(batch.pairs.logged.reward[0], batch.own.reward[:, 0])
    own = np.asarray(batch.pairs.relabelled.reward)
    assert np.ptp(own, axis=0).min() > 0  # each task's ensemble has an answer of its own


def test_stored_rows_become_a_pool(log, kept):
    rows, asks = distill.relabelled_rows(MbmlConfig(relabel="known"), log, kept)
    assert isinstance(rows, Pool)
    assert asks == {}
    np.testing.assert_array_equal(rows.size, 5 * (1 - np.eye(3)))


@pytest.mark.parametrize("name", ["batch-sac", "cql", "td3bc", "iql", "ddpg"])
def test_any_teacher_with_a_value_is_distilled(name, log):
    """Where there is no generator, G_D has no noise and imitates, and there is no xi_D."""
    teachers = teachers_of(log, name)
    layer = {"agent": {"relabel": "none", "triplet": False, "perturbation_scale": None}}
    if name == "batch-sac":
        found = run("distill", {"log": log, "teachers": teachers}, SHORT, layer)
        agent = found.card.extra["agent"]
        assert (agent["noise_dim"], agent["perturbation_scale"]) == (0, 0)
        assert set(found.arrays()["acting"]["params"]) == {"encoder", "q", "generator"}
        return
    teacher, rows = make(name), transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.arange(6))
    acting = jax.eval_shape(lambda key: teacher.acting(teacher.init(key, make_log(0))), jax.random.key(0))
    lesson = jax.eval_shape(teaching(teacher), acting, rows, jax.random.key(0))
    assert lesson.row.action.shape == (6, 2)
    assert lesson.noise.shape == lesson.xi.shape == (6, 0)
    assert distill.settled("mbml", MbmlConfig(), teacher).noise_dim == 0


def test_a_box_that_is_not_the_unit_box_changes_nothing():
    """Twice the bounds and twice the actions: lessons and rows are those of the unit box."""
    wide = SPACE._replace(low=(-2.0, -2.0), high=(2.0, 2.0))
    data, batches = jax.tree.map(jnp.asarray, data_of("mbml")), []
    for space, factor in ((SPACE, 1), (wide, 2)):
        teach = teaching(learners.make("bcq", AGENTS["bcq"], space, DISCOUNT), 0.5)
        algorithm = learners.make("mbml", AGENTS["mbml"], space, DISCOUNT, teach=teach)
        logs = data.logs._replace(action=factor * data.logs.action)
        batches.append(jax.jit(algorithm.sample)(data._replace(logs=logs), jax.random.key(0)))
    for unit, other in zip(*map(jax.tree.leaves, batches), strict=True):
        np.testing.assert_allclose(unit, other, rtol=1e-5, atol=1e-6)


# ---- what is left to the teachers ------------------------------------------------------------------------------------


def test_time_asks_for_actions_where_teachers_perturb_them():
    auto = TimeConfig()
    assert distill.settled("time", auto, make("batch-sac")) is auto  # its bits, and what is on its card, are as before
    found = distill.settled("time", auto, make("bcq"))
    assert (found.act, found.noise_dim, found.noise_clip, found.perturbation_scale) == ("generator", 4, 0.5, 0.05)
    for act in ("shooting", "cem"):
        plain = TimeConfig(act=act)
        assert distill.settled("time", plain, make("bcq")) is plain
    imitated = distill.settled("time", TimeConfig(act="generator"), make("batch-sac"))
    assert (imitated.noise_dim, imitated.perturbation_scale) == (0, 0)


def test_what_is_said_is_kept():
    found = distill.settled("mbml", MbmlConfig(noise_clip=2.0, perturbation_scale=0.0), make("bcq"))
    assert (found.noise_dim, found.noise_clip, found.perturbation_scale) == (4, 2.0, 0.0)
    with pytest.raises(UsageError, match="noise_dim=7, but the teachers' generator has noise of 4"):
        distill.settled("mbml", MbmlConfig(noise_dim=7), make("bcq"))
    with pytest.raises(UsageError, match=r"perturbation_scale=0\.1, but the teachers do not perturb"):
        distill.settled("mbml", MbmlConfig(perturbation_scale=0.1), make("cql"))


# ---- refusals --------------------------------------------------------------------------------------------------------


def changed(artifact: Stored, **fields) -> Stored:
    return dataclasses.replace(artifact, card=SimpleNamespace(**{**vars(artifact.card), **fields}))


def test_relabelled_rows_that_cannot_be_read(log, kept):
    known, learned = MbmlConfig(relabel="known"), MbmlConfig()
    with pytest.raises(UsageError, match="relabel=ensemble needs --relabelled") as caught:
        distill.relabelled_rows(learned, log, None)
    assert "omrl relabel --log log makes it" in caught.value.hint
    with pytest.raises(UsageError, match="relabel=none reads no relabelled-log"):
        distill.relabelled_rows(MbmlConfig(relabel="none"), log, kept)
    with pytest.raises(WrongKind, match="relabel=ensemble, but relabel has reward=known"):
        distill.relabelled_rows(learned, log, kept)
    stranger = changed(kept, parents={"log": SimpleNamespace(id="elsewhere", digest="bits of log")})
    with pytest.raises(WrongKind, match="made of another log than log"):
        distill.relabelled_rows(known, log, stranger)
    nothing = dataclasses.replace(kept, tree=kept.tree | {"pair_size": np.diag([3, 3, 3])})
    with pytest.raises(StageFailed, match="no row of relabel passed under another task"):
        distill.relabelled_rows(known, log, nothing)
    episodes = changed(kept, extra=kept.card.extra | {"unit": "episode"})
    with pytest.raises(WrongKind, match="does not hold single rows"):
        distill.relabelled_rows(known, log, episodes)


def test_time_takes_no_relabelled_log(log, teachers, kept):
    with pytest.raises(UsageError, match="tiMe reads no relabelled-log"):
        run("distill", {"log": log, "teachers": teachers, "relabelled": kept}, {"method": "time"})


def test_it_may_be_given_on_the_command_line():
    role = STAGES["distill"].consumes["relabelled"]
    assert role.kinds == ("relabelled-log",)
    assert not role.required

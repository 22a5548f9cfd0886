"""BOReL's stage: a log and a belief-model become a policy that is rebuilt from its card, resumes, and plays trials."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.algos.belief import make_encoder
from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import MetatrainConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.recipe import load
from pipelines.core.samplers import rows_of
from pipelines.core.trees import task_leaf
from pipelines.core.types import Relabelled, Task
from pipelines.stages import belief_view, learners, metatrain
from pipelines.stages.borel_papers import BOREL
from pipelines.tasks import registry
from tests.lines import line
from tests.toys import DISCOUNT, SPACE, Memory, Stored, make_log, run, shapes_of, stored, work

HORIZON = 3
BELIEF = {
    "trial_episodes": 2,
    "latent_dim": 2,
    "width": 6,
    "embed_action": 3,
    "embed_obs": 4,
    "embed_reward": 3,
    "decoder_hidden": [8],
    "decode_state": False,
    "updates": 4,
    "block_updates": 2,
    "num_snapshots": 1,
}
SHORT = {
    "algorithm": "borel",
    "updates": 8,
    "block_updates": 2,
    "num_snapshots": 2,
    "agent": {"hidden": [8], "batch_size": 6, "tasks_per_update": 2},
}


def log_of(lengths=(HORIZON,) * 6, num_tasks=3, family="line/toy", space=SPACE, id="log"):
    logs = [make_log(seed, lengths, terminal=(), space=space) for seed in range(num_tasks)]
    tree = {
        task_leaf(n): {name: np.array(column) for name, column in log._asdict().items()} for n, log in enumerate(logs)
    }
    extra = {"family": family, "space": space.to_json(), "horizon": HORIZON, "discount": DISCOUNT}
    about = {"tasks": [Task(n, f"task {n}", "train", {"x": float(n)}).to_json() for n in range(num_tasks)]}
    about |= {"extra": extra, "arrays": shapes_of(tree), "config": {}, "parents": {}}
    return Stored(SimpleNamespace(kind="replay-log", id=id, digest=f"bits of {id}", seed=0, **about), tree)


@pytest.fixture(scope="module")
def log():
    return log_of()


@pytest.fixture(scope="module")
def model(log):
    return run("belief", {"log": log}, BELIEF)


@pytest.fixture(scope="module")
def made(log, model):
    memory = Memory(every=1)
    order = work("metatrain", {"log": log, "belief": model}, SHORT, checkpoint=memory)
    return stored("metatrain", metatrain.run(order), order.config), memory, order.tell


def refuse(kind, words, log, *layers, **inputs):
    with pytest.raises(kind, match=words) as caught:
        metatrain.run(work("metatrain", {"log": log, **inputs}, SHORT, *layers))
    return caught.value.hint


def test_the_policy_is_rebuilt_from_its_card(made, model):
    """With its encoder, which is that of the belief-model to the bit."""
    artifact, _, tell = made
    extra = artifact.card.extra
    assert extra["algorithm"] == "borel" and extra["agent"]["belief"]["width"] == 6
    assert extra["agent"]["belief"]["trial_episodes"] == 2
    algorithm = learners.make("borel", extra["agent"], SPACE, DISCOUNT)
    acting = learners.acting_of(artifact, algorithm.acting_type)
    jax.tree.map(np.testing.assert_array_equal, acting.coder.nets, model.tree["coder"]["nets"])
    memory = algorithm.policy.begin(acting, jax.random.key(0))
    assert algorithm.policy.act(acting, memory, np.zeros(3, np.float32), jax.random.key(0), 0.0).shape == (2,)
    assert artifact.tree["snapshots"]["inner"]["actor"]["Dense_0"]["kernel"].shape[0] == 2
    assert tell.notes == ["beliefs of 9 trials of 2 episodes, 54 rows"]


def test_it_resumes_to_the_same_bits(made, log, model):
    whole, memory, _ = made
    assert [step for step, _ in memory.kept] == [2, 4, 6]
    half = Memory(kept=memory.kept[:2])
    again = metatrain.run(work("metatrain", {"log": log, "belief": model}, SHORT, checkpoint=half))
    jax.tree.map(np.testing.assert_array_equal, again.arrays["acting"], whole.tree["acting"])


def test_it_plays_trials_of_its_family(made, monkeypatch):
    """In a family whose observations are those of the log; there is nothing that it should be good at."""
    toy = line(horizon=HORIZON, num_tasks=2)
    wide = dataclasses.replace(
        toy,
        space=SPACE,
        reset=lambda task, key: (np.zeros(3, np.float32), np.zeros(3, np.float32)),
        step=lambda task, state, action, key: (state, state, task[0] * action[0], False, np.zeros(2, np.float32)),
    )
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: wide)
    fields = {"protocol": "episodes", "trial_episodes": 2, "episodes": 2, "curve_episodes": 0}
    report = run("eval", {"policy": made[0]}, fields)
    assert report.card.extra["label"] == "BOReL"
    assert report.tree["episode_returns"].shape == (2, 2, 2)
    assert np.isfinite(report.tree["episode_returns"]).all()
    first, second = report.tree["episode_returns"][..., 0], report.tree["episode_returns"][..., 1]
    assert (first != second).all()  # the belief was carried on


def mixed_of(log, pays=7.0, parent="log"):
    """Each task's first episode is the next task's, and pays as much in every step."""
    tree = {}
    for n in range(3):
        row, nothing = np.arange(HORIZON, dtype=np.int32), np.zeros(HORIZON, np.int32)
        reward, empty = np.full(HORIZON, pays, np.float32), np.zeros((HORIZON, 0), np.float32)
        found = Relabelled(nothing, nothing + (n + 1) % 3, row, reward, nothing.astype(np.float32), empty, nothing)
        tree[task_leaf(n)] = dict(found._asdict())
    extra = {"unit": "episode", "apply": "stored", "logs": ["log"], "horizon": HORIZON}
    made_from = SimpleNamespace(id=parent, digest=f"bits of {parent}")
    about = {"parents": {"log": made_from}, "config": {"trial_episodes": 2}, "tasks": log.card.tasks}
    return Stored(SimpleNamespace(kind="relabelled-log", id="mixed", extra=extra, **about), tree)


def test_mixed_trials_are_learned_from_where_a_field_says_so(log, model, monkeypatch):
    """Rows and beliefs are those of the mixed trials: the first of each task is another, the second as it was."""
    seen = []
    monkeypatch.setattr(belief_view, "run_across", lambda *args: seen.append(args[3]))
    metatrain.run(work("metatrain", {"log": log, "belief": model}, SHORT))
    mixed = {"log": log, "belief": model, "relabelled": mixed_of(log)}
    metatrain.run(work("metatrain", mixed, SHORT, {"agent": {"data": "mixed"}}))
    own, other = seen
    assert (other.logs.reward[:, :HORIZON] == 7).all()
    np.testing.assert_array_equal(other.logs.obs[0, : HORIZON + 1], own.logs.obs[1, : HORIZON + 1])
    np.testing.assert_array_equal(other.logs.reward[:, HORIZON:], own.logs.reward[:, HORIZON:])
    second = slice(2 * HORIZON + 1, 4 * HORIZON + 2)  # slots of the second trial
    np.testing.assert_array_equal(other.views.belief[:, second], own.views.belief[:, second])
    np.testing.assert_array_equal(other.views.belief[:, 0], own.views.belief[:, 0])
    assert (other.views.belief[:, 1 : 2 * HORIZON + 1] != own.views.belief[:, 1 : 2 * HORIZON + 1]).any((1, 2)).all()


def test_mixing_costs_no_trial(log, model, monkeypatch):
    """Though the last episode is now one that was cut."""
    monkeypatch.setattr(belief_view.belief_stage, "mixed", lambda work, logs: logs._replace(size=logs.size - 1))
    inputs = {"log": log, "belief": model, "relabelled": mixed_of(log)}
    order = work("metatrain", inputs, SHORT, {"agent": {"data": "mixed"}})
    metatrain.run(order)
    assert order.tell.notes == ["beliefs of 9 trials of 2 episodes, 51 rows"]


def test_beliefs_begin_anew_where_the_released_code_has_them_so(log, model, monkeypatch):
    """After a row that is paid the belief is that of the row alone; by default it is of all rows so far."""
    seen = []
    monkeypatch.setattr(belief_view, "run_across", lambda *args: seen.append(args[3]))
    inputs = {"log": log, "belief": model}
    for rule in ("never", "paid", "terminal"):
        metatrain.run(work("metatrain", inputs, SHORT, {"agent": {"belief_reset": rule}}))
    never, paid, terminal = seen
    np.testing.assert_array_equal(terminal.views.belief, never.views.belief)  # nothing in this log is terminal
    config, coder = belief_view.model_of(model), belief_view.coder_of(model)
    encoder = make_encoder(config, SPACE)
    alone = rows_of(paid.logs, np.zeros(4, np.int32), np.array([1, 2, 4, 5], np.int32))
    flag = np.array([0, 1, 0, 0], np.float32)  # the third row ends the first of two episodes
    blank = np.zeros((4, config.width), np.float32)
    want = np.concatenate(encoder.belief(coder, encoder.step(coder, blank, alone, flag)), -1)
    np.testing.assert_allclose(paid.views.belief[0, [2, 3, 5, 6]], want, rtol=1e-5, atol=1e-6)
    assert (np.abs(never.views.belief[0, [2, 3, 5, 6]] - want) > 1e-4).any(-1).all()
    assert "belief_reset" not in resolve(MetatrainConfig, SHORT).identity()["agent"]


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_belief_is_needed(log, model):
    assert refuse(UsageError, "needs --belief", log) == "omrl belief --log log learns one"
    with pytest.raises(UsageError, match="batch-sac reads no belief"):
        metatrain.run(work("metatrain", {"log": log, "belief": model}))


def test_a_belief_of_another_family_is_refused(log, model):
    refuse(WrongKind, "is of line/toy, the log of other/toy", log_of(family="other/toy"), belief=model)
    wide = log_of(space=SPACE._replace(obs_shape=(4,)))
    refuse(WrongKind, "of other observations or actions", wide, belief=model)
    options = log_of(family="line/toy,start=fixed")  # the same family, logged from another start
    metatrain.run(work("metatrain", {"log": options, "belief": model}, SHORT))
    dense = "is of line/toy, the log of line/toy,reward=dense"
    refuse(WrongKind, dense, log_of(family="line/toy,start=fixed,reward=dense"), belief=model)


def test_a_belief_of_test_tasks_is_refused(log, model):
    about = vars(model.card) | {"extra": model.card.extra | {"split": "test"}}
    seen = Stored(SimpleNamespace(**about), model.tree)
    hint = refuse(UsageError, "belief belief is of test tasks, learn_from=train", log, belief=seen)
    assert hint == "take a belief of train tasks"


def test_too_few_trials_are_refused_by_name(model):
    words = r"no trial of 2 whole episodes in task task 0 \(1 whole\), task 1 \(1 whole\), task 2"
    assert "`omrl belief --log log --trial-episodes N`" in refuse(UsageError, words, log_of((3, 2)), belief=model)


def test_a_belief_that_is_not_finite_is_refused(log, model):
    tree = jax.tree.map(lambda leaf: leaf * np.nan, model.tree["coder"])
    spoilt = Stored(model.card, {**model.tree, "coder": tree})
    refuse(StageFailed, "beliefs are not finite in task task 0, task 1, task 2", log, belief=spoilt)


def test_mixed_trials_are_refused_where_they_are_not_read(log, model):
    hint = refuse(UsageError, "agent.data=own", log, belief=model, relabelled=log)
    assert hint == "leave --relabelled out, or --set agent.data=mixed"
    mixed = {"agent": {"data": "mixed"}}
    refuse(UsageError, "data=mixed needs --relabelled", log, mixed, belief=model)
    other = mixed_of(log, parent="older")
    refuse(WrongKind, "made of another log than log", log, mixed, belief=model, relabelled=other)


def test_a_learner_of_other_actions_is_refused(log, model):
    refuse(UsageError, "learner=dqn cannot act", log, {"agent": {"learner": "dqn"}}, belief=model)


def test_the_ant_learns_with_cql_on_soft_values_as_without():
    row = {"papers": BOREL, "paper": "borel/ant-semicircle", "algorithm": "borel"}
    assert resolve(MetatrainConfig, row, {"agent": {"learner": "cql"}}).agent.soft_target
    for name in ("", "-excluding", "-fixed"):
        agent = load(f"borel-ant-semicircle{name}").steps["borel-cql"].config["agent"]
        assert (agent["learner"], agent["soft_target"]) == ("cql", True)


def test_the_papers_learner_sees_no_bytes():
    scaled = {body for body, row in BOREL["borel"].items() if resolve(MetatrainConfig, row).agent.scale_obs}
    assert scaled == {"reacher-image"}


def test_older_artifacts_keep_their_ids():
    assert "belief" not in str(resolve(MetatrainConfig, {}).identity())

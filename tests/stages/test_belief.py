"""omrl belief, on a line whose rewards are the task's number times the place."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos.belief import make_encoder
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefStageConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.samplers import logged_trials
from pipelines.core.types import Space, Task
from pipelines.stages import belief, relabelled
from pipelines.stages.belief_papers import BELIEF
from pipelines.stages.belief_view import coder_of, model_of
from tests.core.test_trials import told
from tests.lines import line
from tests.toys import Memory, Stored, Talk, bits, run, stacked, stored, work

from .relabelling import found_as, log_of, logs_of

FAMILY = line(num_tasks=3)
TRIALS = {"reward": "known", "unit": "episode"}


@pytest.fixture(autouse=True)
def family(monkeypatch):
    return found_as(FAMILY, monkeypatch)


@pytest.fixture(scope="module")
def log():
    return log_of(FAMILY, 9)


@pytest.fixture(scope="module")
def mixed(log):
    with pytest.MonkeyPatch.context() as patch:
        found_as(FAMILY, patch)
        found = run("relabel", {"log": log}, TRIALS)
    found.card.parents = {"log": SimpleNamespace(id="log", digest="bits of log")}
    return found


@pytest.fixture(scope="module")
def learned(log):
    """(the artifact, its checkpoints, what was told)"""
    with pytest.MonkeyPatch.context() as patch:
        found_as(FAMILY, patch)
        order = work("belief", {"log": log}, checkpoint=(kept := Memory(every=1)), tell=(tell := Talk()))
        return stored("belief", belief.run(order), order.config), kept.kept, tell


def refused(kind, inputs, *layers):
    with pytest.raises(kind) as caught:
        belief.run(work("belief", inputs, *layers))
    return f"{caught.value.cause} | {caught.value.hint}"


# ---- the artifact ----------------------------------------------------------------------------------------------------


def test_the_artifact_rebuilds_its_encoder(learned):
    artifact, _, tell = learned
    model, coder = model_of(artifact), coder_of(artifact)
    assert (model.trial_episodes, model.width, model.decode_state) == (2, 16, False)
    encoder = make_encoder(model, FAMILY.space)
    q = encoder.belief(coder, encoder.begin(coder))
    assert q.mean.shape == (5,)
    assert np.isfinite(q.mean).all()
    assert tell.notes == ["12 trials of 2 episodes in 3 tasks"]
    assert [step for step, _ in tell.rows] == [10, 20]
    assert tell.rows[0][1].keys() == {"loss", "reward_loss", "kl"}
    assert artifact.card.extra["family"] == "line/toy"
    assert list(artifact.tree["snapshot_step"]) == [10, 20]
    last = jax.tree.map(lambda leaf: leaf[-1], artifact.tree["snapshots"])
    assert bits(last) == bits({name: artifact.tree[name] for name in ("coder", "decoders")})
    assert float(coder.norm.obs_std[0]) != 1  # the scales of the log are part of it


def test_resumed_in_the_middle_it_is_the_same_to_the_bit(log, learned):
    artifact, kept, _ = learned
    assert [cursor for cursor, _ in kept] == [10]
    tell = Talk()
    order = work("belief", {"log": log}, checkpoint=Memory(kept=kept[:1]), tell=tell)
    assert bits(belief.run(order).arrays) == bits(artifact)
    assert "resumed at update 10 of 20" in tell.notes


def test_what_is_mixed_is_what_is_learned_from(log, mixed, learned):
    found = run("belief", {"log": log, "relabelled": mixed})
    assert bits(found.tree["coder"]) != bits(learned[0].tree["coder"])
    want = relabelled.spliced(mixed, [stacked(*logs_of(log))])
    order = work("belief", {"log": log, "relabelled": mixed})
    assert bits(belief.mixed(order, stacked(*logs_of(log)))._asdict()) == bits(want._asdict())


@pytest.mark.parametrize(
    ("dynamics", "given", "want"), [(False, None, False), (True, None, True), (True, False, False)]
)
def test_successors_are_decoded_where_tasks_differ_in_them(monkeypatch, log, dynamics, given, want):
    found_as(dataclasses.replace(FAMILY, dynamics=dynamics), monkeypatch)
    config = resolve(BeliefStageConfig, {"decode_state": given})
    assert belief.settled(config, log.card.extra["family"], FAMILY.space).decode_state is want


# ---- which trials ----------------------------------------------------------------------------------------------------

TASKS = [Task(n, f"toy {n}", "train", {}) for n in range(2)]


def test_trials_are_whole_and_show_what_was_logged():
    """Episodes of three rows; the second log's first dies at its second row, its last one is cut."""
    logs = stacked(told([3, 3, 3, 3, 3]), told([2, 3, 3, 2], dies=(0,)))
    where = belief.located(logs, TASKS, 2, 3)
    np.testing.assert_array_equal(where.size, [2, 1])
    np.testing.assert_array_equal(where.first, [[0, 6, 12], [0, 5, 5]])
    numbers = jnp.array([0, 0, 1]), jnp.array([0, 1, 0])
    found = logged_trials(*jax.tree.map(jnp.asarray, (logs, where)), *numbers, 6)
    np.testing.assert_array_equal(found.valid, [[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    np.testing.assert_array_equal(found.row.obs[0, :, 0], [0, 1, 2, 10, 11, 12])
    np.testing.assert_array_equal(found.row.next_obs[0, :, 0], [1, 2, 3, 11, 12, 13])  # the true successor
    np.testing.assert_array_equal(found.row.reward[1], [6, 7, 8, 9, 10, 11])
    np.testing.assert_array_equal(found.next_flag, [[0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(found.flag[2], [0, 0, 1, 0, 0, 0])


def test_a_task_without_a_whole_trial_is_named():
    logs = stacked(told([3, 3]), told([3, 2]))
    with pytest.raises(UsageError, match=r"no trial of 2 whole episodes in task toy 1 \(1 whole\)$") as caught:
        belief.located(logs, TASKS, 2, 3)
    assert "trial_episodes" in caught.value.hint
    with pytest.raises(UsageError, match=r"no trial of a whole episode in task toy 0 \(0 whole\), toy 1 \(0 whole\)"):
        belief.located(stacked(told([2]), told([1])), TASKS, 1, 3)
    many = [Task(n, f"toy {n}", "train", {}) for n in range(8)]
    with pytest.raises(UsageError, match=r"toy 4 \(1 whole\) and 3 more$"):
        belief.located(stacked(*[told([3, 2])] * 8), many, 2, 3)


def test_mixing_costs_no_trial():
    """The last episode was replaced by one that is cut, as where physics failed."""
    own, mixed = stacked(told([3, 3]), told([3, 3])), stacked(told([3, 3]), told([3, 2]))
    where = belief.located(mixed, TASKS, 2, 3, own=own)
    np.testing.assert_array_equal(where.size, [1, 1])
    np.testing.assert_array_equal(where.first, [[0, 6], [0, 5]])


def test_trials_are_as_many_as_the_log_has_and_lie_where_the_mixed_one_has_them(log, monkeypatch):
    seen, learn = [], belief._learn
    monkeypatch.setattr(belief, "mixed", lambda work, logs: logs._replace(size=logs.size - 1))
    monkeypatch.setattr(belief, "_learn", lambda *args: seen.append(args[2].where) or learn(*args))
    belief.run(work("belief", {"log": log}, {"trial_episodes": 3}))
    np.testing.assert_array_equal(seen[0].first, [[0, 15, 30, 44]] * 3)


def test_too_few_trials(log):
    said = refused(UsageError, {"log": log}, {"trial_episodes": 10})
    assert "no trial of 10 whole episodes in task times 1 (" in said
    assert "| collect more steps, or --set trial_episodes=" in said


# ---- what does not fit together --------------------------------------------------------------------------------------


def other(artifact, **about):
    card = SimpleNamespace(**{**vars(artifact.card), **about})
    return Stored(card, artifact.tree)


def test_a_relabelled_log_of_something_else(log, mixed):
    parents = {"log": SimpleNamespace(id="another", digest="bits of log")}
    said = refused(WrongKind, {"log": log, "relabelled": other(mixed, parents=parents)})
    assert "was made of another log than log: another | omrl relabel --log log --unit episode" in said
    said = refused(WrongKind, {"log": other(log, digest="other bits"), "relabelled": mixed})
    assert "was made of other bits of the log log: bits of  | omrl relabel --log log --unit episode --force" in said
    rows = run("relabel", {"log": log}, {"reward": "known"})
    rows.card.parents = mixed.card.parents
    said = refused(WrongKind, {"log": log, "relabelled": rows})
    assert "does not hold whole episodes: unit=row" in said
    assert "--set unit=episode" in said
    said = refused(UsageError, {"log": log, "relabelled": mixed}, {"trial_episodes": 3})
    assert "mixed trials of 2 episodes, trial_episodes=3 | --set trial_episodes=2" in said


def test_replayed_rows_want_their_log(log, mixed):
    said = refused(UsageError, {"log": log, "replay": log})
    assert "--replay without --relabelled" in said
    said = refused(UsageError, {"log": log, "relabelled": mixed, "replay": log})
    assert "holds no replayed rows | leave --replay out" in said
    replayed = {"replay": SimpleNamespace(id="guests", digest="bits of guests")}
    guests = other(mixed, parents=mixed.card.parents | replayed)
    said = refused(UsageError, {"log": log, "relabelled": guests})
    assert "holds rows of the log guests | --replay guests" in said
    again = other(log, id="guests", digest="other bits")
    said = refused(WrongKind, {"log": log, "relabelled": guests, "replay": again})
    assert (
        "was made of other bits of the log guests | omrl relabel --log log --unit episode --replay guests --force"
        in said
    )


def test_rewards_that_are_no_numbers_name_their_task(log, mixed):
    tree = dict(mixed.tree)
    spoilt = {**tree["task_0001"], "reward": np.full_like(tree["task_0001"]["reward"], np.nan)}
    said = refused(StageFailed, {"log": log, "relabelled": Stored(mixed.card, {**tree, "task_0001": spoilt})})
    assert "are not finite in task times 2" in said


def test_losses_that_are_no_numbers_say_what_to_set(log):
    said = refused(StageFailed, {"log": log}, {"learning_rate": 1e30})
    assert "is not finite in all tasks together" in said
    assert "--set learning_rate=" in said


def test_a_log_of_test_tasks_is_refused(log):
    card = {"extra": log.card.extra | {"split": "test"}}
    assert "is of test tasks, learn_from=train" in refused(UsageError, {"log": other(log, **card)})


def test_heads_that_do_not_fit(log):
    said = refused(UsageError, {"log": log}, {"reward_head": "cells"})
    assert "observations of (1,) name no cell of a grid of (5, 5)" in said
    images = Space((8, 8, 1), (2,), (-1.0,) * 2, (1.0,) * 2, obs_dtype="uint8")
    with pytest.raises(UsageError, match="images are not decoded"):
        belief.settled(resolve(BeliefStageConfig, {"decode_state": True}), FAMILY.name, images)
    assert belief.settled(resolve(BeliefStageConfig), FAMILY.name, images).decode_state is False
    with pytest.raises(UsageError, match="reward_inputs is empty"):
        resolve(BeliefStageConfig, {"reward_inputs": []})


def test_observations_that_are_no_cells(log):
    said = refused(UsageError, {"log": log}, {"reward_head": "cells", "cells": [5]})
    assert "is no cell of a grid of 5, counted from 0 | --set cells=" in said
    config = resolve(BeliefStageConfig, {"reward_head": "cells", "cells": [2, 3]})
    belief.want_cells(config, np.array([[[0.0, 0.0], [1.0, 2.0]]]))
    for wrong in ([2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.5, 0.0]):
        with pytest.raises(UsageError, match="is no cell of a grid of 2 x 3"):
            belief.want_cells(config, np.array([[0.0, 0.0], wrong]))
    belief.want_cells(resolve(BeliefStageConfig), np.array([[0.5, 7.0]]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cells": [0, 5]}, "'cells.0': .* greater than 0"),
        ({"decoder_hidden": [0]}, "'decoder_hidden.0': .* greater than 0"),
        ({"embed_action": 0}, "embed_action=0: reward_inputs has the action"),
        ({"embed_action": 0, "reward_inputs": ["action"]}, "embed_action=0: reward_inputs has the action"),
    ],
)
def test_nets_of_no_width(fields, words):
    with pytest.raises(UsageError, match=words):
        resolve(BeliefStageConfig, fields)
    assert resolve(BeliefStageConfig, {"embed_action": 0, "reward_head": "cells"}).embed_action == 0


def test_one_task_is_not_enough():
    assert "needs at least 2 tasks" in refused(UsageError, {"log": log_of(line(num_tasks=1), 9)})


def test_the_papers_rows_build():
    for body in BELIEF["borel"]:
        config = resolve(BeliefStageConfig, {"papers": BELIEF}, {"paper": f"borel/{body}"})
        assert not config.scale_obs
        assert (config.latent_dim, config.kl_weight) == (5, 0.05)
        assert (config.over_steps == "sum") == (body == "gridworld")

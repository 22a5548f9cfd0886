"""The inference probe on encoders whose every number is known, and on those that learners build."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.trees import task_leaf, to_dict
from pipelines.core.types import Log, transitions
from pipelines.stages import learners, probing
from pipelines.stages.probing import nearest, shares, sure_shares
from tests.lines import line
from tests.stages.reading import DRAWS, TASKS, apart, encoder, known, probed, relabelled
from tests.stages.relabelling import found_as, log_of
from tests.toys import AGENTS, SPACE, Stored, data_of, log_artifact, make, run, work


@pytest.fixture
def family(monkeypatch):
    return known(monkeypatch)


# ---- encoders that are known -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "share", "reward", "states"),
    [
        ((1.0, 0.0), 1.0, 1.0, 0.0),
        ((0.0, 1.0), 0.0, 0.0, 1.0),
        ((0.03, 0.7), 0.3, 0.0, 1.0),
        ((0.07, 0.3), 0.7, 1.0, 0.0),
    ],
)
def test_encoders_that_read_rewards_actions_and_both(family, weights, share, reward, states):
    """mu(j, i) = w i + v j / 10: the share is w / (w + v / 10). The nearest centroid is that of whichever weighs more,
    for the pairs of neighbours; a mixture of 1 and 3 lies near 2 where neither weighs much more."""
    found = probed(encoder(*weights), apart(family))
    np.testing.assert_allclose(found["share"], np.full(DRAWS, share), atol=1e-4)
    off = ~np.eye(TASKS, dtype=bool)
    np.testing.assert_allclose(found["of_pair"][off], share, atol=1e-4)
    assert np.isnan(np.diagonal(found["of_pair"])).all()
    np.testing.assert_allclose(found["stray"], 0, atol=1e-3)
    np.testing.assert_allclose(found["nearest_own"], 1)
    mixed = 0 < share < 1
    for name, want in (("reward", reward), ("states", states)):
        np.testing.assert_allclose(found[f"nearest_{name}"], abs(want - mixed / 3) if want else 0, atol=1e-6)
    want = weights[0] * np.arange(1, 4)[:, None] + weights[1] / 10 * np.arange(1, 4)
    np.testing.assert_allclose(found["mean"][..., 0], np.broadcast_to(want, (DRAWS, 3, 3)), rtol=1e-4)
    np.testing.assert_allclose(found["logged"][..., 0], np.broadcast_to(np.diag(want), (DRAWS, 3, 3)), rtol=1e-4)
    np.testing.assert_allclose(found["spread"], 0.2, rtol=1e-6)


def test_an_encoder_that_reads_nothing(family):
    found = probed(encoder(0.0, 0.0), apart(family))
    assert np.isnan(found["share"]).all()
    order = work(
        "eval", {"policy": encoder(0.0, 0.0), "probe": apart(family)}, {"protocol": "probe", "context_rows": 5}
    )
    made = probing.product(order, "it")
    assert any("nothing to share out" in note for note in order.tell.notes)
    assert np.isnan(made.metrics["probe/reward_share"])
    assert made.extra["protocol"] == "probe"
    assert made.extra["probe"]["rewards"] == "known"


def test_what_is_told(family):
    order = work(
        "eval", {"policy": encoder(0.03, 0.7), "probe": apart(family)}, {"protocol": "probe", "context_rows": 5}
    )
    made = probing.product(order, "mine")
    told = "\n".join(order.tell.notes)
    assert "3 tasks, 20 contexts of 5 rows of each, rewards known" in told
    assert "reward share 0.30 [0.30, 0.30]" in told
    assert "0.30 in units of the posterior's deviations" in told  # which are all the same here
    assert "to their own 100% (chance 33%)" in told
    assert made.metrics["probe/reward_share"] == pytest.approx(0.3, abs=1e-3)


def test_contexts_of_the_first_rows_alone(family):
    """A row's place is its number plus one."""
    log = apart(family)
    fields = {"protocol": "probe", "context_rows": 5, "probe_first": 7}
    order = work("eval", {"policy": encoder(1.0, 0.0), "probe": log}, fields)
    places = probing.Probe(order, "it").swapped(1).rows.next_obs[0, ..., 0]
    assert set(places.ravel()) == set(range(1, 8))
    probing.look(order, "it")
    assert "5 rows of each out of its first 7, rewards known" in order.tell.notes[0]
    held = relabelled(log, [[0, 1, 2, 3, 4, 50, 51], [0, 1, 2, 3, 50, 51], range(90)])
    given = work("eval", {"policy": encoder(1.0, 0.0), "probe": log, "relabelled": held}, fields)
    made = [probing.Probe(given, "it").swapped(j) for j in range(TASKS)]
    assert [one.there.tolist() for one in made] == [[True] * 3, [False, True, False], [True] * 3]
    assert set(made[2].rows.next_obs[0, ..., 0].ravel()) == set(range(1, 8))
    with pytest.raises(UsageError, match="has 4 rows"):
        probed(encoder(1.0, 0.0), log, {"probe_first": 4})


# ---- by hand ---------------------------------------------------------------------------------------------------------


def test_shares_by_hand():
    """One draw in the plane; own means (0, 0) and (4, 0). Rewards of 1 on rows of 0 lead to (1, 2), a quarter of the
    way and 2 off it; rewards of 0 on rows of 1 lead to (3, 0), a quarter, too."""
    swapped = np.zeros((1, 2, 2, 2))
    swapped[0, 1, 1] = (4, 0)
    swapped[0, 1, 0], swapped[0, 0, 1] = (1, 2), (3, 0)
    logged = np.zeros((1, 2, 2, 2))
    logged[0, :, 1] = (4, 0)
    found = shares(swapped, logged)
    np.testing.assert_allclose(found.share, [0.25])
    np.testing.assert_allclose(found.of_pair, [[np.nan, 0.25], [0.25, np.nan]])
    np.testing.assert_allclose(found.stray, [np.sqrt(4 / 32)])


def test_one_sure_entry_outweighs_the_others_in_units_of_deviations():
    """The second entry follows the rewards a tenth as far as the first follows the states, and is a hundred times as
    sure: the share is 1 / (1 + 10^2) of distances as they are, 10^2 / (1 + 10^2) of those in deviations."""
    swapped = np.zeros((1, 2, 2, 2))
    swapped[0, :, 1, 0] = 1.0  # of the states of task 1
    swapped[0, 1, :, 1] = 0.1  # of the rewards of task 1
    logged = np.broadcast_to(np.diagonal(swapped[0]).T[None, None], (1, 2, 2, 2))
    np.testing.assert_allclose(shares(swapped, logged).share, 1 / 101)
    np.testing.assert_allclose(sure_shares(swapped, logged, np.array([1.0, 0.01])), 100 / 101)
    np.testing.assert_allclose(sure_shares(swapped, logged, np.array([0.3, 0.3])), 1 / 101)
    assert np.isnan(sure_shares(swapped, logged, np.zeros(2))).all()


def test_pairs_count_by_their_squared_distance_and_lost_ones_not():
    """Own means 0, 1 and 3. Rewards are followed from 0 to 3 and back: 2 * 9 of 2 (1 + 9 + 4) squared distances."""
    own = np.array([0.0, 1.0, 3.0])
    logged = np.broadcast_to(own[None, None, :, None], (1, 3, 3, 1))
    swapped = logged.copy()
    swapped[0, 2, 0], swapped[0, 0, 2] = 3.0, 0.0
    np.testing.assert_allclose(shares(swapped, logged).share, [18 / 28])
    swapped[0, 1, 2] = np.nan  # of four squared distances
    np.testing.assert_allclose(shares(swapped, logged).share, [18 / 24])


def test_nearest_by_hand():
    """Three draws: the centroid that a context is held against is of the other two."""
    swapped = np.zeros((3, 2, 2, 1))
    swapped[:, 0, 0, 0], swapped[:, 1, 1, 0] = (0, 0, 9), (10, 10, 10)
    swapped[:, 1, 0, 0], swapped[:, 0, 1, 0] = (8, 1, 8), (2, 2, 2)
    found = nearest(swapped)
    # centroids of task 0: 4.5, 4.5, 0; of task 1: 10
    np.testing.assert_allclose(found.own, [1, 1, 0.5])
    np.testing.assert_allclose(found.reward, [1, 0.5, 1])
    np.testing.assert_allclose(found.states, [0, 0.5, 0])


# ---- rewards from a relabelled-log -----------------------------------------------------------------------------------


def test_rewards_of_a_relabelled_log(family):
    """The very rows that it holds, with its rewards; and the same as they were logged to set out from."""
    log = apart(family)
    rows = [[3, 1, 7, 12, 40, 41], [0, 2, 4, 6, 8], [5, 6, 7, 8, 9, 10, 11]]
    found = probed(encoder(1.0, 0.0), log, relabelled=relabelled(log, rows))
    own = np.diag([1.0, 2.0, 3.0])
    other = 100.0 * np.arange(1, 4)[:, None] * (1 - np.eye(3))
    np.testing.assert_allclose(found["mean"][..., 0], np.broadcast_to(own + other, (DRAWS, 3, 3)), rtol=1e-5)
    np.testing.assert_allclose(found["logged"][..., 0], np.broadcast_to([1, 2, 3], (DRAWS, 3, 3)), rtol=1e-5)


def test_pairs_with_too_few_relabelled_rows_are_left_out(family):
    log = apart(family)
    order = work(
        "eval",
        {
            "policy": encoder(1.0, 0.0),
            "probe": log,
            "relabelled": relabelled(log, [[1, 2, 3, 4, 5], [1, 2], [1, 2, 3]]),
        },
        {"protocol": "probe", "context_rows": 5},
    )
    made = probing.product(order, "it")
    np.testing.assert_array_equal(np.isfinite(made.arrays["probe"]["of_pair"]), [[0, 0, 0], [1, 0, 0], [1, 0, 0]])
    assert made.extra["probe"]["pairs_left_out"] == 4
    assert any("4 pairs" in note for note in order.tell.notes)
    with pytest.raises(UsageError, match="holds no pair") as caught:
        probed(encoder(1.0, 0.0), log, relabelled=relabelled(log, [[1, 2], [1], [1, 2]]))
    assert caught.value.hint == "the most that it holds of one is 2"


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_policy_without_an_encoder(monkeypatch):
    found_as(line(num_tasks=TASKS), monkeypatch)
    plain = Stored(encoder(name="pooled-batch-sac").card, {})
    plain.card.extra["agent"] = AGENTS["pooled-batch-sac"]
    with pytest.raises(UsageError, match="pooled batch SAC has no task encoder"):
        probed(plain, log_of(line(num_tasks=TASKS)))


def test_logs_that_do_not_fit(family):
    log = apart(family)
    with pytest.raises(UsageError, match="needs a log"):
        run("eval", {"policy": encoder(1.0, 0.0)}, {"protocol": "probe"})
    with pytest.raises(UsageError, match="the probe reads rewards of"):
        run("eval", {"policy": encoder(1.0, 0.0), "relabelled": relabelled(log, [[1, 2]] * 3)})
    with pytest.raises(UsageError, match="plays nothing"):
        probed(encoder(1.0, 0.0), log, context=log)
    with pytest.raises(UsageError, match="context_rows=101: the log has 100 rows of task times 1") as caught:
        probed(encoder(1.0, 0.0), log, {"context_rows": 101})
    assert caught.value.hint == "--context-rows 100 takes them all"
    strange = apart(family)
    strange.card.extra["space"] = {**strange.card.extra["space"], "action_shape": [2]}
    with pytest.raises(WrongKind, match="action_shape"):
        probed(encoder(1.0, 0.0), strange)
    other = relabelled(log, [[1, 2]] * 3)
    other.card.parents["log"] = SimpleNamespace(id="another", digest="bits of log")
    with pytest.raises(WrongKind, match="was made of another log than log: another"):
        probed(encoder(1.0, 0.0), log, relabelled=other)
    with pytest.raises(WrongKind, match="does not hold single rows"):
        probed(encoder(1.0, 0.0), log, relabelled=relabelled(log, [[1, 2]] * 3, apply="on-the-fly"))
    log.card.tasks = log.card.tasks[:1]
    with pytest.raises(UsageError, match="at least 2 tasks"):
        probed(encoder(1.0, 0.0), log)


def test_a_posterior_that_is_no_number(family):
    with pytest.raises(StageFailed, match="posterior of batch PEARL is not finite"):
        probed(encoder(np.nan, 0.0), apart(family))


def test_a_log_whose_rewards_nobody_knows(family):
    log = apart(family)
    log.card.extra["family"] = ""
    with pytest.raises(UsageError, match="names no family") as caught:
        probed(encoder(1.0, 0.0), log)
    assert "--relabelled" in caught.value.hint


def test_rewards_that_are_not_the_familys_are_noted(family):
    log = apart(family)
    log.tree[task_leaf(1)]["reward"] = log.tree[task_leaf(1)]["reward"] + 5
    order = work("eval", {"policy": encoder(1.0, 0.0), "probe": log}, {"protocol": "probe", "context_rows": 5})
    probing.product(order, "it")
    assert [note for note in order.tell.notes if "not those of the family" in note] == [
        "times 2: the log's rewards are not those of the family's own function"
    ]


# ---- learners' encoders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(learners.SHARED))
def test_every_meta_policy_can_be_probed_or_says_that_it_infers_nothing(name, monkeypatch):
    """Through the interface alone, with nets as they come."""
    plain = line(num_tasks=TASKS)
    pays = lambda task, obs, action, next_obs, outcome: task[..., 0] * next_obs[..., 0]  # noqa: E731
    found_as(dataclasses.replace(plain, space=SPACE, outcome=(), reward=pays), monkeypatch)
    log = log_artifact(TASKS)
    for index, one in enumerate(plain.tasks("train")):
        leaf, rows = log.tree[task_leaf(index)], np.arange(log.tree[task_leaf(index)]["size"])
        leaf["reward"] = (index + 1) * transitions(Log(**leaf), rows).next_obs[:, 0]
        log.card.tasks[index] = one.to_json()
    algorithm = make(name)
    shapes = jax.eval_shape(lambda data: algorithm.acting(algorithm.init(jax.random.key(0), data)), data_of(name))
    rng = np.random.default_rng(0)
    acting = jax.tree.map(lambda leaf: rng.uniform(0.1, 0.9, leaf.shape).astype(leaf.dtype), shapes)
    policy = Stored(encoder(name=name).card, {"acting": to_dict(acting)})
    policy.card.extra |= {"agent": AGENTS[name], "space": SPACE.to_json()}
    if algorithm.policy.latent is None:
        with pytest.raises(UsageError, match="has no task encoder"):
            probed(policy, log)
        return
    found = probed(policy, log)
    assert found["mean"].shape[:3] == (DRAWS, TASKS, TASKS)
    assert np.isfinite(found["mean"]).all()
    assert np.ptp(found["mean"], axis=1).max() > 0  # rewards tell
    assert np.ptp(found["mean"], axis=2).max() > 0  # so do states
    assert (found["spread"] >= 0).all()
    own = (np.diagonal(found[which], axis1=1, axis2=2) for which in ("mean", "logged"))
    np.testing.assert_allclose(*own, rtol=1e-5)  # a task's own rewards are those that were logged

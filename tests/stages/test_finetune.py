"""A meta-policy made the start of SAC: what is collected and held, how much sooner, and the stage as a whole."""

import dataclasses
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.normaliser import Normaliser
from pipelines.core.taskmap import TaskAxis
from pipelines.core.trees import to_dict
from pipelines.core.types import Algorithm, Held, HeldCritic, Policy, Space, memoryless, transitions
from pipelines.stages import finetune, learners
from pipelines.stages.finetune import speed_up
from pipelines.stages.gathering import Ground
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.toys import AGENTS, Memory, Stored, Talk, bits, make_log, stacked, stored, work

FAMILY = line(horizon=5, num_tasks=2)

# ---- what is collected, and what is held -----------------------------------------------------------------------------


class Toy(NamedTuple):
    weight: Any


def counting() -> Algorithm:
    """A meta-policy whose idea of the task is how many episodes it has begun, and a tenth of that its action."""
    policy = Policy(
        begin=lambda acting, key: jnp.zeros(()),
        start=lambda acting, memory, obs, key: memory + 1.0,
        act=lambda acting, memory, obs, key, explore: (0.1 + explore) * memory[None],
        observe=lambda acting, memory, row: memory + 0.0 * row.reward,
        value=None,
    )
    critic = HeldCritic(
        take=lambda acting, memory: Held(acting.weight, {"z": memory}, ()),
        q=lambda params, held, features, action: params * held["z"] * action[..., 0],
    )
    nothing: Any = None
    return Algorithm(nothing, nothing, nothing, nothing, Toy, policy, critic=critic)


def played(family, **fields):
    """(log, Start) of the counting meta-policy, in numpy; weight 2."""
    tree = {"acting": {"weight": np.float32(2.0)}}
    order = work("finetune", {"policy": Stored(SimpleNamespace(), tree)}, {"epoch_steps": 10, **FEW, **fields})
    ground = Ground(family, family.tasks("test"), TaskAxis(2), 0)
    algorithm = counting()
    return ground.axis.get(finetune.played(order, ground, algorithm, algorithm.critic))


FEW = {"collect_steps": 20, "warmup_steps": 10, "steps": 20, "eval_every": 10, "imitation": {"updates": 10}}
ENGINES = {"device": FAMILY, "host": hosted(FAMILY)}


@pytest.mark.parametrize("engine", ENGINES)
def test_it_plays_on_in_each_task_and_holds_the_latent_of_its_last_episode(engine):
    """Four episodes of 5 steps: the second half of the last episode is no other latent, and none is drawn after it."""
    log, start = played(ENGINES[engine])
    np.testing.assert_array_equal(log.episode, [np.repeat(np.arange(4), 5)] * 2)
    np.testing.assert_allclose(log.action[..., 0], 0.1 * (log.episode + 1))
    np.testing.assert_array_equal(start.critic["held"]["z"], [4, 4])
    np.testing.assert_array_equal(start.critic["learned"], [2, 2])
    rows = transitions(jax.tree.map(lambda leaf: jnp.asarray(leaf[1]), log), jnp.arange(20))
    np.testing.assert_allclose(rows.next_obs, rows.obs + rows.action, atol=1e-6)


def test_of_an_episode_that_is_cut_it_is_the_latent_too():
    log, start = played(FAMILY, collect_steps=22, epoch_steps=2, imitation={"updates": 2})
    assert log.episode[0, -1] == 4
    np.testing.assert_array_equal(start.critic["held"]["z"], [5, 5])


@pytest.mark.parametrize("engine", ENGINES)
def test_or_one_that_is_drawn_after_all_of_them(engine):
    _, start = played(ENGINES[engine], latent="all")
    assert (start.critic["held"]["z"] > 4).all()


# ---- a good start ----------------------------------------------------------------------------------------------------


class Walker(NamedTuple):
    way: Any  # [] 1 or -1


def walking() -> Algorithm:
    """A meta-policy that knows which way to walk, and values that way: 1 is right in every task of the line."""
    normaliser = Normaliser(jnp.zeros(1), jnp.ones(1), jnp.zeros(()), jnp.ones(()))
    policy = memoryless(lambda acting, obs, key, explore: acting.way * jnp.ones(1), None)
    critic = HeldCritic(
        take=lambda acting, memory: Held({"kernel": acting.way * jnp.array([0.0, 1.0])}, {}, normaliser),
        q=lambda params, held, features, action: jnp.concatenate([features, action], -1) @ params["kernel"],
    )
    nothing: Any = None
    return Algorithm(nothing, nothing, nothing, nothing, Walker, policy, critic=critic)


@pytest.mark.slow
def test_a_good_start_saves_what_a_bad_one_does_not(monkeypatch):
    """Steps until the end of SAC from random nets is reached: the control walks, and values walking, the wrong way.
    All episodes begin at 0, so that no return is luck: the best are 15 and 30."""
    family = line(horizon=5, discount=0.5, num_tasks=2)
    family = dataclasses.replace(family, reset=lambda task, key: (jnp.zeros(1), jnp.zeros(1)))
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: family)
    monkeypatch.setattr(learners, "make", lambda *args: walking())
    agent = {"hidden": (32, 32), "batch_size": 64, "learning_rate": 1e-3, "init_temperature": 0.1}
    sizes = {"collect_steps": 250, "warmup_steps": 250, "steps": 2_500, "epoch_steps": 250, "eval_every": 250}
    fields = {**sizes, "imitation": {"updates": 500, "learning_rate": 3e-3}, "label": "walker", "agent": agent}
    found = {}
    for way in (1.0, -1.0):
        extra = {"family": "line/toy", "algorithm": "walker", "agent": {}}
        meta = Stored(SimpleNamespace(extra=extra, tasks=[]), {"acting": {"way": np.float32(way)}})
        order = work("finetune", {"policy": meta}, fields)
        product = STAGES["finetune"].load()(order)
        found[way] = product.arrays["curve_return"].mean(1), product.metrics
    (good, saved), (bad, lost) = found[1.0], found[-1.0]
    assert good[0] > 20 > -20 > bad[0]
    assert saved["scratch_return"] > 18
    assert saved["speed_up"] >= 0.9
    assert lost.get("speed_up", -1.0) < 0.6


# ---- how much sooner -------------------------------------------------------------------------------------------------


def test_the_speed_up_by_hand():
    """From nothing the mean over tasks ends at 6; the other is there at 20 of 100: 80% are saved."""
    steps = np.arange(0, 120, 20)
    scratch = np.array([[0.0, 0.0], [1, 1], [9, 9], [3, 3], [4, 4], [4, 8]])
    warm = np.array([[0.0, 11], [2, 10], [7, 7], [9, 9], [9, 9], [9, 9]])
    assert speed_up(steps, warm, scratch) == (20.0, 0.8)
    assert speed_up(steps, warm + 1, scratch) == (0.0, 1.0)
    assert speed_up(steps, scratch, scratch) == (40.0, 0.6)
    assert np.isnan(speed_up(steps, warm - 1, warm)).all()


# ---- the stage -------------------------------------------------------------------------------------------------------

SPACE = Space((1,), (1,), (-1.0,), (1.0,))
AGENT = AGENTS["contextual-bcq"]


def meta_policy(name: str = "contextual-bcq") -> Stored:
    """An untrained one, fitted to two logs."""
    logs = jax.tree.map(jnp.asarray, stacked(*(make_log(seed, space=SPACE) for seed in range(2))))
    algorithm = learners.make(name, AGENTS[name], SPACE, FAMILY.discount)
    acting = algorithm.acting(jax.jit(algorithm.init)(jax.random.key(0), logs))
    extra = {"family": FAMILY.name, "algorithm": name, "agent": AGENTS[name]}
    card = SimpleNamespace(kind="meta-policy", id="meta", seed=0, tasks=[], extra=extra)
    return Stored(card, {"acting": to_dict(acting)})


STAGE = {"epoch_steps": 10, **FEW, "agent": {"hidden": (8,), "batch_size": 6}, "eval_episodes": 2, "episodes": 2}


def tuned(meta, *layers, checkpoint=None, tell=None) -> Stored:
    order = work("finetune", {"policy": meta}, STAGE, *layers, checkpoint=checkpoint, tell=tell)
    return stored("finetune", STAGES["finetune"].load()(order), order.config)


@pytest.fixture(scope="module", params=["device", pytest.param("host", marks=pytest.mark.slow)])
def whole(request):
    """(the family's engine, the meta-policy, the report, what was said, every checkpoint)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "find", lambda name, evaluation=False: ENGINES[request.param])
        meta, tell, kept = meta_policy(), Talk(), Memory(every=1)
        yield meta, tuned(meta, checkpoint=kept, tell=tell), tell, kept


def test_the_report_has_both_curves(whole):
    _, report, tell, _ = whole
    tree, extra = report.tree, report.card.extra
    np.testing.assert_array_equal(tree["curve_step"], [0, 10, 20])
    for name in ("curve_return", "scratch_curve_return"):
        assert tree[name].shape == (3, 2)
        assert np.isfinite(tree[name]).all()
    assert tree["returns"].shape == (2, 2)
    assert (extra["label"], extra["protocol"], extra["split"]) == ("contextual BCQ, fine-tuned", "finetune", "test")
    assert extra["interactions_before"] == {"initialised": 30, "scratch": 10}
    steps = [step for step, _ in tell.rows]
    assert steps == sorted(set(steps))  # one count through all phases
    told = [row["initialised_return"] for _, row in tell.rows if "initialised_return" in row]
    np.testing.assert_allclose(told, tree["curve_return"].mean(1), rtol=1e-5)


def test_the_first_evaluation_is_of_what_imitates(whole):
    """Nothing is learned in the warm-up: both arms hold the policies that they began with when it ends."""
    _, _, _, kept = whole
    tasks, (imitation, after) = 2, (kept.parts[number].kept for number in (1, 2))
    actor = imitation[-1][1][: len(imitation[-1][1])]
    first = {leaf.tobytes() for leaf in after[0][1]}
    kernels = [leaf for leaf in actor if leaf.ndim == 3 and leaf.shape[0] == tasks][:2]
    assert all(leaf.tobytes() in first for leaf in kernels)


@pytest.mark.parametrize("phase", [*(pytest.param(n, marks=pytest.mark.slow) for n in range(2)), 2])
def test_resumed_it_has_the_bits_of_an_uninterrupted_run(whole, phase):
    meta, report, _, kept = whole
    ends = {number: Memory(kept=[kept.parts[number].kept[-1]]) for number in range(phase)}
    broken = Memory(parts=ends | {phase: Memory(kept=[kept.parts[phase].kept[0]])})
    again = tuned(meta, checkpoint=broken)
    assert bits(again.tree) == bits(report.tree)
    assert again.card.extra == report.card.extra


def test_what_has_no_value_to_go_on_from_is_refused(monkeypatch):
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: FAMILY)
    with pytest.raises(WrongKind, match="pooled batch SAC has no value of one task to go on from"):
        tuned(meta_policy("pooled-batch-sac"))


def test_a_split_without_tasks_is_refused(monkeypatch):
    empty = dataclasses.replace(FAMILY, tasks=lambda split: ())
    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: empty)
    with pytest.raises(UsageError, match="line/toy has no ood tasks"):
        tuned(meta_policy(), {"split": "ood"})


@pytest.mark.parametrize(
    ("split", "trained", "played"), [("train", (2,), (2,)), ("train", (), (1, 2)), ("test", (2,), (1, 2))]
)
def test_of_the_training_tasks_it_takes_those_that_the_policy_was_trained_on(monkeypatch, split, trained, played):
    """As an evaluation does; all of another split."""
    taken = []

    def stop(work, ground, *rest):
        taken.extend(task.id for task in ground.tasks)
        raise InterruptedError

    monkeypatch.setattr(registry, "find", lambda name, evaluation=False: FAMILY)
    monkeypatch.setattr(finetune, "played", stop)
    meta = meta_policy()
    meta.card.tasks = [task.to_json() for task in FAMILY.tasks("train") if task.id in trained]
    with pytest.raises(InterruptedError):
        tuned(meta, {"split": split})
    assert tuple(taken) == played


# ---- the picture -----------------------------------------------------------------------------------------------------


def test_the_report_holds_a_picture_of_its_curves():
    """With and without the other curve, and where it is never reached; the same bytes for the same numbers."""
    steps = np.arange(0, 40, 10)
    curves = {"curve_step": steps, "curve_return": np.add.outer(steps, [1.0, 2.0])}
    arrays = {**curves, "random_return": np.zeros(2), "oracle_return": np.full(2, np.nan)}
    both = arrays | {"scratch_curve_return": curves["curve_return"] - 20}
    alone = finetune.drawn("x", arrays, {})
    reached, never = finetune.drawn("x", both, {"interactions_needed": 10.0}), finetune.drawn("x", both, {})
    assert all(png.startswith(b"\x89PNG") for png in (alone, reached, never))
    assert len({alone, reached, never}) == 3
    assert finetune.drawn("x", both, {"interactions_needed": 10.0}) == reached

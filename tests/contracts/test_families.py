"""What every family promises, whichever engine moves it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.errors import UsageError
from pipelines.core.families import FAMILIES, parse
from pipelines.core.names import SPLITS
from pipelines.core.types import DeviceFamily, HostFamily, TaskFamily, task_rows
from pipelines.tasks import registry

ALIKE = {  # whose test tasks are the training tasks
    "gridworld/borel",
    "halfcheetah-dir/mql",
    "ant-fwd-back/mql",
    "point-semicircle/time",
    "point-semicircle/disjoint",
}
HEAVY = {
    name for name in FAMILIES if name.startswith(("humanoid", "reacher"))
}  # their thousands of rows are slow tests


def families(but: frozenset[str] | set[str] = frozenset()) -> Any:
    marked = [pytest.param(name, marks=pytest.mark.slow) if name in but else name for name in sorted(FAMILIES)]
    return pytest.mark.parametrize("name", marked)


# ---- play on either engine -------------------------------------------------------------------------------------------


class Played(NamedTuple):
    """B environments for K steps; arrays [K, B, ...] as a float32 log stores them."""

    task: np.ndarray  # [B, P]
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    next_obs: np.ndarray
    terminal: np.ndarray
    outcome: np.ndarray
    elsewhere: np.ndarray  # [K, B] what the engine pays for the same step under the next environment's task


def uniform(family: TaskFamily, key: Any, num: int) -> Any:
    """`[num, A]` actions."""
    space = family.space
    if space.num_actions is not None:
        return jax.random.randint(key, (num, *space.action_shape), 0, space.num_actions)
    low, high = np.float32(space.low), np.float32(space.high)
    return jax.random.uniform(key, (num, *space.action_shape), minval=low, maxval=high)


def actions_of(family: TaskFamily) -> Callable[..., Any]:
    """`act(task [B, P], obs [B, O], key) -> [B, A]`: uniform; where an oracle is written it plays every other
    environment, for uniform play hardly meets a sparse reward."""
    if "oracle" not in family.scripted:
        return lambda task, obs, key: uniform(family, key, len(task))
    oracle = family.scripted["oracle"]

    def known(task: Any, obs: Any, key: Any) -> Any:
        return oracle.act(task, oracle.start(task, oracle.begin(task, key), obs, key), obs, key, 0.0)

    def act(task: Any, obs: Any, key: Any) -> Any:
        drawn = uniform(family, key, len(task))
        return drawn.at[1::2].set(jax.vmap(known, (0, 0, None))(task, obs, key)[1::2])

    return jax.jit(act)


def play(family: TaskFamily, num_steps: int, num_envs: int) -> Played:
    """Every step is also made from the same state under another task's row. Ended episodes begin again."""
    tasks = family.tasks("train")
    chosen = tuple(tasks[round(k)] for k in np.linspace(0, len(tasks) - 1, num_envs))
    player: Callable[..., Any] = on_device if isinstance(family, DeviceFamily) else on_host
    rows = player(family, chosen, num_steps)
    return Played(task_rows(chosen), *(np.stack(column) for column in zip(*rows, strict=True)))


def on_device(family: DeviceFamily, chosen: Any, num_steps: int) -> list[Any]:
    task = jnp.asarray(task_rows(chosen))
    num = len(chosen)
    reset = jax.jit(jax.vmap(family.reset))
    step, act = jax.jit(jax.vmap(family.step)), actions_of(family)
    state, obs = reset(task, jax.random.split(jax.random.key(0), num))
    rows = []
    for n in range(num_steps):
        act_key, step_key, reset_key = jax.random.split(jax.random.key(n + 1), 3)
        action, keys = act(task, obs, act_key), jax.random.split(step_key, num)
        other = step(jnp.roll(task, -1, 0), state, action, keys)
        after, next_obs, reward, terminal, outcome = step(task, state, action, keys)
        rows.append([np.asarray(one) for one in (obs, action, reward, next_obs, terminal, outcome, other[2])])
        fresh = reset(task, jax.random.split(reset_key, num))
        done = terminal | (n % family.horizon == family.horizon - 1)
        pick = lambda new, old, done=done: jnp.where(done.reshape(-1, *[1] * (new.ndim - 1)), new, old)  # noqa: E731
        state, obs = jax.tree.map(pick, fresh, (after, next_obs))
    return rows


def on_host(family: HostFamily, chosen: Any, num_steps: int) -> list[Any]:
    task = task_rows(chosen, np.float64)
    num = len(chosen)
    noise = jax.jit(jax.vmap(family.noise))
    stored = functools.partial(np.asarray, dtype=np.float32)
    rows = []
    with family.simulate(task) as simulator, family.simulate(np.roll(task, -1, 0)) as elsewhere:
        draw = np.asarray(noise(jax.random.split(jax.random.key(0), num)))
        obs = simulator.reset(np.ones(num, bool), draw)
        elsewhere.reset(np.ones(num, bool), draw)
        for n in range(num_steps):
            act_key, reset_key = jax.random.split(jax.random.key(n + 1))
            action = np.asarray(uniform(family, act_key, num))
            elsewhere.restore(simulator.state())
            other, after = elsewhere.step(action), simulator.step(action)
            assert not after.diverged.any()
            columns = (after.reward, after.obs, after.terminal, after.outcome, other.reward)
            reward, next_obs, terminal, outcome, paid = (stored(one) for one in columns)
            rows.append([stored(obs), action, reward, next_obs, terminal.astype(bool), outcome, paid])
            done = after.terminal | (n % family.horizon == family.horizon - 1)
            draw = np.asarray(noise(jax.random.split(reset_key, num)))
            obs = simulator.reset(done, draw) if done.any() else after.obs
    return rows


def recomputed(family: TaskFamily, played: Played, task: np.ndarray) -> np.ndarray:
    """[K, B] the one reward function in jax, on rows alone."""
    one = jax.vmap(jax.vmap(family.reward), in_axes=(None, 0, 0, 0, 0))
    columns = (played.obs, played.action, played.next_obs, played.outcome)
    return np.asarray(jax.jit(one)(jnp.asarray(task), *map(jnp.asarray, columns)))


def assert_pays(family: TaskFamily, played: Played) -> None:
    """To 1e-5 (1 + |r|); where only the reward differs, for another task's too."""
    again = recomputed(family, played, played.task)
    assert (np.abs(again - played.reward) <= 1e-5 * (1 + np.abs(played.reward))).all()
    if family.dynamics:
        return
    other = recomputed(family, played, np.roll(played.task, -1, 0))
    assert (np.abs(other - played.elsewhere) <= 1e-5 * (1 + np.abs(played.elsewhere))).all()


# ---- the promises ----------------------------------------------------------------------------------------------------


@families()
def test_the_listing_tells_the_truth(name):
    family, entry = registry.find(name), FAMILIES[name]
    assert family.name == name
    assert (entry.num_train, entry.num_test, entry.num_ood) == tuple(len(family.tasks(split)) for split in SPLITS)
    assert (entry.obs_dim, entry.action_dim) == (family.space.obs_dim, family.space.action_dim)
    assert entry.horizon == family.horizon


@families()
def test_tasks_are_told_apart(name):
    family = registry.find(name)
    columns = list(family.tasks("train")[0].params)
    for split in SPLITS:
        tasks = family.tasks(split)
        assert len({task.id for task in tasks}) == len({task.name for task in tasks}) == len(tasks)
        assert all(list(task.params) == columns and task.split == split for task in tasks)
        assert all(0 <= task.id < 2**31 and np.isfinite(task.row()).all() for task in tasks)
    train, test, ood = ({task.id for task in family.tasks(split)} for split in SPLITS)
    assert train == test if name in ALIKE else not train & test
    assert not ood & (train | test)
    assert family.tasks("no-such-split") == ()


@families(but=HEAVY)
def test_the_environment_pays_what_relabelling_computes(name):
    """The one reward function on stored float32 rows; another task's is what stepping that task pays.

    The control: rewards of another task are told apart, and where all tasks pay alike, those of other rows.
    """
    family = registry.find(name)
    played = play(family, 40, 6)
    assert_pays(family, played)
    spoilt = {"reward": np.roll(played.reward, 1, 1)} if family.dynamics else {"task": np.roll(played.task, 1, 0)}
    with pytest.raises(AssertionError):
        assert_pays(family, played._replace(**spoilt))


@pytest.mark.slow
@families()
def test_ten_thousand_transitions_are_paid_as_relabelled(name):
    family = registry.find(name)
    assert_pays(family, play(family, 160, 64))


@families(but={"reacher-image/borel"})
def test_shapes_dtypes_and_the_space(name):
    family = registry.find(name)
    space = family.space
    assert (len(space.low), len(space.high)) == ((space.action_dim,) * 2 if space.num_actions is None else (0, 0))
    played = play(family, 2, 3)
    assert played.obs.shape[2:] == space.obs_shape
    assert played.outcome.shape[2:] == (family.outcome_dim,)
    assert played.reward.shape == played.terminal.shape == (2, 3)
    assert np.isfinite(played.obs.astype(float)).all() and np.isfinite(played.reward).all()
    if isinstance(family, DeviceFamily):
        state, obs = jax.eval_shape(family.reset, jnp.asarray(played.task[0]), jax.random.key(0))
        action = jax.ShapeDtypeStruct(space.action_shape, space.action_dtype)
        after = jax.eval_shape(family.step, jnp.asarray(played.task[0]), state, action, jax.random.key(0))
        assert str(obs.dtype) == str(after[1].dtype) == space.obs_dtype
        assert [str(leaf.dtype) for leaf in after[2:]] == ["float32", "bool", "float32"]
        kept = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, after[0])
        assert all(jax.tree.leaves(kept))


@families(but=HEAVY)
def test_only_families_that_say_so_terminate(name):
    family = registry.find(name)
    if not family.terminates:
        assert not play(family, min(family.horizon, 60), 3).terminal.any()


@families()
def test_what_a_listing_says(name):
    about = registry.find(name).about
    assert about.reward and about.start and about.source


@pytest.mark.parametrize("name", sorted(name for name, entry in FAMILIES.items() if entry.module != "locomotion"))
def test_references_are_ordered(name):
    family = registry.find(name)
    for task in family.tasks("test")[:3]:
        found = family.references(task)
        assert set(found) == {"random", "oracle", "ceiling"}
        assert found["random"] < found["oracle"]  # both are known: NaN is not less
        assert not found["ceiling"] > found["oracle"]


@pytest.mark.parametrize("name", ["halfcheetah-vel/mql", "ant-goal/mbml,cartesian=lagged"])
def test_a_simulator_goes_on_from_its_state_to_the_bit(name):
    family = registry.find(name)
    assert isinstance(family, HostFamily)
    task = task_rows(family.tasks("train")[:3], np.float64)
    noise = np.asarray(jax.vmap(family.noise)(jax.random.split(jax.random.key(0), 3)))
    actions = np.asarray(uniform(family, jax.random.key(1), 3 * 12)).reshape(12, 3, -1)
    with family.simulate(task) as first, family.simulate(task) as second:
        first.reset(np.ones(3, bool), noise)
        for action in actions[:6]:
            first.step(action)
        second.restore(first.state())
        for action in actions[6:]:
            one, other = first.step(action), second.step(action)
            for mine, own in zip(one, other, strict=True):
                np.testing.assert_array_equal(mine, own)


# ---- names -----------------------------------------------------------------------------------------------------------


def test_a_name_is_canonical():
    said = "ant-goal/mql,masses=modern,contact_forces=zero,engine=mujoco"
    assert str(parse(said)) == "ant-goal/mql,contact_forces=zero"
    assert str(parse("ant-semicircle/borel,reward=dense")) == "ant-semicircle/borel,reward=dense"
    assert registry.find("halfcheetah-vel/mql,cartesian=lagged").name == "halfcheetah-vel/mql,cartesian=lagged"


def test_evaluation_overrules_how_the_log_was_made():
    """BOReL: collected on the dense reward from anywhere, tested on the sparse one from the origin."""
    assert str(parse("ant-semicircle/borel,reward=dense", evaluation=True)) == "ant-semicircle/borel,start=fixed"
    assert str(parse("halfcheetah-vel/mql", evaluation=True)) == "halfcheetah-vel/mql"


@pytest.mark.parametrize(
    "name, cause, hint",
    [
        ("point-semicircle/tiem", "'point-semicircle/tiem'", "did you mean point-semicircle/time?"),
        ("ant-goal/mql,contact=zero", "no option 'contact'", "did you mean contact_forces?"),
        ("ant-goal/mql,engine=braks", "engine=braks", "did you mean brax?"),
        ("gridworld/borel,engine=brax", "no option 'engine'", "options: start"),
        ("point-wind/borel,start=fixed", "no option 'start'", "it has none"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, cause, hint):
    with pytest.raises(UsageError) as caught:
        registry.find(name)
    assert caught.value.hint == hint
    assert cause in caught.value.cause

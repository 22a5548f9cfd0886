"""What the tests of the device families share: rows of random play, and what every such family promises of them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import task_rows
from pipelines.tasks.scripted import trial, uniform


class Rows(NamedTuple):
    """Random play. N rows; `state` is the engine's, before the action."""

    task: Any  # [N, P]
    state: Any  # [N, ...]
    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    terminal: Any
    outcome: Any


def random_rows(family, num_rows: int, seed: int = 0, envs: int = 50) -> Rows:
    """`num_rows` rows of uniform actions over the training tasks, episodes begun anew at the horizon."""
    tasks = task_rows(family.tasks("train"))
    policy = uniform(family.space)

    def play(task, key):
        reset_key, steps_key = jax.random.split(key)

        def one(carry, xs):
            (state, obs), (key, t) = carry, xs
            act_key, step_key, fresh_key = jax.random.split(key, 3)
            action = policy.act(task, None, obs, act_key, 1.0)
            after, next_obs, reward, terminal, outcome = family.step(task, state, action, step_key)
            ended = terminal | ((t + 1) % family.horizon == 0)
            fresh = family.reset(task, fresh_key)
            carry = jax.tree.map(lambda new, old: jnp.where(ended, new, old), fresh, (after, next_obs))
            return carry, Rows(task, state, obs, action, reward, next_obs, terminal, outcome)

        length = -(-num_rows // envs)
        return jax.lax.scan(
            one, family.reset(task, reset_key), (jax.random.split(steps_key, length), jnp.arange(length))
        )[1]

    chosen = tasks[np.linspace(0, len(tasks) - 1, envs).astype(int)]
    rows = jax.jit(jax.vmap(play))(chosen, jax.random.split(jax.random.key(seed), envs))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(envs * leaf.shape[1], *leaf.shape[2:])[:num_rows], rows)


def keeps_its_promises(family, rows: Rows) -> None:
    """Shapes and dtypes stay; the reward of stored rows, by numpy in float64 and by jax, is what was paid; another
    task's reward is what stepping that task from the same state pays."""
    space, num = family.space, len(rows.reward)
    assert rows.obs.shape == rows.next_obs.shape == (num, *space.obs_shape)
    assert rows.obs.dtype == rows.next_obs.dtype == space.obs_dtype
    assert rows.action.shape == (num, *space.action_shape) and rows.action.dtype == space.action_dtype
    assert rows.reward.shape == (num,) and rows.reward.dtype == np.float32
    assert rows.terminal.dtype == bool and not rows.terminal.any()
    assert rows.outcome.shape == (num, family.outcome_dim) and rows.outcome.dtype == np.float32
    task = jnp.asarray(rows.task[0])
    state = jax.tree.map(lambda leaf: leaf[0], rows.state)
    after = jax.eval_shape(family.step, task, state, rows.action[0], jax.random.key(0))[0]
    first = jax.eval_shape(family.reset, task, jax.random.key(0))[0]
    for other in (after, first):
        same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, other)
        assert all(jax.tree.leaves(same))

    def agrees(found, paid):
        np.testing.assert_array_less(np.abs(np.asarray(found, np.float64) - paid), 1e-5 * (1 + np.abs(paid)))

    def doubles(array):
        return array if array.dtype == np.uint8 else np.asarray(array, np.float64)

    again = family.reward(*(doubles(part) for part in (rows.task, rows.obs, rows.action, rows.next_obs, rows.outcome)))
    assert again.dtype == np.float64
    agrees(again, rows.reward)
    agrees(family.reward(rows.task, rows.obs, rows.action, rows.next_obs, rows.outcome), rows.reward)

    other = np.roll(rows.task, num // 3, axis=0)
    assert (other != rows.task).any()
    _, moved, paid, _, outcome = jax.jit(jax.vmap(family.step, in_axes=(0, 0, 0, None)))(
        other, rows.state, rows.action, jax.random.key(1)
    )
    if family.dynamics:
        assert np.abs(np.asarray(moved) - rows.next_obs).max() > 1e-3
        rows = rows._replace(next_obs=np.asarray(moved), outcome=np.asarray(outcome))
    else:
        # two programs may round differently: the last bits of a number, one grey level of an image
        close = 1.0 if rows.obs.dtype == np.uint8 else 1e-6
        np.testing.assert_allclose(np.asarray(moved, np.float64), np.asarray(rows.next_obs, np.float64), 0, close)
    agrees(family.reward(other, rows.obs, rows.action, rows.next_obs, rows.outcome), np.asarray(paid, np.float64))


def trial_returns(family, policy, rows, num_episodes: int) -> np.ndarray:
    """Returns `[tasks, num_episodes]` of a scripted policy on task rows `[tasks, P]`, by the family's own step."""
    run = jax.jit(jax.vmap(trial(family, policy, num_episodes), in_axes=(0, None)))
    return np.asarray(run(jnp.asarray(rows, jnp.float32), jax.random.key(0)), np.float64)

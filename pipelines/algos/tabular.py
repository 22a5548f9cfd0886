"""Proposition 1 of tiMe (Vuong et al. 2019, arXiv:1909.11373, section 3 and A.1), in numbers.

Q-learning on a batch pooled from several MDPs converges to Q* of the *empirical* MDP (relative frequencies and mean
rewards of the batch), which is none of theirs: MDP mis-identification. Here: a random finite family, a batch from it,
exact value iteration, and tabular Q-learning on uniformly drawn rows.

Differs: the paper gives an unseen pair a self-loop with reward 0 and says that its initial value 0 is already optimal.
That holds where no state's value is positive (rewards <= 0, the case here and in the point family); otherwise the
self-loop is worth discount * V(s) while Q-learning leaves the 0. Pairs that were seen converge as stated either way.
K MDPs, S states, A actions, N rows of a batch, C points of the error curve.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


class Family(NamedTuple):
    """`transition` [K, S, A, S] (rows sum to 1) and `reward` [K, S, A, S]."""

    transition: Array
    reward: Array


class Batch(NamedTuple):
    """Rows (s, a, r, s'), all [N]: `state`, `action` and `next_state` int32, `reward` float32."""

    state: Any
    action: Any
    reward: Any
    next_state: Any


class Proof(NamedTuple):
    """What `prove` saw: max over (s, a) of |Q - Q*| after each of `updates` [C] draws from the pooled batch."""

    updates: Array
    pooled: Array  # [C], against the empirical MDP of the pooled batch: goes to 0
    single: Array  # [C, K], against the empirical MDP of each task's own rows: does not
    num_rows: int
    num_unseen: int

    @property
    def max_error(self) -> float:
        """Distance to Q* of the pooled batch's MDP after the last update."""
        return float(self.pooled[-1])

    @property
    def mistaken(self) -> float:
        """Distance to the nearest Q* among the tasks' own, after the last update."""
        return float(self.single[-1].min())


def random_family(rng: np.random.Generator, num_mdps: int = 3, num_states: int = 6, num_actions: int = 3) -> Family:
    """Transitions from a flat Dirichlet, rewards uniform in [-1, 0], all drawn anew in each MDP."""
    shape = (num_mdps, num_states, num_actions, num_states)
    return Family(rng.dirichlet(np.ones(num_states), shape[:-1]), rng.uniform(-1, 0, shape))


def collect(rng: np.random.Generator, family: Family, num_rows: int = 200, num_unseen: int = 2) -> list[Batch]:
    """One batch of `num_rows` per MDP under its own behaviour (a Dirichlet over pairs). `num_unseen` pairs, the same
    in all of them, never occur."""
    num_mdps, num_states, num_actions, _ = family.reward.shape
    seen = rng.permutation(num_states * num_actions)[num_unseen:]
    batches = []
    for k in range(num_mdps):
        pairs = rng.choice(seen, num_rows, p=rng.dirichlet(np.full(len(seen), 5.0)))
        state, action = np.divmod(pairs, num_actions)
        below = rng.random((num_rows, 1)) > family.transition[k, state, action].cumsum(-1)
        arrived = np.minimum(below.sum(-1), num_states - 1)  # the last cumulative sum may round below 1
        reward = family.reward[k, state, action, arrived]
        batches.append(Batch(state.astype(np.int32), action.astype(np.int32), np.float32(reward), np.int32(arrived)))
    return batches


def pool(batches: Sequence[Batch]) -> Batch:
    """All rows of all batches in one, as a learner sees them that does not ask where they came from."""
    return Batch(*(np.concatenate(column) for column in zip(*batches, strict=True)))


def empirical_mdp(batch: Batch, num_states: int, num_actions: int) -> tuple[Array, Array]:
    """(transition, reward), each [S, A, S]: relative frequencies and mean rewards; unseen pairs stay put, at 0."""
    counts = np.zeros((num_states, num_actions, num_states))
    total = np.zeros_like(counts)
    where = (batch.state, batch.action, batch.next_state)
    np.add.at(counts, where, 1)
    np.add.at(total, where, batch.reward)
    visits = counts.sum(-1, keepdims=True)
    stay = np.broadcast_to(np.eye(num_states)[:, None], counts.shape)
    return np.where(visits > 0, counts / np.maximum(visits, 1), stay), total / np.maximum(counts, 1)


def value_iteration(transition: Array, reward: Array, discount: float, tolerance: float = 1e-10) -> Array:
    """Q* [S, A] of the MDP (transition, reward), each [S, A, S], to within `tolerance` everywhere."""
    expected: Array = (transition * reward).sum(-1)
    q = np.zeros_like(expected)
    while True:
        q, previous = expected + discount * transition @ q.max(-1), q
        # The Bellman operator contracts by `discount`: what is left is at most this geometric tail.
        if np.abs(q - previous).max() * discount <= tolerance * (1 - discount):
            return q


def step_size(visits: jax.Array) -> jax.Array:
    """6 / (5 + n) at a pair's n-th visit: Robbins-Monro, starting at 1. A plain 1 / n forgets the wrong bootstrap
    targets of the start only like n ** -(1 - discount), which takes for ever."""
    return 6.0 / (5.0 + visits)


def q_learning(
    batch: Batch,
    shape: tuple[int, int],
    discount: float,
    updates: Array,
    key: jax.Array,
    rate: Callable[[jax.Array], jax.Array] = step_size,
) -> Array:
    """Q tables [C, S, A] after `updates` [C] draws, from Q = 0, each of one row of `batch`, with replacement.

    `shape` is (S, A); `rate` gives the step size from a pair's visits, this one included.
    """
    ends = jnp.asarray(updates, jnp.int32)

    def run(batch: Batch, key: jax.Array) -> jax.Array:
        rows = jax.random.randint(key, (int(updates[-1]),), 0, len(batch.state))

        def update(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            q, visits = carry
            row = Batch(*(column[rows[i]] for column in batch))
            pair = (row.state, row.action)
            visits = visits.at[pair].add(1)
            target = row.reward + discount * q[row.next_state].max()
            return q.at[pair].add(rate(visits[pair]) * (target - q[pair])), visits

        def block(carry: Any, bounds: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
            carry = jax.lax.fori_loop(*bounds, update, carry)
            return carry, carry[0]

        starts = jnp.concatenate([jnp.zeros(1, jnp.int32), ends[:-1]])
        return jax.lax.scan(block, (jnp.zeros(shape), jnp.zeros(shape, jnp.int32)), (starts, ends))[1]

    return np.asarray(jax.jit(run)(Batch(*map(jnp.asarray, batch)), key))


def prove(seed: int = 0, num_updates: int = 8_000_000, discount: float = 0.8) -> Proof:
    """Proposition 1 on one random family: the error curves of one long run of Q-learning on its pooled batch."""
    rng = np.random.default_rng(seed)
    family = random_family(rng)
    batches = collect(rng, family)
    pooled = pool(batches)
    shape = family.reward.shape[1:3]
    updates = np.unique(np.geomspace(10, num_updates, 80).astype(np.int32))
    q = q_learning(pooled, shape, discount, updates, jax.random.key(seed))

    def error(batch: Batch) -> Array:
        distance: Array = np.abs(q - value_iteration(*empirical_mdp(batch, *shape), discount)).max((1, 2))
        return distance

    num_seen = len(set(zip(pooled.state.tolist(), pooled.action.tolist(), strict=True)))
    single = np.stack([error(batch) for batch in batches], axis=-1)
    return Proof(updates, error(pooled), single, len(pooled.state), shape[0] * shape[1] - num_seen)

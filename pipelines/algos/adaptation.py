"""MQL's adaptation to a new task (Fakoor et al. 2020, section 3.2): Eq. 18 on what one episode showed, then Eq. 19 on
the meta-training log, its rows weighted by how likely they are in the new task.

Both are `mql`'s update with fresh optimisers, going on from the meta-policy and pulled towards it. Propensities are
fitted once, on the meta-policy's contexts; the weights of an update are of contexts as its own GRU makes them, which
moves (released code). lambda = 1 - ESS is of an update's weights, in Eq. 18 of the fitted old rows.

Differs: features and losses are in the nets' units (the code's observations and rewards are raw: beside losses of
rewards that were divided by s, lambda weighs s times as much in the actor's and s^2 times in the critics'); nothing is
put in the place of a lambda that is 0. One task's view: N rows of its episode at most, T training tasks, B batch.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos import propensity
from pipelines.algos.mql import Adaptable, Anchor, Batch, Core
from pipelines.algos.td3 import State
from pipelines.core.samplers import pooled_numbers
from pipelines.core.types import Array, Log


class Told(NamedTuple):
    """What a round says of itself: means over the updates of Eq. 19, without any over the fitted old rows."""

    rows: Array  # [] of the new task
    beta: Array  # []
    ess: Array  # []
    pull: Array  # [] lambda


class Fitted(NamedTuple):
    model: propensity.Logistic
    beta: Array  # [] mean over the old rows
    ess: Array  # []


class Round:
    """Adaptation of one policy to one task, all that `config` (an AdaptConfig that leaves nothing open) says."""

    def __init__(self, config: Any, core: Core) -> None:
        self.config, self.core = config, core

    def run(self, start: Adaptable, logs: Log, new: Log, key: Array) -> tuple[Adaptable, Told]:
        """`logs [T, ...]` of meta-training, `new [1, ...]` of the task. -> (what acts there, what is said of it)"""
        config = self.config
        fit_key, new_key, old_key = jax.random.split(key, 3)
        fitted = self.fit(start, logs, new, fit_key)
        state = self.core.begin(start)
        if config.new_updates:
            state = self.on_new(state, start, new, self._pull(fitted.ess), new_key)
        told = Told(new.size[0], fitted.beta, fitted.ess, self._pull(fitted.ess))
        if config.old_updates:
            state, seen = self.on_old(state, start, logs, fitted.model, old_key)
            told = Told(told.rows, *seen)
        return Adaptable(*(getattr(state, name) for name in Adaptable._fields)), told

    # ---- propensities ------------------------------------------------------------------------------------------------

    def seen(self, acting: Any, batch: Batch, key: Array) -> Array:
        """What the logistic regression sees of rows. -> [B, F]"""
        z = self.core.features(acting, batch, key)
        return z if self.config.features == "z" else jnp.concatenate([acting.normaliser.obs(batch.row.obs), z], -1)

    def fit(self, start: Adaptable, logs: Log, new: Log, key: Array) -> Fitted:
        """N rows of the new task, and N / T + 2 of each training task."""
        config = self.config
        new_key, old_key, *noise_keys = jax.random.split(key, 4)
        most, num_tasks, size = new.reward.shape[1], logs.size.shape[0], new.size[0]
        row = jnp.arange(most)
        used = row < size
        if config.new_rows == "bootstrap":
            row = jax.random.randint(new_key, (most,), 0, size)
        row = jnp.minimum(row, size - 1)
        fresh = self.seen(start, self.core.batch(new, jnp.zeros_like(row), row), noise_keys[0])

        each = most // num_tasks + 2
        first = jnp.maximum(logs.size - config.recent, 0) if config.recent else jnp.zeros_like(logs.size)
        rows = jax.random.randint(old_key, (num_tasks, each), first[:, None], logs.size[:, None])
        task = jnp.repeat(jnp.arange(num_tasks), each)
        taken = jnp.tile(jnp.arange(each) < size // num_tasks + 2, num_tasks)
        known = self.seen(start, self.core.batch(logs, task, rows.reshape(-1)), noise_keys[1])

        features, is_old = jnp.concatenate([fresh, known]), jnp.arange(most + len(task)) >= most
        model = propensity.fit(features, is_old, jnp.concatenate([used, taken]), config.strength)
        if config.balanced:
            model = propensity.balanced(model, taken.sum(), used.sum())
        weight = self._weight(model, known)
        return Fitted(model, weight.mean(where=taken), propensity.effective(weight, taken))

    def _weight(self, model: propensity.Logistic, features: Array) -> Array:
        config = self.config
        return propensity.beta(propensity.log_odds(model, features), config.clip, config.clip_on, config.floor)

    # ---- updates -----------------------------------------------------------------------------------------------------

    def _pull(self, ess: Array) -> Array:
        """lambda."""
        return 1 - ess if self.config.proximal == "ess" else jnp.float32(self.config.proximal)

    def _update(
        self, state: State, start: Adaptable, batch: Batch, key: Array, number: Array, weight: Array, pull: Array
    ) -> State:
        # critics that are an anchor of themselves are not pulled
        critics = start.critics if self.config.anchored == "both" else jax.lax.stop_gradient(state.critics)
        scale = 0.5 if self.config.half else 1.0
        return self.core.update(state, batch, key, number, weight, Anchor(start.actor, critics), scale * pull)[0]

    def on_new(self, state: State, start: Adaptable, new: Log, pull: Array, key: Array) -> State:
        """Eq. 18. A batch as large as the episode has weights that leave so many of its draws."""
        config, size = self.config, new.size[0]
        count = config.new_batch or new.reward.shape[1]
        weight = jnp.ones(count)
        if not config.new_batch:
            weight = (jnp.arange(count) < size) * (count / size)
        pull = pull if config.proximal_new else jnp.zeros_like(pull)

        def one(state: State, number: Array) -> tuple[State, None]:
            row_key, update_key = jax.random.split(jax.random.fold_in(key, number))
            row = jax.random.randint(row_key, (count,), 0, size)
            batch = self.core.batch(new, jnp.zeros_like(row), row)
            return self._update(state, start, batch, update_key, number, weight, pull), None

        return jax.lax.scan(one, state, jnp.arange(config.new_updates, dtype=jnp.int32))[0]

    def on_old(
        self, state: State, start: Adaptable, logs: Log, model: propensity.Logistic, key: Array
    ) -> tuple[State, tuple[Array, Array, Array]]:
        """Eq. 19. -> (state, means of beta, ESS and lambda)"""
        config = self.config

        def one(state: State, number: Array) -> tuple[State, tuple[Array, Array, Array]]:
            row_key, noise_key, update_key = jax.random.split(jax.random.fold_in(key, number), 3)
            batch = self.core.batch(logs, *pooled_numbers(logs, row_key, config.old_batch))
            weight = self._weight(model, self.seen(state, batch, noise_key))
            ess = propensity.effective(weight)
            pull = self._pull(ess)
            return self._update(state, start, batch, update_key, number, weight, pull), (weight.mean(), ess, pull)

        state, seen = jax.lax.scan(one, state, jnp.arange(config.old_updates, dtype=jnp.int32))
        return state, jax.tree.map(lambda leaf: leaf.mean(0), seen)

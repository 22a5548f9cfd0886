"""The scales between the world's units and the nets'. Fitted once on the log, and part of the model."""

from typing import NamedTuple

import jax.numpy as jnp

from pipelines.core.types import Array, Log, Space

SMALLEST = 1e-3  # a column that never moves keeps its size instead of blowing up


class Normaliser(NamedTuple):
    obs_mean: Array  # [O]
    obs_std: Array  # [O]
    reward_mean: Array  # []
    reward_std: Array  # []

    def obs(self, obs: Array) -> Array:
        """[..., O] -> [..., O], mean 0 and standard deviation 1 on the log it was fitted to; images come out flat."""
        mean, std = jnp.broadcast_to(self.obs_mean, obs.shape), jnp.broadcast_to(self.obs_std, obs.shape)
        scaled = (obs - mean) / std
        lead = obs.shape[: obs.ndim - self.obs_mean.ndim]
        return scaled.reshape(*lead, -1) if self.obs_mean.ndim > 1 else scaled

    def reward(self, reward: Array) -> Array:
        """[...] -> [...], mean 0 and standard deviation 1."""
        return (reward - self.reward_mean) / self.reward_std


def fixed(space: Space, obs_scale: float, reward_scale: float) -> Normaliser:
    """For learning online, where there is no log yet: divides observations by `obs_scale` and rewards likewise."""
    shape = space.obs_shape
    return Normaliser(jnp.zeros(shape), jnp.full(shape, obs_scale, float), jnp.float32(0.0), jnp.float32(reward_scale))


def moments(values: Array, valid: Array) -> tuple[Array, Array]:
    """Mean and standard deviation over the leading axes where `valid`. values [*valid.shape, D...] -> [D...] each.

    A deviation below SMALLEST becomes 1.
    """
    axes = tuple(range(valid.ndim))
    values = values.astype(jnp.float32)  # images are bytes, whose sums would wrap around
    weight = valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim))
    count = jnp.maximum(valid.sum(), 1)
    mean = jnp.where(weight, values, 0).sum(axes) / count
    away = values - jnp.broadcast_to(mean, values.shape)
    std = jnp.sqrt(jnp.where(weight, away**2, 0).sum(axes) / count)
    return mean, jnp.where(std < SMALLEST, 1.0, std)


def valid_rows(log: Log) -> Array:
    """[N] (or [T, N]) bool: rows that hold data."""
    return jnp.broadcast_to(jnp.arange(log.reward.shape[-1]), log.reward.shape) < log.size[..., None]


def fit(log: Log, scale_obs: bool = True, scale_reward: bool = True) -> Normaliser:
    """Moments of one task's log, or of a stack of T logs as if they were one; mean 0 and deviation 1 for what is not
    to be scaled."""
    valid = valid_rows(log)
    rows = jnp.broadcast_to(jnp.arange(valid.shape[-1]), valid.shape)
    slot = rows + log.episode
    obs = jnp.take_along_axis(
        log.obs, slot.reshape(*slot.shape, *(1,) * (log.obs.ndim - slot.ndim)), axis=slot.ndim - 1
    )
    of_obs, of_reward = moments(obs, valid), moments(log.reward, valid)

    def plain(mean: Array, std: Array) -> tuple[Array, Array]:
        return jnp.zeros_like(mean), jnp.ones_like(std)

    return Normaliser(*(of_obs if scale_obs else plain(*of_obs)), *(of_reward if scale_reward else plain(*of_reward)))

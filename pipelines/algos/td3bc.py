"""TD3+BC (Fujimoto & Gu 2021, arXiv:2106.06860): TD3 whose actor also clones; equations are the paper's.

Differs: critics learn rewards divided by their deviation (which the actor's loss does not notice); bootstraps through
truncation. One task's view: B batch, A action.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pipelines.algos import td3
from pipelines.core.configs.algorithms import Td3BcConfig
from pipelines.core.normaliser import fit
from pipelines.core.types import Algorithm, Array, Log, Space

SMALLEST = 1e-6  # of mean |Q|: critics that are still at zero do not blow the weight up


def actor_loss(q: Array, action: Array, data_action: Array, alpha: float) -> Array:
    """-lambda mean Q(s, pi(s)) + mean (pi(s) - a)^2 with lambda = alpha / mean |Q(s, pi(s))|, Eqs. 3 and 5; lambda has
    no gradient. [B], [B, A], [B, A] -> []"""
    weight = alpha / jnp.maximum(jax.lax.stop_gradient(jnp.abs(q).mean()), SMALLEST)
    return -weight * q.mean() + ((action - data_action) ** 2).mean()


def make(config: Td3BcConfig, space: Space, discount: float) -> Algorithm:
    """TD3+BC on one log. `discount` is the family's, used unless the config names one."""
    base = td3.make(config, space, discount, lambda q, action, data: actor_loss(q, action, data, config.bc_alpha))

    def init(key: Array, log: Log) -> td3.State:
        return base.init(key, log)._replace(normaliser=fit(log, config.scale_obs, config.scale_reward))

    return dataclasses.replace(base, init=init)

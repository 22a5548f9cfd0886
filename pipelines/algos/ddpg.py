"""DDPG (Lillicrap et al. 2016, arXiv:1509.02971) on one task's log: one critic, its actor, and targets of both.

It is what MBML's Fig. 5 shows of MetaGenRL (Kirsch et al. 2020): trained off-policy on the fixed batch of one AntDir
task, it collapses and does not recover, which MBML puts down to the values that it learns as DDPG does: nothing keeps
the actor near the log, and the critic is believed wherever the actor goes.
Differs: the learned objective of MetaGenRL, which has agents in common, is not here: one agent and one task are all
that Fig. 5 is about. As td3.py, which this is without its three additions: one critic, no delay of the actor, no noise
on the target's action.
"""

import dataclasses

from pipelines.algos import td3
from pipelines.core.configs.algorithms import DdpgConfig, Td3Config
from pipelines.core.configs.base import resolve
from pipelines.core.normaliser import fit
from pipelines.core.types import Algorithm, Array, Log, Space

SHARED = ("hidden", "batch_size", "learning_rate", "discount", "target_rate", "explore_noise")


def make(config: DdpgConfig, space: Space, discount: float) -> Algorithm:
    """DDPG on one log. `discount` is the family's, used unless the config names one."""
    fields = {name: getattr(config, name) for name in SHARED}
    plain = resolve(Td3Config, fields, {"actor_delay": 1, "target_noise": 0.0})
    base = td3.make(plain, space, discount, num_critics=1)

    def init(key: Array, log: Log) -> td3.State:
        return base.init(key, log)._replace(normaliser=fit(log, config.scale_obs, config.scale_reward))

    return dataclasses.replace(base, init=init)

"""Gymnasium's HalfCheetah-v5 as halfcheetah-vel: another reward, three more observations, 200 steps.

Written from the definition: -|v - v*| - 0.05 |u|^2, v the root's velocity over the control step; the torso's position
(x, 0, z) follows qpos and qvel. `tests/benchmarks/test_collectors.py` holds it against the family.
"""

import warnings
from typing import Any

import gymnasium
import mujoco
import numpy as np

HORIZON = 200
TORSO_HEIGHT = 0.7  # of the root where its joint is at 0, in the MJCF file
CONTROL_COST = 0.05


class TargetVelocity(gymnasium.Wrapper):  # type: ignore[misc]
    """HalfCheetah that is to run at `velocity` m/s."""

    def __init__(self, env: gymnasium.Env, velocity: float) -> None:
        super().__init__(env)
        self.velocity = velocity
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (20,), np.float64)

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        x, z = self.unwrapped.data.qpos[:2]
        return np.concatenate([obs, [x, 0.0, TORSO_HEIGHT + z]])

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        obs, info = self.env.reset(**options)
        return self._seen(obs), info

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = self.env.step(action)
        effort = float(np.sum(np.clip(action, -1.0, 1.0) ** 2))
        reward = -abs(info["x_velocity"] - self.velocity) - CONTROL_COST * effort
        return self._seen(obs), reward, terminated, truncated, info


def make(velocity: float) -> TargetVelocity:
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda message: None)  # else it writes MUJOCO_LOG.TXT where it stands
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the cheetah's model has a deprecated attribute
        return TargetVelocity(gymnasium.make("HalfCheetah-v5", max_episode_steps=HORIZON), velocity)

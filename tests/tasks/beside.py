"""What the tests of brax share: a family on brax and on the C engine, begun alike, in the air if need be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import task_rows
from pipelines.tasks import brax_engine, locomotion, mujoco_engine, registry
from pipelines.tasks.body import namespace

BATCH = 8
KEYS = jax.random.split(jax.random.key(1), BATCH)
CHEETAH = "halfcheetah-vel/mql"


class Both:
    """One family on brax and on the C engine, BATCH environments each, a training task for each."""

    def __init__(self, name: str, **options: str) -> None:
        self.device = registry.find(",".join([name, *(f"{key}={value}" for key, value in options.items())]))
        host = {key: value for key, value in options.items() if key != "engine"}
        self.host = registry.find(",".join([name, *(f"{key}={value}" for key, value in host.items())]))
        train = self.host.tasks("train")
        tasks = tuple(train[n % len(train)] for n in range(BATCH))
        self.rows, self.tasks = task_rows(tasks, np.float64), jnp.asarray(task_rows(tasks))
        self.noise = np.asarray(jax.vmap(self.host.noise)(KEYS))
        self.actions = np.random.default_rng(0).uniform(-1, 1, (BATCH, *self.host.space.action_shape))
        self.reset, self.step = jax.jit(jax.vmap(self.device.reset)), jax.jit(jax.vmap(self.device.step))

    def go(self, action):
        return self.step(self.tasks, self.begin()[0], jnp.asarray(action, jnp.float32), KEYS)

    def begin(self):
        return self.reset(self.tasks, KEYS)


def raised(body, height):
    """`body`, begun `height` metres higher, in the air: nothing touches anything."""
    root = 2 if body.mjcf in ("ant.xml", "humanoid.xml") else 1

    def start(noise):
        qpos, qvel = body.start(noise)
        xp = namespace(qpos)
        return qpos + height * xp.asarray(np.eye(qpos.shape[-1])[root], dtype=qpos.dtype), qvel

    return dataclasses.replace(body, start=start)


def lift(monkeypatch, height=2.0):
    """Every family built from here on begins in the air."""
    for engine in (mujoco_engine, brax_engine):
        family = engine.family
        monkeypatch.setattr(
            engine, "family", lambda common, body, options, f=family: f(common, raised(body, height), options)
        )


def built(name, **options):
    """Like `registry.find`, but built anew."""
    parsed = registry.parse(",".join([name, *(f"{key}={value}" for key, value in options.items())]))
    return locomotion.build(parsed.family, parsed.options)


def c_step(host, rows, noise, actions):
    """-> (first observations, Stepped) of the C engine"""
    with host.simulate(rows) as simulator:
        first = simulator.reset(np.ones(len(rows), bool), noise)
        return first, simulator.step(actions)

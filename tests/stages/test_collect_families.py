"""A tiny collection on every family: the log holds what its family promises. One for each engine is fast enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.families import FAMILIES
from pipelines.core.types import Log, transitions
from pipelines.stages import learners
from pipelines.tasks import registry
from tests.toys import AGENTS, run

TINY = {"steps": 60, "random_steps": 40, "block_steps": 20, "num_snapshots": 2}
# analytic, C MuJoCo, brax
FAST = ("gridworld/borel", "hopper-vel/time", "halfcheetah-dir/mql,engine=brax")
SLOW = [name for name in sorted(FAMILIES) if name not in FAST]
OTHER = (
    "halfcheetah-vel/mbml,cartesian=lagged",
    "ant-goal/mbml,contact_forces=computed",
    "ant-semicircle/borel,reward=dense,start=excluding",
    "walker-params/mbml,masses=modern,control_step=0.008",
    "halfcheetah-dir/mql,engine=brax-spring",
    "walker-params/mql,engine=brax",
    "point-semicircle-sparse/borel,start=fixed",
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in (*SLOW, *OTHER))])
def test_a_tiny_collection(name):
    family = registry.find(name)
    agent = AGENTS["dqn" if family.space.num_actions else "sac"]
    artifact = run("collect", {}, TINY, {"family": name, "agent": agent})
    assert artifact.card.extra["family"] == family.name == name
    assert artifact.card.extra["algorithm"] == ("dqn" if family.space.num_actions else "sac")
    assert [task["id"] for task in artifact.card.tasks] == [task.id for task in family.tasks("train")]
    for index, task in enumerate(family.tasks("train")[:3]):
        columns = artifact.tree[f"task_{index:04d}"]
        log = Log(**{column: columns[column] for column in Log._fields})
        assert log.size == 60
        rows = transitions(log, np.arange(60))
        assert rows.obs.shape == (60, *family.space.obs_shape)
        assert str(rows.obs.dtype) == family.space.obs_dtype
        assert str(rows.action.dtype) == family.space.action_dtype
        ended = rows.terminal | rows.truncated
        np.testing.assert_array_equal(log.step == 0, np.append(True, ended[:-1]))
        assert (np.bincount(log.episode) <= family.horizon).all()
        if not family.terminates:
            assert not rows.terminal.any()
        inside = ~ended[:-1]
        np.testing.assert_array_equal(rows.next_obs[:-1][inside], rows.obs[1:][inside])
        paid = jax.vmap(family.reward, in_axes=(None, 0, 0, 0, 0))
        arrays = (rows.obs, rows.action, rows.next_obs, rows.outcome)
        again = np.asarray(paid(jnp.asarray(task.row()), *map(jnp.asarray, arrays)))
        assert (np.abs(again - rows.reward) <= 1e-5 * (1 + np.abs(rows.reward))).all()
    learners.read_log(artifact)

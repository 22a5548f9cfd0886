import json

import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Space, Task, memoryless, task_rows

PIXELS = Space((8, 8, 3), (), num_actions=4, obs_dtype="uint8", action_dtype="int32")


def test_a_space_survives_its_card():
    for space in (PIXELS, Space((2,), (2,), (-1.0, -2.0), (1.0, 2.0))):
        assert Space.from_json(json.loads(json.dumps(space.to_json()))) == space
    assert (PIXELS.obs_dim, PIXELS.action_dim) == (192, 1)


def test_a_task_survives_its_card():
    task = Task(12857, "12.8571deg", "train", {"angle": 12.857143, "x": 9.75, "y": 2.25})
    assert Task.from_json(json.loads(json.dumps(task.to_json()))) == task


def test_a_task_is_a_row_in_the_order_of_its_params():
    tasks = (Task(0, "a", "train", {"y": 2.0, "x": 1.0}), Task(1, "b", "train", {"y": 4.0, "x": 3.0}))
    np.testing.assert_array_equal(task_rows(tasks), np.array([[2, 1], [4, 3]], np.float32))
    assert task_rows(tasks).dtype == np.float32


def test_a_memoryless_policy_remembers_nothing():
    policy = memoryless(lambda state, obs, key, explore: obs + state + explore, lambda state, obs, action: obs * action)
    memory = policy.begin(None, None)
    assert memory.size == 0
    assert policy.start(None, memory, None, None) is memory
    assert policy.observe(None, memory, None) is memory
    assert policy.act(1.0, memory, jnp.float32(2), None, 0.5) == 3.5
    assert policy.value(1.0, memory, jnp.float32(2), 4.0) == 8
    assert memoryless(lambda *args: None, None).value is None

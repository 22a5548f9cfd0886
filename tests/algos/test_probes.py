"""Problems so small that their values are known: which one fails names the part that is broken.

`constant` the critic's loss, `sees` the observation, `later` the bootstrap and the discount, `cut` bootstrapping
through truncation, `acts` the action, `answers` the policy that the critic teaches. All are learned at once as the
tasks of one axis, from logs made by hand. What keeps an algorithm from plain values and from the best action is turned
down as far as it goes: SAC's temperature, CQL's penalty, TD3+BC's cloning, BCQ's narrow choice.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.learn import block, task_keys
from pipelines.core.taskmap import TaskAxis
from pipelines.core.types import Log, Space
from pipelines.stages import learners
from tests.toys import stacked

SPACE = Space((1,), (1,), (-1.0,), (1.0,))
DISCOUNT = 0.5
EPISODES = 200
MARGIN = 0.1
NETS = {"hidden": (32, 32), "batch_size": 64, "learning_rate": 3e-3, "target_rate": 0.05}
# an entropy that no policy falls below: the temperature starts at a millionth and only sinks
HARD = {"init_temperature": 1e-6, "target_entropy": -30.0}
AGENTS: dict[str, dict[str, object]] = {
    "batch-sac": HARD,
    "td3": {"target_noise": 0.0},
    "td3bc": {"target_noise": 0.0, "bc_alpha": 200.0, "actor_delay": 1},
    "cql": {**HARD, "conservative_weight": 1e-4, "num_actions": 2},
    "ddpg": {},
    "iql": {"inverse_temperature": 10.0, "max_weight": 1e4},
    "bcq": {"vae_hidden": (32, 32), "num_candidates": 10, "perturbation_scale": 1.0},
}
UPDATES = 900


class Probe(NamedTuple):
    """Episodes of one or two rows: obs [episodes, rows + 1], action and reward [episodes, rows], and how they end."""

    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    dies: bool = True

    def log(self) -> Log:
        episodes, rows = self.reward.shape
        last = np.tile(np.arange(rows) == rows - 1, episodes)
        return Log(
            obs=self.obs.reshape(-1, 1).astype(np.float32),
            action=self.action.reshape(-1, 1).astype(np.float32),
            reward=self.reward.reshape(-1).astype(np.float32),
            terminal=last & self.dies,
            truncated=last & (not self.dies),
            outcome=np.zeros((episodes * rows, 0), np.float32),
            episode=np.repeat(np.arange(episodes), rows).astype(np.int32),
            step=np.tile(np.arange(rows), episodes).astype(np.int32),
            behaviour=np.zeros(episodes * rows, np.int32),
            size=np.int32(episodes * rows),
        )


def probes() -> dict[str, Probe]:
    rng = np.random.default_rng(0)
    a = rng.uniform(-1, 1, (EPISODES, 1))
    sign, still, one = rng.choice([-1.0, 1.0], (EPISODES, 1)), np.zeros((EPISODES, 1)), np.ones((EPISODES, 1))
    two = rng.uniform(-1, 1, (EPISODES, 2))
    return {
        "constant": Probe(np.hstack([still, one]), a, one),
        "sees": Probe(np.hstack([sign, still]), a, sign),
        "later": Probe(np.hstack([still, one, -one]), two, np.hstack([still, one])),
        "cut": Probe(np.hstack([still, still]), a, one, dies=False),
        "acts": Probe(np.hstack([still, one]), a, 1 - (a - 0.5) ** 2),
        "answers": Probe(np.hstack([sign, still]), a, 1 - (a - sign / 2) ** 2),
    }


class Learned(NamedTuple):
    """The acting states of all probes, by name."""

    algorithm: object
    acting: dict[str, object]

    def q(self, probe: str, obs: float, actions: np.ndarray) -> np.ndarray:
        states = np.full((len(actions), 1), obs, np.float32)
        return np.asarray(self.algorithm.q(self.acting[probe], states, np.float32(actions)[:, None]))

    def action(self, probe: str, obs: float) -> float:
        """Of the greedy policy."""
        policy, key = self.algorithm.policy, jax.random.key(0)
        memory = policy.begin(self.acting[probe], key)
        return float(policy.act(self.acting[probe], memory, jnp.array([obs]), key, 0.0)[0])


@pytest.fixture(scope="module", params=AGENTS)
def both(request: pytest.FixtureRequest) -> tuple[Learned, Learned]:
    """(after UPDATES, before the first): the second is the control, as a learning rate of 0 would leave it."""
    algorithm = learners.make(request.param, {**NETS, **AGENTS[request.param]}, SPACE, DISCOUNT)
    logs = stacked(*(probe.log() for probe in probes().values()))
    axis = TaskAxis(len(probes()))
    keys = task_keys(jax.random.key(0), range(len(probes())))
    begun = jax.jit(jax.vmap(algorithm.init))(keys, logs)
    advance = axis.over_tasks(block(algorithm, UPDATES))
    state, _ = advance(0, axis.put(begun), axis.put(logs), axis.put(keys))

    def by_name(acting: object) -> Learned:
        each = {name: jax.tree.map(lambda leaf, n=n: np.asarray(leaf)[n], acting) for n, name in enumerate(probes())}
        return Learned(algorithm, each)

    return by_name(algorithm.acting(state)), by_name(algorithm.acting(begun))


@pytest.fixture
def learned(both) -> Learned:
    return both[0]


@pytest.fixture
def still(both) -> Learned:
    return both[1]


ACTIONS = np.linspace(-0.9, 0.9, 7)
KNOWN = [
    ("constant", 0.0, np.ones(7)),
    ("sees", 1.0, np.ones(7)),
    ("sees", -1.0, -np.ones(7)),
    ("later", 1.0, np.ones(7)),
    ("later", 0.0, np.full(7, DISCOUNT)),
    ("cut", 0.0, np.full(7, 1 / (1 - DISCOUNT))),
    ("acts", 0.0, 1 - (ACTIONS - 0.5) ** 2),
    ("answers", 1.0, 1 - (ACTIONS - 0.5) ** 2),
    ("answers", -1.0, 1 - (ACTIONS + 0.5) ** 2),
]


@pytest.mark.parametrize(("probe", "obs", "want"), KNOWN, ids=lambda value: str(value) if np.ndim(value) == 0 else "")
def test_the_critic_reaches_the_known_values(learned, still, probe, obs, want):
    assert np.abs(learned.q(probe, obs, ACTIONS) - want).max() < MARGIN
    assert np.abs(still.q(probe, obs, ACTIONS) - want).max() > 3 * MARGIN


def test_the_actor_finds_the_best_actions(learned, still):
    best = [("acts", 0.0, 0.5), ("answers", 1.0, 0.5), ("answers", -1.0, -0.5)]
    away, by_chance = (
        [abs(agent.action(probe, obs) - want) for probe, obs, want in best] for agent in (learned, still)
    )
    assert max(away) < MARGIN
    assert max(by_chance) > 3 * MARGIN

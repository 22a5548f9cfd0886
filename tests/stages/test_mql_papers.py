"""MQL at the paper's scale: the scripts' rows and the table's (facts 2.5, 2.6)."""

import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.configs.stages import MetatrainConfig
from pipelines.stages.mql_papers import BODIES, HORIZON, SMALL, STEPS
from pipelines.stages.presets import PRESETS


def of(body, **fields):
    return resolve(OnlineConfig, PRESETS["online"]["paper"], {"family": f"{body}/mql"}, fields)


# learning rate, noises, delay, updates, episodes, window, context, random steps of all tasks, window in evaluation
SCRIPTS = {
    "humanoid-dir": (3e-4, 0.2, 0.3, 3, 500, 1, 15, 20, 100_000, "unbounded"),
    "halfcheetah-vel": (1e-3, 0.3, 0.3, 2, 200, 1, 20, 15, 50_000, "growing"),
    "ant-fwd-back": (3e-4, 0.2, 0.4, 4, 1_000, 5, 25, 30, 10_000, "unbounded"),
    "ant-goal": (4e-4, 0.3, 0.3, 4, 200, 5, 40, 40, 225_000, "unbounded"),
    "walker-params": (8e-4, 0.2, 0.2, 3, 200, 5, 10, 30, 80_000, "growing"),
    "halfcheetah-dir": (3e-4, 0.3, 0.3, 2, 500, 1, 20, 20, 10_000, "growing"),
}
# noises, delay, updates, window, context; the rates as printed are the scripts'
TABLE = {
    "humanoid-dir": (0.3, 0.3, 2, 1_000, 20, 20),
    "halfcheetah-vel": (0.3, 0.3, 2, 200, 20, 15),
    "ant-fwd-back": (0.2, 0.4, 4, 1_000, 25, 30),
    "ant-goal": (0.3, 0.3, 4, 200, 10, 30),
    "walker-params": (0.2, 0.2, 3, 200, 10, 30),
    "halfcheetah-dir": (0.3, 0.2, 2, 500, 20, 20),
}


@pytest.mark.parametrize("body", sorted(BODIES))
def test_the_scripts_rows(body):
    config = of(body)
    agent = config.agent
    found = (agent.learning_rate, agent.explore_noise, agent.target_noise, agent.actor_delay, config.updates,
             config.trials, agent.history, agent.context_dim, config.random_steps, agent.eval_window)  # fmt: skip
    assert found == SCRIPTS[body]
    assert (agent.hidden, agent.batch_size, agent.discount, agent.target_rate) == ((300, 300), 256, 0.99, 0.005)
    assert (agent.target_noise_clip, config.ramp_rows, config.trial_episodes) == (0.5, 100_000, 1)
    assert config.iterations * config.trials * HORIZON == STEPS == 5_000_000


@pytest.mark.parametrize("body", sorted(BODIES))
def test_the_tables_rows(body):
    config = of(body, paper=f"mql-table/{body}")
    agent = config.agent
    found = (agent.explore_noise, agent.target_noise, agent.actor_delay, config.updates, agent.history,
             agent.context_dim)  # fmt: skip
    assert found == TABLE[body]
    assert agent.learning_rate == SCRIPTS[body][0]


# tasks of an update, context, weight of the KL, whether contexts hold s' (facts 5.2)
PEARL = {
    "humanoid-dir": (16, 256, 0.1, False),
    "halfcheetah-vel": (16, 100, 0.1, False),
    "ant-fwd-back": (4, 256, 0.1, False),
    "ant-goal": (10, 256, 1.0, False),
    "walker-params": (10, 100, 0.1, True),
    "halfcheetah-dir": (4, 256, 0.1, False),
}


@pytest.mark.parametrize("body", sorted(BODIES))
def test_pearls_rows(body):
    """Online four episodes of a task, two of them exploration, at every size; z is drawn once an episode."""
    config = of(body, algorithm="pearl")
    agent = config.agent
    found = agent.tasks_per_update, agent.context_size, agent.kl_weight, agent.context_next_obs
    assert found == PEARL[body]
    for preset in ("tiny", "small", "paper"):
        config = resolve(OnlineConfig, PRESETS["online"][preset], {"family": f"{body}/mql", "algorithm": "pearl"})
        assert (config.trial_episodes, config.agent.prior_episodes, config.agent.resample) == (4, 2, "episode")
        steps = config.iterations * config.trials * config.trial_episodes
        others = resolve(OnlineConfig, PRESETS["online"][preset], {"family": f"{body}/mql"})
        assert preset == "tiny" or steps == others.iterations * others.trials  # as many episodes as MQL has
    to_a_step = of(body, algorithm="pearl").updates / (200 * 4 * of(body, algorithm="pearl").trials)
    assert to_a_step == {"halfcheetah-dir": 0.2, "halfcheetah-vel": 0.4}.get(body, 0.8)  # facts 5.2
    assert of(body, algorithm="pearl", updates=7, iterations=10, block_iterations=5).updates == 7
    assert of(body, algorithm="pearl", trial_episodes=1).trial_episodes == 1
    assert of(body, algorithm="pearl", agent={"prior_episodes": 0}).agent.prior_episodes == 0


@pytest.mark.parametrize("body", sorted(BODIES))
def test_td3_differs_in_the_context_alone(body):
    mql, td3 = of(body).agent, of(body, algorithm="td3").agent
    assert td3.context == "none"
    same = td3.model_copy(update={name: getattr(mql, name) for name in ("context", "history", "context_dim",
                                                                        "eval_window")})  # fmt: skip
    assert same.model_dump() == mql.model_dump()


@pytest.mark.parametrize("body", sorted(BODIES))
def test_from_logs_there_are_as_many_updates(body):
    config = resolve(MetatrainConfig, PRESETS["metatrain"]["paper"], {"algorithm": "mql", "paper": f"mql/{body}"})
    online = of(body)
    assert config.updates == online.iterations * online.updates
    assert config.agent == online.agent


@pytest.mark.parametrize("body", sorted(set(SMALL) - {""}))
def test_small_keeps_what_is_the_bodys_own(body):
    """Nets, steps and rates may shrink; contexts and noises are the script's, and windows where half an hour allows."""
    config = resolve(OnlineConfig, PRESETS["online"]["small"], {"family": f"{body}/mql"})
    assert config.iterations * config.updates <= 200_000
    assert config.agent.history == min(of(body).agent.history, {"ant-goal": 10, "humanoid-dir": 8}.get(body, 20))
    for name in ("context_dim", "explore_noise", "target_noise", "actor_delay", "eval_window"):
        assert getattr(config.agent, name) == getattr(of(body).agent, name)

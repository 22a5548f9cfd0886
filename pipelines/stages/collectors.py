"""The papers' collectors: differences from the defaults by paper and body, for `collect --preset paper`. jax-free.

A family's own variant chooses its paper (`ant-goal/mbml` is collected as MBML collects), `--set paper=mql` another one,
`--set paper=mbml/ant-goal` another body's row too, as for a family of one's own.

Not followed: MBML's and BOReL's initial weights (rlkit's), MBML's unsynchronised target critics and the cut of running
episodes every 1,000 steps, MQL's random episodes of 50 steps. tiMe says `SAC, rlkit's defaults` and no more; of rlkit's
the warm-up and the blocks are from memory. MQL learns one policy of all tasks: here each task has a TD3 with its
constants and its share of the 5,000,000 steps. BOReL's updates number as published; that its DQN is plain is said of
its learner on beliefs, which is the same code. Of its image reacher nobody says how it was collected.
"""

from typing import Any

Row = dict[str, Any]

# what is collected where no paper says how: positions and distances of the point families reach 10 to 20
PLAIN: Row = {
    "steps": 20_000,
    "random_steps": 5_000,
    "agent": {"obs_scale": 10.0, "reward_scale": 10.0},
    "agents": {"td3": {"hidden": [300, 300]}},  # MQL's
}


def _rlkit(steps: int, warmup: int, agent: Row, **fields: Any) -> Row:
    """Blocks of 1,000 steps and as many updates; the untrained policy acts in the `warmup` steps."""
    block = {"block_steps": 1_000, "block_updates": 1_000}
    return {"steps": steps, "random_steps": warmup, "warmup": "policy", **block, "agents": {"sac": agent}, **fields}


def _time(steps: int) -> Row:
    """Facts 8.3: SAC with rlkit's defaults."""
    return _rlkit(steps, 1_000, {"hidden": [256, 256], "log_std_min": -20.0})


def _mbml(steps: int, keep: int | None = None) -> Row:
    """Facts 0 and 2: `steps` collected, the first `keep` rows kept. A snapshot of seven layers takes 50 MB a task."""
    agent = {"hidden": [256, 256], "critic_hidden": [1024] * 7, "log_std_min": -20.0}
    kept = {} if keep is None else {"keep": f"first:{keep}"}
    return _rlkit(steps, 10_000, agent, num_snapshots=1, **kept)


def _borel(trial: int, init: int, iterations: int, trials: int, updates: int) -> Row:
    """Facts 2: `init` random trials of `trial` steps, then iterations of some trials and some updates."""
    block = trials * trial
    steps = init * trial + iterations * block
    return {"steps": steps, "random_steps": init * trial, "block_steps": block, "block_updates": updates}


def _borel_sac(trial: int, init: int, iterations: int, updates: int, width: int, temperature: float) -> Row:
    """Two trials an iteration; models saved every 20."""
    agent = {
        "hidden": [width, width],
        "log_std_min": -20.0,
        "init_temperature": temperature,
        "learn_temperature": False,
    }
    row = _borel(trial, init, iterations, 2, updates)
    return {**row, "snapshot_every": 20 * row["block_steps"], "agents": {"sac": agent}}


_BOREL_DQN: Row = {
    "hidden": [16, 16],
    "double": False,
    "explore_start": 1.0,
    "explore_end": 0.0,
    "explore_steps": 50 * 200,  # iterations, updates in each
}


def _mql(
    tasks: int, random: int, episodes: int, updates: int, rate: float, explore: float, smooth: float, delay: int
) -> Row:
    """Facts 2.4, 2.5: `random` steps of all tasks together, then iterations of episodes of 200 steps and updates."""
    block = 200 * episodes
    agent = {
        "hidden": [300, 300],
        "learning_rate": rate,
        "explore_noise": explore,
        "target_noise": smooth,
        "actor_delay": delay,
    }
    return {
        "algorithm": "td3",
        "steps": 5_000_000 // tasks // block * block,
        "random_steps": random // tasks,
        "block_steps": block,
        "block_updates": updates,
        "agents": {"td3": agent},
    }


PAPERS: dict[str, Any] = {
    "": PLAIN,
    "time": {"hopper-vel": _time(1_000_000), "halfcheetah-vel": _time(60_000)},
    "mbml": {
        "ant-dir": _mbml(600_000, keep=200_000),
        "ant-goal": _mbml(600_000, keep=300_000),
        "humanoid-dir": _mbml(600_000),
        "halfcheetah-vel": _mbml(60_000),
        "walker-params": _mbml(400_000, keep=300_000),
        "umaze-goal": _mbml(60_000, keep=30_000),
    },
    "borel": {
        "gridworld": {**_borel(60, 10, 100, 5, 200), "agents": {"dqn": _BOREL_DQN}},
        "point-semicircle-sparse": _borel_sac(120, 50, 300, 500, 32, 0.01),
        "ant-semicircle": _borel_sac(400, 50, 1_000, 2_000, 128, 0.2),
        "halfcheetah-vel": _borel_sac(400, 50, 1_000, 2_000, 128, 0.2),
        "point-wind": _borel_sac(50, 50, 300, 500, 32, 0.01),
        "escape-room": {**_borel_sac(120, 100, 50, 500, 32, 0.01), "snapshot_every": 50 * 240},
        "reacher-image": {**PLAIN, "agent": {"obs_scale": 255.0}},
    },
    "mql": {
        "humanoid-dir": _mql(100, 100_000, 1, 500, 3e-4, 0.2, 0.3, 3),
        "halfcheetah-vel": _mql(100, 50_000, 1, 200, 1e-3, 0.3, 0.3, 2),
        "ant-fwd-back": _mql(2, 10_000, 5, 1_000, 3e-4, 0.2, 0.4, 4),
        "ant-goal": _mql(150, 225_000, 5, 200, 4e-4, 0.3, 0.3, 4),
        "walker-params": _mql(40, 80_000, 5, 200, 8e-4, 0.2, 0.2, 3),
        "halfcheetah-dir": _mql(2, 10_000, 1, 500, 3e-4, 0.3, 0.3, 2),
    },
}

"""The papers' collectors carry the numbers of the facts, for the families whose names say which paper they are of."""

import json

import pytest

from benchmarks import results
from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import CollectConfig
from pipelines.core.errors import UsageError
from pipelines.core.families import FAMILIES
from pipelines.stages.collectors import PAPERS, PLAIN
from pipelines.stages.presets import PRESETS
from pipelines.tasks import registry


def paper(family: str, **fields: object) -> CollectConfig:
    return resolve(CollectConfig, PRESETS["collect"]["paper"], {"family": family, **fields})


# ---- tiMe ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "steps"), [("hopper-vel/time", 1_000_000), ("halfcheetah-vel/time", 60_000)])
def test_time(family, steps):
    config = paper(family)
    assert (config.algorithm, config.steps, config.keep) == ("sac", steps, "all")
    agent = config.agent
    assert (agent.hidden, agent.critic_hidden, agent.learning_rate, agent.batch_size) == ((256, 256), None, 3e-4, 256)


# ---- MBML ------------------------------------------------------------------------------------------------------------

MBML = {  # epochs, first rows kept (None: all)
    "ant-dir/mbml": (590, 200_000),
    "ant-goal/mbml": (590, 300_000),
    "humanoid-dir/mbml-m": (590, None),
    "humanoid-dir/mbml": (590, None),
    "halfcheetah-vel/mbml": (50, None),
    "walker-params/mbml": (390, 300_000),
    "umaze-goal/mbml-m": (50, 30_000),
}


@pytest.mark.parametrize(("family", "numbers"), MBML.items())
def test_mbml(family, numbers):
    epochs, first = numbers
    config = paper(family)
    assert (config.algorithm, config.warmup) == ("sac", "policy")
    assert (config.random_steps, config.block_steps, config.block_updates) == (10_000, 1_000, 1_000)
    assert config.steps == 10_000 + 1_000 * epochs
    assert config.keep == ("all" if first is None else f"first:{first}")
    agent = config.agent
    assert (agent.hidden, agent.critic_hidden) == ((256, 256), (1024,) * 7)
    assert (agent.learning_rate, agent.batch_size, agent.target_rate) == (3e-4, 256, 5e-3)
    assert (agent.log_std_min, agent.learn_temperature, agent.init_temperature) == (-20, True, 1.0)
    assert (agent.target_entropy, agent.obs_scale, agent.reward_scale) == (None, 1.0, 1.0)
    assert registry.find(family).discount == 0.99


# ---- BOReL -----------------------------------------------------------------------------------------------------------

BOREL = {  # k, H, init trials, iterations, trials and updates of each, trials of a task, transitions of a task
    "gridworld/borel": (4, 15, 10, 100, 5, 200, 510, 30_600),
    "point-semicircle-sparse/borel": (2, 60, 50, 300, 2, 500, 650, 78_000),
    "ant-semicircle/borel": (2, 200, 50, 1000, 2, 2000, 2050, 820_000),
    "halfcheetah-vel/borel": (2, 200, 50, 1000, 2, 2000, 2050, 820_000),
    "point-wind/borel": (2, 25, 50, 300, 2, 500, 650, 32_500),
    "escape-room/borel": (2, 60, 100, 50, 2, 500, 200, 24_000),
}
BOREL_NETS = {  # width, temperature, discount
    "gridworld/borel": (16, None, 0.99),
    "point-semicircle-sparse/borel": (32, 0.01, 0.9),
    "ant-semicircle/borel": (128, 0.2, 0.99),
    "halfcheetah-vel/borel": (128, 0.2, 0.99),
    "point-wind/borel": (32, 0.01, 0.9),
    "escape-room/borel": (32, 0.01, 0.9),
}


@pytest.mark.parametrize(("family", "numbers"), BOREL.items())
def test_borel(family, numbers):
    k, horizon, init, iterations, trials, updates, all_trials, transitions = numbers
    config, found = paper(family), registry.find(family)
    trial = k * horizon
    assert found.horizon == horizon
    assert (config.steps, config.steps // trial) == (transitions, all_trials)
    assert config.random_steps == init * trial
    assert (config.block_steps, config.block_updates) == (trials * trial, updates)
    assert (config.steps - config.random_steps) // config.block_steps == iterations
    assert (config.warmup, config.keep) == ("uniform", "all")  # all transitions, the random ones too
    width, temperature, discount = BOREL_NETS[family]
    agent = config.agent
    assert (agent.hidden, agent.learning_rate, agent.target_rate, agent.batch_size) == (
        (width, width),
        3e-4,
        0.005,
        256,
    )
    assert (agent.discount or found.discount) == discount
    if temperature is None:
        assert config.algorithm == "dqn"
        assert (agent.explore_start, agent.explore_end, agent.explore_steps) == (1.0, 0.0, 50 * updates)
        assert config.snapshot_every is None
    else:
        assert (config.algorithm, agent.critic_hidden) == ("sac", None)
        assert (agent.init_temperature, agent.learn_temperature, agent.log_std_min) == (temperature, False, -20)
        assert config.snapshot_every == (50 if "escape" in family else 20) * config.block_steps


# ---- MQL -------------------------------------------------------------------------------------------------------------

MQL = {  # rate, explore, smoothing, delay, updates and episodes of an iteration, random steps of all tasks
    "humanoid-dir/mql": (3e-4, 0.2, 0.3, 3, 500, 1, 100_000),
    "halfcheetah-vel/mql": (1e-3, 0.3, 0.3, 2, 200, 1, 50_000),
    "ant-fwd-back/mql": (3e-4, 0.2, 0.4, 4, 1000, 5, 10_000),
    "ant-goal/mql": (4e-4, 0.3, 0.3, 4, 200, 5, 225_000),
    "walker-params/mql": (8e-4, 0.2, 0.2, 3, 200, 5, 80_000),
    "halfcheetah-dir/mql": (3e-4, 0.3, 0.3, 2, 500, 1, 10_000),
}


@pytest.mark.parametrize(("family", "numbers"), MQL.items())
def test_mql(family, numbers):
    rate, explore, smooth, delay, updates, episodes, random = numbers
    config, entry = paper(family), FAMILIES[family]
    agent = config.agent
    assert (config.algorithm, agent.hidden, agent.batch_size, agent.target_rate) == ("td3", (300, 300), 256, 0.005)
    assert (agent.learning_rate, agent.explore_noise, agent.target_noise, agent.actor_delay) == (
        rate,
        explore,
        smooth,
        delay,
    )
    assert agent.target_noise_clip == 0.5
    assert (config.block_steps, config.block_updates) == (episodes * entry.horizon, updates)
    assert config.random_steps == random // entry.num_train
    assert 0 <= 5_000_000 / entry.num_train - config.steps < config.block_steps
    assert registry.find(family).discount == 0.99


# ---- small -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", list(FAMILIES))
def test_small_takes_as_many_tasks_as_there_are_or_fewer(family):
    config, entry = resolve(CollectConfig, PRESETS["collect"]["small"], {"family": family}), FAMILIES[family]
    assert config.agent.hidden == (128, 128)
    assert 2 <= (config.num_tasks or entry.num_train) <= entry.num_train
    if entry.module in ("locomotion", "umaze"):
        assert (config.num_tasks or entry.num_train) <= 4
        assert (config.agent.obs_scale, config.agent.reward_scale) == (1.0, 1.0)  # metres, and metres a second


def test_small_is_what_the_committed_tables_were_made_with():
    made = json.loads((results.OUT / "time-point.json").read_text())["steps"][0]
    assert made["stage"] == "collect"
    assert resolve(CollectConfig, PRESETS["collect"]["small"]).identity() == made["config"]


def test_the_users_fields_lie_over_the_row_of_the_body():
    row = {"family": "ant-goal/mbml,engine=brax", "num_tasks": 10, "agent": {"batch_size": 7}}
    config = resolve(CollectConfig, PRESETS["collect"]["small"], row)
    assert (config.num_tasks, config.agent.batch_size, config.agent.hidden) == (10, 7, (128, 128))
    assert config.steps == resolve(CollectConfig, PRESETS["collect"]["small"], {"family": "ant-goal/mbml"}).steps
    assert "bodies" not in config.model_dump()


# ---- which of them ---------------------------------------------------------------------------------------------------


def test_images_are_divided_by_255():
    config = paper("reacher-image/borel")
    assert config == resolve(CollectConfig, PLAIN, {"family": config.family, "agent": config.agent.model_dump()})
    assert (config.agent.obs_scale, config.agent.reward_scale) == (255.0, 1.0)


def test_every_collector_is_pinned_here_and_builds():
    pinned = {"time": ["hopper-vel", "halfcheetah-vel"]}
    pinned |= {name: [*table] for name, table in (("mbml", MBML), ("borel", BOREL), ("mql", MQL))}
    pinned["borel"] += ["reacher-image/borel"]
    for name, rows in PAPERS.items():
        if name:
            assert set(rows) == {family.partition("/")[0] for family in pinned[name]}
            for body in rows:
                family = "gridworld/borel" if body == "gridworld" else "point-semicircle/time"
                assert paper(family, paper=f"{name}/{body}").block_updates or body == "reacher-image"


@pytest.mark.parametrize("family", ["point-semicircle/time", "point-semicircle/spread", "a.py:B"])
def test_where_no_paper_says_how_the_plain_one_serves(family):
    config = paper(family)
    assert config.steps == PLAIN["steps"] == 20_000
    assert config == resolve(CollectConfig, PLAIN, {"family": family})


def test_options_and_the_users_fields():
    """A family's options leave its collector, and what the user says lies over it, nets of the algorithm included."""
    assert paper("ant-goal/mbml,engine=brax").keep == "first:300000"
    mine = paper("ant-goal/mbml", keep="all", agent={"batch_size": 7})
    assert (mine.keep, mine.agent.batch_size, mine.agent.critic_hidden) == ("all", 7, (1024,) * 7)
    assert paper("halfcheetah-vel/mql", algorithm="sac").agent.hidden == (256, 256)


def test_another_papers_collector():
    assert paper("halfcheetah-vel/mql", paper="mbml").steps == 60_000
    assert paper("mine.py:CHEETAH", paper="mql/halfcheetah-vel").algorithm == "td3"
    config = paper("halfcheetah-vel/mql", paper="mbml").model_dump()
    assert "paper" not in config
    assert "papers" not in config


@pytest.mark.parametrize(
    ("family", "chosen", "cause", "hint"),
    [
        ("ant-goal/mql", "mblm", "paper=mblm: no such paper", "did you mean mbml?"),
        ("ant-goal/mql", "borel", "borel has no collector for ant-goal", "bodies: ant-semicircle, escape-room"),
        ("ant-goal/mql", "mbml/ant-gaol", "mbml has no collector for ant-gaol", "did you mean ant-goal?"),
        ("a.py:B", "mql", "mql has no collector for a.py:B", "bodies: ant-fwd-back, ant-goal"),
    ],
)
def test_collectors_that_there_are_not(family, chosen, cause, hint):
    with pytest.raises(UsageError) as caught:
        paper(family, paper=chosen)
    assert cause in caught.value.cause
    assert hint in caught.value.hint


def test_a_paper_without_the_preset_says_so():
    with pytest.raises(UsageError, match="collector of the preset"):
        resolve(CollectConfig, PRESETS["collect"]["tiny"], {"paper": "mbml"})

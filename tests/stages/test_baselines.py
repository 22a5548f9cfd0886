"""MBML's baselines and fine-tuning at the paper's scale, as its code has them."""

import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.finetune import FinetuneConfig
from pipelines.core.configs.stages import MetatrainConfig
from pipelines.core.errors import UsageError
from pipelines.stages.baselines import FINETUNE, METATRAIN
from pipelines.stages.collectors import PAPERS
from pipelines.stages.presets import PRESETS


def metatrain(**fields):
    return resolve(MetatrainConfig, PRESETS["metatrain"]["paper"], fields)


def test_a_baseline_for_every_body_that_is_collected():
    assert METATRAIN["mbml"].keys() == PAPERS["mbml"].keys()
    assert FINETUNE["mbml"].keys() == PAPERS["mbml"].keys() - {"umaze-goal"}  # not fine-tuned in the paper


@pytest.mark.parametrize("body", sorted(METATRAIN["mbml"]))
def test_contextual_bcq_has_mbmls_nets(body):
    config = metatrain(paper=f"mbml/{body}", algorithm="contextual-bcq")
    agent = config.agent
    assert config.updates == 1_000 * 100
    assert [len(agent.hidden), len(agent.perturbation_hidden), len(agent.vae_hidden)] == [9, 8, 7]
    assert {*agent.hidden, *agent.perturbation_hidden, *agent.vae_hidden} == {1024}
    assert (agent.encoder_hidden, agent.identity_dim) == ((200, 200, 200), 20)
    assert (agent.context_size, agent.batch_size, agent.learning_rate) == (128, 128, 3e-4)
    assert (agent.min_weight, agent.num_candidates, agent.target_rate) == (0.75, 10, 0.005)


# meta-batch, context rows, KL weight (facts 4.4)
PEARL = {
    "ant-dir": (4, 256, 0.1),
    "ant-goal": (10, 256, 1.0),
    "humanoid-dir": (16, 256, 0.1),
    "halfcheetah-vel": (16, 100, 0.1),
    "walker-params": (16, 100, 0.1),
    "umaze-goal": (16, 128, 0.1),
}


@pytest.mark.parametrize("body", sorted(METATRAIN["mbml"]))
def test_batch_pearl_has_its_own(body):
    config = metatrain(paper=f"mbml/{body}", algorithm="batch-pearl")
    agent = config.agent
    assert (agent.tasks_per_update, agent.context_size, agent.kl_weight) == PEARL[body]
    assert (agent.latent_dim, agent.hidden, agent.encoder_hidden) == (5, (300,) * 3, (200,) * 3)
    assert (agent.batch_size, agent.learning_rate, agent.target_rate) == (256, 3e-4, 0.005)
    assert (agent.reward_scale, agent.scale_reward, agent.learn_temperature) == (1 / 5, False, False)
    assert (agent.init_temperature, agent.kl_over_tasks, config.updates) == (1.0, "sum", 100_000)


def test_fine_tuning_is_as_long_as_the_codes():
    fields = {body: resolve(FinetuneConfig, PRESETS["finetune"]["paper"], {"paper": f"mbml/{body}"})
              for body in FINETUNE["mbml"]}  # fmt: skip
    epochs = {body: config.steps // config.epoch_steps for body, config in fields.items()}
    assert epochs == {"ant-dir": 590, "ant-goal": 590, "humanoid-dir": 590, "halfcheetah-vel": 50, "walker-params": 390}
    for config in fields.values():
        assert (config.collect_steps, config.warmup_steps, config.epoch_steps) == (10_000, 10_000, 1_000)
        assert (config.imitation.updates, config.imitation.batch_size, config.imitation.learning_rate) == (
            10_000,
            256,
            3e-4,
        )
        agent = config.agent
        assert (agent.average_rate, agent.target_rate, agent.batch_size, agent.hidden) == (0.1, 0.005, 256, (256, 256))


def test_without_a_paper_times_updates_stand():
    assert metatrain().updates == metatrain(algorithm="batch-pearl").updates == 20_000
    assert len(metatrain(algorithm="contextual-bcq").agent.hidden) == 9


def test_a_row_that_there_is_not():
    with pytest.raises(UsageError, match="mbml has no row for ant-dri") as caught:
        metatrain(paper="mbml/ant-dri")
    assert "did you mean ant-dir?" in caught.value.hint
    with pytest.raises(UsageError, match="chooses a row of the preset `paper`"):
        resolve(MetatrainConfig, {"paper": "mbml/ant-dir"})

"""Stages, their presets and their algorithms fit together."""

import pytest

from pipelines.core.configs.base import resolve
from pipelines.core.configs.stages import AgentConfig
from pipelines.stages import learners, metatrain
from pipelines.stages.presets import NAMES, PRESETS
from pipelines.stages.registry import STAGES
from pipelines.tasks.point import DISCOUNT, SPACE
from tests.toys import GRID

CHOICES = [
    (stage, preset, {spec.config.SELECTOR: algorithm} if issubclass(spec.config, AgentConfig) else {})
    for stage, spec in STAGES.items()
    for preset in NAMES
    for algorithm in (spec.config.AGENTS if issubclass(spec.config, AgentConfig) else [None])
]


def test_every_stage_has_every_preset():
    assert PRESETS.keys() == STAGES.keys()
    assert all(tuple(presets) == NAMES for presets in PRESETS.values())


@pytest.mark.parametrize(("stage", "preset", "choice"), CHOICES, ids=str)
def test_presets_build_for_every_algorithm(stage, preset, choice):
    """The config resolves, and the algorithm that it configures can be made."""
    config = resolve(STAGES[stage].config, PRESETS[stage][preset], choice)
    if choice:
        chosen = choice[STAGES[stage].config.SELECTOR]
        name = metatrain.NAMES.get(chosen, chosen) if stage in ("metatrain", "online") else chosen
        space = GRID if name in learners.DISCRETE else SPACE
        algorithm = learners.make(name, config.agent, space, DISCOUNT)
        assert (algorithm.policy.value is None) == (chosen == "bc")


@pytest.mark.parametrize("spec", STAGES.values(), ids=lambda spec: spec.name)
def test_what_a_stage_consumes_another_produces(spec):
    made = {other.produces for other in STAGES.values() if other is not spec}
    for role in spec.consumes.values():
        assert set(role.kinds) <= made
    assert callable(spec.load())
    assert spec.help
    assert spec.version >= 1

"""Recipes of MQL and of PEARL: planned within half an hour a seed."""

import json

import pytest

from pipelines.core.recipe import shipped

NAMES = [name for name in shipped() if name.startswith(("mql-", "pearl-")) and "sizes" not in name]
SMALL_S = 1_800


def test_the_six_families_are_there():
    families = {"halfcheetah-vel", "halfcheetah-dir", "ant-fwd-back", "ant-goal", "walker-params", "humanoid-dir"}
    assert set(NAMES) == {f"{method}-{family}" for method in ("mql", "pearl") for family in families}


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_planned(omrl, name, preset):
    """Small: within half an hour on two cores."""
    said = omrl("run", name, "--preset", preset, "--dry-run", "--json")
    assert said.code == 0, said.err
    steps = json.loads(said.out)["plan"]
    assert {"pearl-log", "eval-pearl", "eval-batch-pearl"} <= {step["step"] for step in steps}
    if preset == "small":
        assert sum(step["seconds"] for step in steps) < SMALL_S

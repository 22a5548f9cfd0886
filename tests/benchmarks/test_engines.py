"""What the steps benchmark runs and how it writes it. Nothing here looks at a clock."""

import numpy as np
import pytest

from benchmarks import engines
from benchmarks.engines import ENVIRONMENTS, OPEN_STEPS, WORKS, Closed, OpenLoop, Row
from benchmarks.spread import Spread
from pipelines.core.families import FAMILIES
from pipelines.tasks import registry


@pytest.fixture
def closed():
    made = Closed(registry.find("hopper-vel/time"))
    yield made
    made.simulator.__exit__()


def test_every_body_is_measured_on_a_family_of_the_listing():
    assert {work.family for work in WORKS} <= set(FAMILIES)
    assert {work.name.split(",")[0] for work in WORKS} == {"cheetah", "hopper", "walker", "ant", "humanoid"}
    listed = set(engines.scanned_families())
    assert listed == {name for name, entry in FAMILIES.items() if entry.module != "locomotion"}


def test_the_closed_loop_begins_ended_episodes_again(closed):
    """Hoppers under uniform actions fall within 60 steps or so, and all are standing or falling, never lying."""
    closed.run(150)
    assert (closed.simulator.reset(np.zeros(ENVIRONMENTS, bool), np.zeros((ENVIRONMENTS, 12)))[:, 0] > 0.5).all()
    assert closed._step == 150


def test_the_open_loop_makes_the_control_steps_that_it_counts(closed):
    """Each of its model's steps advances time by one time step."""
    loop = OpenLoop(closed, 4)
    assert loop._control.shape == (ENVIRONMENTS, OPEN_STEPS * 4, 3)
    calls = []
    loop._call = calls.append
    loop.run(3 * OPEN_STEPS)
    assert len(calls) == 3


def test_a_control_step_has_the_papers_number_of_sub_steps():
    for work in WORKS:
        model = registry.find(work.family).simulate(
            np.ones((1, len(registry.find(work.family).tasks("train")[0].params)))
        )
        skip = engines._control_step(work) / model.models[0].opt.timestep
        assert skip == pytest.approx({"hopper": 4, "walker": 4}.get(work.name, 5))
        model.__exit__()


def test_ratios_are_of_medians_and_missing_peers_are_said():
    row = Row("ant", "ant-dir/mbml", Spread.of([30.0, 10, 20]), Spread.of([10.0]), Spread.of([40.0]), None)
    assert engines.row_cells(row) == [
        "ant",
        "ant-dir/mbml",
        "20.0 [10.0, 30.0]",
        "10.0",
        "2.00x",
        "40.0",
        "0.50x",
        "-",
        "-",
    ]


def test_a_scan_covers_one_horizon_of_a_family():
    total, obs = engines.scan_of(registry.find("point-semicircle/time"))()
    assert total.shape == (engines.SCANNED,)
    assert obs.shape == (engines.SCANNED, 2)
    assert (np.abs(obs) > 0).all()
    assert (total < 0).all()
    assert np.abs(obs).max() <= 20

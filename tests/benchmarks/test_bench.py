"""The arithmetic of the benchmark: what it counts and how it writes it. Nothing here looks at a clock."""

import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bench, machine, peer
from benchmarks.spread import Spread, digits, rates, table
from benchmarks.work import (
    MOST_UPDATES,
    ROWS,
    SIZES,
    WORKS,
    Size,
    flop_per_update,
    make_algorithm,
    product_flop,
    random_logs,
    shapes,
)
from pipelines.core.types import transitions

TINY = Size("tiny", width=8, batch=4, obs=3, action=2)


def dense(*widths):
    """Weights of a net with these widths."""
    return sum(rows * columns for rows, columns in itertools.pairwise(widths))


def sac_by_hand(size):
    """2 flop for every weight and row that a pass of SAC's update touches."""
    width, inputs = size.width, size.obs + size.action
    actor = dense(size.obs, width, width, 2 * size.action)
    critic = dense(inputs, width, width, 1)
    target = actor + 2 * critic
    # backwards: once for the weights, once for the inputs of every layer but the first
    critic_step = 2 * (critic + critic + (critic - dense(inputs, width)))
    through_critics = 2 * (critic + critic)  # forwards, and back to the action
    actor_step = actor + actor + (actor - dense(size.obs, width))
    return 2 * size.batch * (target + critic_step + through_critics + actor_step)


def time_by_hand(size, num_tasks, latent=32):
    """As above; the gradient of E passes through P, that of f through P and Q."""
    width, inputs = size.width, size.obs + size.action
    encoder = dense(2 * size.obs + size.action + 1, width, latent)
    embed, predictor = dense(inputs, width, width), dense(width + latent, width, 1 + size.obs)
    q = dense(inputs + latent, width, width, 1)
    first = dense(2 * size.obs + size.action + 1, width) + dense(inputs, width)  # no gradient goes further back
    return 2 * num_tasks * size.batch * (3 * (encoder + embed + predictor + q) - first)


@pytest.mark.parametrize("size", [*SIZES, TINY])
def test_flop_of_a_sac_update_are_those_of_a_hand_count(size):
    assert flop_per_update("SAC", size, 1) == flop_per_update("SAC", size, 3) == sac_by_hand(size)


@pytest.mark.parametrize("num_tasks", [1, 3])
@pytest.mark.parametrize("size", [*SIZES, TINY])
def test_flop_of_a_time_update_are_those_of_a_hand_count(size, num_tasks):
    assert flop_per_update("tiMe", size, num_tasks) == time_by_hand(size, num_tasks)


@pytest.mark.parametrize("name", WORKS)
def test_the_count_agrees_with_what_xla_says(name):
    size = SIZES[0]
    algorithm = make_algorithm(name, size)
    state, batch, key = shapes(algorithm, name, size, 3)
    lowered = jax.jit(algorithm.update).lower(state, batch, key, jax.ShapeDtypeStruct((), jnp.int32))
    # xla counts the elementwise work, too
    assert 1.0 < lowered.cost_analysis()["flops"] / flop_per_update(name, size, 3) < 1.05


def test_products_in_a_loop_are_refused():
    def loop(x):
        return jax.lax.fori_loop(0, 3, lambda _, y: y @ y, x)

    with pytest.raises(ValueError, match="how often"):
        product_flop(jax.make_jaxpr(loop)(jnp.ones((2, 2))).jaxpr)


def test_products_in_a_compiled_part_and_a_batch_are_counted():
    def batched(x, y):
        return jax.jit(jnp.matmul)(x, y)

    program = jax.make_jaxpr(batched)(jnp.ones((5, 2, 3)), jnp.ones((5, 3, 4)))
    assert product_flop(program.jaxpr) == 2 * 5 * 2 * 3 * 4


def test_median_and_ends():
    spread = Spread.of([3.0, 1.0, 100.0, 2.0])
    assert (spread.median, spread.least, spread.most, spread.repeats) == (2.5, 1.0, 100.0, 4)
    assert str(spread) == "2.50 [1.00, 100]"
    with pytest.raises(ValueError, match="no measurements"):
        Spread.of([])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.012345, "0.0123"),
        (1.0, "1.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (123.4, "123"),
        (12345.0, "12300"),
        (-2.345, "-2.35"),
        (math.nan, "nan"),
    ],
)
def test_three_digits_count(value, text):
    assert digits(value) == text


def test_rates_call_as_often_as_asked():
    calls = []
    assert rates(lambda: calls.append(1), 10.0, 5).repeats == len(calls) == 5


def test_a_table_is_aligned():
    assert table(("a", "bb"), [("long", "x")]) == "a     bb\n----  --\nlong  x"


def test_a_block_is_as_long_as_asked_within_bounds():
    assert bench.block_length(flop=1e9, peak_gflops=100.0, repeat_s=2.0) == 60
    assert bench.block_length(flop=1e6, peak_gflops=100.0, repeat_s=2.0) == MOST_UPDATES
    assert bench.block_length(flop=1e15, peak_gflops=100.0, repeat_s=2.0) == 5


def test_the_logs_are_whole_episodes():
    logs = random_logs(TINY, 2)
    one = jax.tree.map(lambda leaf: leaf[1], logs)
    rows = transitions(one, np.arange(ROWS))
    assert rows.obs.shape == rows.next_obs.shape == (ROWS, TINY.obs)
    same = ~one.truncated[:-1]
    np.testing.assert_array_equal(rows.next_obs[:-1][same], rows.obs[1:][same])
    assert one.episode[-1] + 1 == one.truncated.sum() == ROWS // 20
    assert not np.array_equal(logs.obs[0], logs.obs[1])


@pytest.mark.parametrize("name", [pytest.param("SAC", marks=pytest.mark.slow), "tiMe"])  # a program per device for SAC
def test_a_row_is_measured_and_written(name):
    effort = bench.Effort(repeats=5, repeat_s=1e-4, peak_sizes=(8,))
    rival = Spread.of([2.0])
    row = bench.measure(name, TINY, 2, effort, peak=1.0, rival=rival)
    assert row.updates_per_s.repeats == 5
    assert row.share_of_peak == pytest.approx(row.updates_per_s.median * row.gflop_per_update)
    assert row.gflop_per_update == flop_per_update(name, TINY, 2) / 1e9
    cells = bench.row_cells(row)
    assert len(cells) == len(bench.COLUMNS)
    assert cells[-1] == (f"{row.updates_per_s.median / 2:.2f}x" if name == "SAC" else "-")


def test_the_machine_is_described():
    found, peak = machine.describe(), machine.matmul_peak((8, 16), 2)
    assert peak["gflops"] > 0
    assert peak["size"] in (8, 16)
    text = bench.machine_lines(found, peak)
    assert found["cpu"] in text
    assert f"{found['devices']} cpu" in text
    json.dumps(found | peak, allow_nan=False)


def test_a_peer_that_cannot_be_had_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("torch==0.0.0.nowhere\n")
    monkeypatch.setattr(peer, "REQUIREMENTS", requirements)
    monkeypatch.setattr(peer, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(peer, "PYTHON", tmp_path / ".venv" / "bin" / "missing")
    monkeypatch.setattr(peer.venv, "create", lambda *args, **kwargs: None)
    assert bench.peer_rates(bench.QUICK) == {}
    assert capsys.readouterr().out.startswith("peer     left out: ")

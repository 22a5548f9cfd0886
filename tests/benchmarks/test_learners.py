"""Per-task learners beside peers: what is counted, who takes turns, what is said. No peer runs here."""

import itertools
import json
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import beliefs, exploring, learners, loads, rivals, scaling
from benchmarks.learners import PEERS, Beside, Row
from benchmarks.loads import LOADS, SHAPE
from benchmarks.peer import FOLDER, PeerMissing
from benchmarks.spread import Spread
from benchmarks.work import Size
from tests.benchmarks.test_bench import dense, sac_by_hand

ECHO = """
import sys
from types import SimpleNamespace
sys.path.insert(0, {folder!r})
import turns
print("a library talks")
turns.answer({{"threads": 2}}, lambda question: {{"updates_per_s": 2.0 * question.get("n", 1)}})
"""


def bcq_by_hand():
    """2 flop for every weight and row that a pass touches; VAE 750-750, others 400-300, 10 actions, 100 rows."""
    obs, action, latent, many, rows = SHAPE.obs, SHAPE.action, 2 * SHAPE.action, 10, 100
    encoder, generator = dense(obs + action, 750, 750, 2 * latent), dense(obs + latent, 750, 750, action)
    critic, perturbation = dense(obs + action, 400, 300, 1), dense(obs + action, 400, 300, action)
    # forwards, for the weights, for the inputs; the latent's part of the generator's first layer has one, too
    vae = 3 * (encoder + generator) - dense(obs + action, 750)
    # each first layer is made once for the observation, M times for what stands beside it
    saved = (many - 1) * obs * (750 + 400 + 2 * 400)
    target = many * (generator + perturbation + 2 * critic) - saved
    critics = 2 * (3 * critic - dense(obs + action, 400))
    actor = generator + 3 * perturbation - dense(obs + action, 400) + 2 * critic
    return 2 * rows * (vae + target + critics + actor)


def test_flop_of_an_update_are_those_of_a_hand_count():
    found = {one.name: one.flop() for one in LOADS}
    assert found["BCQ"] == bcq_by_hand()
    assert found["SAC"] == sac_by_hand(Size("", width=256, batch=256, obs=SHAPE.obs, action=SHAPE.action))
    first, last = 2 * dense(SHAPE.obs + SHAPE.action, 128), 3 * dense(128, 1)
    # the last layer has one output: it may be made by sums, which are no matrix products
    assert found["rewards"] in (2 * 128 * 20 * (first + last), 2 * 128 * 20 * first)


def test_mbmls_products_are_those_of_its_published_nets():
    """Forward, and twice that for gradients, but for those of inputs that nothing learns from; about 170 GFLOP (the
    facts' estimate leaves the encoder out)."""
    inner = 8 * 1024**2, 6 * 1024**2, 7 * 1024**2  # Q, G, xi
    least = 3 * 2 * 10 * 128 * sum(inner)
    assert least < _across("MBML").flop() < 1.15 * least


def test_mqls_products_are_those_of_its_nets_and_some_of_the_grus():
    """The nets' alone, the actor's turn at every second update; windows add less than a third."""
    obs, action, context = SHAPE.obs, SHAPE.action, 15
    actor, critic = dense(obs + context, 300, 300, action), dense(obs + action + context, 300, 300, 1)
    least = 2 * 256 * (2 * 3 * critic + 2 * critic + actor + (3 * actor + 2 * critic) / 2)
    assert least < _across("MQL").flop() < 4 / 3 * least


def test_pearls_products_are_those_of_its_published_nets():
    """16 tasks x 256 rows: the target's draw and critics, critics and encoder by gradients that reach z, and the
    actor's with what it asks of both critics; contexts of 100 are read twice, once with gradients."""
    obs, action, z = SHAPE.obs, SHAPE.action, 5
    actor, critic = dense(obs + z, 300, 300, 300, 2 * action), dense(obs + z + action, 300, 300, 300, 1)
    seen = obs + action + 1
    encoder = dense(seen, 200, 200, 200, 2 * z)
    nets = (actor + 2 * critic) + 6 * critic + (3 * actor - dense(obs + z, 300) + 4 * critic)
    wanted = 2 * 16 * 256 * nets + 2 * 16 * 100 * (4 * encoder - dense(seen, 200))
    assert abs(_across("PEARL").flop() - wanted) < 0.01 * wanted


def _across(name):
    return next(one for one in learners.ALL if one.name == name)


def test_sizes_are_those_that_are_printed():
    for one in LOADS:
        numbers = {int(number) for number in re.findall(r"\d+", one.sizes)}
        config = one.config.model_dump()
        held = {config["batch_size"], *config["hidden"], *config.get("vae_hidden", ())}
        assert held <= numbers, one.name
        assert config["learning_rate"] == 3e-4
        assert config.get("discount", 0.99) == 0.99


def test_peers_have_a_script_an_environment_and_the_issues_targets():
    wanted = {(beside.load, beside.label): beside.wanted for beside in PEERS}
    assert wanted == {
        ("BCQ", "d3rlpy"): 2.8,
        ("SAC", "stable-baselines3"): 3.5,
        ("SAC", "d3rlpy"): 3.5,
        ("SAC", "SBX"): 1.2,
        ("rewards", "published step, torch"): 20.0,
        ("rewards", "batched step, torch"): 3.0,
        ("MBML", "torch"): 2.0,
        ("MQL", "torch"): 4.0,
        ("PEARL", "published step, torch"): 2.5,
        ("BOReL-SAC", "torch"): 2.2,
        ("BOReL-DQN", "torch"): 3.5,
        ("BOReL-VAE", "published step, torch"): 5.0,
        ("BOReL-VAE", "split decoder, torch"): 2.0,
    }
    for beside in PEERS:
        assert (FOLDER / beside.script).exists()
        assert (FOLDER / f"{beside.environment}.txt").exists()
        assert beside.environment in rivals.ENVIRONMENTS
        text = (FOLDER / beside.script).read_text()
        for flag in beside.flags(_across(beside.load)):
            assert any(form in text for form in (f'"--{flag}"', f'"{flag}"', f" {flag}=(")), (beside.script, flag)


def test_every_round_gives_everybody_one_turn_in_order():
    order = []
    counts = itertools.count()

    def runner(name):
        def turn():
            order.append(name)
            return float(next(counts))

        return turn

    assert learners.alternate([runner("a"), runner("b")], 3) == [[0, 2, 4], [1, 3, 5]]
    assert order == ["a", "b"] * 3


def test_ratios_are_of_turns_in_the_same_round():
    beside = Beside("SAC", "peer", 3.5, "learners", "updates_sb3.py", lambda one: {})
    mine, theirs = learners.rows_of(loads.load("SAC"), [beside], [[10.0, 40.0, 30.0], [10.0, 10.0, 5.0]], 2e9, 100.0)
    assert (mine.ratio, mine.tasks) == (None, 8)
    assert mine.share_of_peak == pytest.approx(30 * 2 / 100)
    assert theirs.ratio == Spread.of([1.0, 4.0, 6.0])
    assert learners.verdict(theirs) == "reached"
    assert learners.verdict(Row("SAC", "x", 1, mine.updates_per_s, 1.0, 0.1, Spread.of([3.4]), 3.5)) == "MISSED"
    said = {"SAC peer": {"versions": {"torch": "2"}}}
    text = learners.page([mine, theirs], said, learners.QUICK)
    assert "4.00 [1.00, 6.00]" in text
    assert "SAC peer: torch 2" in text
    assert "256-256, batch 256" in text
    assert "BCQ" not in text.splitlines()[2]


def test_a_rival_answers_and_its_library_does_not_disturb():
    words = [sys.executable, "-c", ECHO.format(folder=str(FOLDER))]
    with rivals.Rival(words, 2) as rival:
        assert rival.facts == {"threads": 2}
        assert rival.turn() == 2.0
        assert rival.ask({"n": 4}) == {"updates_per_s": 8.0}
    assert rival._process.returncode == 0


@pytest.mark.parametrize("code", ["raise ImportError('no torch')", "print('{}'); raise ImportError('no torch')"])
def test_a_rival_that_dies_says_its_last_line(code):
    with pytest.raises(PeerMissing, match="no torch"), rivals.Rival([sys.executable, "-c", code], 2) as rival:
        rival.turn()


def test_a_rival_sees_its_own_threads_and_nothing_of_our_jax(monkeypatch):
    for name in ("XLA_FLAGS", "JAX_PLATFORMS", "OMRL_CACHE"):
        monkeypatch.setenv(name, "ours")
    seen = rivals.surroundings(2)
    assert not {"XLA_FLAGS", "JAX_PLATFORMS", "OMRL_CACHE"} & seen.keys()
    assert seen["NPROC"] == seen["OMP_NUM_THREADS"] == "2"


def test_peers_learn_from_the_rows_of_our_first_task(tmp_path):
    loads.write_rows(tmp_path / "rows.npz")
    log = loads.random_logs(SHAPE, 1)
    with np.load(tmp_path / "rows.npz") as held:
        assert {name: held[name].dtype for name in ("obs", "action", "reward")} == dict.fromkeys(
            ("obs", "action", "reward"), np.float32
        )
        np.testing.assert_array_equal(held["reward"], log.reward[0])
        np.testing.assert_array_equal(held["next_obs"][0], log.obs[0, 1])
        assert not held["terminal"].any()


def test_growth_is_the_time_of_an_update_over_that_with_two_tasks():
    rates = {1: [5.0, 10.0], 2: [10.0, 10.0], 4: [8.0, 20.0]}
    one, two, four = scaling.rows_of("SAC", scaling.LAYOUTS[0], rates, 1e9, 100.0)
    assert one.growth == Spread.of([2.0, 1.0])
    assert two.growth == Spread.of([1.0, 1.0])
    assert four.growth == Spread.of([1.25, 0.5])
    assert [scaling.cells(row)[-1] for row in (one, two, four)] == ["MISSED", "reached", "reached"]


def test_processes_share_the_tasks():
    assert [scaling.shares(2, count) for count in (1, 2, 3, 8)] == [[1], [1, 1], [2, 1], [4, 4]]
    assert scaling.shares(1, 8) == [8]


def test_a_rate_counts_what_all_processes_did(monkeypatch):
    team = object.__new__(scaling.Team)
    team.layout, team._calls = scaling.Layout(2, 1), {3: 5}
    team._rivals = [SimpleNamespace(facts={"updates": {"1": 40, "2": 20}})] * 2
    monkeypatch.setattr(scaling, "seconds", lambda run: 2.0)
    assert team.rate(3) == 5 * (2 * 20 + 1 * 40) / 2.0


def test_scaling_covers_the_issues_table():
    assert scaling.TASKS == (1, 2, 4, 8, 16, 32)
    assert set(scaling.LAYOUTS) == {(1, 1), (1, 2), (2, 1)}
    assert set(scaling.MEASURED) <= {one.name for one in LOADS}
    json.dumps([layout._asdict() for layout in scaling.LAYOUTS])


def test_borels_products_are_those_of_its_published_nets():
    """Forward, and twice that for gradients, but for those of inputs that nothing learns from; 4,096 rows."""
    obs, action = 20 + 1 + 2 * exploring.LATENT, 6
    actor, critic = dense(obs, 256, 256, 2 * action), dense(obs + action, 256, 256, 1)
    found = {one.name: one.flop() for one in exploring.PUBLISHED}
    first = 2 * dense(obs + action, 256) + dense(obs, 256)
    soft = 4 * actor + 12 * critic - first  # two draws and one gradient; target, gradient, and what the actor asks
    assert abs(found["BOReL-SAC"] - 2 * 4_096 * soft) < 0.05 * found["BOReL-SAC"]
    grid = 2 + 1 + 2 * exploring.LATENT
    values = dense(grid, 64, 64, 5)
    assert found["BOReL-DQN"] == 2 * 4_096 * (4 * values - dense(grid, 64))


def test_the_beliefs_products_are_those_of_its_published_sizes():
    """32 trials of 400 steps, forward and twice that back: 401 latents decode 400 steps through 32 x 32 and 32 x 1, and
    each step goes through three gates of 128 units that see 64 numbers."""
    one = beliefs.PUBLISHED
    decoded, read = 32 * 401 * 400 * dense(32, 32, 1), 32 * 400 * dense(64 + 128, 3 * 128)
    assert one.flop() == 2 * 3 * (decoded + read)
    forms = [beside.flags(one) for beside in PEERS if beside.load == one.name]
    assert [flags.pop("form") for flags in forms] == ["published", "split"]
    sizes = {"obs": 20, "action": 6, "steps": 400, "trials": 32, "width": 128, "latent": 5}
    assert forms == [sizes, sizes]
    assert [beside.wanted for beside in PEERS if beside.load == one.name] == [5.0, 2.0]

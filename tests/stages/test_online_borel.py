"""BOReL online: whole trials in the log, a policy that is BOReL's, a killed run that goes on to the same bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief as model
from pipelines.algos import borel_online
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.errors import UsageError
from pipelines.core.recipe import shipped
from pipelines.core.types import transitions
from pipelines.stages import learners, online
from pipelines.stages.borel_papers import BOREL_ONLINE, BOREL_SMALL
from pipelines.stages.presets import PRESETS
from pipelines.stages.registry import STAGES
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.stages.relabelling import found_as
from tests.toys import Memory, at, bits, log_of, run, stored, work

GRID = {"family": "gridworld/borel", "algorithm": "borel", "num_tasks": 2, "trial_episodes": 2, "iterations": 2,
        "block_iterations": 1, "updates": 3, "trials": 2, "num_snapshots": 1,
        "agent": {"belief": {"reward_head": "cells", "embed_action": 0}}}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return run("online", {}, GRID)


def test_the_log_is_whole_trials(made):
    """60 random steps are two episodes in each of two tasks, a trial; then two trials of two an iteration."""
    logs = [log_of(made, task) for task in range(2)]
    lengths = [np.bincount(log.episode) for log in logs]
    assert all((length == 15).all() and len(length) % 2 == 0 for length in lengths)
    assert sum(map(len, lengths)) == 2 * 2 + 2 * 2 * 2
    assert sorted({int(n) for log in logs for n in log.behaviour}) == [0, 3, 6]
    assert made.card.extra["online"] == {"updates": 6, "chosen": "borel"}


def test_beliefs_while_it_collected_are_those_that_it_learns_from(made):
    """The last trials were played by the policy that was kept. Its memory has seen each row's past and no more, and
    believes what one pass over the whole trial says."""
    family, extra = registry.find("gridworld/borel"), made.card.extra
    algorithm = learners.make("borel", extra["agent"], family.space, family.discount)
    acting = jax.tree.map(jnp.asarray, learners.acting_of(made, algorithm.acting_type))
    log = next(log for task in range(2) if (log := log_of(made, task)).behaviour[-1] == 6)
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], log)
    first = borel_online.begin_of(one, jnp.zeros(1, int), log.size[None] - 1, 2)
    trials = borel_online.cut_out(one, jnp.zeros(1, int), first, 2, 30)
    encoder = model.make_encoder(resolve(BeliefConfig, extra["agent"]["belief"]), family.space)
    found = model.beliefs(encoder, acting.coder, borel_online.as_trials(trials)).mean[0]

    rows = jax.tree.map(jnp.asarray, transitions(log, int(first[0]) + np.arange(30)))
    memory, seen = algorithm.policy.begin(acting, jax.random.key(0)), []
    for n in range(30):
        row = at(rows, n)
        if log.step[int(first[0]) + n] == 0:
            memory = algorithm.policy.start(acting, memory, row.obs, jax.random.key(0))
        seen.append(algorithm.policy.latent(acting, memory).mean)
        memory = algorithm.policy.observe(acting, memory, row)
    latent = np.stack(seen)
    np.testing.assert_allclose(latent, found[:30], rtol=1e-4, atol=1e-5)
    assert np.ptp(latent, axis=0).max() > 0


def test_what_is_seen_must_be_cells_where_rewards_are_decoded_by_them():
    with pytest.raises(UsageError, match="is no cell of a grid of 5 x 5"):
        run("online", {}, {**GRID, "family": "point-semicircle-sparse/borel"})


def test_the_policy_is_borels_and_plays(made):
    """Rebuilt from a card that says nothing of how it learned online."""
    policy = run("metatrain", {"log": made}, {"algorithm": "borel", "online": True})
    extra = policy.card.extra
    assert (extra["algorithm"], extra["trained"]) == ("borel", "online")
    assert extra["agent"]["belief"]["decode_state"] is False  # what the family says
    assert "belief_every" not in extra["agent"]
    fields = {"protocol": "episodes", "trial_episodes": 4, "episodes": 1, "curve_episodes": 0}
    report = run("eval", {"policy": policy}, fields)
    assert report.card.extra["label"] == "BOReL online"
    assert report.tree["episode_returns"].shape == (21, 1, 4)
    assert np.isfinite(report.tree["episode_returns"]).all()


TOY = {"family": "line/toy", "algorithm": "borel", "iterations": 3, "block_iterations": 1, "trials": 2,
       "trial_episodes": 2, "random_steps": 8, "updates": 3}  # fmt: skip


def test_a_killed_run_goes_on_to_the_same_bits(monkeypatch):
    """With a simulator that cannot be restored: nothing is under way between iterations."""
    found_as(hosted(line(num_tasks=2, ends_at=3.0), restorable=False), monkeypatch)
    kept = Memory(every=1)
    order = work("online", {}, TOY, checkpoint=kept)
    whole = stored("online", STAGES["online"].load()(order), order.config)
    order = work("online", {}, TOY, checkpoint=Memory(kept=kept.kept[:1]))
    again = stored("online", STAGES["online"].load()(order), order.config)
    assert bits(again) == bits(whole)
    episodes = [log_of(whole, task).episode[-1] + 1 for task in range(2)]
    assert sum(episodes) == 2 * 2 + 3 * 4 and all(count % 2 == 0 for count in episodes)


def test_others_logs_are_as_long_as_before():
    """Rounds of a quarter of the horizon; BOReL's are whole, and as many as trials take."""
    key = jax.random.key(0)
    mql, borel = (
        online.Sizes.of(
            resolve(OnlineConfig, {"algorithm": name, "trial_episodes": 4, "random_steps": 100}), 20, 2, key
        )
        for name in ("mql", "borel")
    )
    assert (mql.random_length, mql.random_rows, mql.together) == (5, 50, 1)
    assert (borel.random_length, borel.random_rows, borel.together) == (20, 50, 4)


def test_fewer_tasks_may_be_spread_from_the_first_to_the_last(monkeypatch):
    found_as(line(num_tasks=5), monkeypatch)
    made = run("online", {}, TOY, {"num_tasks": 2, "which_tasks": "spread"})
    assert [task["name"] for task in made.card.tasks] == ["times 1", "times 5"]
    assert "which_tasks" not in resolve(OnlineConfig, TOY).identity()


def test_rows_that_cut_tasks_spread_them():
    """The grid's first 16 goals would leave out its last column, the ant's first 4 lie side by side."""
    for preset, body in (("paper", "gridworld"), ("small", "ant-semicircle")):
        said = {"family": f"{body}/borel", "algorithm": "borel"}
        assert resolve(OnlineConfig, PRESETS["online"][preset], said).which_tasks == "spread"
    rows = [*BOREL_ONLINE["borel"].values(), *BOREL_SMALL.values()]
    assert all(row.get("which_tasks") == "spread" for row in rows if "num_tasks" in row)


def test_every_body_has_its_rows():
    """Of the paper's size and of small, for every family of the paper that a recipe names."""
    bodies = {name.removeprefix("borel-") for name in shipped() if name.startswith("borel-")}
    bodies = {body.removesuffix("-excluding").removesuffix("-fixed") for body in bodies if "baselines" not in body}
    for body in bodies:
        for preset in ("tiny", "small", "paper"):
            said = {"family": f"{body}/borel", "algorithm": "borel"}
            config = resolve(OnlineConfig, PRESETS["online"][preset], said)
            assert config.agent.belief["trial_episodes"] == config.trial_episodes
            if preset == "paper":
                assert config.agent.obs_scale == (255 if "image" in body else 1)
                assert config.agent.tasks_per_update == (8 if "ant" in body else 16)
                assert config.agent.actor_learning_rate is None
                assert config.iterations == 30_000 and config.trial_episodes == (4 if body == "gridworld" else 2)

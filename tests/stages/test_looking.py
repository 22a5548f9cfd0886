"""The look: trials that are kept whole, and the belief along them, of a policy and a model whose weights are drawn."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief as model
from pipelines.algos import borel
from pipelines.core.configs.algorithms import BorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import UsageError, WrongKind
from pipelines.core.trees import to_dict
from pipelines.core.types import Transition
from pipelines.rollouts.exploring import Explored
from pipelines.stages import eval as evaluation
from pipelines.stages import learners, looking
from pipelines.tasks import registry
from tests.lines import hosted, line
from tests.stages.relabelling import found_as
from tests.toys import Stored, at, work

K, DISCOUNT = 2, 0.9
SIZES = {"trial_episodes": K, "latent_dim": 2, "width": 6, "embed_obs": 4, "embed_reward": 3, "decoder_hidden": [8]}
FAMILIES = {
    "gridworld/borel": {"reward_head": "cells", "embed_action": 0},
    "point-semicircle-sparse/borel": {"reward_inputs": ["next_obs"], "embed_action": 3},
    "escape-room/borel": {"reward_inputs": ["obs", "action"], "reward_head": "bernoulli", "embed_action": 3},
}


def believing(name, id="belief"):
    """A belief-model of a family that has learned nothing, its recurrent weights large enough to tell rows apart."""
    family, config = registry.find(name), resolve(BeliefConfig, {**SIZES, **FAMILIES[name], "decode_state": False})
    nets = model.make_nets(config, family.space)
    coder = nets.encoder.init(jax.random.key(1))
    coder = coder._replace(nets=jax.tree.map(lambda leaf: 2 * leaf, coder.nets))
    arrays = {"coder": to_dict(coder), "decoders": {"reward": nets.reward.init(jax.random.key(2))}}
    card = SimpleNamespace(kind="belief-model", id=id, seed=0, extra={"family": name, "model": config.model_dump()})
    return Stored(card, jax.tree.map(np.asarray, arrays))


def policy_of(name, belief):
    """A BOReL policy with that belief, and a learner that has learned nothing."""
    family = registry.find(name)
    agent = resolve(BorelConfig, {"hidden": [8], "belief": belief.card.extra["model"]})
    config = resolve(BeliefConfig, agent.belief)
    unit_space = looking.unit(family.space)
    wide = unit_space._replace(obs_shape=(2 + 1 + 2 * config.latent_dim,), obs_dtype="float32")
    inner = borel.make_learner(agent, wide, DISCOUNT)
    kind = borel.make(agent, unit_space, DISCOUNT).acting_type
    coder = looking.belief_view.coder_of(belief)
    acting = kind(inner.acting(inner.init(jax.random.key(3), None)), coder)
    extra = {"algorithm": "borel", "agent": agent.model_dump(), "family": name}
    parents = {"belief": SimpleNamespace(id=belief.card.id)}
    card = SimpleNamespace(kind="meta-policy", id="policy", seed=0, tasks=[], extra=extra, parents=parents)
    return Stored(card, {"acting": to_dict(jax.tree.map(np.asarray, acting))})


def look(name, inputs, **fields):
    order = work("eval", inputs, {"protocol": "look", "trial_episodes": K, "look_tasks": 3, **fields})
    return evaluation.run(order)


@pytest.fixture(scope="module")
def grid():
    name = "gridworld/borel"
    belief = believing(name)
    policy = policy_of(name, belief)
    return belief, policy, look(name, {"policy": policy, "belief": belief})


def test_the_trial_is_that_of_the_protocol(grid):
    """Greedy, and the gridworld draws nothing: what is kept whole is what an evaluation plays of those tasks."""
    _, policy, made = grid
    found = made.arrays["look"]
    assert found["path"].shape == (3, K, 16, 2)
    assert (found["path"][:, :, 0] == 0).all() and (found["length"] == 15).all()
    fields = {"protocol": "episodes", "trial_episodes": K, "episodes": 1, "curve_episodes": 0}
    whole = evaluation.run(work("eval", {"policy": policy}, fields))
    names = [task["name"] for task in whole.tasks]
    same = [names.index(task["name"]) for task in made.tasks]
    assert same == [0, 10, 20]
    np.testing.assert_allclose(found["reward"].sum(-1), whole.arrays["episode_returns"][same, 0], rtol=1e-5)
    np.testing.assert_array_equal(found["path"][:, -1], whole.arrays["obs"][same, 0])
    paid = found["reward"].reshape(3, -1) > 0
    np.testing.assert_array_equal(found["found"], np.where(paid.any(1), paid.argmax(1) + 1, 31))
    assert "returns" not in made.arrays and made.extra["protocol"] == "look"


def test_beliefs_are_what_the_policy_believed(grid):
    """Its memory hears of every row; the look makes the same of them in one pass, flags and all."""
    _, policy, made = grid
    family = registry.find("gridworld/borel", evaluation=True)
    tasks = tuple(family.tasks("test")[n] for n in (0, 10, 20))
    order = work("eval", {"policy": policy}, {"protocol": "look", "trial_episodes": K})
    played = looking._play(order, policy, family, tasks)
    algorithm = learners.make("borel", policy.card.extra["agent"], family.space, DISCOUNT)
    acting = jax.tree.map(jnp.asarray, learners.acting_of(policy, algorithm.acting_type))
    memory, seen = algorithm.policy.begin(acting, jax.random.key(0)), []
    for k in range(K):
        memory = algorithm.policy.start(acting, memory, played.first_obs[1, k], jax.random.key(0))
        for t in range(15):
            seen.append(algorithm.policy.latent(acting, memory).mean)
            memory = algorithm.policy.observe(acting, memory, at(played.row, 1, k, t))
    seen.append(algorithm.policy.latent(acting, memory).mean)
    found = made.arrays["look"]
    np.testing.assert_array_equal(found["moment"], np.arange(31))
    np.testing.assert_allclose(found["mean"][1], np.stack(seen), rtol=2e-4, atol=2e-5)
    assert (found["mean"][:, 0] == found["mean"][0, 0]).all()  # the prior knows no task
    assert np.ptp(found["mean"][1], axis=0).min() > 0


def test_a_map_of_cells_is_a_mean_over_draws(grid):
    """By hand, of one belief: its decoder's probabilities, cell x * 5 + y at [x, y]."""
    belief, _, made = grid
    found, net = made.arrays["look"], belief.tree["decoders"]["reward"]
    assert found["map"].shape == (3, 31, 5, 5) and found["map"].dtype == np.float16
    noise = np.asarray(jax.random.normal(looking.stage_key(0, "look-belief"), (looking.DRAWS, 2)))
    z = found["mean"][2, 7] + np.exp(found["log_variance"][2, 7] / 2) * noise
    hidden = np.maximum(z @ net["Dense_0"]["kernel"] + net["Dense_0"]["bias"], 0)
    logits = hidden @ net["Dense_1"]["kernel"] + net["Dense_1"]["bias"]
    want = (1 / (1 + np.exp(-logits))).mean(0).reshape(5, 5)
    np.testing.assert_allclose(found["map"][2, 7], want, atol=2e-3)
    assert made.extra["look"]["low"] == [-0.5, -0.5] and made.extra["look"]["high"] == [4.5, 4.5]
    assert {"look/spread at half", "look/sure before the goal"} <= set(made.metrics)


def test_a_map_of_the_plane_asks_the_decoder_at_each_place():
    name = "point-semicircle-sparse/borel"
    belief = believing(name)
    made = look(name, {"policy": policy_of(name, belief), "belief": belief}, look_tasks=1)
    found, said = made.arrays["look"], made.extra["look"]
    assert found["map"].shape == (1, 121, 40, 30)
    assert (said["low"], said["high"]) == ([-2.0, -1.0], [2.0, 2.0])
    assert said["scenes"][0]["shapes"][-1][2] == "goal"
    config, family = looking.belief_view.model_of(belief), registry.find(name)
    net = model.make_nets(config, looking.unit(family.space)).reward
    noise = np.asarray(jax.random.normal(looking.stage_key(0, "look-belief"), (looking.DRAWS, 2)))
    z = found["mean"][0, 60] + np.exp(found["log_variance"][0, 60] / 2) * noise
    place = np.array([-2 + 12.5 * 0.1, -1 + 20.5 * 0.1], np.float32)  # the middle of square [12, 20]
    wide = np.broadcast_to(place, (looking.DRAWS, 2))
    nothing = np.zeros(looking.DRAWS, np.float32)
    row = Transition(wide, np.zeros((looking.DRAWS, 2)), nothing, wide, nothing, nothing, nothing)
    trial = looking.Trial(row, nothing, nothing, nothing)
    coder = looking.belief_view.coder_of(belief)
    want = net.apply(belief.tree["decoders"]["reward"], coder.norm, z, trial)[..., 0].mean()
    assert float(found["map"][0, 60, 12, 20]) == pytest.approx(float(want), abs=2e-3)


def test_doors_are_asked_about_by_steps_out():
    """By hand: from 0.99 of the way to the wall, straight up (direction 18 of 72), and to the lower left, where the
    largest step goes as far along both axes."""
    name = "escape-room/borel"
    belief = believing(name)
    made = look(name, {"policy": policy_of(name, belief), "belief": belief}, look_tasks=1)
    found = made.arrays["look"]
    assert found["doors"].shape == (1, 121, 72) and "map" not in found and "low" not in made.extra["look"]
    assert "look/spread at half" in made.metrics
    config, family = looking.belief_view.model_of(belief), registry.find(name)
    net = model.make_nets(config, looking.unit(family.space)).reward
    noise = np.asarray(jax.random.normal(looking.stage_key(0, "look-belief"), (looking.DRAWS, 2)))
    z = found["mean"][0, 60] + np.exp(found["log_variance"][0, 60] / 2) * noise
    nothing = np.zeros(looking.DRAWS, np.float32)
    for direction, place, action in ((18, (0.0, 0.99), (0.0, 1.0)), (45, (-0.7, -0.7), (-1.0, -1.0))):
        obs, act = (np.broadcast_to(np.array(one, np.float32), (looking.DRAWS, 2)) for one in (place, action))
        row = Transition(obs, act, nothing, obs, nothing, nothing, nothing)
        trial = looking.Trial(row, nothing, nothing, nothing)
        logit = net.apply(belief.tree["decoders"]["reward"], looking.belief_view.coder_of(belief).norm, z, trial)
        want = (1 / (1 + np.exp(-np.asarray(logit)))).mean()
        assert float(found["doors"][0, 60, direction]) == pytest.approx(float(want), abs=2e-3)
    other = resolve(BeliefConfig, {"reward_head": "bernoulli"})  # it sees where a step ends, and knows no door
    assert looking.shows_doors(config, family) and not looking.shows_doors(other, family)


def test_a_simulator_is_looked_at_as_a_device_is(grid, monkeypatch):
    """The same gridworld behind a simulator: the same trials and beliefs."""
    belief, policy, made = grid
    found_as(hosted(registry.find("gridworld/borel", evaluation=True)), monkeypatch)
    again = look("", {"policy": policy, "belief": belief}).arrays["look"]
    for name in ("path", "reward", "length", "found", "moment"):
        np.testing.assert_array_equal(again[name], made.arrays["look"][name])
    np.testing.assert_allclose(again["mean"], made.arrays["look"]["mean"], rtol=1e-4, atol=1e-5)


def explored(rewards, lengths):
    """Episodes of one task whose observations count the steps of the trial."""
    num, steps = len(lengths), max(lengths)
    held = np.arange(steps) < np.array(lengths)[:, None]
    at = (np.cumsum(held).reshape(num, steps) * held).astype(np.float32)
    obs = np.stack([at, -at], -1)[None]
    ends = held & (np.arange(steps) == np.array(lengths)[:, None] - 1)
    none = np.zeros((1, num, steps, 0), np.float32)
    row = Transition(obs, obs, np.array(rewards, np.float32)[None], obs, ends[None], 0 * ends[None], none)
    return Explored(np.zeros((1, num, 2), np.float32), row, held[None])


def test_an_episode_that_is_over_stands_still():
    """Three steps, then two; what is paid past an end does not count."""
    played = explored([[0, 0, 1], [0, 5, 9]], [3, 2])
    seen = looking.seen(registry.find("point-semicircle-sparse/borel"), played)
    np.testing.assert_array_equal(seen["path"][0, :, :, 0], [[0, 1, 2, 3], [0, 4, 5, 5]])
    np.testing.assert_array_equal(seen["reward"][0], [[0, 0, 1], [0, 5, 0]])
    np.testing.assert_array_equal(seen["length"], [[3, 2]])
    assert looking.found_at(played, 0.5) == [3] and looking.found_at(played, 2.0) == [5]
    assert looking.found_at(played, 6.0) == [7]  # never: a step more than there are
    _, flag, held = looking.in_a_row(played, 2)
    np.testing.assert_array_equal(flag, [[0, 0, 1, 0, 0, 0]])  # none where the k-th ends
    np.testing.assert_array_equal(held, [[1, 1, 1, 1, 1, 0]])


def test_how_a_belief_narrows():
    """From four places to two to one; sure of a wrong one at one of the two moments before the goal is found."""
    values = np.zeros((2, 5, 2, 2))
    values[0] = [[[0.25, 0.25], [0.25, 0.25]], [[0.4, 0.4], [0, 0]], [[0.9, 0], [0, 0]], *[[[0, 1], [0, 0]]] * 2]
    values[1] = [[[0, 0.8], [0, 0]]] * 5
    found = looking.narrowing({"map": values, "moment": np.arange(5), "found": np.array([3, 1])})
    np.testing.assert_allclose(found["spread at a quarter"], [0.5, 1], atol=1e-6)
    np.testing.assert_allclose(found["spread at half"], [0.25, 1], atol=1e-6)
    np.testing.assert_array_equal(found["sure before the goal"], [0.5, np.nan])
    assert looking.means(found)["sure before the goal"] == 0.5
    assert "sure before the goal" not in looking.narrowing({"map": values, "moment": np.arange(5)})
    doors = looking.narrowing({"doors": values.reshape(2, 5, 4), "moment": np.arange(5), "found": np.array([3, 1])})
    jax.tree.map(np.testing.assert_array_equal, doors, found)


def test_tasks_are_taken_from_all_over_the_list():
    tasks = tuple(range(21))
    assert looking.some(tasks, 3) == (0, 10, 20)
    assert looking.some(tasks, 99) == tasks


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_a_belief_of_something_else(grid):
    belief, policy, _ = grid
    other = believing("gridworld/borel", id="another")
    with pytest.raises(WrongKind, match="was learned with another belief than another") as caught:
        look("", {"policy": policy, "belief": other})
    assert caught.value.hint == "--belief belief"
    with pytest.raises(WrongKind, match="is of point-semicircle-sparse/borel, the policy of gridworld/borel"):
        look("", {"policy": policy, "belief": believing("point-semicircle-sparse/borel")})
    dense, fixed = "ant-semicircle/borel,reward=dense", "ant-semicircle/borel,start=fixed,engine=brax"
    card, ant = (SimpleNamespace(id="card", extra={"family": name}) for name in (fixed, dense))
    with pytest.raises(WrongKind, match=r"borel,reward=dense, the policy of ant-semicircle/borel$"):
        looking._belongs(card, ant)
    with pytest.raises(UsageError, match="belief-model is asked") as caught:
        evaluation.run(work("eval", {"policy": policy, "belief": belief}))
    assert caught.value.hint == "--protocol look"


def test_a_policy_for_each_task(grid):
    _, policy, _ = grid
    extra = policy.card.extra | {"algorithm": "dqn", "agent": {}}
    with pytest.raises(UsageError, match="one policy of all tasks"):
        look("", {"policy": Stored(SimpleNamespace(**{**vars(policy.card), "extra": extra}), policy.tree)})


def test_a_family_that_is_not_seen_from_above(monkeypatch):
    family = line(num_tasks=2)
    found_as(family, monkeypatch)
    played = explored([[0, 0, 1]], [3])
    played = played._replace(
        first_obs=played.first_obs[..., :1], row=played.row._replace(next_obs=played.row.next_obs[..., :1])
    )
    with pytest.raises(UsageError, match="does not say where an agent is from above"):
        looking.seen(family, played)

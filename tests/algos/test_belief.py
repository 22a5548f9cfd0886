"""The belief's loss on trials of three steps, written out pair by pair; and what beliefs may and may not know."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief
from pipelines.algos.belief import Belief, Coder, Drawn
from pipelines.algos.belief_decoders import (
    Terms,
    bernoulli_loss,
    cells_loss,
    make_decoder,
    plain_loss,
    split_loss,
    squared_loss,
)
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.samplers import Trial
from pipelines.core.types import Space, Transition
from tests.toys import GRID, SPACE, at

SMALL = {
    "latent_dim": 2,
    "width": 4,
    "embed_action": 3,
    "embed_obs": 4,
    "embed_reward": 2,
    "decoder_hidden": (5, 6),
    "scale_obs": False,
    "decode_state": False,
    "trials_per_task": 2,
}
IMAGES = Space((20, 20, 1), (2,), (-1.0, -1.0), (1.0, 1.0), obs_dtype="uint8")


def configured(**fields):
    return resolve(BeliefConfig, SMALL, fields)


def trial_of(seed=0, lengths=(3, 2), length=3, space=SPACE):
    """Trials [B, L]; those shorter than L hold other rows past their end. An episode ends at the second row."""
    rng, num = np.random.default_rng(seed), len(lengths)
    seen = rng.normal(size=(2, num, length, *space.obs_shape)) * (100 if space.obs_dtype == "uint8" else 1)
    moves = rng.integers(0, 4, (num, length)) if space.num_actions else rng.uniform(-1, 1, (num, length, 2))
    row = Transition(
        obs=np.abs(seen[0]).astype(space.obs_dtype),
        action=moves.astype(space.action_dtype),
        reward=rng.normal(size=(num, length)).astype(np.float32),
        next_obs=np.abs(seen[1]).astype(space.obs_dtype),
        terminal=np.zeros((num, length), bool),
        truncated=np.zeros((num, length), bool),
        outcome=np.zeros((num, length, 0), np.float32),
    )
    step = np.broadcast_to(np.arange(length), (num, length))
    valid = step < np.array(lengths)[:, None]
    return Trial(row, (step == 2).astype(np.float32), (step == 1).astype(np.float32), valid)


def made(config, space=SPACE, seed=1):
    """(nets, params, norm), untrained."""
    nets = belief.make_nets(config, space)

    def init(key):
        keys = jax.random.split(key, 3)
        coder = nets.encoder.init(keys[0])
        params = {"encoder": coder.nets, "reward": nets.reward.init(keys[1])}
        if nets.state is not None:
            params["state"] = nets.state.init(keys[2])
        return away_from_zero(params, keys[0]), coder.norm

    return nets, *jax.jit(init)(jax.random.key(seed))


def away_from_zero(params, key):
    """Biases begin at 0, which would hide those that are left out."""
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(key, leaf.shape), params)


def noise_of(trial, config, seed=2):
    num, length = trial.valid.shape
    return np.random.default_rng(seed).normal(size=(num, length + 1, config.latent_dim)).astype(np.float32)


def all_of(config, trial):
    return belief.draw_terms(config, trial.valid, jax.random.key(0))


def beliefs_of(nets, params, norm, trial):
    found = jax.jit(functools.partial(belief.beliefs, nets.encoder))(Coder(params["encoder"], norm), trial)
    return jax.tree.map(np.asarray, found)


def the_loss(config, nets, params, norm, trial, noise, found=None):
    found = all_of(config, trial) if found is None else found
    return jax.jit(functools.partial(belief.total_loss, config, nets))(params, norm, trial, noise, found)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def kl_by_hand(mean, log_variance, mean_before, log_variance_before):
    """Of two Gaussians in two entries each."""
    total = 0.0
    for m, lv, m0, lv0 in zip(mean, log_variance, mean_before, log_variance_before, strict=True):
        total += 0.5 * (math.exp(lv - lv0) + (m - m0) ** 2 / math.exp(lv0) - 1 + lv0 - lv)
    return total


def by_hand(config, nets, params, norm, trial, noise):
    """{"reward_loss", "state_loss", "kl"}, a loop over trials, latents and steps."""
    coder, sums = Coder(params["encoder"], norm), {"reward_loss": 0.0, "state_loss": 0.0, "kl": 0.0}
    step, belief_of = jax.jit(nets.encoder.step), jax.jit(nets.encoder.belief)
    reward_of, state_of = (net and jax.jit(net.apply) for net in (nets.reward, nets.state))
    lengths = np.asarray(trial.valid.sum(1))
    for b, length in enumerate(lengths):
        hidden, before = nets.encoder.begin(coder), ([0, 0], [0, 0])
        share = 1 / length if config.over_steps == "mean" else 1.0
        for t in range(length + 1):
            q = belief_of(coder, hidden)
            z = np.asarray(q.mean) + np.exp(np.asarray(q.log_variance) / 2) * noise[b, t]
            for i in range(length):
                one, reward = at(trial, b, i), float(trial.row.reward[b, i])
                out = float(reward_of(params["reward"], norm, z, one)[0])
                if config.reward_head == "bernoulli":
                    probability = 1 / (1 + math.exp(-out))
                    sums["reward_loss"] -= share * math.log(probability if reward > 0.5 else 1 - probability)
                else:
                    sums["reward_loss"] += share * (out - reward) ** 2
                if state_of is not None:
                    away = np.asarray(state_of(params["state"], norm, z, one)) - trial.row.next_obs[b, i]
                    sums["state_loss"] += share * float((away**2).sum())
            now = [float(x) for x in q.mean], [float(x) for x in q.log_variance]
            sums["kl"] += kl_by_hand(*now, *(before if config.kl_to == "previous" else ([0, 0], [0, 0])))
            before = now
            if t < length:
                hidden = step(coder, hidden, at(trial.row, b, t), trial.next_flag[b, t])
    return {name: total / len(lengths) for name, total in sums.items()}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"reward_head": "bernoulli", "reward_inputs": ("next_obs",)},
        {"over_steps": "mean", "kl_to": "standard", "decode_state": True, "reward_inputs": ("obs",), "embed_action": 0},
    ],
    ids=str,
)
def test_the_loss_of_three_steps_by_hand(fields):
    config, trial = configured(**fields), trial_of()
    nets, params, norm = made(config)
    noise = noise_of(trial, config)
    loss, metrics = the_loss(config, nets, params, norm, trial, noise)
    hand = by_hand(config, nets, params, norm, trial, noise)
    for name in metrics.keys() & hand.keys():
        np.testing.assert_allclose(metrics[name], hand[name], rtol=2e-5, err_msg=name)
    assert ("state_loss" in metrics) == bool(config.decode_state)
    whole = hand["reward_loss"] + hand["state_loss"] + 0.05 * hand["kl"]
    np.testing.assert_allclose(loss, whole, rtol=2e-5)


def test_losses_of_a_pair():
    out, target = jnp.array([[1.0, -2.0]]), jnp.array([[3.0, 0.0]])
    np.testing.assert_allclose(squared_loss(out, target), [4.0 + 4.0])
    even = bernoulli_loss(jnp.array([[0.0], [math.log(3)], [math.log(3)]]), jnp.array([[1.0], [1.0], [0.0]]))
    np.testing.assert_allclose(even, [math.log(2), -math.log(0.75), -math.log(0.25)], rtol=1e-6)


def test_divergences_by_hand():
    q, p = Belief(jnp.array([1.0, 0.0]), jnp.array([0.0, math.log(4)])), Belief(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(belief.divergence(q, p), 0.5 * (1 + 4 - 1 - math.log(4)), rtol=1e-6)
    np.testing.assert_allclose(belief.divergence(p, q), 0.5 * (1 + 0.25 - 1 + math.log(4)), rtol=1e-6)
    assert belief.divergence(q, q) == 0


def test_the_chain_of_divergences_begins_at_the_standard_normal():
    q = Belief(jnp.array([[[1.0], [1.0], [3.0]]]), jnp.zeros((1, 3, 1)))
    np.testing.assert_allclose(belief.kl_chain(q), [[0.5, 0.0, 2.0]])
    np.testing.assert_allclose(belief.kl_chain(q, "standard"), [[0.5, 0.5, 4.5]])


def test_both_ends_of_a_divergence_learn():
    def chain(mean):
        return belief.kl_chain(Belief(mean, jnp.zeros_like(mean)))[0, 1]

    np.testing.assert_allclose(jax.grad(chain)(jnp.array([[[1.0], [3.0]]]))[0, :, 0], [-2.0, 2.0])


def test_a_logit_for_each_cell_by_hand():
    rng = np.random.default_rng(0)
    logits, cell = rng.normal(size=(2, 4, 6)), rng.integers(0, 6, (2, 3))
    paid, terms = rng.integers(0, 2, (2, 3)), Terms(rng.uniform(size=(2, 4)), rng.uniform(size=(2, 3)))
    total = 0.0
    for b, t, i in itertools.product(range(2), range(4), range(3)):
        probability = 1 / (1 + math.exp(-logits[b, t, cell[b, i]]))
        each = -math.log(probability if paid[b, i] else 1 - probability)
        total += terms.latent[b, t] * terms.step[b, i] * each / 2
    np.testing.assert_allclose(cells_loss(*map(jnp.asarray, (logits, cell, paid * 1.0)), terms), total, rtol=1e-5)


def test_cells_are_numbered_by_the_whole_numbers_seen():
    obs = jnp.array([[0.0, 0.0], [1.0, 2.0], [4.0, 4.0], [0.0, 4.0]])
    np.testing.assert_array_equal(belief.cell_of((5, 5), obs), [0, 7, 24, 4])


def test_rewards_above_the_line_are_paid():
    """The grid pays 1 on the goal and -0.1 elsewhere: scaling is not asked for."""
    config = configured(reward_head="cells", cells=(5, 5))
    nets, params, norm = made(config, Space((2,), (2,), (-1.0,) * 2, (1.0,) * 2))
    trial = trial_of(lengths=(3,), space=Space((2,), (2,)))
    row = trial.row._replace(next_obs=jnp.array([[[0.0, 1], [2, 2], [0, 1]]]), reward=jnp.array([[-0.1, 1.0, -0.1]]))
    z, terms = jnp.zeros((1, 1, 2)), Terms(jnp.ones((1, 1)), jnp.ones((1, 3)))
    logits = nets.reward.apply(params["reward"], z)[0, 0]
    found = belief.reward_loss(config, nets.reward, params["reward"], norm, z, trial._replace(row=row), terms)
    np.testing.assert_allclose(found, 2 * jax.nn.softplus(logits[1]) + jax.nn.softplus(-logits[12]), rtol=1e-6)


# ---- split = plain ---------------------------------------------------------------------------------------------------


# latents of a trial in several chunks, in one, and those of two trials together
@pytest.mark.parametrize("chunk, head, out", [(3, squared_loss, 3), (4, bernoulli_loss, 1), (9, squared_loss, 1)])
def test_the_split_decoder_is_the_plain_one(chunk, head, out):
    config, trial = configured(), trial_of(lengths=(3, 2, 1))
    decoder = make_decoder(config, SPACE, ("next_obs", "action"), out)
    norm = made(config)[2]
    params = jax.jit(lambda key: away_from_zero(decoder.init(key), key))(jax.random.key(3))
    z = noise_of(trial, config)
    target = np.random.default_rng(4).integers(0, 2, (3, 3, out)).astype(np.float32)
    terms = all_of(config, trial).terms

    def split(params, z):
        of_step = decoder.of_step(params, norm, trial)
        return 3 * split_loss(decoder, params, z, of_step, target, terms, head, chunk)

    def plain(params, z):
        return 3 * plain_loss(decoder, params, norm, z, trial, target, terms, head)

    one, other = (jax.jit(jax.value_and_grad(loss, (0, 1)))(params, z) for loss in (split, plain))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), one, other)
    assert min(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(one[1])) > 1e-4  # everything has a gradient
    np.testing.assert_allclose(jax.jit(split)(params, z), one[0], rtol=1e-6)  # and without one


# ---- sub-samples -----------------------------------------------------------------------------------------------------


def test_sub_sampled_terms_are_the_whole_in_the_mean():
    """All pairs of latents and all pairs of steps of three, each as likely: losses, KL and gradients."""
    config, trial = configured(elbo_terms=2, decode_terms=2), trial_of()
    nets, params, norm = made(config)
    noise, full = noise_of(trial, config), all_of(configured(), trial)
    graded = jax.jit(jax.value_and_grad(functools.partial(belief.total_loss, config, nets), has_aux=True))
    want = graded(params, norm, trial, noise, full)
    found = []
    for latents, steps in itertools.product(itertools.combinations(range(4), 2), itertools.combinations(range(3), 2)):
        latent, step = (np.broadcast_to(np.array(index), (2, 2)) for index in (latents, steps))
        latent_weight, step_weight = (np.asarray(leaf) for leaf in full.terms)
        terms = Terms(latent_weight[:, latents] * 2, step_weight[:, steps] * np.float32(1.5))
        found.append(graded(params, norm, trial, noise, Drawn(latent, step, terms)))
    mean = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *found)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), mean, want)
    assert np.std([value[0][0] for value in found]) > 0.1


def test_terms_are_drawn_evenly_and_weigh_what_they_stand_for():
    config, valid = configured(elbo_terms=2, decode_terms=2), trial_of().valid
    keys = jax.random.split(jax.random.key(0), 4_000)
    drawn = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda key: belief.draw_terms(config, valid, key)))(keys))
    assert drawn.latent.shape == (4_000, 2, 2)
    assert (drawn.latent[..., 0] != drawn.latent[..., 1]).all()  # without repetition
    for index, weight, want in (
        (drawn.latent, drawn.terms.latent, [[1, 1, 1, 1], [1, 1, 1, 0]]),
        (drawn.step, drawn.terms.step, [[1, 1, 1], [1, 1, 0]]),
    ):
        each = np.eye(len(want[0]))[index] * weight[..., None]
        np.testing.assert_allclose(each.sum(2).mean(0), want, atol=0.06)
    assert len(np.unique(drawn.latent[:, 0], axis=0)) == 12  # each trial of an update on its own, in any order


def test_as_many_terms_as_there_are_is_all_of_them():
    found = belief.draw_terms(configured(elbo_terms=4, decode_terms=9), trial_of().valid, jax.random.key(0))
    assert found.latent is None
    assert found.step is None
    np.testing.assert_array_equal(found.terms.step, trial_of().valid)


# ---- what a belief knows ---------------------------------------------------------------------------------------------

FORMS = [("continuous", SPACE), ("discrete", GRID), ("images", IMAGES)]


@pytest.mark.parametrize("space", [space for _, space in FORMS], ids=[name for name, _ in FORMS])
def test_beliefs_do_not_see_the_future(space):
    config, trial = configured(), trial_of(space=space)
    encoder = belief.make_encoder(config, space)
    coder = jax.jit(encoder.init)(jax.random.key(0))
    found = jax.jit(lambda trial: belief.beliefs(encoder, coder, trial))
    q, t = found(trial), 1
    used = {"reward": trial.row.reward, "next_obs": trial.row.next_obs, "flag": trial.next_flag}
    spoilt = jax.tree.map(lambda leaf: np.concatenate([leaf[:, :t], 1 - leaf[:, t:]], 1), used)
    row = trial.row._replace(**{name: spoilt[name] for name in ("reward", "next_obs")})
    other = found(trial._replace(row=row, next_flag=spoilt["flag"]))
    for one, two in zip(q, other, strict=True):
        np.testing.assert_array_equal(one[:, : t + 1], two[:, : t + 1])
        assert (one[:, t + 1 :] != two[:, t + 1 :]).any()


def test_nothing_seen_is_the_same_belief_for_all():
    config, trial = configured(), trial_of(lengths=(3, 3, 3))
    nets, params, norm = made(config)
    q = beliefs_of(nets, params, norm, trial)
    for leaf, head in zip(q, ("mean", "log_variance"), strict=True):
        assert (leaf[:, 0] == leaf[0, 0]).all()
        np.testing.assert_array_equal(leaf[0, 0], params["encoder"][head]["Dense_0"]["bias"])
        assert (leaf[:, 1] != leaf[0, 1]).any()


@pytest.mark.parametrize("changed", ["action", "reward", "next_obs"])
def test_a_belief_sees_what_was_done_and_what_came_of_it(changed):
    config, trial = configured(), trial_of()
    nets, params, norm = made(config)
    found = [
        beliefs_of(nets, params, norm, trial._replace(row=row)).mean
        for row in (trial.row, trial.row._replace(**{changed: -getattr(trial.row, changed)}))
    ]
    assert (found[0][:, 1:] != found[1][:, 1:]).any()


def test_where_an_episode_ended_is_seen_and_where_it_began_is_not():
    config, trial = configured(), trial_of()
    nets, params, norm = made(config)
    q = functools.partial(beliefs_of, nets, params, norm)
    before = trial.row._replace(obs=trial.row.obs + 1)
    np.testing.assert_array_equal(q(trial).mean, q(trial._replace(row=before, flag=1 - trial.flag)).mean)
    assert (q(trial).mean[:, 2] != q(trial._replace(next_flag=0 * trial.next_flag)).mean[:, 2]).any()


def test_a_belief_that_begins_anew():
    """Facts B3: where the code resets, a row counts as if it were the first. Here nothing is reset unless asked for."""
    config, trial = configured(), trial_of(lengths=(3,))
    encoder = belief.make_encoder(config, SPACE)
    coder, step = jax.jit(encoder.init)(jax.random.key(0)), jax.jit(encoder.step)
    row, flag = at(trial.row, 0), trial.next_flag[0]
    paid = row._replace(reward=jnp.array([0.0, 1.0, 0.0]))
    assert belief.blanks("never", paid, 0.5) is None
    reset = belief.blanks("paid", paid, 0.5)
    np.testing.assert_array_equal(reset, [False, True, False])
    assert not belief.blanks("terminal", paid, 0.5).any()
    anew = encoder.filter(coder, paid, flag, reset)
    first = step(coder, encoder.begin(coder), at(paid, 1), flag[1])
    np.testing.assert_allclose(anew[2], first, rtol=1e-6)
    np.testing.assert_allclose(anew[3], step(coder, first, at(paid, 2), flag[2]), rtol=1e-5)
    assert (encoder.filter(coder, paid, flag)[2] != anew[2]).any()


# ---- trials that were cut short --------------------------------------------------------------------------------------


def test_what_lies_past_the_end_of_a_trial_counts_for_nothing():
    config, trial = configured(decode_state=True, over_steps="mean"), trial_of(lengths=(3, 1))
    nets, params, norm = made(config)
    noise = noise_of(trial, config)
    graded = jax.jit(jax.value_and_grad(functools.partial(belief.total_loss, config, nets), has_aux=True))
    found = all_of(config, trial)
    other = trial_of(seed=5)
    rest = jax.tree.map(
        lambda old, new: np.where(trial.valid.reshape(2, 3, *[1] * (old.ndim - 2)), old, new), trial.row, other.row
    )
    one, two = (graded(params, norm, trial._replace(row=row), noise, found) for row in (trial.row, rest))
    assert (rest.obs != trial.row.obs).any()
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_trial_alone_is_half_of_two():
    config, trial = configured(), trial_of(lengths=(3, 2))
    nets, params, norm = made(config)
    noise = noise_of(trial, config)
    each = [the_loss(config, nets, params, norm, at(trial, np.array([b])), noise[[b]])[0] for b in range(2)]
    np.testing.assert_allclose(the_loss(config, nets, params, norm, trial, noise)[0], sum(each) / 2, rtol=1e-5)

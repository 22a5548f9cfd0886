"""Going on in a task of its own from a meta-policy (MBML, Li et al. 2020, section 5.3): imitation, then SAC.

`imitator` makes a tanh-Gaussian policy of what the meta-policy did. `make` is SAC from there: both critics begin as the
meta-policy's value with its idea of the task held fixed, and part because they learn from different minibatches, A for
the first critic, B for the second and the policy ("double-Q learning"). After each of its steps the policy is averaged
with what it was before ("target policy smoothing": pi' <- 0.9 pi' + 0.1 pi, pi <- pi').
Differs: appendix J is not public, so the order within an update and the averaging are the code's; the policy steps
before the temperature, as in sac.py (the code: after it). Nets see observations as the meta-policy's do (the code: as
they are). Imitation maximises the likelihood of the actions; `likelihood=plain` is the code's loss, which takes actions
for draws of the Gaussian before it is squashed.
One task's view: B batch, E = 2 critics, O obs, A action.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos import sac
from pipelines.core.configs.finetune import ImitationConfig, WarmSacConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fixed
from pipelines.core.samplers import rows
from pipelines.core.types import (
    Algorithm,
    Array,
    HeldCritic,
    Log,
    Metrics,
    OptState,
    Params,
    Space,
    Transition,
    memoryless,
)
from pipelines.nets import Net, ensemble, member, mlp

EDGE = 0.999  # actions beyond it count as it: the tanh has them at infinity, where they would outweigh all others


# ---- imitation -------------------------------------------------------------------------------------------------------


class Examples(NamedTuple):
    """What the meta-policy did, and how it saw it."""

    log: Log
    normaliser: Normaliser


class Imitation(NamedTuple):
    actor: Params
    opt: OptState
    normaliser: Normaliser


class Imitator(NamedTuple):
    """What acting needs."""

    actor: Params
    normaliser: Normaliser


def log_likelihood(out: Array, action: Array, least: float) -> Array:
    """Of actions in [-1, 1] under the tanh-Gaussian of actor output `out`. [B, 2 A], [B, A] -> [B]"""
    mean, log_std = sac.gaussian(out, least)
    u = jnp.arctanh(jnp.clip(action, -EDGE, EDGE))
    log_normal = -0.5 * ((u - mean) * jnp.exp(-log_std)) ** 2 - log_std - 0.5 * jnp.log(2 * jnp.pi)
    log_det = 2 * (jnp.log(2.0) - u - jax.nn.softplus(-2 * u))
    return (log_normal - log_det).sum(-1)


def plain_loss(out: Array, action: Array, least: float) -> Array:
    """Mean over the batch of sum_A (a - mu)^2 / sigma^2 + log sigma^2. [B, 2 A], [B, A] -> []"""
    mean, log_std = sac.gaussian(out, least)
    return (((action - mean) * jnp.exp(-log_std)) ** 2 + 2 * log_std).sum(-1).mean()


def imitator(config: ImitationConfig, agent: WarmSacConfig, space: Space) -> Algorithm:
    """The policy of greatest likelihood on `Examples`; its net is that of SAC's actor."""
    net, opt = mlp([space.obs_dim], agent.hidden, 2 * space.action_dim), optax.adam(config.learning_rate)

    def init(key: Array, data: Examples) -> Imitation:
        actor = net.init(key)
        return Imitation(actor, opt.init(actor), data.normaliser)

    def update(state: Imitation, batch: Transition, key: Array, step: Array) -> tuple[Imitation, Metrics]:
        features = state.normaliser.obs(batch.obs)

        def loss(actor: Params) -> tuple[Array, Metrics]:
            out = net.apply(actor, features)
            if config.likelihood == "plain":
                value = plain_loss(out, batch.action, agent.log_std_min)
            else:
                value = -log_likelihood(out, batch.action, agent.log_std_min).mean()
            return value, {"imitation_loss": value}

        actor, opt_state, metrics = descend(opt, loss, state.actor, state.opt)
        return state._replace(actor=actor, opt=opt_state), metrics

    def act(acting: Imitator, obs: Array, key: Array, explore: Any) -> Array:
        return sac.act(net, acting.actor, acting.normaliser.obs(obs), key, explore, agent.log_std_min)

    return Algorithm(
        init=init,
        sample=lambda data, key: rows(data.log, key, config.batch_size),
        update=update,
        acting=lambda state: Imitator(state.actor, state.normaliser),
        acting_type=Imitator,
        policy=memoryless(act, None),
    )


# ---- SAC from there --------------------------------------------------------------------------------------------------


class Start(NamedTuple):
    """What SAC begins with."""

    actor: Params
    critic: Params  # of both, as `critic_net` takes them
    normaliser: Normaliser


class Pair(NamedTuple):
    first: Transition  # [B] minibatch A
    second: Transition  # [B] minibatch B


def critic_net(critic: HeldCritic, reward_scale: float) -> Net:
    """One critic on from a meta-policy's: parameters {"learned", "held"}, of which no gradient reaches `held`.

    Values are of rewards divided by `reward_scale`. There is nothing to begin with at random.
    """

    def init(key: Array) -> Params:
        raise NotImplementedError("it begins as a meta-policy's")

    def apply(params: Params, features: Array, action: Array) -> Array:
        held = jax.lax.stop_gradient(params["held"])
        return critic.q(params["learned"], held, features, action)[..., None] / reward_scale

    return Net(init, apply)


def put_member(params: Params, e: int, one: Params) -> Params:
    """An ensemble's parameters with those of net `e` replaced."""
    return jax.tree.map(lambda every, new: every.at[e].set(new), params, one)


def regress(
    config: WarmSacConfig, one: Net, state: sac.State, e: int, features: Array, action: Array, target: Array
) -> tuple[sac.State, Metrics]:
    """One step of critic `e` on `[B]` rows, and of its target behind it."""

    def loss(params: Params) -> tuple[Array, Metrics]:
        q = one.apply(params, features, action)[..., 0]
        value = sac.critic_loss(q[None], target)
        return value, {"critic_loss": value, "q": q.mean() * state.normaliser.reward_std}

    opts = list(state.critic_opt)
    params, opts[e], metrics = descend(sac.optimizers(config).critic, loss, member(state.critics, e), opts[e])
    target_params = polyak(member(state.critics_target, e), params, config.target_rate)
    return state._replace(
        critics=put_member(state.critics, e, params),
        critics_target=put_member(state.critics_target, e, target_params),
        critic_opt=tuple(opts),
    ), metrics


def make(config: WarmSacConfig, space: Space, discount: float, critic: HeldCritic | None = None) -> Algorithm:
    """SAC by two minibatches on one task. `init(key, Start)` goes on from a meta-policy whose value is `critic`;
    `init(key, None)` begins at random, with nets as the config describes them.
    """
    gamma = discount if config.discount is None else config.discount
    nets, opt = sac.nets_of(config, space), sac.optimizers(config)
    one = mlp([space.obs_dim, space.action_dim], config.critic_hidden or config.hidden, 1)
    if critic is not None:
        one = critic_net(critic, config.reward_scale)
        nets = nets._replace(critics=ensemble(one, 2))

    def init(key: Array, start: Start | None) -> sac.State:
        if start is None:
            state = sac.init_state(config, nets, fixed(space, config.obs_scale, config.reward_scale), key)
            actor, critics, normaliser = state.actor, state.critics, state.normaliser
        else:
            actor = start.actor
            normaliser = start.normaliser._replace(reward_std=jnp.float32(config.reward_scale))
            critics = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), start.critic)
        log_temperature = jnp.log(jnp.float32(config.init_temperature))
        return sac.State(
            actor=actor,
            critics=critics,
            critics_target=critics,
            log_temperature=log_temperature,
            actor_opt=opt.actor.init(actor),
            critic_opt=tuple(opt.critic.init(member(critics, e)) for e in range(2)),
            temperature_opt=opt.temperature.init(log_temperature),
            normaliser=normaliser,
        )

    def update(state: sac.State, batch: Pair, key: Array, step: Array) -> tuple[sac.State, Metrics]:
        first_key, second_key, actor_key = jax.random.split(key, 3)
        norm, (a, b) = state.normaliser, batch
        target = sac.next_value_target(gamma, nets, state, a, norm.obs(a.next_obs), first_key)
        state, of_first = regress(config, one, state, 0, norm.obs(a.obs), a.action, target)
        target = sac.next_value_target(gamma, nets, state, b, norm.obs(b.next_obs), second_key)
        before, features = state.actor, norm.obs(b.obs)
        state, of_actor = sac.improve_actor(config, nets, state, features, space.action_dim, actor_key)
        state, of_second = regress(config, one, state, 1, features, b.action, target)
        metrics = jax.tree.map(lambda a, b: (a + b) / 2, of_first, of_second)
        return state._replace(actor=polyak(before, state.actor, config.average_rate)), metrics | of_actor

    def q(acting: sac.Acting, obs: Array, action: Array) -> Array:
        """Mean of the critics, in units of the reward. [..., O], [..., A] -> [...]"""
        values = nets.critics.apply(acting.critics, acting.normaliser.obs(obs), action)
        return values.mean(0) * acting.normaliser.reward_std

    def act(acting: sac.Acting, obs: Array, key: Array, explore: Any) -> Array:
        return sac.act(nets.actor, acting.actor, acting.normaliser.obs(obs), key, explore, nets.log_std_min)

    def sample(log: Log, key: Array) -> Pair:
        return Pair(*(rows(log, one, config.batch_size) for one in jax.random.split(key)))

    return Algorithm(
        init=init,
        sample=sample,
        update=update,
        acting=sac.acting,
        acting_type=sac.Acting,
        policy=memoryless(act, q),
        q=q,
    )

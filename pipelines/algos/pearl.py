"""Batch PEARL (Rakelly et al. 2019, arXiv:1903.08254; tiMe section 2.4 Eq. 2): SAC on (s, z), z ~ q(z | context).

q(z|c) is a product of Gaussian factors, one per transition (`context`), trained through the critic loss and a KL to
N(0, I).
Differs: twin critics with target copies and a learned temperature (Haarnoja 2018b) in place of the value net; the actor
sees a detached z (as the paper's code); by default z follows the posterior at every step of an episode, so that a
zero-shot episode can use what it has seen, where the paper draws z once per episode (field `resample`). MBML's code
draws the tasks of an update (`tasks_per_update`), sums their KLs (`kl_over_tasks`) and scales rewards by hand
(`scale_reward`, `reward_scale`); its value net and its penalty on the policy's outputs are not here. PEARL's code
explores a task for two episodes with z of the prior (`prior_episodes`); contexts are drawn from all of a task's rows,
not from those of the newest exploration alone. The critics' loss is half the published squares, so that the same
`kl_weight` weighs twice as much beside it; the encoder sees rewards in the nets' units (published: raw, the scale is
the Bellman backup's); an actor's log-std ends at -10, not at -20.
T tasks, B batch, L context, Z latent.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos import context, sac
from pipelines.algos.context import (
    Factors,
    drawn,
    factors,
    gaussian_encoder,
    kl_to_prior,
    posterior,
    together,
)
from pipelines.core.configs.algorithms import PearlConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.samplers import row_numbers, rows_of
from pipelines.core.types import (
    Algorithm,
    Array,
    Latent,
    Log,
    Metrics,
    Params,
    Policy,
    Space,
    Transition,
    transitions,
)
from pipelines.nets import Net


class Batch(NamedTuple):
    row: Transition  # [T, B]
    context: Transition  # [T, L]


class State(NamedTuple):
    """SAC on (s, z); its `critic_opt` descends the critics and the encoder together."""

    sac: sac.State
    encoder: Params


class Acting(NamedTuple):
    sac: sac.Acting
    encoder: Params


class Trial(NamedTuple):
    """`context.Memory`, and how many episodes of the task have begun."""

    seen: Factors  # [Z]
    noise: Array  # [Z]
    z: Array  # [Z]
    episodes: Array  # [] int32


def policy(config: PearlConfig, nets: sac.Nets, encoder: Net) -> Policy:
    """SAC's policy on (s, z). An episode starts from the prior, and after `prior_episodes` of them from what the task
    has shown so far (the code's exploration)."""

    def begin(acting: Acting, key: Array) -> Trial:
        return Trial(*context.fresh(config.latent_dim), episodes=jnp.int32(0))

    def redrawn(memory: Trial, draw: Callable[[Any], Any]) -> Trial:
        """z drawn anew, of all that was seen, or of nothing while the task is explored."""
        if not config.prior_episodes:
            return draw(memory)
        heed = memory.episodes > config.prior_episodes
        heeded = jax.tree.map(lambda leaf: jnp.where(heed, leaf, 0), memory.seen)
        return draw(memory._replace(seen=heeded))._replace(seen=memory.seen)

    def start(acting: Acting, memory: Trial, obs: Array, key: Array) -> Trial:
        begun = memory._replace(episodes=memory.episodes + 1)
        return redrawn(begun, lambda memory: context.episode(memory, key))

    def features(acting: Acting, memory: Trial, obs: Array) -> Array:
        return jnp.concatenate([acting.sac.normaliser.obs(obs), memory.z], -1)

    def act(acting: Acting, memory: Trial, obs: Array, key: Array, explore: Any) -> Array:
        return sac.act(nets.actor, acting.sac.actor, features(acting, memory, obs), key, explore)

    def observe(acting: Acting, memory: Trial, row: Transition) -> Trial:
        norm = acting.sac.normaliser
        more = factors(encoder, acting.encoder, norm, row, config.context_next_obs)
        memory = memory._replace(seen=together(memory.seen, more))
        return redrawn(memory, context.redrawn) if config.resample == "step" else memory

    def value(acting: Acting, memory: Trial, obs: Array, action: Array) -> Array:
        q = nets.critics.apply(acting.sac.critics, features(acting, memory, obs), action)
        return q.mean(0) * acting.sac.normaliser.reward_std

    def latent(acting: Acting, memory: Any) -> Latent:
        return context.latent(memory)

    return Policy(begin, start, act, observe, value, latent)


def widen(norm: Normaliser, obs: Array, z: Array) -> Array:
    """obs [T, B, O], z [T, Z] -> features [T, B, O + Z]"""
    wide = jnp.broadcast_to(z[:, None], (*obs.shape[:2], z.shape[-1]))
    return jnp.concatenate([norm.obs(obs), wide], -1)


def update_with(config: PearlConfig, gamma: float, nets: sac.Nets, encoder: Net, action_dim: int) -> Any:
    """The update: critics and encoder down Eq. 2 and the KL, then actor and temperature on a detached z."""
    optimizer = sac.optimizers(config).critic

    def update(state: State, batch: Batch, key: Array, step: Array) -> tuple[State, Metrics]:
        noise_key, target_key, actor_key = jax.random.split(key, 3)
        row, norm = batch.row, state.sac.normaliser
        noise = jax.random.normal(noise_key, (row.reward.shape[0], config.latent_dim))

        def infer(params: Params) -> tuple[Array, Array]:
            found = posterior(encoder, params, norm, batch.context, config.context_next_obs)
            z, each = drawn(found, noise), kl_to_prior(found)  # in this order: another one rounds differently
            return z, each.sum() if config.kl_over_tasks == "sum" else each.mean()

        z = jax.lax.stop_gradient(infer(state.encoder)[0])
        target = sac.next_value_target(gamma, nets, state.sac, row, widen(norm, row.next_obs, z), target_key)

        def loss(params: tuple[Params, Params]) -> tuple[Array, Metrics]:
            latent, kl = infer(params[1])
            q = nets.critics.apply(params[0], widen(norm, row.obs, latent), row.action)
            value = sac.critic_loss(q.reshape(q.shape[0], -1), target.reshape(-1))
            metrics = {"critic_loss": value, "kl": kl, "q": q.mean() * norm.reward_std}
            return value + config.kl_weight * kl, metrics

        both = (state.sac.critics, state.encoder)
        (critics, params), critic_opt, metrics = descend(optimizer, loss, both, state.sac.critic_opt)
        inner = state.sac._replace(critics=critics, critic_opt=critic_opt)
        features = widen(norm, row.obs, z)
        inner, actor_metrics = sac.improve_actor(config, nets, inner, features, action_dim, actor_key)
        inner = inner._replace(critics_target=polyak(inner.critics_target, inner.critics, config.target_rate))
        return State(inner, params), metrics | actor_metrics

    return update


def sample_some(logs: Log, key: Array, num_tasks: int, batch_size: int, context_size: int) -> Batch:
    """Rows of `num_tasks` tasks drawn with replacement. Logs [T, ...] -> [num_tasks, ...]"""
    task_key, row_key, context_key = jax.random.split(key, 3)
    task = jax.random.randint(task_key, (num_tasks, 1), 0, logs.size.shape[0])

    def some(key: Array, count: int) -> Transition:
        tasks = jnp.broadcast_to(task, (num_tasks, count))
        return rows_of(logs, tasks, jax.random.randint(key, tasks.shape, 0, logs.size[tasks]))

    return Batch(some(row_key, batch_size), some(context_key, context_size))


def make(config: PearlConfig, space: Space, discount: float) -> Algorithm:
    """PEARL across tasks: data is a stack of T logs. `init(key, None)` is for learning online."""
    gamma = discount if config.discount is None else config.discount
    nets = sac.make_nets(space, config.hidden, extra=config.latent_dim)
    encoder = gaussian_encoder(space, config.encoder_hidden, config.latent_dim, config.context_next_obs)

    def init(key: Array, logs: Log | None) -> State:
        sac_key, encoder_key = jax.random.split(key)
        if logs is None:
            norm = fixed(space, config.obs_scale, config.reward_scale)
        else:
            norm = fit(logs, scale_reward=config.scale_reward)
        if not config.scale_reward:
            norm = norm._replace(reward_std=jnp.float32(config.reward_scale))
        inner, params = sac.init_state(config, nets, norm, sac_key), encoder.init(encoder_key)
        critic_opt = sac.optimizers(config).critic.init((inner.critics, params))
        return State(inner._replace(critic_opt=critic_opt), params)

    def sample_task(log: Log, key: Array) -> Batch:
        row_key, context_key = jax.random.split(key)
        rows = row_numbers(log, row_key, config.batch_size)
        context = row_numbers(log, context_key, config.context_size)
        return Batch(transitions(log, rows), transitions(log, context))

    def sample(logs: Log, key: Array) -> Batch:
        if config.tasks_per_update is None:
            return jax.vmap(sample_task)(logs, jax.random.split(key, logs.size.shape[0]))
        return sample_some(logs, key, config.tasks_per_update, config.batch_size, config.context_size)

    return Algorithm(
        init=init,
        sample=sample,
        update=update_with(config, gamma, nets, encoder, space.action_dim),
        acting=lambda state: Acting(sac.acting(state.sac), state.encoder),
        acting_type=Acting,
        policy=policy(config, nets, encoder),
    )

"""What a latent says of a trial: decoders of rewards and of successors, and their losses over all pairs of L + 1
latents and L steps.

A decoder is a net on (z, embedded columns of a transition). Its first layer is split into a part for the latent and a
part for the transition, so that a pair costs an addition and the layers behind it. Pairs are made some latents at a
time, and their gradient is taken as soon as they are there: memory grows with L and not with L^2, and nothing is
computed twice. A decoder with a logit for each cell does not look at the way to a cell, so that a latent costs as many
cells as there are. B trials, N latents, L steps, H units of the first layer.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos.belief_nets import embedding
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.normaliser import Normaliser
from pipelines.core.samplers import Trial
from pipelines.core.types import Array, Params, Space
from pipelines.nets import mlp


class Decoder(NamedTuple):
    """init(key) -> params; apply(params, norm, z [..., Z], trial [...]) -> [..., out], pair by pair;
    of_latent(params, z [..., Z]) and of_step(params, norm, trial [...]) -> [..., H], whose sum is the first layer;
    rest(params, first [..., H]) -> [..., out], the layers behind it."""

    init: Callable[[Array], Params]
    apply: Callable[[Params, Normaliser, Array, Trial], Array]
    of_latent: Callable[[Params, Array], Array]
    of_step: Callable[[Params, Normaliser, Trial], Array]
    rest: Callable[[Params, Array], Array]


def make_decoder(config: BeliefConfig, space: Space, columns: Sequence[str], out: int) -> Decoder:
    """It sees those of `next_obs`, `obs`, `action` that `columns` names, observations with their flags; both
    observations share an embedding."""
    widths = {"next_obs": config.embed_obs, "obs": config.embed_obs, "action": config.embed_action}
    columns = [name for name in widths if name in columns and widths[name]]
    see = embedding(config, space, sorted({name.removeprefix("next_") for name in columns}))
    net = mlp([config.latent_dim, *(widths[name] for name in columns)], config.decoder_hidden, out)
    last = len(config.decoder_hidden)

    def init(key: Array) -> Params:
        see_key, net_key = jax.random.split(key)
        return {"see": see.init(see_key), "net": net.init(net_key)}

    def seen(params: Params, norm: Normaliser, trial: Trial) -> list[Array]:
        row, own = trial.row, params["see"]
        ways: dict[str, Callable[[], Array]] = {
            "next_obs": lambda: see.obs(own, norm, row.next_obs, trial.next_flag),
            "obs": lambda: see.obs(own, norm, row.obs, trial.flag),
            "action": lambda: see.action(own, row.action),
        }
        return [ways[name]() for name in columns]

    def apply(params: Params, norm: Normaliser, z: Array, trial: Trial) -> Array:
        return net.apply(params["net"], z, *seen(params, norm, trial))

    def of_latent(params: Params, z: Array) -> Array:
        return z @ params["net"]["Dense_0"]["kernel"][: config.latent_dim]

    def of_step(params: Params, norm: Normaliser, trial: Trial) -> Array:
        first = params["net"]["Dense_0"]
        return _plus(jnp.concatenate(seen(params, norm, trial), -1) @ first["kernel"][config.latent_dim :], first)

    def rest(params: Params, first: Array) -> Array:
        x = first
        for n in range(1, last + 1):
            layer, x = params["net"][f"Dense_{n}"], jax.nn.relu(x)
            x = _plus(x @ layer["kernel"], layer)
        return x

    return Decoder(init, apply, of_latent, of_step, rest)


def _wide(vector: Array, x: Array) -> Array:
    return vector.reshape((1,) * (x.ndim - 1) + (-1,))


def _plus(x: Array, layer: Params) -> Array:
    return x + _wide(layer["bias"], x)


# ---- losses of a pair ------------------------------------------------------------------------------------------------


def squared_loss(out: Array, target: Array) -> Array:
    """(out - target)^2, summed over the entries. [..., D], [..., D] -> [...]"""
    return ((out - target) ** 2).sum(-1)


def bernoulli_loss(out: Array, target: Array) -> Array:
    """-log p(target) of logits, summed over the entries; target 0 or 1. [..., D], [..., D] -> [...]"""
    return (jax.nn.softplus(out) - target * out).sum(-1)


# ---- all pairs -------------------------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """What counts of a trial, and how much."""

    latent: Array  # [B, N] weight of each latent
    step: Array  # [B, L] weight of each step, 0 past the trial's end


Loss = Callable[[Array, Array], Array]


def split_loss(
    decoder: Decoder, params: Params, z: Array, of_step: Array, target: Array, terms: Terms, loss: Loss, chunk: int
) -> Array:
    """The weighted sum of `loss` over the pairs of latents z [B, N, Z] and steps of_step [B, L, H], target [B, L, D],
    divided by B; `chunk` latents at once. -> []"""
    num, count = z.shape[:2]
    trials, some = max(1, chunk // count), min(chunk, count)  # of several trials where all of one fit

    def groups(values: Array) -> Array:
        """[B, ...] -> [G, g, ...], padded by trials of weight 0."""
        padded = jnp.pad(values, [(0, -num % trials)] + [(0, 0)] * (values.ndim - 1))
        return padded.reshape(-1, trials, *values.shape[1:])

    def chunks(values: Array) -> Array:
        """[B, N, ...] -> [G, N / C, g, C, ...], padded by latents of weight 0."""
        padded = groups(jnp.pad(values, [(0, 0), (0, -count % some)] + [(0, 0)] * (values.ndim - 2)))
        return padded.reshape(*padded.shape[:2], -1, some, *values.shape[2:]).swapaxes(1, 2)

    def pairs(params: Params, of_latent: Array, of_step: Array, own: tuple[Array, ...]) -> Array:
        latent, step, target = own  # [g, C], [g, L], [g, L, D]
        first = of_latent[:, :, None] + of_step[:, None]
        out = decoder.rest(params, first.reshape(-1, first.shape[-1])).reshape(*first.shape[:3], -1)
        each = loss(out, jnp.broadcast_to(target[:, None], (*first.shape[:3], target.shape[-1])))
        return (latent * (each * step[:, None]).sum(-1)).sum()

    of_latent = chunks(decoder.of_latent(params, z))
    own = chunks(terms.latent), groups(terms.step), groups(target)
    return _over_pairs(pairs, params, of_latent, groups(of_step), own) / num


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _over_pairs(pairs: Any, params: Params, of_latent: Array, of_step: Array, own: tuple[Array, ...]) -> Array:
    """The sum of `pairs(params, of_latent [g, C, H], of_step [g, L, H], own)` over groups and chunks: of_latent
    [G, K, g, C, H], of_step [G, g, L, H], own: weights [G, K, g, C], [G, g, L], targets [G, g, L, D]. -> []"""

    def group(total: Array, share: Any) -> tuple[Array, None]:
        latents, steps, (weight, *rest) = share

        def one(total: Array, mine: Any) -> tuple[Array, None]:
            return total + pairs(params, mine[0], steps, (mine[1], *rest)), None

        return jax.lax.scan(one, total, (latents, weight))[0], None

    return jax.lax.scan(group, jnp.float32(0), (of_latent, of_step, own))[0]


def _forward(pairs: Any, params: Params, of_latent: Array, of_step: Array, own: tuple[Array, ...]) -> Any:
    """The sum, and its gradient by params, of_latent and of_step."""
    graded = jax.value_and_grad(pairs, argnums=(0, 1, 2))

    def group(carry: Any, share: Any) -> Any:
        latents, steps, (weight, *rest) = share

        def one(carry: Any, mine: Any) -> Any:
            value, (by_params, by_latents, by_steps) = graded(params, mine[0], steps, (mine[1], *rest))
            return jax.tree.map(jnp.add, carry, (value, by_params, by_steps)), by_latents

        begun = (*carry, jnp.zeros_like(steps))
        (*carry, by_steps), by_latents = jax.lax.scan(one, begun, (latents, weight))
        return tuple(carry), (by_latents, by_steps)

    begun = jnp.float32(0), jax.tree.map(jnp.zeros_like, params)
    (total, by_params), others = jax.lax.scan(group, begun, (of_latent, of_step, own))
    return total, ((by_params, *others), own)


def _backward(pairs: Any, kept: Any, scale: Array) -> Any:
    grads, own = kept
    return (*jax.tree.map(lambda grad: scale * grad, grads), jax.tree.map(jnp.zeros_like, own))


_over_pairs.defvjp(_forward, _backward)


def cells_loss(logits: Array, cell: Array, target: Array, terms: Terms) -> Array:
    """The weighted sum of `bernoulli_loss` over pairs of logits [B, N, D] and steps that come to `cell [B, L]` and find
    `target [B, L]` there, divided by B: steps that find the same in the same cell are counted. -> []"""
    come = jax.nn.one_hot(cell, logits.shape[-1]) * terms.step[..., None]
    paid, all_ = (come * target[..., None]).sum(1), come.sum(1)  # [B, D]
    each = all_[:, None] * jax.nn.softplus(logits) - paid[:, None] * logits
    return (terms.latent * each.sum(-1)).sum() / logits.shape[0]


def plain_loss(
    decoder: Decoder,
    params: Params,
    norm: Normaliser,
    z: Array,
    trial: Trial,
    target: Array,
    terms: Terms,
    loss: Loss,
) -> Array:
    """What `split_loss` computes, every pair through the whole net. trial [B, L]"""
    (num, count), length = z.shape[:2], trial.flag.shape[1]

    def wide(values: Any) -> Any:
        return jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], (num, count, length, *x.shape[2:])), values)

    latents = jnp.broadcast_to(z[:, :, None], (num, count, length, z.shape[-1]))
    each = loss(decoder.apply(params, norm, latents, wide(trial)), wide(target))
    return (terms.latent * (each * terms.step[:, None]).sum(-1)).sum() / num

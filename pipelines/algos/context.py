"""Task encoders: from a set of transitions of one task to what is inferred of the task.

tiMe's is deterministic: the mean over the set of what a net makes of each transition. PEARL's and MBML's are
probabilistic: each transition gives a Gaussian factor over the latent, and the posterior is their product (Rakelly et
al. 2019, Eq. 1), with the prior N(0, I) as one more factor (`prior`) or, as both papers' code has it, without. A set of
no transitions is the prior either way. Sums of natural parameters are all that a posterior needs, so a policy remembers
any number of transitions in memory of one size: `nothing_seen`, then `together` with each transition's `factors`.

Sets of unequal sizes are padded to L rows and masked. L context, Z latent; every function takes leading axes as they
come.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.normaliser import Normaliser
from pipelines.core.types import Array, Latent, Params, Space, Transition
from pipelines.nets import Net, mlp

MIN_VARIANCE = 1e-7  # of a factor


class Factors(NamedTuple):
    """Natural parameters of Gaussian factors, each one's or sums of them; zeros for none."""

    precision: Array  # [..., Z] 1 / variance
    weighted: Array  # [..., Z] mean / variance


class Gaussian(NamedTuple):
    mean: Array  # [..., Z]
    variance: Array  # [..., Z]


# ---- what encoders see -----------------------------------------------------------------------------------------------


def input_sizes(space: Space, with_next: bool = True) -> list[int]:
    """Widths of `inputs`."""
    return [space.obs_dim, space.action_dim, 1] + [space.obs_dim] * with_next


def inputs(norm: Normaliser, rows: Transition, with_next: bool = True) -> tuple[Array, ...]:
    """(s, a, r), and s' if `with_next`, in standard units. [...] -> [..., *] each"""
    seen = norm.obs(rows.obs), rows.action, norm.reward(rows.reward)[..., None]
    return (*seen, norm.obs(rows.next_obs)) if with_next else seen


def gaussian_encoder(space: Space, hidden: tuple[int, ...], latent_dim: int, with_next: bool = True) -> Net:
    """The net behind `factors`: (s, a, r, s') -> [2 Z]."""
    return mlp(input_sizes(space, with_next), hidden, 2 * latent_dim)


# ---- deterministic sets ----------------------------------------------------------------------------------------------


def mean_of(total: Array, num: Array) -> Array:
    """The mean of `num [...]` vectors that sum to `total [..., Z]`; the zero vector for none."""
    return total / jnp.maximum(num, 1)[..., None]


# ---- products of Gaussians -------------------------------------------------------------------------------------------


def factors(
    encoder: Net,
    params: Params,
    norm: Normaliser,
    rows: Transition,
    with_next: bool = True,
    min_variance: float = MIN_VARIANCE,
) -> Factors:
    """Each transition `[...]` -> its Gaussian factor, of variance softplus(.), at least `min_variance`."""
    mean, raw = jnp.split(encoder.apply(params, *inputs(norm, rows, with_next)), 2, axis=-1)
    precision = 1.0 / jnp.maximum(jax.nn.softplus(raw), min_variance)
    return Factors(precision, mean * precision)


def nothing_seen(latent_dim: int) -> Factors:
    """What a policy remembers of a new task."""
    zeros = jnp.zeros((latent_dim,))
    return Factors(zeros, zeros)


def together(one: Factors, other: Factors) -> Factors:
    """The factors of both."""
    return Factors(one.precision + other.precision, one.weighted + other.weighted)


def gathered(each: Factors, mask: Array | None = None) -> Factors:
    """The sum over a set, over those in `mask [..., L]` if there is one. [..., L, Z] -> [..., Z]"""
    if mask is None:
        return Factors(each.precision.sum(-2), each.weighted.sum(-2))
    return Factors(*(jnp.where(mask[..., None], leaf, 0).sum(-2) for leaf in each))


def product_of_gaussians(seen: Factors, prior: bool = False) -> Gaussian:
    """Summed factors -> the posterior; `prior` counts N(0, I) among them. No factors at all are the prior."""
    precision = seen.precision + 1.0 if prior else seen.precision
    empty = precision == 0
    variance = jnp.where(empty, 1.0, 1.0 / jnp.where(empty, 1.0, precision))
    return Gaussian(seen.weighted * variance, variance)


def posterior(
    encoder: Net,
    params: Params,
    norm: Normaliser,
    rows: Transition,
    with_next: bool = True,
    mask: Array | None = None,
    prior: bool = False,
) -> Gaussian:
    """q(z | context) of sets `[..., L]`, of the transitions in `mask [..., L]` if there is one."""
    return product_of_gaussians(gathered(factors(encoder, params, norm, rows, with_next), mask), prior)


def drawn(q: Gaussian, noise: Array) -> Array:
    """mean + deviation * noise, `noise [..., Z]` standard normal: a sample that has a gradient."""
    return q.mean + jnp.sqrt(q.variance) * noise


# ---- what a policy remembers of a task -------------------------------------------------------------------------------


class Memory(NamedTuple):
    """The product of the factors of all that the task has shown, and this episode's noise and z."""

    seen: Factors  # [Z]
    noise: Array  # [Z]
    z: Array  # [Z]


def fresh(latent_dim: int) -> Memory:
    """Of a new task, before its first episode."""
    zeros = jnp.zeros((latent_dim,))
    return Memory(nothing_seen(latent_dim), zeros, zeros)


def redrawn(memory: Memory, prior: bool = False) -> Memory:
    """z of what has been seen by now, with this episode's noise."""
    return memory._replace(z=drawn(product_of_gaussians(memory.seen, prior), memory.noise))


def episode(memory: Memory, key: Array, prior: bool = False) -> Memory:
    """At the start of one: other noise."""
    return redrawn(memory._replace(noise=jax.random.normal(key, memory.z.shape)), prior)


def latent(memory: Memory, prior: bool = False) -> Latent:
    """The posterior of what has been seen."""
    q = product_of_gaussians(memory.seen, prior)
    return Latent(q.mean, jnp.sqrt(q.variance))


# ---- divergences -----------------------------------------------------------------------------------------------------


def kl(q: Gaussian, p: Gaussian) -> Array:
    """KL(q || p) of diagonal Gaussians, summed over Z; logs are summed, so that no product of Z ratios can overflow.
    [..., Z] -> [...]"""
    log_ratio = jnp.log(p.variance) - jnp.log(q.variance)
    return 0.5 * ((q.variance + (q.mean - p.mean) ** 2) / p.variance - 1.0 + log_ratio).sum(-1)


def kl_to_prior(q: Gaussian) -> Array:
    """KL(q || N(0, I)), summed over Z. [..., Z] -> [...]"""
    return 0.5 * (q.variance + q.mean**2 - 1.0 - jnp.log(q.variance)).sum(-1)

"""MBML's losses (Li et al. 2020); equations are the paper's. T tasks, B batch, N context sets, Z latent, A action.

The generator's and the perturbation's squared norms are sums over an action's entries, as printed; the code has means
over them, of which Adam would not know, since nobody else moves those nets.
"""

import jax
import jax.numpy as jnp

from pipelines.algos.context import Gaussian, kl, kl_to_prior
from pipelines.algos.distilled import generate, nudge, widened
from pipelines.core.types import Array, Params
from pipelines.nets import Net


def q_loss(net: Net, params: Params, features: Array, action: Array, z: Array, target: Array) -> Array:
    """mean (Q_D(s, a, z_i) - Q_i(s, a))^2, Eq. 3 without its second term; z learns from it.

    [T, B, F], [T, B, A], [T, Z], [T, B] -> []
    """
    q = net.apply(params, features, action, widened(z, target.shape))[..., 0]
    return ((q - target) ** 2).mean()


def kl_loss(q: Gaussian, over: str = "mean") -> Array:
    """KL(q_i || N(0, I)), the `mean` over tasks of Eq. 3 or the code's `sum`. [T, Z] -> []"""
    each = kl_to_prior(q)
    return each.sum() if over == "sum" else each.mean()


def generator_loss(net: Net, params: Params, features: Array, noise: Array, z: Array, proposed: Array) -> Array:
    """mean ||G_i(s, noise) - G_D(s, noise, z_i)||^2, Eq. 4; z has no gradient.

    [T, B, F], [T, B, Z'], [T, Z], [T, B, A] -> []
    """
    z = widened(jax.lax.stop_gradient(z), proposed.shape[:-1])
    return ((generate(net, params, features, noise, z) - proposed) ** 2).sum(-1).mean()


def perturbation_loss(net: Net, params: Params, features: Array, action: Array, z: Array, xi: Array) -> Array:
    """mean ||xi_i(s, a) - xi_D(s, a, z_i)||^2 at a = G_i(s, noise), Eq. 5; z has no gradient.

    [T, B, F], [T, B, A], [T, Z], [T, B, A] -> []
    """
    z = widened(jax.lax.stop_gradient(z), xi.shape[:-1])
    return ((nudge(net, params, features, action, z) - xi) ** 2).sum(-1).mean()


def triplet_loss(anchor: Gaussian, positive: Gaussian, negative: Gaussian, found: Array, margin: float) -> Array:
    """Mean over ordered pairs i != j of [KL(anchor || positive) - KL(anchor || negative) + m]_+, Eqs. 8 and 9.

    Entry (i, j) of `anchor` is q(c_j paid as in i), of `positive` q(c_i), of `negative` q(c_j). Where nothing was
    `found [T, T]` to relabel, the pair costs the margin and teaches nothing. [T, T, Z] each -> []
    """
    count = found.shape[0]
    gap = jnp.where(found, kl(anchor, positive) - kl(anchor, negative), 0.0)
    each = jnp.where(jnp.eye(count, dtype=bool), 0.0, jax.nn.relu(gap + margin))
    return each.sum() / (count * (count - 1))


def batch_hard_loss(q: Gaussian, margin: float, by: str = "task") -> Array:
    """[furthest posterior of the same task - nearest one of another + m]_+ in KL. [T, N, Z] -> []

    by `task` (Eq. 11): one furthest and one nearest pair of each task, the mean over tasks; by `anchor` (the code): of
    each context set, the sum over all T N.
    """
    first = Gaussian(*(leaf[:, :, None, None] for leaf in q))
    second = Gaussian(*(leaf[None, None] for leaf in q))
    apart = kl(first, second)  # [T, N, T, N]
    same = jnp.eye(apart.shape[0], dtype=bool)[:, None, :, None]
    far = jnp.where(same, apart, -jnp.inf).max((2, 3))  # [T, N]
    near = jnp.where(same, jnp.inf, apart).min((2, 3))
    if by == "anchor":
        return jax.nn.relu(far - near + margin).sum()
    return jax.nn.relu(far.max(1) - near.min(1) + margin).mean()

"""What tiMe and MBML have in common: what a teacher says beside its values, and nets that learn to say it of any task.

A teacher that generates and perturbs (BCQ) shows both. Any other shows the action that it takes itself: then the
distilled generator imitates that, needs no noise, and there is no perturbation. B batch, M candidates, Z noise or
latent, A action; actions are in the box [-1, 1] unless it is said.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from pipelines.algos.bcq import perturbed
from pipelines.core.types import Algorithm, Array, Params, Space, Transition
from pipelines.nets import Net, mlp


class Lesson(NamedTuple):
    """What a teacher would do in the states of some rows."""

    noise: Array  # [B, Z] that its generator had; [B, 0] where it needs none
    row: Transition  # [B] the rows, with the actions that it proposes (in a row, so that their units go with the row's)
    xi: Array  # [B, A] how it would move them, in (-1, 1); [B, 0] where it would not


Teach = Callable[[Any, Transition, Array], Lesson]


def held_noise(key: Array, shape: tuple[int, ...], clip: float | None) -> Array:
    """Standard normal, held within +-clip."""
    noise = jax.random.normal(key, shape)
    return noise if clip is None else jnp.clip(noise, -clip, clip)


def teaching(teacher: Algorithm, noise_clip: float | None = None, perturbs: bool = True) -> Teach:
    """`teach(acting, rows [B], key) -> Lesson` of one task's teacher, in the units of `teacher`'s space."""
    propose, perturb, policy = teacher.propose, teacher.perturb, teacher.policy

    def teach(acting: Any, rows: Transition, key: Array) -> Lesson:
        noise = held_noise(key, (len(rows.reward), teacher.noise_dim), noise_clip)
        if propose is not None:
            action = propose(acting, rows.obs, noise)
        else:
            memory = policy.begin(acting, key)
            action = jax.vmap(lambda obs: policy.act(acting, memory, obs, key, 0.0))(rows.obs)
        shown = perturbs and perturb is not None
        xi = perturb(acting, rows.obs, action) if shown and perturb else jnp.zeros((len(rows.reward), 0))
        return Lesson(noise, rows._replace(action=action), xi)

    return teach


# ---- nets that are taught --------------------------------------------------------------------------------------------


class Actor(NamedTuple):
    """G(s, noise, z) and xi(s, a, z), both before their tanh."""

    generator: Net
    perturbation: Net


def make_actor(config: Any, space: Space) -> Actor:
    """As a config describes them; G has no noise where the teachers have none."""
    obs, action, latent = space.obs_dim, space.action_dim, config.latent_dim
    return Actor(
        generator=mlp([obs, config.noise_dim or 0, latent], config.generator_hidden or config.q_hidden, action),
        perturbation=mlp([obs, action, latent], config.perturbation_hidden or config.q_hidden, action),
    )


def generate(net: Net, params: Params, features: Array, noise: Array, z: Array) -> Array:
    """[..., F], [..., Z], [..., Z] -> [..., A]"""
    return jnp.tanh(net.apply(params, features, noise, z))


def nudge(net: Net, params: Params, features: Array, action: Array, z: Array) -> Array:
    """xi in (-1, 1). [..., F], [..., A], [..., Z] -> [..., A]"""
    return jnp.tanh(net.apply(params, features, action, z))


def widened(z: Array, lead: tuple[int, ...]) -> Array:
    """z [Z], or [T, Z] -> [*lead, Z], the same for all rows (of a task)."""
    z = z.reshape(*z.shape[:-1], *(1,) * (len(lead) + 1 - z.ndim), z.shape[-1])
    return jnp.broadcast_to(z, (*lead, z.shape[-1]))


def candidates(config: Any, actor: Actor, params: Params, features: Array, z: Array, key: Array) -> Array:
    """M actions in one state, generated and perturbed by Phi xi (MBML's Fig. 3). [F], [Z] -> [M, A]"""
    many = config.num_candidates if config.noise_dim else 1  # without noise they are all the same
    noise = held_noise(key, (many, config.noise_dim or 0), config.noise_clip)
    features, z = widened(features, (many,)), widened(z, (many,))
    action = generate(actor.generator, params["generator"], features, noise, z)
    if not config.perturbation_scale:
        return action
    xi = nudge(actor.perturbation, params["perturbation"], features, action, z)
    return perturbed(action, xi, config.perturbation_scale)

"""What the encoder and the decoders of a belief have in common: how they see actions, observations and rewards.

Each has embeddings of its own, one linear layer and a ReLU for each column; images go through a convolutional net
before it. Actions are one-hot where they are discrete. Every function takes leading axes as they come.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.types import Array, Log, Params, Space
from pipelines.nets import Net, convolutional, mlp

IMAGES = 128  # of which one's gradient takes 1 MB, and 4 MB on a CPU


class Embedding(NamedTuple):
    """init(key) -> params; obs(params, norm, obs [..., O], flag [...]) -> [..., embed_obs];
    action(params, action [..., A]) -> [..., embed_action]; reward(params, norm, reward [...]) -> [..., embed_reward].
    """

    init: Callable[[Array], Params]
    obs: Callable[[Params, Normaliser, Array, Array], Array]
    action: Callable[[Params, Array], Array]
    reward: Callable[[Params, Normaliser, Array], Array]


def is_image(space: Space) -> bool:
    return len(space.obs_shape) == 3 and space.obs_dtype == "uint8"


def some_at_once(net: Net, params: Params, images: Array, dims: int) -> Array:
    """A net of images `[..., H, W, C]`, so that the gradient holds the layers of IMAGES of them and no more."""
    lead = images.shape[: images.ndim - dims]
    flat = images.reshape(-1, *images.shape[images.ndim - dims :])
    if len(flat) <= IMAGES:
        return net.apply(params, images)
    seen = jax.lax.map(jax.checkpoint(lambda one: net.apply(params, one)), flat, batch_size=IMAGES)
    return seen.reshape(*lead, -1)


def plain_norm(space: Space) -> Normaliser:
    """Scales that change nothing. An image has none: its net divides by 255."""
    shape = () if is_image(space) else space.obs_shape
    return fixed(space._replace(obs_shape=shape), 1.0, 1.0)


def fit_norm(config: BeliefConfig, space: Space, logs: Log) -> Normaliser:
    """The moments of the logs `[T, ...]` that the config asks for."""
    plain = plain_norm(space)
    scale_obs = config.scale_obs and not is_image(space)
    if not (scale_obs or config.scale_reward):
        return plain
    found = fit(logs if scale_obs else logs._replace(obs=jnp.zeros((*logs.obs.shape[:2], 1))), scale_obs)
    if scale_obs:
        plain = plain._replace(obs_mean=found.obs_mean, obs_std=found.obs_std)
    if config.scale_reward:
        plain = plain._replace(reward_mean=found.reward_mean, reward_std=found.reward_std)
    return plain


def embedding(config: BeliefConfig, space: Space, columns: Sequence[str]) -> Embedding:
    """Of those of `obs`, `action`, `reward` that `columns` names."""
    image = convolutional(space.obs_shape, config.image_features) if is_image(space) else None
    action_dim = space.num_actions or space.action_dim
    of_obs = mlp([config.image_features if image else space.obs_dim, 1], (), config.embed_obs)
    of_action = mlp([action_dim], (), config.embed_action)
    of_reward = mlp([1], (), config.embed_reward)
    nets = {"obs": of_obs, "action": of_action, "reward": of_reward}

    def init(key: Array) -> Params:
        params = {name: nets[name].init(jax.random.fold_in(key, n)) for n, name in enumerate(sorted(columns))}
        if image and "obs" in columns:
            params["image"] = image.init(jax.random.fold_in(key, len(nets)))
        return params

    def obs(params: Params, norm: Normaliser, obs: Array, flag: Array) -> Array:
        if image:
            seen = some_at_once(image, params["image"], obs, len(space.obs_shape))
        else:
            seen = norm.obs(obs.astype(jnp.float32))
        return jax.nn.relu(of_obs.apply(params["obs"], seen, flag[..., None]))

    def action(params: Params, action: Array) -> Array:
        if space.num_actions is not None:
            seen = jax.nn.one_hot(action, space.num_actions)
        else:
            seen = action.reshape(*action.shape[: action.ndim - len(space.action_shape)], -1)
        return jax.nn.relu(of_action.apply(params["action"], seen))

    def reward(params: Params, norm: Normaliser, reward: Array) -> Array:
        return jax.nn.relu(of_reward.apply(params["reward"], norm.reward(reward)[..., None]))

    return Embedding(init, obs, action, reward)

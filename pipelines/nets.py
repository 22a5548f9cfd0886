"""The networks, and the only importer of flax. A net is two functions; parameters are plain dicts."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from pipelines.core.types import Array, Params


class Net(NamedTuple):
    """init(key) -> params; apply(params, *inputs) -> output. Inputs are concatenated on the last axis."""

    init: Callable[[Array], Params]
    apply: Callable[..., Array]


class _Mlp(nn.Module):
    hidden: tuple[int, ...]
    out: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.out)(x)


def mlp(sizes: Sequence[int], hidden: Sequence[int], out: int) -> Net:
    """ReLU net on the concatenation of inputs `[..., sizes[i]]` -> `[..., out]`; LeCun-normal weights, zero biases."""
    module = _Mlp(tuple(hidden), out)
    size = sum(sizes)

    def init(key: Array) -> Params:
        return module.init(key, jnp.zeros((size,)))["params"]

    def apply(params: Params, *inputs: Array) -> Array:
        return module.apply({"params": params}, jnp.concatenate(inputs, axis=-1))

    return Net(init, apply)


def beside(params: Params, shared: Array, own: Array) -> Array:
    """An `mlp` on `shared [B, F]` beside each of `own [B, M, G]` -> `[B, M, out]`.

    The same as `apply(params, shared repeated M times, own)`, but the product of the first layer with `shared` is made
    once for all M, and all other products are flat: on a CPU `[B M, F]` is faster than `[B, M, F]`.
    """
    (num_rows, many, _), size = own.shape, shared.shape[-1]
    first, *others = (params[f"Dense_{n}"] for n in range(len(params)))
    of_shared = shared @ first["kernel"][:size] + first["bias"][None]
    of_own = (own.reshape(num_rows * many, -1) @ first["kernel"][size:]).reshape(num_rows, many, -1)
    x = (of_own + of_shared[:, None]).reshape(num_rows * many, -1)
    for layer in others:
        x = nn.relu(x) @ layer["kernel"] + layer["bias"][None]
    return x.reshape(num_rows, many, -1)


def member(params: Params, e: int) -> Params:
    """The parameters of net e of an ensemble."""
    return jax.tree.map(lambda leaf: leaf[e], params)


def many(sizes: Sequence[int], hidden: Sequence[int], out: int, members: int) -> Net:
    """M ReLU nets on the same rows: concatenated inputs `[B, sizes[i]]` -> `[B, M, out]`; weights as in `mlp`.

    The first layer is one flat product for all of them, its kernel stored `[F, M, H]`; the others' are `[M, H, H']`.
    """
    one = mlp(sizes, hidden, out)

    def init(key: Array) -> Params:
        params = jax.vmap(one.init)(jax.random.split(key, members))
        first = params["Dense_0"]
        return params | {"Dense_0": first | {"kernel": first["kernel"].swapaxes(0, 1)}}

    def apply(params: Params, *inputs: Array) -> Array:
        first, *others = (params[f"Dense_{n}"] for n in range(len(params)))
        kernel = first["kernel"]
        x = jnp.concatenate(inputs, axis=-1) @ kernel.reshape(kernel.shape[0], -1)
        x = x.reshape(-1, *kernel.shape[1:]) + first["bias"][None]
        for layer in others:
            x, kernel = nn.relu(x), layer["kernel"]
            if kernel.shape[-1] == 1:  # products with a vector: a sum is twice as fast, gradients included
                x = (x * kernel[None, ..., 0]).sum(-1, keepdims=True) + layer["bias"][None]
            else:
                x = jnp.einsum("bmh,mho->bmo", x, kernel) + layer["bias"][None]
        return x

    return Net(init, apply)


class Gru(NamedTuple):
    """A recurrent layer: init(key) -> params; step(params, hidden [..., H], x [..., F]) -> hidden [..., H];
    run(params, hidden [..., H], xs [L, ..., F]) -> hiddens [L, ..., H], those after each input."""

    init: Callable[[Array], Params]
    step: Callable[[Params, Array, Array], Array]
    run: Callable[[Params, Array, Array], Array]


def gru(size: int, width: int, kernels: Literal["orthogonal", "uniform"] = "orthogonal") -> Gru:
    """Gated recurrent unit (Cho et al. 2014) as torch has it: the reset gate acts after the recurrent product, bias
    included. The gates (reset, update, new) lie side by side, so that a step is one product, and `run` makes that of
    the inputs once for all L. `orthogonal` kernels come with zero biases (BOReL's), `uniform` ones and their biases
    from U(+-1/sqrt(H)) (torch's own, MQL's)."""
    shapes = {"input": (size, 3 * width), "hidden": (width, 3 * width)}

    def init(key: Array) -> Params:
        params = {}
        for (name, shape), one in zip(shapes.items(), jax.random.split(key), strict=True):
            kernel_key, bias_key = jax.random.split(one)
            if kernels == "orthogonal":
                kernel, bias = jax.nn.initializers.orthogonal()(kernel_key, shape), jnp.zeros((3 * width,))
            else:
                bound = 1 / math.sqrt(width)
                kernel = jax.random.uniform(kernel_key, shape, minval=-bound, maxval=bound)
                bias = jax.random.uniform(bias_key, (3 * width,), minval=-bound, maxval=bound)
            params[name] = {"kernel": kernel, "bias": bias}
        return params

    def product(layer: Params, x: Array) -> Array:
        return jnp.matmul(x, layer["kernel"]) + layer["bias"].reshape((1,) * (x.ndim - 1) + (-1,))

    def gates(params: Params, hidden: Array, of_input: Array) -> Array:
        of_hidden = product(params["hidden"], hidden)
        reset_update = jax.nn.sigmoid(of_input[..., : 2 * width] + of_hidden[..., : 2 * width])
        reset, update = jnp.split(reset_update, 2, axis=-1)
        new = jnp.tanh(of_input[..., 2 * width :] + reset * of_hidden[..., 2 * width :])
        return new + update * (hidden - new)

    def step(params: Params, hidden: Array, x: Array) -> Array:
        return gates(params, hidden, product(params["input"], x))

    def run(params: Params, hidden: Array, xs: Array) -> Array:
        def one(carry: Array, of_input: Array) -> tuple[Array, Array]:
            after = gates(params, carry, of_input)
            return after, after

        return jax.lax.scan(one, hidden, product(params["input"], xs))[1]

    return Gru(init, step, run)


def ensemble(net: Net, members: int) -> Net:
    """E copies of a scalar net with stacked parameters: apply(params, *inputs) -> `[E, ...]` (last axis squeezed)."""

    def init(key: Array) -> Params:
        return jax.vmap(net.init)(jax.random.split(key, members))

    def apply(params: Params, *inputs: Array) -> Array:
        one = [net.apply(member(params, e), *inputs) for e in range(members)]
        return jnp.stack(one)[..., 0]

    return Net(init, apply)

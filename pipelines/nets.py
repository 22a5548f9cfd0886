"""The networks, and the only importer of flax. A net is two functions; parameters are plain dicts."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

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


def as_product(x: Array, kernel: Array, strides: Sequence[int], *_: Any, **__: Any) -> Array:
    """A convolution without padding, as one product of all windows.

    x [N, H, W, C], kernel [h, w, C, F] -> [N, H', W', F]

    On a CPU, where XLA runs a convolution's gradient inside a loop some twenty times as slowly as outside of it.
    """
    ends = [one - size + 1 for one, size in zip(x.shape[1:3], kernel.shape, strict=False)]
    windows = [
        x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    return jnp.matmul(jnp.concatenate(windows, -1), kernel.reshape(-1, kernel.shape[-1]))


class _Convolutional(nn.Module):
    out: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        convolve = as_product if jax.default_backend() == "cpu" else None  # None: XLA's own
        for stride in (2, 1, 1, 1):
            x = nn.relu(nn.Conv(32, (3, 3), stride, padding="VALID", conv_general_dilated=convolve)(x))
        return nn.Dense(self.out)(x.reshape(x.shape[0], -1))


def convolutional(shape: tuple[int, ...], out: int) -> Net:
    """Four layers of 32 3x3 filters with strides 2, 1, 1, 1 and a linear one (BOReL's and PEARL's on images).
    Images of bytes `[..., H, W, C]` -> `[..., out]`; they stay bytes until here, where they are divided by 255."""
    module = _Convolutional(out)

    def init(key: Array) -> Params:
        return module.init(key, jnp.zeros((1, *shape)))["params"]

    def apply(params: Params, images: Array) -> Array:
        flat = images.reshape(-1, *shape).astype(jnp.float32) / 255
        return module.apply({"params": params}, flat).reshape(*images.shape[: images.ndim - len(shape)], out)

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


def last_hidden(grus: Sequence[Params], xs: Array) -> list[Array]:
    """What `gru`s of one size make of the same whole windows `xs [L, B, F]`, from zeros. -> their last hiddens [B, H]

    The same as the end of each one's `run`, faster on a CPU: one product of the inputs for all, the rows of the batch
    along the last axis (gates are slices of the first one), and no loop in the program where there is no gradient.
    """
    num, width = len(grus), grus[0]["hidden"]["kernel"].shape[0]

    def by_gate(leaves: list[Array]) -> Array:
        """[..., 3 H] of each -> [3, num, H, ...]"""
        each = [leaf.reshape(*leaf.shape[:-1], 3, width) for leaf in leaves]
        return jnp.moveaxis(jnp.stack(each, -2), (-3, -2, -1), (0, 1, 2))

    of_inputs = by_gate([one["input"]["kernel"] for one in grus]).reshape(3 * num * width, -1)
    of_hidden = by_gate([one["hidden"]["kernel"] for one in grus])  # [3, num, H, H]
    apart = jnp.eye(num)[None, :, None, :, None] * of_hidden[:, :, :, None, :]  # each sees its own hidden only
    apart = apart.reshape(3 * num * width, num * width)
    input_bias, hidden_bias = (
        by_gate([one[name]["bias"] for one in grus]).reshape(-1, 1) for name in ("input", "hidden")
    )
    products = (xs.reshape(-1, xs.shape[-1]) @ of_inputs.T).reshape(*xs.shape[:2], -1).swapaxes(1, 2)
    return [one.T for one in jnp.split(_gated(apart, hidden_bias, products + input_bias[None]), num)]


def _step(recurrent: Array, bias: Array, hidden: Array, of_input: Array) -> tuple[Array, tuple[Array, ...]]:
    """One step of `_gated`. -> (hidden [W, B], what its gradient needs)"""
    split = 2 * recurrent.shape[1]
    own = recurrent @ hidden + bias
    reset, update = jnp.split(jax.nn.sigmoid(of_input[:split] + own[:split]), 2)
    new = jnp.tanh(of_input[split:] + reset * own[split:])
    return new + update * (hidden - new), (hidden, reset, update, new, own[split:])


@jax.custom_vjp
def _gated(recurrent: Array, bias: Array, inputs: Array) -> Array:
    """The steps of `last_hidden`: [3 W, W], [3 W, 1], [L, 3 W, B] -> [W, B]. Its gradient is written out, so that the
    weights' is one product for all L; there loops are as fast, and compile in a third of the time."""
    hidden = jnp.zeros((recurrent.shape[1], inputs.shape[-1]))
    for of_input in inputs:
        hidden, _ = _step(recurrent, bias, hidden, of_input)
    return hidden


def _gated_forward(recurrent: Array, bias: Array, inputs: Array) -> tuple[Array, Any]:
    hidden = jnp.zeros((recurrent.shape[1], inputs.shape[-1]))
    hidden, saved = jax.lax.scan(lambda hidden, of_input: _step(recurrent, bias, hidden, of_input), hidden, inputs)
    return hidden, (recurrent, saved)


def _gated_backward(held: tuple[Array, Any], down: Array) -> tuple[Array, Array, Array]:
    recurrent, saved = held

    def back(down: Array, step: tuple[Array, ...]) -> tuple[Array, tuple[Array, Array]]:
        hidden, reset, update, new, own = step
        of_new = down * (1 - update) * (1 - new**2)
        of_update = down * (hidden - new) * update * (1 - update)
        of_reset = of_new * own * reset * (1 - reset)
        of_own = jnp.concatenate([of_reset, of_update, of_new * reset])
        return down * update + recurrent.T @ of_own, (of_own, of_new)

    of_own, of_new = jax.lax.scan(back, down, saved, reverse=True)[1]
    of_input = jnp.concatenate([of_own[:, : 2 * recurrent.shape[1]], of_new], 1)
    return jnp.einsum("lgb,lwb->gw", of_own, saved[0]), of_own.sum((0, 2))[:, None], of_input


_gated.defvjp(_gated_forward, _gated_backward)


def ensemble(net: Net, members: int) -> Net:
    """E copies of a scalar net with stacked parameters: apply(params, *inputs) -> `[E, ...]` (last axis squeezed)."""

    def init(key: Array) -> Params:
        return jax.vmap(net.init)(jax.random.split(key, members))

    def apply(params: Params, *inputs: Array) -> Array:
        one = [net.apply(member(params, e), *inputs) for e in range(members)]
        return jnp.stack(one)[..., 0]

    return Net(init, apply)

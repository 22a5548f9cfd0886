"""Nets: `beside` is `apply` on repeated rows, and cheaper; the GRU is torch's; windows make XLA's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.nets import as_product, beside, convolutional, ensemble, gru, member, mlp

B, M, F, G = 5, 3, 4, 2


@pytest.mark.parametrize("hidden", [(), (8,), (8, 7, 6)])
def test_beside_is_apply_on_repeated_rows(hidden):
    """Values and gradients, to rounding."""
    net = mlp([F, G], hidden, 2)
    params = jax.tree.map(lambda leaf: leaf + 0.1, net.init(jax.random.key(0)))  # biases that are not zero
    shared, own = (jax.random.normal(jax.random.key(n), shape) for n, shape in ((1, (B, F)), (2, (B, M, G))))

    def repeated(params, shared, own):
        return net.apply(params, jnp.broadcast_to(shared[:, None], (B, M, F)), own)

    np.testing.assert_allclose(beside(params, shared, own), repeated(params, shared, own), rtol=1e-5, atol=1e-5)
    slopes = [
        jax.grad(lambda *args, f=f: jnp.sin(f(*args)).sum(), argnums=(0, 1, 2))(params, shared, own)
        for f in (beside, repeated)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *slopes)


def test_the_shared_part_is_multiplied_once():
    """The first layer's product with `shared` has B rows, and no product has three axes."""
    net = mlp([F, G], (8,), 1)
    program = jax.make_jaxpr(beside)(net.init(jax.random.key(0)), jnp.zeros((B, F)), jnp.zeros((B, M, G)))
    products = [eqn.invars[0].aval.shape for eqn in program.eqns if eqn.primitive.name == "dot_general"]
    assert sorted(products) == [(B, F), (B * M, G), (B * M, 8)]


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 1)])
def test_a_product_of_windows_is_a_convolution(strides):
    """Of images and windows that are not square; values and gradients, to rounding."""
    x = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 4, 5))

    def of_xla(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def of_windows(x, kernel):
        return as_product(x, kernel, strides)

    np.testing.assert_allclose(of_windows(x, kernel), of_xla(x, kernel), rtol=1e-4, atol=1e-4)
    slopes = [
        jax.grad(lambda *args, f=f: jnp.sin(f(*args)).sum(), argnums=(0, 1))(x, kernel) for f in (of_windows, of_xla)
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), *slopes)


def test_images_go_through_the_same_net_with_windows_and_without(monkeypatch):
    net, images = convolutional((20, 16, 3), 4), jax.random.randint(jax.random.key(0), (2, 3, 20, 16, 3), 0, 256)
    params = net.init(jax.random.key(1))
    found = net.apply(params, images.astype(jnp.uint8))
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert found.shape == (2, 3, 4)
    np.testing.assert_allclose(found, net.apply(params, images.astype(jnp.uint8)), rtol=1e-4, atol=1e-5)


def test_a_member_is_the_net_itself():
    net = mlp([F], (8,), 1)
    params, x = ensemble(net, 3).init(jax.random.key(0)), jnp.ones((B, F))
    each = [net.apply(member(params, e), x)[..., 0] for e in range(3)]
    np.testing.assert_array_equal(ensemble(net, 3).apply(params, x), np.stack(each))
    assert np.ptp(np.stack(each), axis=0).min() > 0


@pytest.mark.parametrize("kernels", ["orthogonal", "uniform"])
def test_a_gru_step_by_hand_and_a_run_is_its_steps(kernels):
    layer = gru(F, 3, kernels)
    params = jax.tree.map(lambda leaf: leaf + 0.1, layer.init(jax.random.key(0)))
    hidden, xs = jax.random.normal(jax.random.key(1), (B, 3)), jax.random.normal(jax.random.key(2), (4, B, F))

    def by_hand(h, x):
        (wi, bi), (wh, bh) = ([params[name][leaf] for leaf in ("kernel", "bias")] for name in ("input", "hidden"))
        of_x, of_h = np.split(x @ wi + bi, 3, -1), np.split(h @ wh + bh, 3, -1)
        reset, update = (1 / (1 + np.exp(-(a + b))) for a, b in zip(of_x[:2], of_h[:2], strict=True))
        return (1 - update) * np.tanh(of_x[2] + reset * of_h[2]) + update * h

    expected, h = [], np.asarray(hidden)
    for x in np.asarray(xs):
        h = by_hand(h, x)
        expected.append(h)
    np.testing.assert_allclose(layer.run(params, hidden, xs), np.stack(expected), atol=1e-5)
    np.testing.assert_allclose(layer.step(params, hidden, xs[0]), expected[0], atol=1e-5)


def test_orthogonal_kernels_and_zero_biases_or_uniform_ones():
    fresh = gru(8, 4).init(jax.random.key(0))
    rows = fresh["hidden"]["kernel"]
    np.testing.assert_allclose(rows @ rows.T, np.eye(4), atol=1e-5)
    assert not np.any(fresh["input"]["bias"])
    spread = np.asarray(gru(8, 4, "uniform").init(jax.random.key(0))["input"]["bias"])
    assert np.abs(spread).max() <= 0.5
    assert np.abs(spread).min() > 0

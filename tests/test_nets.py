"""`beside` is `apply` on repeated rows, and cheaper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.nets import beside, ensemble, member, mlp

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


def test_a_member_is_the_net_itself():
    net = mlp([F], (8,), 1)
    params, x = ensemble(net, 3).init(jax.random.key(0)), jnp.ones((B, F))
    each = [net.apply(member(params, e), x)[..., 0] for e in range(3)]
    np.testing.assert_array_equal(ensemble(net, 3).apply(params, x), np.stack(each))
    assert np.ptp(np.stack(each), axis=0).min() > 0

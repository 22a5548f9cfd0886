"""Propensities: the logistic regression beside scikit-learn's, and what becomes of its odds, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from pipelines.algos import propensity

SETS = range(20)
fit = jax.jit(propensity.fit)
STRENGTHS = (0.05, 0.06, 0.1, 0.5)  # the released scripts' C


def data_set(number):
    """(features [N, F], old [N], C) of 200 new rows and 200 to 450 old ones, as the scripts fit them; the widths, how
    far features reach and how far the kinds are apart differ, and the first feature tells every fifth set apart."""
    rng = np.random.default_rng(number)
    width, new, old = int(rng.integers(1, 41)), 200, int(rng.integers(200, 451))
    away = rng.normal(size=width) * rng.uniform(0, 0.5)
    x = np.tanh(rng.normal(size=(new + old, width)) * rng.uniform(0.1, 1, width))
    is_old = np.arange(new + old) >= new
    x = np.where(is_old[:, None], x, np.tanh(x + away))
    if number % 5 == 0:
        x[:, 0] = np.where(is_old, 1, -1) * (0.1 + 0.9 * np.abs(x[:, 0]))
    return x.astype(np.float32), is_old, STRENGTHS[number % len(STRENGTHS)]


def separable(x, is_old):
    return x[is_old, 0].min() > x[~is_old, 0].max()


def fitted(x, is_old, strength):
    """(w, b), all sets by one program: filled up with rows that are not used, and features that say nothing."""
    (size, width), most = x.shape, 651
    padded = np.full((most, 40), 9, np.float32)
    padded[:size] = np.pad(x, ((0, 0), (0, 40 - width)))
    found = fit(padded, np.pad(is_old, (0, most - size)), np.arange(most) < size, strength)
    assert not found.weight[width:].any()
    return np.append(found.weight[:width], found.intercept)


def peer(x, is_old, strength, **how):
    found = LogisticRegression(C=strength, max_iter=10_000, **how).fit(x.astype(np.float64), is_old)
    return np.append(found.coef_[0], found.intercept_[0])


@pytest.mark.parametrize("number", SETS)
def test_the_optimum_is_scikit_learns(number):
    x, is_old, strength = data_set(number)
    assert separable(x, is_old) >= (number % 5 == 0)
    mine = fitted(x, is_old, strength)
    newton = peer(x, is_old, strength, solver="newton-cholesky", tol=1e-10)
    np.testing.assert_allclose(mine, newton, rtol=1e-5, atol=1e-5)
    short = peer(x, is_old, strength, solver="lbfgs")  # which stops before it is there
    assert np.abs(mine - short).max() < 3e-3 * max(1, np.abs(short).max())


def test_mapped_over_tasks_as_alone():
    """lax.map, vmap and one by one: fits of several tasks, none of which is touched by the others' rows."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 60, 4)).astype(np.float32)
    old, used = np.arange(60) >= 20, np.ones(60, bool)

    def one(rows):
        return propensity.fit(rows, old, used, 0.5)

    mapped, batched = jax.tree.map(np.asarray, jax.jit(lambda x: (jax.lax.map(one, x), jax.vmap(one)(x)))(x))
    for n in range(3):
        alone = np.append(*fitted_parts(x[n], old))
        for many in (mapped, batched):
            np.testing.assert_allclose(np.append(many.weight[n], many.intercept[n]), alone, rtol=1e-6, atol=1e-6)
    assert mapped.weight.dtype == np.float32


def fitted_parts(x, is_old):
    both = fitted(x, is_old, 0.5)
    return both[:-1], both[-1]


# ---- beta ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("clip_on", "top"), [("value", 2.0), ("logit", float(np.exp(2.0)))])
def test_beta_is_nothing_or_between_its_bounds(clip_on, top):
    odds = jnp.linspace(-200, 200, 4001)
    found = np.asarray(propensity.beta(odds, 2.0, clip_on, 0.1))
    assert found.max() == pytest.approx(top, rel=1e-6)
    assert ((found == 0) | ((found >= 0.1) & (found <= top * (1 + 1e-6)))).all()
    assert found[0] == found.max() and found[-1] == 0
    middle = np.abs(odds) < 0.5
    np.testing.assert_allclose(found[middle], np.exp(-odds[middle]), rtol=1e-6)


def test_half_of_the_old_rows_are_alike():
    """Half at 1.6 and half near 0: mean 0.8, ESS 0.5, lambda 0.5 (facts A8)."""
    odds = jnp.where(jnp.arange(200) < 100, -jnp.log(1.6), 9.0)
    found = propensity.beta(odds, 2.0, "value", 0.1)
    assert found.mean() == pytest.approx(0.8)
    assert propensity.effective(found) == pytest.approx(0.5)


def test_effective_sizes_by_hand():
    """(1 + 3)^2 / (2 (1 + 9)); of rows that are not used nothing counts; of no weight at all there is nothing."""
    assert propensity.effective(jnp.array([1.0, 3.0])) == pytest.approx(16 / 20)
    assert propensity.effective(jnp.array([1.0, 3.0, 7.0]), jnp.array([True, True, False])) == pytest.approx(16 / 20)
    assert propensity.effective(jnp.zeros(5)) == 0
    assert propensity.effective(jnp.full(5, 1e-30)) == pytest.approx(1)


def ess_of(new, old, floor=0.0):
    """(ESS over the old rows, mean beta) of a fit on both."""
    x, is_old = np.concatenate([new, old]).astype(np.float32), np.arange(len(new) + len(old)) >= len(new)
    weight, intercept = fitted_parts(x, is_old)
    model = propensity.Logistic(jnp.asarray(weight), jnp.asarray(intercept))
    model = propensity.balanced(model, jnp.float32(len(old)), jnp.float32(len(new)))
    return tuple(map(float, weighed(model, np.asarray(old, np.float32), floor)))


@jax.jit
def weighed(model, rows, floor):
    found = propensity.beta(propensity.log_odds(model, rows), 50.0, "value", floor)
    return propensity.effective(found), found.mean()


def test_alike_and_apart():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 5))
    same, mean = ess_of(rows, rows)
    assert same > 0.999 and mean == pytest.approx(1, abs=1e-3)
    twice, mean = ess_of(rows, np.concatenate([rows, rows]))
    assert twice > 0.999 and mean == pytest.approx(1, abs=1e-3)  # however many there are of each kind
    odd = np.array([[-1.0, *[0.0] * 4]])  # one old row lies where the new ones do
    away, mean = ess_of(rows * 0.1 - 8 * np.eye(5)[0], np.concatenate([rows * 0.1 + 8 * np.eye(5)[0], odd * 8]))
    assert away < 0.02


def test_without_a_floor_rows_that_are_all_far_away_count_as_many():
    """Eq. 13 knows no scale: every old row has the same tiny beta, and the ESS is 1; the scripts' floor makes it 0, and
    leaves batches that are alike as they are."""
    rows = np.random.default_rng(1).normal(size=(200, 5))
    new, old = rows * 0.1 - 8 * np.eye(5)[0], rows * 0.1 + 8 * np.eye(5)[0]
    scaleless, mean = ess_of(new, old)
    assert scaleless > 0.9 and mean < 0.01
    assert ess_of(new, old, floor=0.1) == (0, 0)
    assert ess_of(rows, rows, floor=0.1)[0] > 0.999

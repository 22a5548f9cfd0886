"""Propensities (MQL section 2.2, Eqs. 11 to 13): how likely rows of an old log are in a new task, by logistic
regression, and how many rows they are worth.

With y = +1 for old rows and -1 for new ones, f = w x + b minimises |w|^2 / 2 + C sum log(1 + exp(-y f)), b unpenalised:
scikit-learn's objective; Eq. 11's c is 1 / (2 C n). It is solved by Newton's method in float64 whatever the program
around it computes in: where the classes are apart, rounding in float32 would move b by more than the solvers differ.
N rows, F features.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.core.types import Array

STEPS = 100  # most Newton steps; 5 to 15 do
DONE = 1e-20  # of the expected decrease, where it stops
HALVINGS = 30  # of a step, until it descends


class Logistic(NamedTuple):
    """f(x) = w x + b, the log-odds of a row being old."""

    weight: Array  # [F]
    intercept: Array  # []


def fit(features: Array, old: Array, used: Array, strength: float | Array) -> Logistic:
    """Of the rows that are `used [N]`: `features [N, F]`, `old [N]` bool; there must be one of each kind."""
    with jax.enable_x64(True):
        x, y = features.astype(jnp.float64), jnp.where(old, 1.0, -1.0).astype(jnp.float64)
        x = jnp.where(used[:, None], jnp.concatenate([x, jnp.ones_like(y)[:, None]], 1), 0.0)
        cost = strength * used.astype(jnp.float64)
        w = _newton(x, y, cost)
        return Logistic(w[:-1].astype(jnp.float32), w[-1].astype(jnp.float32))


def _newton(x: Array, y: Array, cost: Array) -> Array:
    """The minimum over w of |w|^2 / 2, its last entry left out, + cost log(1 + exp(-y x w)), by damped steps. -> [F]"""
    sizes = 0.5 ** np.arange(HALVINGS, dtype=np.float64)
    penalty = np.append(np.ones(x.shape[1] - 1), 0.0)
    least = np.diag(np.append(np.ones(x.shape[1] - 1), 1e-12))  # of rows that are all told apart nothing may bend b

    def value(w: Array) -> Array:
        return (penalty * w**2).sum() / 2 + (cost * jax.nn.softplus(-y * (x @ w))).sum()

    def go_on(carry: tuple[Array, Array, Array]) -> Array:
        step, _, decrease = carry
        return (step < STEPS) & (decrease > DONE)

    def better(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        step, w, _ = carry
        wrong = jax.nn.sigmoid(-y * (x @ w))
        slope = penalty * w - x.T @ (cost * y * wrong)
        bend = x.T @ (x * (cost * wrong * (1 - wrong))[:, None]) + least
        move = jax.scipy.linalg.solve(bend, slope, assume_a="pos")
        decrease, now = jnp.dot(slope, move), value(w)
        tried = jax.vmap(lambda size: value(w - size * move))(sizes)
        # near the optimum a whole step is the best one, whatever the last digits of the values say
        falls = tried <= now - 1e-4 * sizes * decrease + 1e-13 * (1 + jnp.abs(now))
        taken: Array = w - jnp.where(falls, sizes, 0.0).max() * move
        return step + 1, taken, decrease

    begun = (jnp.int32(0), jnp.zeros(x.shape[1], jnp.float64), jnp.asarray(jnp.inf, jnp.float64))
    return jax.lax.while_loop(go_on, better, begun)[1]


def balanced(model: Logistic, num_old: Array, num_new: Array) -> Logistic:
    """The same as if it had been fitted on equally many rows of each kind: beta is the ratio of densities (Eq. 10)."""
    return model._replace(intercept=model.intercept - jnp.log(num_old / num_new))


def log_odds(model: Logistic, features: Array) -> Array:
    """f(x): above 0 a row is rather an old one. [B, F] -> [B]"""
    return features @ model.weight + model.intercept


def beta(odds: Array, clip: float, clip_on: str, floor: float) -> Array:
    """exp(-f), Eq. 12, at most `clip`, or exp(clip) where that is of the logit; 0 below `floor`. [B] -> [B]"""
    found = jnp.exp(jnp.minimum(-odds, clip)) if clip_on == "logit" else jnp.minimum(jnp.exp(-odds), clip)
    return jnp.where(found < floor, 0.0, found)


def effective(weight: Array, used: Array | None = None) -> Array:
    """(sum beta)^2 / (n sum beta^2) in [0, 1], the normalised effective sample size (Eq. 13); 0 where all are 0.
    [B], [B] bool -> []"""
    used = jnp.ones(weight.shape) if used is None else used
    share = used * weight / jnp.maximum(weight.max(where=used > 0, initial=0.0), jnp.finfo(weight.dtype).tiny)
    return share.sum() ** 2 / jnp.maximum(used.sum() * (share**2).sum(), 1e-12)

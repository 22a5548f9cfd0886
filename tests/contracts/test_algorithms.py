"""What every algorithm promises, whatever it learns."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.core.configs import stages
from pipelines.core.trees import from_dict, is_record, to_dict
from pipelines.core.types import Algorithm, Space, transitions
from pipelines.stages import learners
from tests.toys import AGENTS, data_of, make, make_log, space_of

VALUELESS = {"bc"}  # learns no value, and so has no bootstrap
# without what else a critic learns from the successor: CQL's penalty tries the actions of the policy there
BOOTSTRAP_ONLY = {name: {"conservative_weight": 0.0} for name in ("cql", "borel/cql")}


class Built(NamedTuple):
    """An algorithm with its data, compiled; `fresh()` is a state of its own each time."""

    name: str
    algorithm: Algorithm
    data: Any
    sample: Callable[..., Any]
    update: Callable[..., Any]
    fresh: Callable[[], Any]

    def updates(self, count: int, seed: int = 0) -> Any:
        """The state after `count` updates that were fed with their own outputs."""
        state = self.fresh()
        for number in range(count):
            sample_key, update_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), number))
            state, _ = self.update(state, self.sample(self.data, sample_key), update_key, np.int32(number))
        return state


@pytest.fixture(scope="module", params=sorted(AGENTS))
def built(request: pytest.FixtureRequest) -> Built:
    algorithm, data = make(request.param), jax.tree.map(jnp.asarray, data_of(request.param))
    init = jax.jit(algorithm.init)
    return Built(
        name=request.param,
        algorithm=algorithm,
        data=data,
        sample=jax.jit(algorithm.sample),
        update=jax.jit(algorithm.update, donate_argnums=0),
        fresh=lambda: init(jax.random.key(7), None if request.param in stages.CollectConfig.AGENTS else data),
    )


def bits(tree: Any) -> list[bytes]:
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), tree)


def test_every_algorithm_of_every_stage_is_here():
    chosen = {name for kind in (stages.CollectConfig, stages.TrainConfig, stages.DistillConfig) for name in kind.AGENTS}
    assert chosen | learners.SHARED == {name.partition("/")[0] for name in AGENTS}


def test_update_changes_neither_structure_nor_dtypes(built):
    state = jax.eval_shape(built.fresh)
    batch = jax.eval_shape(built.sample, built.data, jax.random.key(0))
    after, metrics = jax.eval_shape(built.update, state, batch, jax.random.key(0), np.int32(0))
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert shapes(after) == shapes(state)
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state))
    assert all(leaf.shape == () and leaf.dtype == jnp.float32 for leaf in metrics.values())


def test_the_state_is_a_named_tuple_of_arrays_only(built):
    state = built.fresh()
    assert is_record(type(state))

    def check(node: Any) -> None:
        if isinstance(node, (dict, tuple)):
            for child in node.values() if isinstance(node, dict) else node:
                check(child)
        else:
            assert isinstance(node, jax.Array), type(node)

    check(state)


def test_three_calls_fed_with_their_own_outputs_compile_once(built):
    built.updates(3)
    assert built.update._cache_size() == 1
    assert built.sample._cache_size() == 1


def test_the_state_is_donated(built):
    state, batch = built.fresh(), built.sample(built.data, jax.random.key(0))
    built.update(state, batch, jax.random.key(0), np.int32(0))  # a refused donation warns, and warnings are errors
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state) if leaf.size)


def test_same_keys_same_bits(built):
    first, second, other = built.updates(2), built.updates(2), built.updates(2, seed=1)
    assert bits(first) == bits(second)
    assert bits(first) != bits(other)


def test_learning_moves_every_net(built):
    """All of acting's weights change, but for what the log alone decides."""
    before, after = built.algorithm.acting(built.fresh()), built.algorithm.acting(built.updates(1))
    for (path, old), new in zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True):
        name = jax.tree_util.keystr(path)
        if ".coder" in name:  # learned before, and frozen
            np.testing.assert_array_equal(old, new, err_msg=name)
        elif "kernel" in name:
            assert (np.asarray(old) != np.asarray(new)).any(), name
        elif "normaliser" in name or "scales" in name:
            np.testing.assert_array_equal(old, new, err_msg=name)


def test_acting_survives_an_artifact(built):
    acting = jax.tree.map(np.asarray, built.algorithm.acting(built.updates(1)))
    assert type(acting) is built.algorithm.acting_type
    back = from_dict(built.algorithm.acting_type, to_dict(acting))
    assert jax.tree.structure(back) == jax.tree.structure(acting)
    assert bits(back) == bits(acting)


# ---- the policy ------------------------------------------------------------------------------------------------------


class Acting(NamedTuple):
    """A policy with a state to act on, one observation and a logged transition."""

    policy: Any
    state: Any
    obs: Any
    row: Any
    space: Space

    def started(self) -> Any:
        memory = self.policy.begin(self.state, jax.random.key(0))
        return self.policy.start(self.state, memory, self.obs, jax.random.key(1))


@pytest.fixture(scope="module")
def player(built: Built) -> Acting:
    space = space_of(built.name)
    row = transitions(jax.tree.map(jnp.asarray, make_log(0, space=space)), jnp.int32(4))
    return Acting(built.algorithm.policy, built.algorithm.acting(built.fresh()), row.obs, row, space)


def test_memory_keeps_its_shape(player):
    begun = player.policy.begin(player.state, jax.random.key(0))
    started = player.started()
    seen = player.policy.observe(player.state, started, player.row)
    assert shapes(begun) == shapes(started) == shapes(seen)


def test_actions_fit_the_space_and_explore_is_traced(player):
    memory = player.started()

    @jax.jit
    def act(explore: Any, key: Any) -> Any:
        return player.policy.act(player.state, memory, player.obs, key, explore)

    keys = jax.random.split(jax.random.key(2), 20)
    actions = np.array([act(explore, key) for explore in (0.0, 0.5, 1.0) for key in keys])
    assert act._cache_size() == 1
    assert actions.dtype == player.space.action_dtype
    assert actions.shape == (60, *player.space.action_shape)
    most = 1 if player.space.num_actions is None else player.space.num_actions - 1
    assert (np.abs(actions) <= most).all()
    assert np.ptp(actions[40:], axis=0).min() > 0  # exploring, they differ
    np.testing.assert_array_equal(act(0.0, keys[0]), act(0.0, keys[0]))


def test_the_value_is_one_number(player, built):
    if player.policy.value is None:
        assert built.name in VALUELESS
        return
    value = player.policy.value(player.state, player.started(), player.obs, player.row.action)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert np.isfinite(value)


def test_teachers_value_whole_logs_at_once(built):
    if built.algorithm.q is None:
        assert built.name.partition("/")[0] in learners.SHARED | VALUELESS
        return
    acting = built.algorithm.acting(built.fresh())
    log = make_log(0, space=space_of(built.name))
    batch = transitions(jax.tree.map(jnp.asarray, log), jnp.arange(12))
    values = built.algorithm.q(acting, batch.obs, batch.action)
    one = built.algorithm.q(acting, batch.obs[4], batch.action[4])
    assert values.shape == (12,)
    np.testing.assert_allclose(values[4], one, rtol=1e-4, atol=1e-5)


def test_generators_and_perturbations_stay_in_the_box(built):
    """For those that have them: leading axes as they come, and one row is as it is among others."""
    algorithm = built.algorithm
    assert (algorithm.propose is None) == (algorithm.perturb is None) == (algorithm.noise_dim == 0)
    if algorithm.propose is None or algorithm.perturb is None:
        return
    acting, space = algorithm.acting(built.fresh()), space_of(built.name)
    obs = transitions(jax.tree.map(jnp.asarray, make_log(0, space=space)), jnp.arange(12)).obs
    noise = jax.random.normal(jax.random.key(0), (12, algorithm.noise_dim))
    proposed = algorithm.propose(acting, obs, noise)
    moved = algorithm.perturb(acting, obs, proposed)
    for actions, one in (
        (proposed, algorithm.propose(acting, obs[4], noise[4])),
        (moved, algorithm.perturb(acting, obs[4], proposed[4])),
    ):
        assert actions.shape == (12, *space.action_shape)
        assert (np.abs(actions) < 1).all()
        np.testing.assert_allclose(actions[4], one, rtol=1e-4, atol=1e-5)


def test_what_may_be_learned_on_is_the_policys_value(built, player):
    """For meta-policies that have it: the same bits where one row is asked for, leading axes as they come, and all that
    is held are real numbers."""
    critic, policy = built.algorithm.critic, player.policy
    if critic is None:
        assert built.name not in ("time", "mbml", "contextual-bcq")
        return
    memory = policy.observe(player.state, player.started(), player.row)
    taken = critic.take(player.state, memory)
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(taken.held))
    batch = transitions(jax.tree.map(jnp.asarray, make_log(0)), jnp.arange(12))
    found = critic.q(taken.params, taken.held, taken.normaliser.obs(batch.obs), batch.action)
    assert found.shape == (12,)
    for n in (4, 7):
        obs, action = batch.obs[n], batch.action[n]
        one = critic.q(taken.params, taken.held, taken.normaliser.obs(obs), action)
        np.testing.assert_array_equal(one, policy.value(player.state, memory, obs, action))
        np.testing.assert_allclose(found[n], one, rtol=1e-4, atol=1e-5)


# ---- terminal and truncated ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def updated(built: Built) -> Callable[..., Any]:
    """`updated(**columns)`: the critics after one update on a batch with columns of its rows replaced."""
    batch = built.sample(built.data, jax.random.key(3))
    update, fresh = built.update, built.fresh
    if built.name in BOOTSTRAP_ONLY:
        bare = make(built.name, **BOOTSTRAP_ONLY[built.name])
        update, init = jax.jit(bare.update), jax.jit(bare.init)
        fresh = lambda: init(jax.random.key(7), built.data)  # noqa: E731

    def run(**columns: Any) -> Any:
        inner = batch.row if hasattr(batch, "row") else batch
        filled = {}
        for name, value in columns.items():
            like = getattr(inner, name)
            filled[name] = jnp.full(like.shape, value, like.dtype)
        rows = inner._replace(**filled)
        changed = batch._replace(row=rows) if hasattr(batch, "row") else rows
        after, _ = update(fresh(), changed, jax.random.key(4), np.int32(0))
        while not hasattr(after, "critics"):
            after = next(getattr(after, name) for name in ("inner", "sac", "bcq") if hasattr(after, name))
        return bits(after.critics)

    return run


@pytest.fixture
def bootstrapping(built: Built) -> None:
    if built.name in ("time", "mbml"):
        pytest.skip("regresses on values that its teachers bootstrapped")
    if built.name in VALUELESS:
        pytest.skip("learns no value")


@pytest.mark.usefixtures("bootstrapping")
def test_terminal_kills_the_bootstrap_and_truncated_does_not(updated):
    """Where the successor lies changes what the critics learn, unless the row is terminal; truncated is not read."""
    near, far = 0.0, 2.0
    alive, dead = {"terminal": False}, {"terminal": True}
    assert updated(next_obs=near, **dead) == updated(next_obs=far, **dead)
    assert updated(next_obs=near, **alive) != updated(next_obs=far, **alive)
    assert updated(truncated=True, **alive) == updated(truncated=False, **alive)
    assert updated(truncated=True, **alive) != updated(truncated=True, **dead)

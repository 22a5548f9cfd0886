"""BOReL online: trials out of logs that grow, beliefs of the encoder as it is, two learners of one batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pipelines.algos import belief as model
from pipelines.algos import borel_online
from pipelines.core.configs.algorithms import OnlineBorelConfig
from pipelines.core.configs.base import resolve
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.configs.online import OnlineConfig
from pipelines.core.errors import UsageError
from pipelines.core.types import Task, transitions
from pipelines.stages import belief_view
from pipelines.stages.belief import located
from tests.toys import DISCOUNT, GRID, SPACE, at, bits, make_log, spoiled, stacked

K, HORIZON = 2, 3
LENGTHS = [(3, 2, 3, 3, 1, 3), (3, 3)]  # of two tasks: trials of 5, 6 and 4 rows, and one of 6
BELIEF = {"trial_episodes": K, "latent_dim": 2, "width": 6, "embed_action": 3, "embed_obs": 4, "embed_reward": 3,
          "decoder_hidden": [8], "decode_state": True}  # fmt: skip
CONFIG = {"hidden": [8], "batch_size": 5, "tasks_per_update": 3, "trials_per_task": 2, "belief_every": 3}


def make(space=SPACE, **fields):
    config = resolve(OnlineBorelConfig, CONFIG, {"belief": BELIEF}, fields)
    return borel_online.make(config, space, DISCOUNT, HORIZON)


def logs_of(space=SPACE):
    each = [make_log(seed, lengths, terminal=(1,), space=space) for seed, lengths in enumerate(LENGTHS)]
    return jax.tree.map(jnp.asarray, stacked(*each))


def cut(logs, task, row, length=K * HORIZON):
    task, row = jnp.asarray(task), jnp.asarray(row)
    return borel_online.cut_out(logs, task, borel_online.begin_of(logs, task, row, K), K, length)


# ---- trials ----------------------------------------------------------------------------------------------------------


def test_each_row_knows_where_its_trial_begins():
    logs = logs_of()
    found = borel_online.begin_of(logs, jnp.zeros(15, int), jnp.arange(15), K)
    np.testing.assert_array_equal(found, [0] * 5 + [5] * 6 + [11] * 4)
    three = borel_online.begin_of(logs, jnp.zeros(15, int), jnp.arange(15), 3)
    np.testing.assert_array_equal(three, [0] * 8 + [8] * 7)


def test_a_trial_is_cut_out_whole():
    """The second of task 0 (rows 5 to 10, episodes 2 and 3), and the last, shorter than there is room for."""
    logs = logs_of()
    trials = cut(logs, [0, 0, 1], [7, 14, 0])
    np.testing.assert_array_equal(trials.size, [6, 4, 6])
    np.testing.assert_array_equal(trials.reward[0], logs.reward[0, 5:11])
    np.testing.assert_array_equal(trials.episode[0], [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(trials.obs[0], logs.obs[0, 7:15])
    for trial, (task, first) in enumerate([(0, 5), (0, 11), (1, 0)]):
        size = int(trials.size[trial])
        mine = transitions(at(trials, trial), jnp.arange(size))
        theirs = transitions(at(logs, task), first + jnp.arange(size))
        jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    seen = borel_online.as_trials(trials)
    np.testing.assert_array_equal(seen.valid.sum(1), [6, 4, 6])
    np.testing.assert_array_equal(seen.next_flag[1, :4], [1, 0, 0, 0])  # its first episode has one row


def test_states_are_those_of_the_offline_view():
    """Row by row what `metatrain --algorithm borel` makes of the same log and encoder."""
    logs, config = logs_of(), resolve(BeliefConfig, BELIEF)
    encoder = model.make_encoder(config, SPACE)
    coder = encoder.init(jax.random.key(0))
    tasks = [Task(n, str(n), "train", {}) for n in range(2)]
    where = located(jax.tree.map(np.asarray, logs), tasks, K, HORIZON)
    views = jax.tree.map(jnp.asarray, belief_view.views(encoder, coder, SPACE, logs, where, K * HORIZON))
    trials = cut(logs, [0, 0, 0], [0, 5, 11])
    found = model.beliefs(encoder, coder, borel_online.as_trials(trials))
    view = borel_online.believed(found, trials)
    first = np.array([0, 5, 11])
    for trial, size in enumerate(trials.size):
        at = jnp.arange(int(size))
        mine = borel_online.augmented(trials, view, jnp.full(len(at), trial), at, K)
        theirs = borel_online.augmented(logs, views, jnp.zeros(len(at), int), first[trial] + at, K)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), mine, theirs)


def test_beliefs_do_not_see_the_future():
    """Bits: whatever comes from row 8 on, states up to the one before it are as they were."""
    logs = logs_of()
    late = jax.tree.map(jnp.asarray, spoiled(logs))
    kept = {"obs": 11, "action": 8, "reward": 8}  # row 8 of task 0 is in episode 3: slots up to 11 are of before
    mixed = logs._replace(
        **{name: getattr(late, name).at[:, :n].set(getattr(logs, name)[:, :n]) for name, n in kept.items()}
    )
    encoder = model.make_encoder(resolve(BeliefConfig, BELIEF), SPACE)
    coder = encoder.init(jax.random.key(0))
    seen = [borel_online.as_trials(cut(each, [0], [7])) for each in (logs, mixed)]
    whole, spoilt = (jnp.concatenate(model.beliefs(encoder, coder, each), -1)[0] for each in seen)
    np.testing.assert_array_equal(spoilt[:4], whole[:4])  # before rows 5, 6, 7 and 8
    assert np.isnan(np.asarray(spoilt[4:])).all()


def test_rows_are_of_the_drawn_trials_and_tasks():
    logs = logs_of()
    logs = logs._replace(reward=jnp.arange(2)[:, None] * 100.0 + jnp.arange(logs.reward.shape[1])[None])
    draw = jax.jit(make().sample)
    batches = [draw(logs, jax.random.key(seed)) for seed in range(20)]
    assert batches[0].trials.reward.shape == (6, 6) and batches[0].row.shape == (15,)
    for batch in batches:
        assert (batch.row < batch.trials.size[batch.trial]).all()
        task = np.asarray(batch.trials.reward[:, 0] // 100)
        np.testing.assert_array_equal(task[::2], task[1::2])  # two trials of each drawn task
        np.testing.assert_array_equal(np.asarray(batch.trial) // 2, np.repeat(np.arange(3), 5))
    begun = [float(reward) % 100 for batch in batches for reward in batch.trials.reward[:, 0] if reward < 100]
    shares = [np.mean(np.array(begun) == first) for first in (0, 5, 11)]
    assert sum(shares) == 1 and min(shares) > 0.1
    every = make(tasks_per_update=None).sample(logs, jax.random.key(0))
    np.testing.assert_array_equal(every.trials.reward[:, 0] // 100, [0, 0, 1, 1])


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["sac", "dqn"])
def built(request):
    space = GRID if request.param == "dqn" else SPACE
    algorithm = make(space)
    init = jax.jit(lambda key: algorithm.init(key, None))
    return algorithm, logs_of(space), lambda: init(jax.random.key(1)), jax.jit(algorithm.update, donate_argnums=0)


def test_the_belief_learns_every_third_time(built):
    """And the policy always; nothing compiles anew, and shapes stay."""
    algorithm, logs, fresh, update = built
    state = fresh()
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state)
    moved, told = [], []
    for number in range(5):
        before = bits(jax.tree.map(np.array, state))
        batch = algorithm.sample(logs, jax.random.key(number))
        state, metrics = update(state, batch, jax.random.key(10 + number), np.int32(number))
        changed = {path for path, one in bits(state).items() if one != before[path]}
        moved.append([any(part in path and "kernel" in path for path in changed) for part in (".belief", ".inner")])
        told.append({name: float(value) for name, value in metrics.items()})
    assert moved == [[True, True], [False, True], [False, True], [True, True], [False, True]]
    assert [one["belief_loss"] > 0 for one in told] == [True, False, False, True, False]
    assert all(np.isfinite(list(one.values())).all() for one in told)
    assert update._cache_size() == 1
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype, leaf.weak_type), state) == shapes


def test_the_policy_learns_on_beliefs_of_the_encoder_as_it_is(built):
    """Another encoder, another step of the policy; the decoders do not matter to it."""
    algorithm, logs, fresh, update = built
    batch = algorithm.sample(logs, jax.random.key(0))

    def after(part):
        state = fresh()
        if part:
            moved = jax.tree.map(lambda leaf: leaf + 0.1, state.belief.params[part])
            state = state._replace(belief=state.belief._replace(params={**state.belief.params, part: moved}))
        return bits(update(state, batch, jax.random.key(2), np.int32(1))[0].inner)

    assert after("encoder") != after(None) == after("reward")


def test_scales_are_fields():
    """Observations are divided, flag and belief are not."""
    state = make(obs_scale=5.0, reward_scale=2.0).init(jax.random.key(0), None)
    np.testing.assert_array_equal(state.inner.normaliser.obs_std, [5, 5, 5, 1, 1, 1, 1, 1])
    assert float(state.inner.normaliser.reward_std) == 2
    np.testing.assert_array_equal(state.belief.norm.obs_std, [5, 5, 5])
    assert float(state.belief.norm.reward_std) == 1


# ---- configs ---------------------------------------------------------------------------------------------------------


def test_what_makes_no_sense_online_is_refused():
    for fields, words in (
        ({"data": "mixed"}, "no rewards to relabel"),
        ({"first_trials": 3}, "agent.first_trials is about the beliefs of a log"),
        ({"belief_reset": "paid"}, "agent.belief_reset is about"),
        ({"belief": {"widht": 3}}, "unknown field 'agent.belief.widht'"),
        ({"belief": {"reward_inputs": []}}, "reward_inputs is empty"),
    ):
        with pytest.raises(UsageError, match=words):
            resolve(OnlineConfig, {"algorithm": "borel", "agent": fields})


def test_trials_are_as_long_as_the_beliefs():
    def of(**fields):
        config = resolve(OnlineConfig, {"algorithm": "borel", **fields})
        return config.trial_episodes, config.agent.belief["trial_episodes"]

    assert (of(), of(trial_episodes=4), of(agent={"belief": {"trial_episodes": 3}})) == ((2, 2), (4, 4), (3, 3))
    assert of(agents={"borel": {"belief": {"trial_episodes": 5}}}) == (5, 5)
    with pytest.raises(UsageError, match="trial_episodes=4, and the belief's trials have 3"):
        of(trial_episodes=4, agent={"belief": {"trial_episodes": 3}})
    assert resolve(OnlineConfig, {}).trial_episodes == 1

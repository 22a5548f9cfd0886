"""MQL's meta-training (Fakoor et al. 2020, arXiv:1910.00125, section 3.1): TD3 on the objective of all tasks, Eq. 15.

Actor u(x, z) and critics q(x, u, z) see a context z, the last hidden state of a GRU over the window of what the episode
has shown (`core.windows`). The actor has a GRU of its own, the twin critics share one, and the targets have copies.
The critics' loss moves the critics and their GRU, the actor's loss the actor and its GRU, nothing else. Adaptation to
a new task (section 3.2) goes on from `Adaptable` with the same update: losses take a weight for each row (beta), and a
proximal term pulls towards an anchor.

Differs: nets see normalised observations and rewards (as in `td3`); linear layers begin LeCun-normal, the GRU as
torch's; the noise of an episode's opening element is drawn anew whenever its window is; rows are drawn from all that
was seen. `context=none` is TD3 on the state alone. B batch, L window, E = 2 critics, Z context, F element.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from pipelines.algos.td3 import Acting, Slow, State, noisy, smoothed, td_target
from pipelines.core.configs.algorithms import MqlConfig
from pipelines.core.learn import descend, polyak
from pipelines.core.normaliser import Normaliser, fit, fixed
from pipelines.core.samplers import balanced_numbers, pooled_numbers, rows_of
from pipelines.core.types import (
    Algorithm,
    Array,
    Latent,
    Log,
    Metrics,
    Params,
    Policy,
    Space,
    Transition,
)
from pipelines.core.windows import Part, Window, after, before, windows
from pipelines.nets import ensemble, gru, last_hidden, member, mlp


class Batch(NamedTuple):
    row: Transition  # [B]
    window: Window  # [B, L + 1]


class Adaptable(NamedTuple):
    """What a round of adaptation starts from; acting reads the first two."""

    actor: Params
    critics: Params
    actor_target: Params
    critics_target: Params
    normaliser: Normaliser


class Anchor(NamedTuple):
    """Where a proximal term pulls to."""

    actor: Params
    critics: Params


class Memory(NamedTuple):
    """The last L elements of this episode, in the nets' units, newest last."""

    elements: Array  # [L, F]
    held: Array  # [L] bool


class Carried(NamedTuple):
    """Contexts of all that this episode has shown."""

    actor: Array  # [Z]
    critics: Array  # [Z]


def critic_loss(q: Array, target: Array, weight: Array) -> Array:
    """Mean of the weighted squared errors, summed over the critics. [E, B], [B], [B] -> []"""
    return (weight[None] * (q - target[None]) ** 2).mean(1).sum(0)


def actor_loss(q: Array, weight: Array) -> Array:
    """-mean beta Q1(x, u(x, z), z). [B], [B] -> []"""
    return -(weight * q).mean()


def distance(params: Params, anchor: Params) -> Array:
    """|theta - theta_meta|^2 over all parameters (Eqs. 18, 19, without their lambda / 2). -> []"""
    squares = jax.tree.map(lambda a, b: ((a - b) ** 2).sum(), params, anchor)
    return sum(jax.tree.leaves(squares), jnp.float32(0))


class Core:
    """The nets, and one update of them."""

    def __init__(self, config: MqlConfig, space: Space, discount: float, learning_rate: float | None = None) -> None:
        """`discount` is the family's, used unless the config names one; so is `learning_rate` the config's."""
        self.config, self.space = config, space
        self.gamma = discount if config.discount is None else config.discount
        self.recurrent = config.context == "gru"
        self.width = config.context_dim if self.recurrent else 0
        self.gru = gru(space.action_dim + 1 + space.obs_dim, config.context_dim, "uniform")
        self.actor = mlp([space.obs_dim, self.width], config.hidden, space.action_dim)
        self.head = mlp([space.obs_dim, space.action_dim, self.width], config.hidden, 1)
        self.heads = ensemble(self.head, 2)
        self.opt = optax.adam(config.learning_rate if learning_rate is None else learning_rate)

    # ---- states ------------------------------------------------------------------------------------------------------

    def init(self, key: Array, logs: Log | None) -> State:
        config = self.config
        if logs is None:
            normaliser = fixed(self.space, config.obs_scale, config.reward_scale)
        else:
            normaliser = fit(logs, config.scale_obs, config.scale_reward)
        actor_key, critic_key, *gru_keys = jax.random.split(key, 4)
        actor, critics = {"head": self.actor.init(actor_key)}, {"heads": self.heads.init(critic_key)}
        if self.recurrent:
            actor, critics = (
                part | {"gru": self.gru.init(one)} for part, one in zip((actor, critics), gru_keys, strict=True)
            )
        return State(actor, actor, critics, critics, self.opt.init(actor), self.opt.init(critics), normaliser)

    def begin(self, start: Adaptable) -> State:
        """A state that goes on from `start`, with fresh optimisers."""
        opts = {"actor_opt": self.opt.init(start.actor), "critic_opt": self.opt.init(start.critics)}
        return State(**start._asdict(), **opts)

    # ---- contexts ----------------------------------------------------------------------------------------------------

    def opening(self, key: Array, lead: tuple[int, ...] = ()) -> Array:
        """The action of the element that opens an episode: the exploration's noise. -> [..., A]"""
        return noisy(jnp.zeros((*lead, self.space.action_dim)), key, self.config.explore_noise)

    def elements(self, norm: Normaliser, obs: Array, action: Array, reward: Array) -> Array:
        """(u, r, x) in the nets' units. [..., *] -> [..., F]"""
        return jnp.concatenate([action, norm.reward(reward)[..., None], norm.obs(obs)], -1)

    def seen(self, norm: Normaliser, part: Part, noise: Array) -> Array:
        """What the GRUs run over, `noise [B, A]` opening episodes. -> [L, B, F]"""
        rows, held, opens = part
        action, reward = rows.action, rows.reward
        if self.config.first_element == "noise":
            action = jnp.where(opens[..., None], noise[:, None], action)
            reward = jnp.where(opens, 0.0, reward)
            held = held | opens
        found = self.elements(norm, rows.obs, action, reward)
        return jnp.where(held[..., None], found, 0.0).swapaxes(0, 1)

    def contexts(self, nets: list[Params], seen: Array) -> list[Array]:
        """z of each of the nets that have a GRU, after the windows `[L, B, F]`. -> [B, Z] each, Z = 0 without"""
        if self.recurrent:
            return last_hidden([net["gru"] for net in nets], seen)
        return [jnp.zeros((seen.shape[1], 0))] * len(nets)

    def features(self, acting: Any, batch: Batch, key: Array) -> Array:
        """The actor's context of each row: what propensities are estimated on. -> [B, Z]"""
        noise = self.opening(key, batch.row.reward.shape)
        return self.contexts([acting.actor], self.seen(acting.normaliser, before(batch.window), noise))[0]

    # ---- learning ----------------------------------------------------------------------------------------------------

    def target(self, state: State, row: Transition, seen: Array, key: Array) -> Array:
        """r + gamma (1 - terminal) min_E Q'(x', clip(u'(x', z') + noise), z'). -> [B]"""
        config, norm = self.config, state.normaliser
        next_obs = norm.obs(row.next_obs)
        z, critic_z = self.contexts([state.actor_target, state.critics_target], seen)
        action = jnp.tanh(self.actor.apply(state.actor_target["head"], next_obs, z))
        noise = config.target_noise * jax.random.normal(key, action.shape)
        next_action = smoothed(action, noise, config.target_noise_clip)
        next_q = self.heads.apply(state.critics_target["heads"], next_obs, next_action, critic_z)
        return td_target(row.reward / norm.reward_std, row.terminal, next_q.min(0), self.gamma)

    def improve(
        self, slow: Slow, critics: Params, obs: Array, seen: Array, weight: Array, anchor: Anchor | None, pull: Any
    ) -> tuple[Slow, Array]:
        """The actor's turn, and the targets'."""
        critic_z = self.contexts([critics], seen)[0]

        def loss(actor: Params) -> tuple[Array, Metrics]:
            action = jnp.tanh(self.actor.apply(actor["head"], obs, self.contexts([actor], seen)[0]))
            q = self.head.apply(member(critics["heads"], 0), obs, action, critic_z)[..., 0]
            value = actor_loss(q, weight)
            near = 0.0 if anchor is None else pull * distance(actor, anchor.actor)
            return value + near, {"actor_loss": value}

        actor, actor_opt, metrics = descend(self.opt, loss, slow.actor, slow.actor_opt)
        actor_target = polyak(slow.actor_target, actor, self.config.target_rate)
        critics_target = polyak(slow.critics_target, critics, self.config.target_rate)
        return Slow(actor, actor_target, critics_target, actor_opt), metrics["actor_loss"]

    def update(
        self,
        state: State,
        batch: Batch,
        key: Array,
        step: Array,
        weight: Array | None = None,
        anchor: Anchor | None = None,
        pull: Any = 0.0,
    ) -> tuple[State, Metrics]:
        """One of TD3's updates. `weight [B]`: of each row in both losses; `pull`: of the distance to `anchor`."""
        open_key, noise_key = jax.random.split(key)
        norm, config, row = state.normaliser, self.config, batch.row
        noise = self.opening(open_key, row.reward.shape)
        seen = self.seen(norm, before(batch.window), noise)
        obs, weight = norm.obs(row.obs), jnp.ones(row.reward.shape) if weight is None else weight
        wanted = self.target(state, row, self.seen(norm, after(batch.window), noise), noise_key)

        def loss(critics: Params) -> tuple[Array, Metrics]:
            q = self.heads.apply(critics["heads"], obs, row.action, self.contexts([critics], seen)[0])
            value = critic_loss(q, wanted, weight)
            near = 0.0 if anchor is None else pull * distance(critics, anchor.critics)
            return value + near, {"critic_loss": value, "q": q.mean() * norm.reward_std}

        critics, critic_opt, metrics = descend(self.opt, loss, state.critics, state.critic_opt)
        slow, value = jax.lax.cond(
            step % config.actor_delay == 0,
            lambda slow: self.improve(slow, critics, obs, seen, weight, anchor, pull),
            lambda slow: (slow, jnp.zeros(())),
            Slow(state.actor, state.actor_target, state.critics_target, state.actor_opt),
        )
        state = State(**slow._asdict(), critics=critics, critic_opt=critic_opt, normaliser=norm)
        # metrics are means over blocks of updates: weighted, this one is the mean over those that had it
        return state, metrics | {"actor_loss": config.actor_delay * value}

    # ---- rows --------------------------------------------------------------------------------------------------------

    def batch(self, logs: Log, task: Array, row: Array) -> Batch:
        """Rows `row [B]` of the logs `task [B]` with their windows."""
        return Batch(rows_of(logs, task, row), windows(logs, task, row, self.config.history if self.recurrent else 1))

    def sample(self, logs: Log, key: Array) -> Batch:
        """`[B]` rows of the pooled logs `[T, ...]`: uniform over rows, or over tasks first."""
        numbers = balanced_numbers if self.config.draw == "tasks" else pooled_numbers
        return self.batch(logs, *numbers(logs, key, self.config.batch_size))

    # ---- acting ------------------------------------------------------------------------------------------------------

    def policy(self) -> Policy:
        config = self.config

        def blank() -> Memory | Carried:
            if not self.recurrent or config.eval_window == "unbounded":
                return Carried(jnp.zeros((self.width,)), jnp.zeros((self.width,)))
            length = config.history if config.eval_history is None else config.eval_history
            size = self.space.action_dim + 1 + self.space.obs_dim
            return Memory(jnp.zeros((length, size)), jnp.full((length,), config.eval_window == "padded"))

        def pushed(acting: Any, memory: Any, element: Array) -> Memory | Carried:
            if not self.recurrent:
                return memory
            if isinstance(memory, Carried):
                return Carried(*(self.gru.step(getattr(acting, net)["gru"], z, element)
                                 for net, z in zip(Carried._fields, memory, strict=True)))  # fmt: skip
            elements = jnp.concatenate([memory.elements[1:], element[None]])
            return Memory(elements, jnp.concatenate([memory.held[1:], jnp.ones((1,), bool)]))

        def context(acting: Any, memory: Any, net: str) -> Array:
            """z [Z] of the `actor` or the `critics`; a growing window begins with its oldest element."""
            if isinstance(memory, Carried):
                return getattr(memory, net)
            params = getattr(acting, net)["gru"]

            def one(hidden: Array, element: tuple[Array, Array]) -> tuple[Array, None]:
                x, held = element
                return jnp.where(held, self.gru.step(params, hidden, x), hidden), None

            return jax.lax.scan(one, jnp.zeros((self.width,)), (memory.elements, memory.held))[0]

        def start(acting: Any, memory: Any, obs: Array, key: Array) -> Memory | Carried:
            if config.first_element == "none":
                return blank()
            element = self.elements(acting.normaliser, obs, self.opening(key), jnp.zeros(()))
            return pushed(acting, blank(), element)

        def observe(acting: Any, memory: Any, row: Transition) -> Memory | Carried:
            return pushed(acting, memory, self.elements(acting.normaliser, row.obs, row.action, row.reward))

        def act(acting: Any, memory: Any, obs: Array, key: Array, explore: Any) -> Array:
            """Explore 1 is the behaviour policy, 0 the greedy one."""
            z = context(acting, memory, "actor")
            action = jnp.tanh(self.actor.apply(acting.actor["head"], acting.normaliser.obs(obs), z))
            return noisy(action, key, explore * config.explore_noise)

        def value(acting: Any, memory: Any, obs: Array, action: Array) -> Array:
            """Mean of the twin critics, in units of the reward."""
            z, norm = context(acting, memory, "critics"), acting.normaliser
            return self.heads.apply(acting.critics["heads"], norm.obs(obs), action, z).mean(0) * norm.reward_std

        def latent(acting: Any, memory: Any) -> Latent:
            z = context(acting, memory, "actor")
            return Latent(z, jnp.zeros_like(z))

        def begin(acting: Any, key: Array) -> Memory | Carried:
            return blank()

        return Policy(begin, start, act, observe, value, latent if self.recurrent else None)


def make(config: MqlConfig, space: Space, discount: float, adaptable: bool = True) -> Algorithm:
    """TD3 with a context across tasks: data is a stack of T logs. `init(key, None)` is for learning online; `adaptable`
    artifacts keep what adaptation goes on from."""
    core = Core(config, space, discount)
    kind: Any = Adaptable if adaptable else Acting
    return Algorithm(
        init=core.init,
        sample=core.sample,
        update=core.update,
        acting=lambda state: kind(*(getattr(state, name) for name in kind._fields)),
        acting_type=kind,
        policy=core.policy(),
    )

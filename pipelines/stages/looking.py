"""The look: a trial of a policy in each of a few tasks, kept whole, and what a belief-model made of it step by step.

What a page draws of exploration (BOReL's Figures 1, 5 and 7) is all in the report, so that a page needs no model. A map
says of every place what the belief expects to be paid there: the decoder's reward, a mean over draws of the latent. Of
a room with a door somewhere in its wall it says so of every step out through the wall.
M tasks, K episodes of a trial, H steps, L = K H, N moments from the prior (0) to the end (L), X x Y places, W steps
out, D draws.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pipelines.algos import belief as model
from pipelines.algos.belief import Belief, Coder, Encoder
from pipelines.algos.belief_decoders import Decoder
from pipelines.core import own
from pipelines.core.configs.belief import BeliefConfig
from pipelines.core.errors import StageFailed, UsageError, WrongKind
from pipelines.core.families import kernel
from pipelines.core.learn import stage_key, task_keys
from pipelines.core.names import slug
from pipelines.core.samplers import Trial
from pipelines.core.types import Array, Params, Scene, Space, Task, TaskFamily, Transition, task_rows
from pipelines.core.unit_box import rows_to_unit, unit
from pipelines.core.work import Product, Work
from pipelines.rollouts.episodes import places
from pipelines.rollouts.exploring import Explored, explore
from pipelines.stages import belief_view, learners
from pipelines.stages.seating import tasks_of
from pipelines.tasks import registry

DRAWS = 20  # of the latent in a map
MOMENTS = 120  # of a trial that are kept, at most, beside the prior
ACROSS = 40  # places of a map along its longer side
SURE = 0.5  # a place that is expected to pay more is where the goal is believed to be
PARTS = {"a quarter": 0.25, "half": 0.5, "the end": 1.0}  # of a trial
STEPS_OUT = 72  # directions, of which a door of the room is 4.5


def product(work: Work, label: str) -> Product:
    """The report of a look. Raises UsageError for a policy per task and for a family that is not seen from above,
    WrongKind for a belief-model of another family or another policy."""
    config: Any = work.config
    policy, belief = work.inputs["policy"], work.inputs.get("belief")
    made = policy.card.extra
    if made["algorithm"] not in learners.SHARED:
        raise UsageError(
            "protocol=look is for one policy of all tasks", "a policy-set knows each task: --protocol episodes"
        )
    if "context" in work.inputs:
        raise UsageError("protocol=look begins with an empty memory", "leave out --context")
    if belief is not None:
        _belongs(policy.card, belief.card)
    family = registry.find(made["family"], evaluation=True)
    every = tasks_of(family, config.split, (task["id"] for task in policy.card.tasks), made.get("split", "train"))
    tasks = some(every, config.look_tasks)
    played = _play(work, policy, family, tasks)
    arrays = seen(family, played)
    said: dict[str, Any] = {"trial_episodes": config.trial_episodes, "tasks": [task.name for task in tasks]}
    said["scenes"] = [_told(family.scene(task)) if family.scene else None for task in tasks]
    metrics: dict[str, float] = {}
    if family.goal_reward is not None:
        arrays["found"] = found_at(played, family.goal_reward)
    if belief is not None:
        believed, where = _believed(work, family, tasks, played)
        arrays |= believed
        said |= {"belief": belief.card.id, **where}
        if believed.keys() & {"map", "doors"}:
            metrics = {f"look/{name}": mean for name, mean in means(narrowing(arrays)).items() if np.isfinite(mean)}
    extra = {"label": label, "family": family.name, **own.on_card(family.name), "split": config.split}
    extra |= {"protocol": "look", "look": said}
    return Product(
        {"look": arrays}, metrics, [task.to_json() for task in tasks], extra, name=slug(f"{label} look", "look")
    )


def some(tasks: tuple[Task, ...], count: int) -> tuple[Task, ...]:
    """`count` of them, as far from each other in the list as can be."""
    numbers = np.linspace(0, len(tasks) - 1, min(count, len(tasks))).round().astype(int)
    return tuple(tasks[number] for number in numbers)


def _belongs(policy: Any, belief: Any) -> None:
    mine, theirs = (kernel(card.extra["family"] or "") for card in (policy, belief))
    if mine != theirs:
        raise WrongKind(f"the belief {belief.id} is of {theirs or 'no family'}, the policy of {mine}", "name its own")
    parent = getattr(policy, "parents", {}).get("belief")
    if parent is not None and parent.id != belief.id:
        raise WrongKind(f"{policy.id} was learned with another belief than {belief.id}", f"--belief {parent.id}")


def _told(scene: Scene) -> dict[str, Any]:
    return {"low": list(scene.low), "high": list(scene.high), "shapes": [list(shape) for shape in scene.shapes]}


# ---- what is played --------------------------------------------------------------------------------------------------


def _play(work: Work, policy: Any, family: TaskFamily, tasks: tuple[Task, ...]) -> Explored:
    """Greedy, in numpy. [M, K, H]"""
    config: Any = work.config
    made = policy.card.extra
    algorithm = learners.make(made["algorithm"], made["agent"], family.space, family.discount)
    acting = jax.tree.map(jnp.asarray, learners.acting_of(policy, algorithm.acting_type))
    play = explore(family, algorithm.policy, config.trial_episodes, family.horizon, 0.0)
    keys = task_keys(stage_key(work.seed, "look"), [task.id for task in tasks])
    return jax.tree.map(np.asarray, play(acting, task_rows(tasks), keys))


def seen(family: TaskFamily, played: Explored) -> dict[str, Any]:
    """Where the agent was, `path [M, K, H + 1, 2]`, standing still once an episode is over; `reward [M, K, H]`, 0 then;
    `length [M, K]`. Raises UsageError for a family that does not say where an agent is."""
    where = places(family)
    begun, after = np.asarray(where(played.first_obs)), np.asarray(where(played.row.next_obs))
    if begun.shape[-1] != 2:
        hint = "--protocol episodes plays it; `position` of a family is what it needs"
        raise UsageError(f"{family.name} does not say where an agent is from above", hint)
    path = np.concatenate([begun[:, :, None], after], 2).astype(np.float32)
    length = played.held.sum(-1)
    last = np.minimum(np.arange(path.shape[2]), length[..., None])
    return {
        "path": np.take_along_axis(path, last[..., None], 2),
        "reward": np.where(played.held, played.row.reward, 0.0).astype(np.float32),
        "length": length.astype(np.int32),
    }


def found_at(played: Explored, above: float) -> np.ndarray[Any, Any]:
    """Steps of each trial, the one that pays more than `above` included; L + 1 where none does. [M] int32"""
    paid = (played.held & (played.row.reward > above)).reshape(len(played.held), -1)
    return np.where(paid.any(1), paid.argmax(1) + 1, paid.shape[1] + 1).astype(np.int32)


# ---- what is believed ------------------------------------------------------------------------------------------------


def _believed(
    work: Work, family: TaskFamily, tasks: tuple[Task, ...], played: Explored
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(`moment [N]`, `mean` and `log_variance [M, N, Z]`, and where there can be one `map [M, N, X, Y]` or
    `doors [M, N, W]`; the map's bounds). Raises StageFailed for beliefs that are not finite."""
    artifact = work.inputs["belief"]
    config, coder = belief_view.model_of(artifact), belief_view.coder_of(artifact)
    space = unit(family.space)
    encoder = model.make_encoder(config, space)
    rows, flag, held = in_a_row(played, config.trial_episodes)
    along = jax.jit(jax.vmap(lambda *trial: beliefs_along(encoder, coder, *trial)))
    found: Belief = jax.tree.map(np.asarray, along(rows_to_unit(family.space, rows), flag, held))
    if not all(np.isfinite(leaf).all() for leaf in found):
        raise StageFailed("the belief is not finite", "learn the belief-model again")
    moment = np.unique(np.linspace(0, flag.shape[1], min(MOMENTS, flag.shape[1]) + 1).round().astype(np.int32))
    kept = Belief(*(leaf[:, moment] for leaf in found))
    out: dict[str, Any] = {"moment": moment, **kept._asdict()}
    doors = shows_doors(config, family)
    if not doors and not shows_places(config, family):
        return out, {}
    if doors:
        assert family.wall is not None
        asked = steps_out(space, family.wall)
    else:
        scenes = [family.scene(task) for task in tasks] if family.scene else []
        begun = np.asarray(places(family)(played.first_obs))
        grid = cells(config) if config.reward_head == "cells" else spread(scenes, begun)
        asked = standing(space, grid.points)
    nets = model.make_nets(config, space)
    params = artifact.arrays()["decoders"]["reward"]
    key = stage_key(work.seed, "look-belief")
    paid = jax.jit(lambda q: expected(config, nets, params, coder, q, asked, key))
    values = np.stack([np.asarray(paid(Belief(*(leaf[m] for leaf in kept)))) for m in range(len(tasks))])
    if doors:
        return out | {"doors": values.astype(np.float16)}, {}
    out["map"] = values.reshape(*values.shape[:2], *grid.shape).astype(np.float16)
    return out, {"low": list(grid.low), "high": list(grid.high)}


def in_a_row(played: Explored, k: int) -> tuple[Transition, Any, Any]:
    """Episodes one after the other, as the policy's memory sees them: rows `[M, L, ...]`, with flag 1 on the successor
    where an episode ends, but for the k-th; and which of them happened."""
    done = played.held & (played.row.terminal | played.row.truncated)
    flag = done & (np.arange(done.shape[1]) != k - 1)[:, None]
    num, episodes, steps = done.shape
    rows, flags, held = jax.tree.map(
        lambda leaf: leaf.reshape(num, episodes * steps, *leaf.shape[3:]),
        (played.row, flag.astype(np.float32), played.held),
    )
    return rows, flags, held


def beliefs_along(encoder: Encoder, coder: Coder, rows: Transition, flag: Array, held: Array) -> Belief:
    """Of one trial `[L]`, at every step -> [L + 1, Z]"""

    def one(hidden: Array, step: tuple[Transition, Array, Array]) -> tuple[Array, Array]:
        row, ends, happened = step
        after = jnp.where(happened, encoder.step(coder, hidden, row, ends), hidden)
        return after, after

    first = encoder.begin(coder)
    return encoder.belief(coder, jnp.concatenate([first[None], jax.lax.scan(one, first, (rows, flag, held))[1]]))


def shows_places(config: BeliefConfig, family: TaskFamily) -> bool:
    """Whether there can be a map: observations are places, and what tasks differ in is where they pay."""
    return (
        family.space.obs_shape == (2,)
        and not family.dynamics
        and (config.reward_head != "cells" or len(config.cells) == 2)
    )


def shows_doors(config: BeliefConfig, family: TaskFamily) -> bool:
    """Whether the model says of a step, and not of where it ended, if it is paid, in a room whose tasks differ in where
    the door is."""
    seen = set(config.reward_inputs)
    return family.wall is not None and config.reward_head != "cells" and seen == {"obs", "action"}


# ---- maps ------------------------------------------------------------------------------------------------------------


class Grid(NamedTuple):
    """Places that are asked about: squares of a rectangle."""

    low: tuple[float, float]
    high: tuple[float, float]
    shape: tuple[int, int]  # (X, Y)

    @property
    def points(self) -> np.ndarray[Any, Any]:
        """Middles of the squares, y running fastest. [X Y, 2]"""
        sides = (
            low + (np.arange(count) + 0.5) * (high - low) / count
            for low, high, count in zip(self.low, self.high, self.shape, strict=True)
        )
        return np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)


def cells(config: BeliefConfig) -> Grid:
    """The cells that the model has a logit for; observations are their numbers."""
    wide, tall = config.cells
    return Grid((-0.5, -0.5), (wide - 0.5, tall - 0.5), (wide, tall))


def spread(scenes: list[Scene], begun: np.ndarray[Any, Any]) -> Grid:
    """Over the tasks' scenes; without any, two units around where episodes began."""
    around = begun.reshape(-1, 2)
    low = np.min([scene.low for scene in scenes] or [around.min(0) - 2], axis=0)
    high = np.max([scene.high for scene in scenes] or [around.max(0) + 2], axis=0)
    side = float((high - low).max()) / ACROSS
    wide, tall = (max(1, round(float(extent) / side)) for extent in high - low)
    return Grid((float(low[0]), float(low[1])), (float(high[0]), float(high[1])), (wide, tall))


def standing(space: Space, points: Any) -> Transition:
    """Rows of standing still at `points [G, 2]`."""
    still = jnp.zeros((len(points), *space.action_shape), space.action_dtype)
    return _asked(points, still, points)


def directions() -> np.ndarray[Any, Any]:
    """[W, 2], counted from the x axis."""
    angle = np.arange(STEPS_OUT) * 2 * math.pi / STEPS_OUT
    return np.stack([np.cos(angle), np.sin(angle)], -1).astype(np.float32)


def steps_out(space: Space, radius: float) -> Transition:
    """Rows of the largest step outward from so far away from the origin, one for each of `directions`; where they end
    is not known."""
    out = directions()
    action = (out / np.abs(out).max(-1, keepdims=True)).astype(space.action_dtype)
    return _asked(radius * out, action, radius * out)


def _asked(obs: Any, action: Any, next_obs: Any) -> Transition:
    nothing = jnp.zeros(len(obs))
    return Transition(obs, action, nothing, next_obs, nothing > 0, nothing > 0, jnp.zeros((len(obs), 0)))


def expected(
    config: BeliefConfig, nets: model.Nets, params: Params, coder: Coder, q: Belief, row: Transition, key: Array
) -> Array:
    """What each belief `q [N, Z]` expects to be paid for the rows `row [G]` -> [N, G]. Probabilities where whether a
    step is paid is decoded. The draws' luck is the same at every moment."""
    noise = jax.random.normal(key, (DRAWS, config.latent_dim))
    decoder, nothing = nets.reward, jnp.zeros_like(row.reward)
    trial = Trial(row, nothing, nothing, nothing == 0)
    of_step = decoder.of_step(params, coder.norm, trial) if isinstance(decoder, Decoder) else None

    def one(q: Belief) -> Array:
        z = model.drawn(Belief(*(jnp.broadcast_to(leaf, noise.shape) for leaf in q)), noise)  # [D, Z]
        if not isinstance(decoder, Decoder):
            return jax.nn.sigmoid(decoder.apply(params, z)).mean(0)
        first = decoder.of_latent(params, z)[:, None]
        assert of_step is not None
        first = jnp.broadcast_to(first, (DRAWS, *of_step.shape)) + jnp.broadcast_to(of_step, (DRAWS, *of_step.shape))
        out = decoder.rest(params, first)[..., 0]
        if config.reward_head == "bernoulli":
            return jax.nn.sigmoid(out).mean(0)
        return out.mean(0) * coder.norm.reward_std + coder.norm.reward_mean

    return jax.lax.map(one, q)


def means(numbers: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, float]:
    """Over the tasks that have one; NaN where none has."""
    known = {name: values[np.isfinite(values)] for name, values in numbers.items()}
    return {name: float(values.mean()) if len(values) else math.nan for name, values in known.items()}


def narrowing(arrays: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """How a belief narrows, of each task [M]: over how many places it is spread (the exponential of the entropy of the
    map, or of the steps out) at some parts of a trial, as a share of the prior's; and, before the goal is found, at how
    many of the moments some place is expected to pay more than SURE (NaN where it is found at once, or nothing says
    when)."""
    values = np.asarray(arrays["map" if "map" in arrays else "doors"], np.float64)
    values, moment = values.reshape(*values.shape[:2], -1), np.asarray(arrays["moment"])
    share = np.clip(values, 1e-12, None)
    share = share / share.sum(-1, keepdims=True)
    wide = np.exp(-(share * np.log(share)).sum(-1))  # [M, N]
    at = {name: int(np.abs(moment - part * moment[-1]).argmin()) for name, part in PARTS.items()}
    out = {f"spread at {name}": wide[:, number] / wide[:, 0] for name, number in at.items()}
    if "found" not in arrays:
        return out
    before = (moment > 0) & (moment < np.asarray(arrays["found"])[:, None])
    peak = values.max(2) > SURE
    count = before.sum(1)
    early = np.where(count > 0, (peak & before).sum(1) / np.maximum(count, 1), np.nan)
    return out | {"sure before the goal": early}

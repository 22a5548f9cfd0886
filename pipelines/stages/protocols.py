"""How a policy is played: single episodes of new tasks, or trials of k episodes in one, which of them count, and which
snapshot plays. What an episode's boundary does to the memory is the policy's affair.

T tasks, P runs of each (episodes or trials), K episodes of a trial, H steps, S snapshots.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from pipelines import rollouts
from pipelines.core.configs.eval import EvalConfig, parse_counted
from pipelines.core.errors import UsageError
from pipelines.core.types import DeviceFamily, HostFamily, Policy, TaskFamily, task_rows
from pipelines.rollouts import Lineup

CHOSEN_ON = {"best-on-train": "train", "best-on-test": "test"}  # checkpoint -> the split that it is chosen on
SAID = {
    "best-on-train": "checkpoint chosen on the training tasks",
    "best-on-test": "checkpoint chosen on the test tasks",
}


class Played(NamedTuple):
    """What a protocol measures of T policies, in numpy; of S in each task, all of it `[S, T, ...]`."""

    returns: Any  # [T, P] undiscounted; of a trial, the mean over the episodes that count
    discounted: Any  # [T, P] of the (first) episode
    value: Any  # [T, P] Q(s0, a0) of the (first) episode; NaN where the policy has none
    path: Any  # [T, P, H + 1, 2] of the episode, or of the last that counts
    each: Any = None  # [T, P, K] the returns of all episodes of a trial
    success: Any = None  # [T, P, K] bool, whether the goal was reached in it; None where rewards do not say
    adapted: Any = None  # adapting.Adapted, where policies adapted first


Play = Callable[..., Played]  # (acting [T, ...], keys [T], *context [T, P, C, ...]), all on the devices


def player(
    family: TaskFamily,
    policy: Policy,
    discount: float,
    num_episodes: int,
    lineup: Lineup,
) -> Callable[..., rollouts.Episodes]:
    """`play(acting [T, ...], keys [T], *context) -> Episodes` `[T, P, ...]` in numpy, by the driver of the family's
    engine: each episode is a new task."""
    if isinstance(family, HostFamily):
        return rollouts.host_zero_shot(family, policy, discount, num_episodes, lineup)
    one = rollouts.zero_shot(cast(DeviceFamily, family), policy, discount, num_episodes)
    return _mapped(one, lineup)


def trial_player(
    family: TaskFamily,
    policy: Policy,
    num_trials: int,
    num_episodes: int,
    lineup: Lineup,
) -> Callable[..., rollouts.Trials]:
    """`play(acting [T, ...], keys [T], *context) -> Trials` `[T, P, ...]` in numpy."""
    if isinstance(family, HostFamily):
        return rollouts.host_trials(family, policy, num_trials, num_episodes, lineup)
    return _mapped(rollouts.trials(cast(DeviceFamily, family), policy, num_trials, num_episodes), lineup)


def _mapped(one: Callable[..., Any], lineup: Lineup) -> Callable[..., Any]:
    """`one(acting, task, key, *context)` of one task -> all of them, task rows added. One policy a task."""
    axis = lineup.axis
    mapped = axis.over_tasks(lambda step, *args: one(*args), shared=int(lineup.shared))
    rows = axis.put(task_rows(lineup.tasks))
    return lambda acting, keys, *context: axis.get(mapped(0, acting, rows, keys, *context))


def play_of(
    config: EvalConfig,
    family: TaskFamily,
    policy: Policy,
    num_runs: int,
    lineup: Lineup,
) -> Play:
    """What the config's protocol plays: `num_runs` episodes, or trials, of each task."""
    if config.protocol in ("zero-shot", "adapt"):
        single = player(family, policy, family.discount, num_runs, lineup)

        def episodes(*args: Any) -> Played:
            found = single(*args)
            return Played(found.returns, found.discounted, found.value, found.path)

        return episodes
    several = trial_player(family, policy, num_runs, config.trial_episodes, lineup)
    first, last = parse_counted(config.counted, config.trial_episodes)

    def trials(*args: Any) -> Played:
        found = several(*args)
        counted = found.returns[..., first - 1 : last].mean(-1)
        success = None if family.goal_reward is None else (found.rewards > family.goal_reward).any(-1)
        of_first, path = (found.discounted[..., 0], found.value[..., 0]), found.path[..., last - 1, :, :]
        return Played(counted, *of_first, path, found.returns, success)

    return trials


def means(values: Any) -> np.ndarray:
    """`[T, P]` -> `[T]`, summed as the devices sum."""
    return np.asarray(jnp.asarray(values).mean(1))


# ---- which snapshot --------------------------------------------------------------------------------------------------


class Checkpoint(NamedTuple):
    """The snapshot that was chosen, and by what."""

    number: int
    step: int  # updates that it had seen
    returns: np.ndarray  # [S] mean return of each snapshot on the tasks that it was chosen on


def want_snapshots(steps: Any) -> None:
    """Raises UsageError where there is none to choose from."""
    if not len(steps):
        raise UsageError("the policy kept no snapshots to choose from", "train it with --set num_snapshots=10")


def best(returns: Any, steps: Any) -> Checkpoint:
    """The snapshot of the greatest mean return over tasks, the first of equals. `returns [S, T]`, `steps [S]`"""
    mean = np.asarray(returns, np.float64).mean(1)
    number = int(mean.argmax())
    return Checkpoint(number, int(steps[number]), mean)


# ---- in words --------------------------------------------------------------------------------------------------------


def in_words(config: EvalConfig, context: str = "") -> str:
    """What tables call the protocol. Nothing in it depends on the training seed."""
    parts = [_episodes(config) if config.protocol == "episodes" else config.protocol]
    parts += [context] if context else []
    parts += [SAID[config.checkpoint]] if config.checkpoint != "last" else []
    return ", ".join(parts)


def _episodes(config: EvalConfig) -> str:
    first, last = parse_counted(config.counted, config.trial_episodes)
    k = config.trial_episodes
    if (first, last) == (1, k):
        return f"all {k} episodes of a trial"
    return f"episode{f's {first}-{last}' if last > first else f' {last}'} of {k}"


def on_card(config: EvalConfig, context: Mapping[str, Any] | None, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """What the card says beside the words; nothing of a plain zero-shot evaluation."""
    said: dict[str, Any] = {}
    if config.protocol == "episodes":
        first, last = parse_counted(config.counted, config.trial_episodes)
        said |= {"trial_episodes": config.trial_episodes, "counted": [first, last]}
    if context:
        said["context"] = dict(context)
    if checkpoint:
        rule = config.checkpoint
        said["checkpoint"] = {
            "rule": rule,
            "said": SAID[rule],
            "step": checkpoint.step,
            "episodes": config.curve_episodes,
        }
    return said


def snapshot(snapshots: Any, index: int | tuple[int, ...] | np.ndarray) -> Any:
    """One, or some, of the acting states `[S, ...]`, or of other things that are stacked."""
    return jax.tree.map(lambda leaf: leaf[index], snapshots)

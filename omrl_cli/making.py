"""The subcommands that make artifacts: one for each stage, and `run`, which runs a chain of them."""

from pathlib import Path
from typing import Annotated, Any

import typer

from omrl_cli.options import OneStage, Running, command, field, group, option, role
from pipelines.core.errors import InputMissing, UsageError

app = group()


@command(app, OneStage)
def collect(
    common: OneStage,
    *,
    family: Annotated[str | None, field("family", "Task family; `omrl families` lists them.")] = None,
    split: Annotated[str | None, field("split", "Whose tasks: train, test or ood.")] = None,
    keep: Annotated[str | None, field("keep", "Rows of each task that the log keeps: all, first:N or last:N.")] = None,
) -> None:
    """Train one agent per task, keep everything: -> replay-log."""
    _stage("collect", common, {}, {"family": family, "split": split, "keep": keep})


@command(app, OneStage, name="import")
def import_(
    common: OneStage,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A folder or a file that holds logs.")],
    *,
    format: Annotated[
        str | None, field("format", "auto, borel, minari, d4rl, npz, focal, macaw, mbml or mapping.")
    ] = None,
    mapping: Annotated[
        Path | None, option("--mapping", metavar="FILE", help="YAML: which array is which column (docs/logs.md).")
    ] = None,
    family: Annotated[str | None, field("family", "The family that the tasks are of, if it is known.")] = None,
    horizon: Annotated[int | None, field("horizon", "Steps of an episode; the family's if left out.")] = None,
    allow_pickle: Annotated[
        bool | None,
        typer.Option("--allow-pickle", help="Read pickles (focal, mbml): arrays only.", show_default=False),
    ] = None,
) -> None:
    """Take in logs that somebody else wrote: -> replay-log."""
    from omrl_cli import data

    flags = {"format": format, "family": family, "horizon": horizon, "allow_pickle": allow_pickle}
    data.import_(common, source, mapping, flags)


@command(app, OneStage)
def train(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log to learn from.")] = None,
    algorithm: Annotated[
        str | None, field("algorithm", "batch-sac, bcq, cql, td3bc, iql, ddpg, bc or discrete-bcq.")
    ] = None,
    select: Annotated[
        str | None, field("select", "last, or online: the best when played in its own task (with eval_every).")
    ] = None,
) -> None:
    """Learn a policy per task: replay-log -> policy-set."""
    _stage("train", common, {"log": [log]}, {"algorithm": algorithm, "select": select})


@command(app, OneStage)
def relabel(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log whose rows are to be relabelled.")] = None,
    replay: Annotated[
        str | None, role("replay", "A log of `omrl replay`, whose episodes trials are mixed with.")
    ] = None,
    reward: Annotated[str | None, field("reward", "model (ensembles learned from the log) or known.")] = None,
    unit: Annotated[str | None, field("unit", "row, or episode: trials mixed with other tasks' episodes.")] = None,
    rows_per_pair: Annotated[
        int | None, field("rows-per-pair", "Rows kept of each ordered pair of tasks; 4096 if left out.")
    ] = None,
) -> None:
    """Pay rows as in other tasks: replay-log -> relabelled-log."""
    fields = {"reward": reward, "unit": unit, "rows_per_pair": rows_per_pair}
    _stage("relabel", common, {"log": [log], "replay": [replay]}, fields)


@command(app, OneStage)
def replay(
    common: OneStage,
    *,
    policies: Annotated[
        str | None, role("policies", "Whose agents play: a replay-log that kept them, or a policy-set.")
    ] = None,
    episodes: Annotated[int | None, field("episodes", "Of each agent in each task; 10 if left out.")] = None,
) -> None:
    """Play every task's agent in the others: -> replay-log."""
    _stage("replay", common, {"policies": [policies]}, {"episodes": episodes})


@command(app, OneStage)
def belief(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log whose trials are decoded.")] = None,
    relabelled: Annotated[
        str | None, role("relabelled", "Its trials, mixed with others: of `omrl relabel --unit episode`.")
    ] = None,
    replay: Annotated[str | None, role("replay", "The replayed log that those were mixed with, if one was.")] = None,
    trial_episodes: Annotated[int | None, field("trial-episodes", "Episodes of a trial; 2 if left out.")] = None,
) -> None:
    """Learn what a task may be: replay-log -> belief-model."""
    refs = {"log": [log], "relabelled": [relabelled], "replay": [replay]}
    _stage("belief", common, refs, {"trial_episodes": trial_episodes})


@command(app, OneStage)
def distill(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log that the teachers learned from.")] = None,
    teachers: Annotated[str | None, role("teachers", "The policy-set to distil.")] = None,
    relabelled: Annotated[
        str | None, role("relabelled", "MBML: what `omrl relabel` made of the log, unless agent.relabel=none.")
    ] = None,
    method: Annotated[str | None, field("method", "time or mbml.")] = None,
) -> None:
    """Make one policy of many: replay-log, policy-set -> meta-policy."""
    refs = {"log": [log], "teachers": [teachers], "relabelled": [relabelled]}
    _stage("distill", common, refs, {"method": method})


@command(app, OneStage)
def metatrain(
    common: OneStage,
    *,
    log: Annotated[str | None, role("log", "The replay-log to learn from.")] = None,
    belief: Annotated[str | None, role("belief", "BOReL: the belief-model whose beliefs are part of states.")] = None,
    relabelled: Annotated[
        str | None, role("relabelled", "BOReL: mixed trials to learn from instead of the log's (agent.data=mixed).")
    ] = None,
    replay: Annotated[str | None, role("replay", "The replayed log that those were mixed with, if one was.")] = None,
    algorithm: Annotated[
        str | None,
        field(
            "algorithm",
            "batch-sac (pooled over tasks), batch-pearl, contextual-bcq, borel, mql, td3-context or td3; --online: mql,"
            " td3-context, td3, pearl or borel.",
        ),
    ] = None,
    method: Annotated[str | None, option("--method", metavar="NAME", help="The same as --algorithm.")] = None,
    online: Annotated[
        bool, option("--online", help="Collect on the training tasks of --set family=NAME meanwhile; the log is kept.")
    ] = False,
) -> None:
    """Learn one policy from all logs: replay-log -> meta-policy.

    With --online there is no log yet: it and the policy are made.
    """
    if algorithm and method and algorithm != method:
        raise UsageError(f"--algorithm {algorithm} and --method {method}", "they are the same: give one of them")
    refs = {"log": [log], "belief": [belief], "relabelled": [relabelled], "replay": [replay]}
    if online:
        from omrl_cli import online as making_both

        making_both.run(common, {role: ref for role, (ref,) in refs.items()}, algorithm or method)
        return
    try:
        _stage("metatrain", common, refs, {"algorithm": algorithm or method})
    except InputMissing as missing:
        if log is not None:
            raise
        also = "or --online and --set family=NAME, to learn while it is collected"
        raise InputMissing(missing.cause, f"{missing.hint}; {also}") from missing


@command(app, OneStage, name="eval")
def evaluate(
    common: OneStage,
    *,
    policy: Annotated[
        str | None, role("policy", "What to try: a meta-policy, a policy-set, or a replay-log's agents.")
    ] = None,
    split: Annotated[str | None, field("split", "train, test or ood.")] = None,
    protocol: Annotated[
        str | None,
        field(
            "protocol",
            "zero-shot, episodes (trials of several in one task), adapt (MQL, to one episode), look (a trial, kept "
            "whole) or probe (see --probe).",
        ),
    ] = None,
    episodes: Annotated[int | None, field("episodes", "Episodes per task, or trials of them.")] = None,
    trial_episodes: Annotated[int | None, field("trial-episodes", "Episodes of a trial; 5 if left out.")] = None,
    counted: Annotated[
        str | None, field("counted", "Which episodes of a trial make its return: all, last, N or A-B.")
    ] = None,
    context: Annotated[
        str | None,
        option(
            "--context",
            metavar="own|offline:REF",
            help="Rows that the memory is shown first: of the policy's own log, or of another.",
            show_default=False,
        ),
    ] = None,
    context_rows: Annotated[int | None, field("context-rows", "How many of them; 128 if left out.")] = None,
    checkpoint: Annotated[
        str | None, field("checkpoint", "last, best-on-train or best-on-test: which snapshot plays.")
    ] = None,
    log: Annotated[
        str | None, role("log", "Protocol adapt: the log that the policy was learned from; own, if left out.")
    ] = None,
    probe: Annotated[
        str | None, role("probe", "A replay-log: whether the encoder reads its rewards, or states and actions.")
    ] = None,
    relabelled: Annotated[
        str | None, role("relabelled", "The probe's rewards under other tasks, where the family's are not known.")
    ] = None,
    belief: Annotated[
        str | None, role("belief", "Protocol look: the belief-model that says what it makes of the trial.")
    ] = None,
) -> None:
    """Play a policy on the tasks of a split: policy -> report."""
    from omrl_cli import evaluating

    common, shown = evaluating.prepared(common, policy, context)
    log = evaluating.adapted_with(common, policy, protocol, log)
    refs = {"policy": [policy], "context": [shown], "log": [log], "probe": [probe], "relabelled": [relabelled]}
    refs |= {"belief": [belief]}
    fields = {"split": split, "protocol": protocol, "episodes": episodes, "trial_episodes": trial_episodes}
    fields |= {"counted": counted, "context_rows": context_rows, "checkpoint": checkpoint}
    _stage("eval", common, refs, fields)


@command(app, OneStage)
def finetune(
    common: OneStage,
    *,
    policy: Annotated[str | None, role("policy", "The meta-policy to go on from.")] = None,
    split: Annotated[str | None, field("split", "train, test or ood.")] = None,
    steps: Annotated[int | None, field("steps", "Steps of each task while SAC learns; 350000 if left out.")] = None,
    scratch: Annotated[
        str | None, field("scratch", "What learns beside it from random nets: sac, same (trainer) or none.")
    ] = None,
) -> None:
    """Go on from a policy with SAC: meta-policy -> report."""
    _stage("finetune", common, {"policy": [policy]}, {"split": split, "steps": steps, "scratch": scratch})


@command(app, OneStage)
def report(
    common: OneStage,
    *,
    reports: Annotated[
        list[str] | None, role("reports", "A report of `omrl eval` or `omrl finetune`; may be repeated.")
    ] = None,
    policies: Annotated[
        list[str] | None, role("policies", "A meta-policy whose loss is drawn (MBML Fig. 2); may be repeated.")
    ] = None,
    relabelled: Annotated[
        list[str] | None, role("relabelled", "A relabelled-log whose errors are drawn (MBML Fig. 7); may be repeated.")
    ] = None,
    logs: Annotated[
        list[str] | None, role("logs", "A replay-log whose places are drawn (BOReL Figs. 10, 11); may be repeated.")
    ] = None,
    paper: Annotated[
        str | None, field("paper", "time, mbml, borel or mql: the figures of that paper, or what they lack.")
    ] = None,
) -> None:
    """Tables, figures and one HTML page: reports -> page."""
    refs = {"reports": reports or [], "policies": policies or [], "relabelled": relabelled or [], "logs": logs or []}
    _stage("report", common, refs, {"paper": paper})


def _stage(name: str, common: OneStage, refs: dict[str, Any], flags: dict[str, Any]) -> None:
    from omrl_cli import stage

    given = {role: [ref for ref in found if ref is not None] for role, found in refs.items()}
    stage.run(name, common, given, flags)


@command(app, Running)
def run(
    common: Running,
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A shipped recipe's name (`omrl recipes`) or a YAML file.")
    ],
    *,
    seeds: Annotated[str | None, option("--seeds", metavar="LIST", help="Training seeds, as 0-4 or 0,2,5.")] = None,
    seed: Annotated[int | None, option("--seed", metavar="N", min=0, help="One training seed; 0 if left out.")] = None,
    only: Annotated[
        list[str] | None, option("--only", metavar="STEP", help="Run this step alone; may be repeated.")
    ] = None,
) -> None:
    """Run a chain of stages, except what is up to date.

    --set takes step.field=value here.
    """
    from omrl_cli import recipe as recipes

    if seeds is not None and seed is not None:
        raise UsageError("--seed and --seeds together", "--seeds alone can say both")
    recipes.command(common, recipe, recipes.parse_seeds(seeds) if seeds is not None else [seed or 0], only)

"""`omrl run RECIPE`: a recipe and its seeds become jobs, each an Order; what is up to date is not run again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from omrl_cli import console, launch, plan
from omrl_cli.launch import How, Order
from omrl_cli.options import Running
from omrl_cli.orders import environment_layer, preset_layer, set_layer, spec_of
from pipelines.core.configs.base import nearest, resolve
from pipelines.core.errors import InputMissing, OmrlError, UsageError
from pipelines.core.recipe import Recipe, Step, as_list, load
from pipelines.store.card import Card
from pipelines.store.shelf import Shelf

TABLE, PAGE = "table.txt", "page.html"  # files of a page artifact


@dataclass(frozen=True)
class Job:
    """A step at one seed, or (`seed` None) one that gathers all seeds."""

    step: str
    seed: int | None
    order: Order

    def __str__(self) -> str:
        return self.step if self.seed is None else f"{self.step} seed {self.seed}"


@dataclass(frozen=True)
class Done:
    """A job and its artifact."""

    job: Job
    card: Card
    made: bool


def command(common: Running, name: str, seeds: Sequence[int], only: Sequence[str] | None) -> None:
    """`omrl run`."""
    with launch.joined(common) as how:
        recipe = load(name)
        jobs = choose(jobs_of(recipe, common.preset, seeds, common.sets), recipe, only)
        shelf = common.shelf()
        if common.dry_run:
            plan.show(forecast(jobs, shelf, how), common.as_json)
        else:
            tell(recipe, run(jobs, shelf, how), shelf, common.as_json)


def parse_seeds(text: str) -> list[int]:
    """ "0-4", "3" or "0,2,5-7" -> seeds, each once, in order. Raises UsageError."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise UsageError(f"--seeds {text!r} is no list of seeds", "for example 0-4 or 0,2,5")
        seeds += range(int(first), int(last or first) + 1)
    return list(dict.fromkeys(seeds))


# ------------------------------------------------------------------------------------------------------ planning
def jobs_of(recipe: Recipe, preset: str | None, seeds: Sequence[int], sets: Sequence[str] | None) -> list[Job]:
    """Every job of the recipe, in an order that can be run: seed after seed, then what gathers.

    Their ids follow from the config alone, so nothing needs to exist. Raises UsageError.
    """
    preset = preset or recipe.presets[0]
    if preset not in recipe.presets:
        raise UsageError(f"recipe {recipe.name} has no preset {preset!r}", nearest(preset, recipe.presets, "presets"))
    user = [_per_step(recipe, environment_layer()), _per_step(recipe, set_layer(sets))]
    jobs: dict[tuple[str, int | None], Job] = {}
    for name in recipe.order():
        step = recipe.steps[name]
        spec = spec_of(step.stage)
        _check_roles(recipe, name)
        layers = [preset_layer(step.stage, preset), *step.layers(preset), *(layer.get(name, {}) for layer in user)]
        try:
            config = resolve(spec.config, *layers)
        except UsageError as error:
            raise UsageError(f"step {name}: {error.cause}", error.hint) from error
        for seed in seeds if step.each_seed else [None]:
            refs = {role: _refs(recipe, role, step, seed, seeds, jobs) for role in step.inputs}
            jobs[name, seed] = Job(name, seed, Order(spec, config, seed or 0, refs))
    return _by_seed(recipe, list(jobs.values()))


def _per_step(recipe: Recipe, layer: Mapping[str, Any]) -> Mapping[str, Any]:
    """`{step: {field: value}}` of the user's `step.field=value`. Raises UsageError."""
    for name, fields in layer.items():
        if name not in recipe.steps or not isinstance(fields, Mapping):
            hint = nearest(name, list(recipe.steps), "write step.field=value; steps")
            raise UsageError(f"recipe {recipe.name} has no step {name!r}", hint)
    return layer


def _check_roles(recipe: Recipe, name: str) -> None:
    """Raises UsageError for an input that is no role of the step's stage or of the wrong kind, and for one missing."""
    step = recipe.steps[name]
    roles = spec_of(step.stage).consumes
    for role in step.inputs:
        if role not in roles:
            raise UsageError(
                f"step {name}: {step.stage} has no input {role!r}", nearest(role, list(roles), "its inputs")
            )
    for role, wanted in roles.items():
        if wanted.required and role not in step.inputs:
            raise UsageError(f"step {name}: {step.stage} needs the input {role}", f"add it under steps.{name}.inputs")
    for role, value in step.inputs.items():
        for parent in as_list(value):
            kind = spec_of(recipe.steps[parent].stage).produces
            if kind not in roles[role].kinds:
                wants = " or ".join(roles[role].kinds)
                raise UsageError(
                    f"step {name}: {role} wants a {wants}, step {parent} makes a {kind}", "name another step"
                )


def _refs(
    recipe: Recipe,
    role: str,
    step: Step,
    seed: int | None,
    seeds: Sequence[int],
    jobs: Mapping[tuple[str, int | None], Job],
) -> launch.Refs:
    """Ids that a role of a step at `seed` takes."""
    ids: list[str] = []
    for parent in as_list(step.inputs[role]):
        if not recipe.steps[parent].each_seed:
            at: Sequence[int | None] = [None]
        else:
            at = seeds if seed is None else [seed]
        ids += [jobs[parent, one].order.id for one in at]
    if spec_of(step.stage).consumes[role].many:
        return ids
    if len(ids) > 1:
        raise UsageError(f"{role} of {step.stage} takes one artifact, the recipe gives {len(ids)}", "name one step")
    return ids[0]


def _by_seed(recipe: Recipe, jobs: Sequence[Job]) -> list[Job]:
    """Topological, and among what is ready the lowest seed first: one whole chain stands before the next begins."""
    rank = {name: index for index, name in enumerate(recipe.order())}
    waiting = sorted(jobs, key=lambda job: (float("inf") if job.seed is None else job.seed, rank[job.step]))
    ordered: list[Job] = []
    while waiting:
        there = {job.order.id for job in ordered}
        ready = next(job for job in waiting if there.issuperset(job.order.refs))
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def choose(jobs: Sequence[Job], recipe: Recipe, only: Sequence[str] | None) -> list[Job]:
    """The jobs of the steps in `only`, or all. Raises UsageError for an unknown step."""
    for name in only or ():
        if name not in recipe.steps:
            raise UsageError(f"recipe {recipe.name} has no step {name!r}", nearest(name, list(recipe.steps), "steps"))
    return [job for job in jobs if not only or job.step in only]


# ------------------------------------------------------------------------------------------------------ running
def run(jobs: Sequence[Job], shelf: Shelf, how: How) -> list[Done]:
    """Runs what is not up to date. Raises what `launch.execute` raises; what was made before stays made."""
    done: list[Done] = []
    how = replace(how, coming=tuple({job.order.spec.name: job.order.spec for job in jobs}.values()))
    for number, job in enumerate(jobs, 1):
        _check_inputs(job, shelf)
        title = f"[{number}/{len(jobs)}] {job}"
        try:
            card, made = launch.execute(job.order, shelf, how, title)
        except OmrlError as error:
            error.cause = error.cause if error.cause.startswith(title) else f"{title}: {error.cause}"
            raise
        done.append(Done(job, card, made))
    return done


def forecast(jobs: Sequence[Job], shelf: Shelf, how: How) -> list[plan.Row]:
    """The plan of a dry run."""
    cards = shelf.cards()
    rows: list[plan.Row] = []
    subjects: dict[str, plan.Subject] = {}
    for job in jobs:
        moving = {row.id for row in rows if row.state != plan.UP_TO_DATE}
        rows.append(plan.row(job.order, shelf, how, cards, moving, job.step, job.seed is None, subjects))
    return rows


def _check_inputs(job: Job, shelf: Shelf) -> None:
    for role, refs in job.order.parents.items():
        for id in as_list(refs):
            if not shelf.generations(id):
                raise InputMissing(f"step {job}: its {role} {id} is not there", "run the recipe without --only")


def tell(recipe: Recipe, done: Sequence[Done], shelf: Shelf, as_json: bool) -> None:
    """The result on stdout: the pages' tables and where the pages are; ids where no page was asked for."""
    pages = [shelf.artifact(one.card) for one in done if f"files/{PAGE}" in one.card.files]
    if as_json:
        steps = [
            {
                "step": one.job.step,
                "seed": one.job.seed,
                "id": one.card.id,
                "ref": one.card.ref,
                "made": one.made,
                "seconds": one.card.seconds,
            }
            for one in done
        ]
        console.out_json({"recipe": recipe.name, "steps": steps, "pages": [str(page.file(PAGE)) for page in pages]})
        return
    for page in pages:
        console.out(page.file(TABLE).read_text().rstrip())
        console.out(f"\nreport: {page.file(PAGE)}")
    if not pages:
        console.out("\n".join(one.card.id for one in done))
    elif said := spent(done):
        console.talk(said)


def spent(done: Sequence[Done]) -> str:
    """What a seed took, and the stages' shares of it, by the cards; "" where no step has a seed."""
    of_seeds = [one for one in done if one.job.seed is not None]
    stages: dict[str, float] = {}
    for one in of_seeds:
        stages[one.card.stage] = stages.get(one.card.stage, 0.0) + one.card.seconds
    total = sum(stages.values())
    if not total:
        return ""
    shares = [f"{name} {seconds / total:.0%}" for name, seconds in sorted(stages.items(), key=lambda item: -item[1])]
    seeds = len({one.job.seed for one in of_seeds})
    return f"{'the' if seeds == 1 else 'a'} seed took {console.duration(total / seeds)}: {', '.join(shares)}"

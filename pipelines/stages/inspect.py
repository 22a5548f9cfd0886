"""inspect: will my data work? What a log holds, how its tasks meet, and which methods fit. Stores nothing.

Works on any replay-log, with or without a family: it reads the log alone. `pipelines.stages.inspect_pairs` says how
overlap and disagreement are measured; the methods' wishes are those of the papers (BOReL section 4, MBML sections 2-3,
tiMe sections 3-4).
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipelines.core.trees import task_leaf
from pipelines.stages.inspect_pairs import Pairs, compare

MOMENTS = 16  # of a task's history that a sparkline shows
FEW_ROWS = 1000
FEW_TASKS = 5
MUCH, LITTLE = 0.3, 0.05  # overlap that a reward model can work with, and that it cannot
TOLD = 0.8  # states tell the task: of the way from chance to certainty


@dataclass(frozen=True)
class Judgement:
    """What the data means for one method. `fits`: yes, care or no."""

    method: str
    fits: str
    reason: str
    number: float


@dataclass(frozen=True)
class Seen:
    """Everything that was seen. `tasks`: a row of numbers each; `pairs`: [T, T] matrices by name."""

    tasks: list[dict[str, Any]]
    pairs: Pairs | None
    judgements: list[Judgement]

    def to_json(self) -> dict[str, Any]:
        pairs: dict[str, Any] = {}
        if self.pairs is not None:
            fields = asdict(self.pairs) | {"identifiable": self.pairs.identifiable}
            pairs = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()}
        return {"tasks": self.tasks, "pairs": pairs, "verdict": [asdict(one) for one in self.judgements]}


def finite(value: Any) -> Any:
    """NaN, which JSON lacks, becomes None."""
    if isinstance(value, dict):
        return {name: finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def look(tasks: list[dict[str, Any]], arrays: dict[str, Any], extra: dict[str, Any]) -> Seen:
    """`tasks` and `extra` as on the card, `arrays` as in the store."""
    columns = [arrays[task_leaf(index)] for index in range(len(tasks))]
    num_actions = extra["space"]["num_actions"]
    pairs = compare(columns, [int(task["id"]) for task in tasks], num_actions) if len(tasks) > 1 else None
    rows = []
    for index, (task, one) in enumerate(zip(tasks, columns, strict=True)):
        row = {"task": task["name"], **_history(one), "action_spread": _spread(one, extra["space"])}
        if pairs is not None:
            others = np.arange(len(tasks)) != index
            row["coverage"] = float(pairs.both[others, index].mean())
        rows.append(row)
    return Seen(rows, pairs, judge(rows, pairs, extra))


def returns_of(columns: dict[str, Any]) -> np.ndarray:
    """[episodes] in order."""
    size = int(columns["size"])
    return np.bincount(columns["episode"][:size], weights=columns["reward"][:size])


def last_return(columns: dict[str, Any]) -> float:
    """The mean over the last twentieth of the episodes."""
    returns = returns_of(columns)
    return float(returns[-max(1, len(returns) // 20) :].mean())


def _history(columns: dict[str, Any]) -> dict[str, Any]:
    returns = returns_of(columns)
    parts = np.array_split(returns, min(MOMENTS, len(returns)))
    tenth = max(1, len(returns) // 10)
    low, middle, high = np.quantile(returns, (0.05, 0.5, 0.95))
    return {
        "transitions": int(columns["size"]),
        "episodes": len(returns),
        "length": int(columns["size"]) / len(returns),
        "return_5": float(low),
        "return_50": float(middle),
        "return_95": float(high),
        "first_return": float(returns[:tenth].mean()),
        "last_return": float(returns[-tenth:].mean()),
        "terminal": float(columns["terminal"][: int(columns["size"])].sum() / len(returns)),
        "over_time": [float(part.mean()) for part in parts],
    }


def _spread(columns: dict[str, Any], space: dict[str, Any]) -> float:
    """How much of the action space is used: 1 is uniform. The deviation beside a uniform one's, or the entropy."""
    action = columns["action"][: int(columns["size"])]
    if space["num_actions"] is not None:
        share = np.bincount(action.astype(int).ravel(), minlength=space["num_actions"]) / action.size
        return float(-(share * np.log(np.maximum(share, 1e-12))).sum() / math.log(max(space["num_actions"], 2)))
    width = np.maximum(np.subtract(space["high"], space["low"]), 1e-9)
    return float((action.reshape(len(action), -1).std(0) / width).mean() * math.sqrt(12))


# ---- the verdict -----------------------------------------------------------------------------------------------------


def judge(rows: list[dict[str, Any]], pairs: Pairs | None, extra: dict[str, Any]) -> list[Judgement]:
    """One line for each method, with its reason and the number behind it."""
    fewest = min(row["transitions"] for row in rows)
    if fewest < FEW_ROWS:
        own = Judgement("batch RL per task (train)", "care", f"the smallest log has {fewest} transitions", fewest)
    else:
        gain = np.mean([row["last_return"] - row["first_return"] for row in rows])
        own = Judgement(
            "batch RL per task (train)",
            "yes",
            f"at least {fewest} transitions a task; returns changed by {gain:.3g} along the logs",
            fewest,
        )
    if pairs is None:
        return [own, Judgement("everything across tasks", "no", "the log has one task", 1)]
    facts = Facts.of(pairs, rows, extra)
    return [
        own,
        _pooled(facts),
        _time(facts),
        _mbml(facts),
        _context(facts),
        _borel(facts),
        _relabelled(facts),
        _replay(facts),
    ]


@dataclass(frozen=True)
class Facts:
    """What the judgements are made of; shares are means over ordered pairs of different tasks."""

    tasks: int
    overlap: float  # state-action pairs of one task that another's log knows
    least_overlap: float
    contradictions: float  # of the overlapping rows, those with another reward or successor
    moved: float  # share of pairs whose dynamics differ
    late: float  # `overlap` of what the agents did in the end
    told: float  # in the end; 0: states and actions say nothing of the task; 1: everything
    ambiguous: list[tuple[str, str]]
    pairs: int
    weakest: float  # the least evidence of a pair
    family: str
    outcome: bool  # whether the log has what the family's reward needs

    @classmethod
    def of(cls, pairs: Pairs, rows: list[dict[str, Any]], extra: dict[str, Any]) -> "Facts":
        count = len(rows)
        off = ~np.eye(count, dtype=bool)
        evidence = np.maximum(pairs.reward_evidence, pairs.change_evidence)
        either = np.maximum(evidence, evidence.T)
        changes = np.maximum(pairs.change_evidence, pairs.change_evidence.T)
        upper = np.triu_indices(count, 1)
        names = [row["task"] for row in rows]
        known = pairs.identifiable
        return cls(
            tasks=count,
            overlap=float(pairs.both[off].mean()),
            least_overlap=float(np.maximum(pairs.both, pairs.both.T)[off].min()),
            contradictions=float(evidence[off].sum() / max(pairs.both[off].sum(), 1e-9)),
            moved=float((changes[upper] >= pairs.least).mean()),
            late=float(pairs.late[off].mean()),
            told=max(0.0, (pairs.told_late - 1 / count) / (1 - 1 / count)),
            ambiguous=[(names[i], names[j]) for i, j in zip(*upper, strict=True) if not known[i, j]],
            pairs=len(upper[0]),
            weakest=float(either[upper].min()),
            family=extra.get("family", ""),
            outcome=not extra.get("lacks"),
        )

    @property
    def doubt(self) -> str:
        """Which pairs cannot be told apart."""
        first = " and ".join(self.ambiguous[0]) if self.ambiguous else ""
        more = ", ..." if len(self.ambiguous) > 1 else ""
        count = f"{len(self.ambiguous)} of {self.pairs} pairs"
        return f"{count} share no state-action at which they visibly differ ({first}{more})"


def _pooled(facts: Facts) -> Judgement:
    name = "pooled batch SAC (metatrain)"
    said = f"{facts.contradictions:.0%} of what tasks share contradicts itself"
    if facts.contradictions < LITTLE and facts.overlap >= MUCH:
        return Judgement(name, "yes", f"tasks agree where they overlap: {said}", facts.contradictions)
    if facts.told >= TOLD and facts.contradictions < LITTLE:
        return Judgement(name, "care", f"states tell the task ({facts.told:.0%}), but not on a new one", facts.told)
    return Judgement(name, "no", f"one policy for all: {said}", facts.contradictions)


def _time(facts: Facts) -> Judgement:
    name = "tiMe (distill)"
    if facts.ambiguous:
        return Judgement(name, "care", f"its context must tell tasks apart: {facts.doubt}", len(facts.ambiguous))
    many = "" if facts.tasks >= FEW_TASKS else f"; {facts.tasks} tasks are few to generalise from"
    reason = f"all {facts.pairs} pairs differ visibly where they overlap (at least {facts.weakest:.0%} of rows){many}"
    return Judgement(name, "yes", reason, facts.weakest)


def _mbml(facts: Facts) -> Judgement:
    name = "MBML: relabelling by reward ensembles (relabel)"
    apart = f"; needed: in the end states and actions alone tell the task ({facts.told:.0%} of the way from chance), "
    need = apart + f"they overlap by {facts.late:.0%}" if facts.told >= TOLD else ""
    if facts.moved > 0.5:
        return Judgement(
            name, "care", f"dynamics differ in {facts.moved:.0%} of pairs: next_obs must be relabelled too", facts.moved
        )
    said = f"a task's log knows {facts.overlap:.0%} of another's state-actions"
    if facts.overlap >= MUCH:
        return Judgement(name, "yes", said + need, facts.overlap)
    if facts.overlap >= LITTLE:
        return Judgement(name, "care", f"{said}: the ensembles' filter drops most of the rest{need}", facts.overlap)
    return Judgement(name, "no", f"{said}: hardly a row passes the ensembles' filter{need}", facts.overlap)


def _context(facts: Facts) -> Judgement:
    name = "PEARL, MQL, contextual BCQ (metatrain)"
    if facts.told >= TOLD:
        said = f"in the end states and actions alone tell the task ({facts.told:.0%})"
        reason = f"{said}: contexts may be read without their rewards"
        return Judgement(name, "care", reason, facts.told)
    if facts.ambiguous:
        return Judgement(name, "care", facts.doubt, len(facts.ambiguous))
    return Judgement(
        name, "yes", f"states and actions alone do not tell the task ({facts.told:.0%}), rewards do", facts.told
    )


def _borel(facts: Facts) -> Judgement:
    name = "BOReL without relabelling (belief)"
    if facts.ambiguous:
        return Judgement(name, "no", f"not identifiable (its Proposition 2): {facts.doubt}", len(facts.ambiguous))
    reason = f"identifiable: each of {facts.pairs} pairs differs in at least {facts.weakest:.0%} of rows that overlap"
    return Judgement(name, "yes", reason, facts.weakest)


def _relabelled(facts: Facts) -> Judgement:
    name = "BOReL with reward relabelling (relabel)"
    if facts.moved > 0.5:
        return Judgement(name, "no", f"dynamics differ in {facts.moved:.0%} of pairs, rewards are not all", facts.moved)
    if facts.family and facts.outcome:
        return Judgement(name, "yes", f"the reward of {facts.family} is known for every row", 1.0)
    why = "the log lacks what the family's reward needs" if facts.family else "no family, so no known reward"
    fits = "care" if facts.overlap >= MUCH else "no"
    return Judgement(
        name, fits, f"{why}; a learned one knows {facts.overlap:.0%} of the other tasks' rows", facts.overlap
    )


def _replay(facts: Facts) -> Judgement:
    name = "BOReL with policy replay"
    if facts.family:
        return Judgement(name, "yes", f"{facts.family} can be simulated", 1.0)
    return Judgement(name, "no", "no family, so no simulator: import with --family NAME", 0.0)

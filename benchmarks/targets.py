"""What the results are held to: each target of a table as a figure and a verdict."""

from typing import Any

PER_TASK, POOLED, PEARL, TIME, NEAREST = (
    "batch SAC per task",
    "pooled batch SAC",
    "batch PEARL",
    "tiMe",
    "nearest goal's batch SAC",
)
PER_TASK_SCORE = 0.95
SHARE_OF_CEILING = 0.85
POOLED_GAP, PER_TASK_GAP = 0.5, 0.15
SLIGHTLY = 0.1  # of a score
HALF = 0.5
BAYES_SHARE = 0.85  # of the gridworld's Bayes-optimal return
ARC_SUM, ARC_FOUND = 75.0, 0.9  # the semicircle's two episodes; goals found in the first one
BLIND = -160.0  # an episode of a cheetah that never learns which velocity is asked for


def judge(results: dict[str, dict[str, Any]]) -> list[str]:
    """One line per target, `reached` or `MISSED` first, for the recipes that were run."""
    lines = _time_point(results["time-point"]) if "time-point" in results else []
    for recipe, what in (("time-point-random", "random share"), ("time-point-ablations", "ablations")):
        if recipe in results:
            lines += [f"figures  {what}: {label} {_text(row['all']['score'])}" for label, row in _rows(results[recipe])]
    if "time-point-spread" in results:
        rows = dict(_rows(results["time-point-spread"]))
        lines += [f"figures  unseen goals: {label} {_text(rows[label]['all']['score'])}" for label in rows]
    if "mbml-umaze-goal" in results:
        lines += _mbml(results["mbml-umaze-goal"])
    for recipe in ("mbml-halfcheetah-vel", "mbml-ant-goal"):  # Figure 4: their order is what it is
        if recipe in results:
            lines += [
                f"figures  {recipe}: {label} {_text(row['all']['return'])}" for label, row in _rows(results[recipe])
            ]
    if "mbml-disjoint" in results:
        lines += _disjoint(results["mbml-disjoint"])
    if "time-halfcheetah" in results:
        lines += _cheetah(results["time-halfcheetah"])
    for recipe, result in results.items():
        if recipe.startswith("borel-"):
            lines += _borel(recipe, result)
    for recipe, blind in (("mql-halfcheetah-vel", BLIND), ("mql-halfcheetah-dir", 0.0)):
        if recipe in results:
            lines += _mql(recipe, results[recipe], blind)
    for recipe, result in results.items():
        if recipe.startswith("compare-"):  # nobody has such a table: it is what it is
            for row in result["table"]["compared"][0]["methods"]:
                lines.append(f"figures  {recipe}: {row['label']} by its own protocol {_text(row['own'])}")
    return lines


def _rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(row["label"], row) for row in result["table"]["sections"][0]["methods"]]


def _text(interval: dict[str, Any]) -> str:
    if interval["low"] is None:
        return f"{interval['point']:.3f} (n={interval['n']})"
    return f"{interval['point']:.3f} [{interval['low']:.3f}, {interval['high']:.3f}] (n={interval['n']})"


def _line(reached: bool, text: str) -> str:
    return f"{'reached' if reached else 'MISSED '}  {text}"


def _gaps(result: dict[str, Any], step: str) -> list[float]:
    return [one["metrics"]["value_gap"] for one in result["steps"] if one["step"] == step]


def _time_point(result: dict[str, Any]) -> list[str]:
    rows = dict(_rows(result))
    section = result["table"]["sections"][0]
    ceilings = dict(zip(section["tasks"], section["references"]["ceiling"]["score"], strict=False))
    goals = list(rows[TIME]["tasks"]["score"])
    pooled = {goal: rows[POOLED]["tasks"]["score"][goal] for goal in goals}
    worst = sorted(goals, key=lambda goal: pooled[goal]["point"])[:2]
    lines = []
    for goal in goals:
        own, mine = rows[PER_TASK]["tasks"]["score"][goal], rows[TIME]["tasks"]["score"][goal]
        wanted = SHARE_OF_CEILING * ceilings[goal]
        lines.append(_line(own["point"] >= PER_TASK_SCORE, f"{goal} batch SAC {_text(own)} >= {PER_TASK_SCORE}"))
        lines.append(
            _line(
                mine["point"] >= wanted,
                f"{goal} tiMe {_text(mine)} >= {wanted:.3f} = 0.85 x ceiling {ceilings[goal]:.3f}",
            )
        )
    for goal in worst:
        mine = rows[TIME]["tasks"]["score"][goal]
        apart = mine["low"] is not None and mine["low"] > pooled[goal]["high"]
        lines.append(_line(apart, f"{goal} tiMe's low end {_text(mine)} above pooled's high end {_text(pooled[goal])}"))
    high, low = _gaps(result, "eval-pooled"), _gaps(result, "eval-teachers")
    lines.append(_line(min(high) > POOLED_GAP, f"pooled value gap, least of {len(high)} seeds: {min(high):.3f} > 0.5"))
    worst_gap = max(low, key=abs)
    lines.append(
        _line(abs(worst_gap) < PER_TASK_GAP, f"per-task value gap, largest of {len(low)} seeds: {worst_gap:.3f} < 0.15")
    )
    lines.append(f"figures  batch PEARL {_text(rows[PEARL]['all']['score'])}")
    return lines


def _mbml(result: dict[str, Any]) -> list[str]:
    """MBML above its baselines, and ground-truth relabelling hardly above it (MBML Figures 4 and 6)."""
    against = {one["other"]: one for one in result["table"]["differences"]}
    above = ("contextual BCQ", "batch PEARL", "Neither")
    lines = [_line(against[other]["low"] > 0, f"maze: MBML - {other} {_text(against[other])} > 0") for other in above]
    known = against["ground truth"]
    return [*lines, _line(known["point"] >= -SLIGHTLY, f"maze: MBML - ground truth {_text(known)} >= -{SLIGHTLY}")]


def _cheetah(result: dict[str, Any]) -> list[str]:
    """Zero-shot beside SAC from scratch, and above cross-entropy search on its value (tiMe section 5.2, Figure 3)."""
    lines = [
        f"figures  cheetah, unseen velocities: {label} {_text(row['all']['return'])}" for label, row in _rows(result)
    ]
    searched = next(one for one in result["table"]["differences"] if one["other"] == "tiMe, CEM")
    return [*lines, _line(searched["low"] > 0, f"cheetah: tiMe - tiMe, CEM {_text(searched)} > 0")]


def _borel(recipe: str, result: dict[str, Any]) -> list[str]:
    """What BOReL is held to where a bound is known, and what each arm returns (BOReL Figures 3 and 4)."""
    domain, rows = recipe.removeprefix("borel-"), dict(_rows(result))
    lines = [f"figures  {domain}: {label} {_text(row['all']['sum_return'])}" for label, row in rows.items()]
    of = rows["BOReL"]["all"]
    wanted = {
        "gridworld": {"bayes_fraction": BAYES_SHARE},
        "point-semicircle-sparse": {"sum_return": ARC_SUM, "episode_1_success": ARC_FOUND},
        "halfcheetah-vel": {"return": BLIND},
    }
    for name, least in wanted.get(domain, {}).items():
        lines.append(_line(of[name]["point"] >= least, f"{domain}: BOReL's {name} {_text(of[name])} >= {least}"))
    return lines


def _mql(recipe: str, result: dict[str, Any], blind: float) -> list[str]:
    """A context is what matters (MQL Figure 2), and what adaptation adds to it (Figure 4), pair by pair."""
    rows = dict(_rows(result))
    lines = [f"figures  {recipe}: {label} {_text(row['all']['return'])}" for label, row in rows.items()]
    without, with_context = rows["TD3"]["all"]["return"], rows["TD3-context"]["all"]["return"]
    apart = with_context["low"] is not None and with_context["low"] > max(without["high"], blind)
    said = f"above TD3's high end {_text(without)} and {blind:g}"
    lines.append(_line(without["point"] <= blind, f"{recipe}: TD3 {_text(without)} <= {blind:g}, who never knows"))
    lines.append(_line(apart, f"{recipe}: TD3-context's low end {_text(with_context)} {said}"))
    differences = [one for one in result["table"]["differences"] if one["method"] == "MQL"]
    return [*lines, *(f"figures  {recipe}: MQL - {one['other']} {_text(one)}" for one in differences)]


def _disjoint(result: dict[str, Any]) -> list[str]:
    """The probe and where the goals are reached (MBML Figure 1)."""
    probes = {one["label"]: one["reward_share"] for one in result["table"]["probes"]}
    lines = []
    for label, reads in (("MBML", True), ("Neither", False)):
        share, worse = probes[label], _worse(result, f"eval-{label.lower()}")
        wanted = share["low"] > HALF if reads else share["high"] < HALF
        lines.append(_line(wanted, f"disjoint: {label} reward share {_text(share)} {'>' if reads else '<'} {HALF}"))
        arrives = min(worse) > HALF if reads else max(worse) < HALF
        seeds = ", ".join(f"{score:.2f}" for score in worse)
        lines.append(
            _line(arrives, f"disjoint: {label} at each seed's worse goal {seeds}, all {'>' if reads else '<'} {HALF}")
        )
    return lines


def _worse(result: dict[str, Any], step: str) -> list[float]:
    """Each seed's score on the task that it does worst."""
    scores = [
        {k: v for k, v in one["metrics"].items() if k.startswith("score/")}
        for one in result["steps"]
        if one["step"] == step
    ]
    return [min(each.values()) for each in scores]

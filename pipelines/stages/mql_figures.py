"""MQL's figures (Fakoor et al. 2020), each from what was given to the report, or one line that says what it lacks: how
far a context alone goes (Figures 1 and 2), MQL beside PEARL (3), its ablations (4), beta and lambda over training (5),
and beside them windows and contexts of other sizes.

Returns are means over validation tasks, curves over the environment's steps of meta-training. MAML, RL2 and ProMP learn
on-policy and are not run here; where the paper has them a column says so. S seeds, N snapshots, T tasks.
"""

from collections.abc import Callable, Iterator, Sequence

from pipelines.core.names import slug
from pipelines.core.statistics import band
from pipelines.figures import Band
from pipelines.figures.exploring import Arms, bars
from pipelines.figures.panels import Level, Line, Panel, Rungs, curves, ladder
from pipelines.stages.paper_given import Found, Given, body_of, cell_of, dot_of, line_of, of_all, picture, rows_of
from pipelines.stages.report_figures import along, shown
from pipelines.stages.results import Row, Section

FOUR = ("ant-fwd-back", "ant-goal", "halfcheetah-dir", "halfcheetah-vel")  # bodies of Figures 1 and 2
SIX = (*FOUR, "humanoid-dir", "walker-params")  # and of Figure 3
NOT_RUN = "not run"
STEPS = "meta-training steps"
EVAL = "omrl run mql-FAMILY, or omrl eval with curve_episodes"
ABLATIONS = ("context", "new_only", "tenth", "half", "scripts")
PAIRS = {"adaptation": ("context",), "Eq. 19": ("new_only",), "lambda": ("tenth", "half")}  # Figures 4a, 4b, 4c
SIZES = ("window_own", "window_short", "window_long", "context_small", "context_large")
SAID = {"pull": 0.55, "beta": 0.8}  # of Figure 5, in the paper's words
PAPER_HUE = 7


def figure_1(given: Given) -> Found:
    """Bars of the returns at the end: a context alone beside PEARL."""
    labels = _labels(given, "context", "pearl")
    used, lacks = _used(given, labels, FOUR)
    if not used:
        return Found("Figure 1", lacks=lacks)
    panels = [
        Arms(section.family, [dot_of(given, row, row.returns[-1]) for row in rows_of(section, labels)], {})
        for section in used
    ]
    text = f"Return on validation tasks at the end of meta-training. {of_all(used)}. {_on_policy('MAML')}"
    return Found(
        "Figure 1",
        picture("figure-1", "Figure 1", text, bars(panels)),
        lacks=lacks,
        table=_table(used, labels, ("MAML",)),
        caption=text,
    )


def figure_2(given: Given) -> Found:
    """Curves of TD3, TD3 with a context, and PEARL."""
    labels = _labels(given, "td3", "context", "pearl")
    used, lacks = _used(given, labels, FOUR, curve=True)
    text = "TD3 without a context, with one, and PEARL: return on validation tasks, none of which is adapted to"
    return _curves(given, "Figure 2", used, labels, text, lacks)


def figure_3(given: Given) -> Found:
    """Curves of the method, adapted, and PEARL, with a table whose other columns say what is not run."""
    method, pearl, others = given.config.method, given.config.label_of("pearl"), ("MAML", "RL2", "ProMP")
    ends = [section for section in given.of("test") if (row := section.row(method)) and row.adapting]
    if not ends:
        return Found("Figure 3", lacks=(given.wanted(method, "test", "omrl eval --protocol adapt"),))
    curved, lacks = _used(given, [method, pearl], SIX, curve=True)
    text = f"{method}, each snapshot adapted to each validation task, and {pearl}: their return there"
    found = _curves(given, "Figure 3", [one for one in curved if one in ends], [method, pearl], text, lacks)
    caption = f"Return on validation tasks at the end. {of_all(ends)}. {_on_policy(*others)}"
    return found._replace(table=_table(ends, [method, pearl], others), caption=caption)


def figure_4(given: Given) -> Found:
    """What adaptation is worth: without it, without Eq. 19, with lambda as a number; at the end, and over training."""
    method, parts = given.config.method, _labels(given, *ABLATIONS)
    used = [section for section in given.of("test") if section.row(method) and rows_of(section, parts)]
    if not used:
        some = ", ".join(map(repr, parts))
        return Found("Figure 4", lacks=(f"evaluations on test tasks labelled {method!r} and any of {some} ({EVAL})",))
    rungs, panels = [], []
    for section in used:
        dots = [dot_of(given, row, row.returns[-1]) for row in rows_of(section, [method, *parts])]
        rungs.append(Rungs(section.family, dots, "return"))
        for what, names in PAIRS.items():
            lines = _lines(given, section, [method, *_labels(given, *names)])
            panels += [Panel(f"{section.family}\n{what}", lines, (), STEPS)] if len(lines) > 1 else []
    text = f"{method} and itself without its parts: return on validation tasks. {of_all(used)}."
    drawn = [*picture("figure-4", "Figure 4", text, ladder(rungs))]
    if panels:
        drawn += picture("figure-4-curves", "Figure 4, over training", text, curves(panels))
    seen = {row.label for section in used for row in rows_of(section, parts)}
    lacks = tuple(given.wanted(label, "test", EVAL) for label in parts if label not in seen)
    return Found("Figure 4", tuple(drawn), lacks=lacks)


def figure_5(given: Given) -> Found:
    """Lambda and beta of the snapshots' rounds of adaptation, with what the paper says of them."""
    method, panels, used = given.config.method, [], []
    for section in given.of("test"):
        if (row := section.row(method)) is None or not row.adapting:
            continue
        for name, title in (("pull", "λ = 1 - ESS"), ("beta", "β")):
            if line := _round(given, row, f"curve_adapt_{name}"):
                said = Level("the paper's, of Ant-Fwd-Back", PAPER_HUE, SAID[name], float("nan"), float("nan"))
                panels.append(Panel(f"{section.family}\n{title}", [line], [said], STEPS, title[0]))
                used += [] if section in used else [section]
    if not panels:
        how = "omrl eval --protocol adapt with curve_episodes"
        return Found("Figure 5", lacks=(given.wanted(method, "test", how),))
    text = (
        f"Adapting snapshots of {method} on the log as it was then: the strength of the proximal term and the mean "
        "weight of old rows, means over validation tasks. Dashed: about 0.55 and 0.8, as the paper's text has them of "
        f"Ant-Fwd-Back. {of_all(used)}."
    )
    return Found("Figure 5", picture("figure-5", "Figure 5", text, curves(panels)))


def sizes(given: Given) -> Found:
    """Windows and contexts of other sizes, learned from one log."""
    labels = _labels(given, *SIZES)
    used, lacks = _used(given, labels, ())
    if not used:
        some = ", ".join(map(repr, labels))
        how = "omrl run mql-sizes-FAMILY"
        return Found("Window and context", lacks=(f"evaluations on test tasks labelled any of {some} ({how})",))
    rungs = [
        Rungs(section.family, [dot_of(given, row, row.returns[-1]) for row in rows_of(section, labels)], "return")
        for section in used
    ]
    text = (
        "TD3-context learned from one log, with windows and contexts of other sizes, where nothing else is said 20 "
        f"steps and 20 numbers: return on validation tasks. {of_all(used)}."
    )
    drawn = picture("window-and-context", "Window and context", text, ladder(rungs))
    return Found("Window and context", drawn, lacks=lacks)


# ---- what they share -------------------------------------------------------------------------------------------------


def _labels(given: Given, *parts: str) -> list[str]:
    return [given.config.label_of(part) for part in parts]


def _lines(given: Given, section: Section, labels: Sequence[str]) -> list[Line]:
    return [line for row in rows_of(section, labels) if (line := line_of(given, row))]


def _round(given: Given, row: Row, name: str) -> Line | None:
    """A number of the snapshots' rounds, mean over tasks; None where snapshots did not adapt."""
    if any(run.data["curve_step"].size and name not in run.data for run in row.runs):
        return None
    steps, *found = along(row, (name,))
    return Line(shown(row), given.hue(row.label), steps, Band(*band(found[0].mean(-1)))) if len(steps) else None


def _used(
    given: Given, labels: Sequence[str], bodies: Sequence[str], curve: bool = False
) -> tuple[list[Section], tuple[str, ...]]:
    """Sections with any of the labels (`curve`: over training), and what is not there of labels and of `bodies`."""

    def rows(section: Section) -> Iterator[Row]:
        return (row for row in rows_of(section, labels) if not curve or line_of(given, row))

    seen = {section.title: [row.label for row in rows(section)] for section in given.of("test")}
    used = [section for section in given.of("test") if seen[section.title]]
    there = {label for found in seen.values() for label in found}
    lacks = [given.wanted(label, "test", EVAL) for label in labels if label not in there]
    missing = [body for body in bodies if body not in {body_of(section.family) for section in used}]
    return used, (*lacks, *([f"evaluations on {', '.join(missing)}"] if missing and used else []))


def _curves(
    given: Given, figure: str, used: Sequence[Section], labels: Sequence[str], text: str, lacks: tuple[str, ...]
) -> Found:
    """A panel for each family."""
    if not used:
        return Found(figure, lacks=lacks)
    panels = [Panel(section.family, _lines(given, section, labels), (), STEPS) for section in used]
    caption = f"{text}. {of_all(used)}."
    return Found(figure, picture(slug(figure.lower()), figure, caption, curves(panels)), lacks=lacks)


def _table(sections: Sequence[Section], labels: Sequence[str], others: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Returns at the end by family, header first; the columns of `others` say that they are not run."""
    rows = [("family", *labels, *others)]
    for section in sections:
        found = [section.row(label) for label in labels]
        cells = [cell_of(row.returns[-1]) if row else "" for row in found]
        rows.append((section.family, *cells, *[NOT_RUN] * len(others)))
    return tuple(rows)


def _on_policy(*others: str) -> str:
    """Of the columns that stay empty."""
    several = len(others) > 1
    names = f"{', '.join(others[:-1])} and {others[-1]}" if several else others[0]
    return f"{names} learn{'' if several else 's'} on-policy and {'are' if several else 'is'} not run."


FIGURES: tuple[Callable[[Given], Found], ...] = (figure_1, figure_2, figure_3, figure_4, figure_5, sizes)

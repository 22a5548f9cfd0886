"""What `inspect` saw, as a picture and as a page."""

import base64
import html
from typing import Any

import numpy as np

from pipelines.figures.heat import Map, heat_maps
from pipelines.stages.inspect import Seen
from pipelines.stages.sparks import sparkline

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2430}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;border-bottom:1px solid #d9dde3;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}.yes{color:#00734f}.care{color:#9a6a00}.no{color:#b23a00}
img{max-width:100%}"""


def picture(seen: Seen) -> bytes:
    """A PNG: overlap of states, of actions, of both in the end, and where rewards or dynamics disagree."""
    pairs = seen.pairs
    assert pairs is not None
    evidence = np.maximum(pairs.reward_evidence, pairs.change_evidence)
    maps = [
        Map("State known", pairs.states),
        Map("State and action known", pairs.both),
        Map("The same, last third of the log", pairs.late),
        Map("Known, with another outcome", evidence, 0.0, max(float(evidence.max()), 0.05)),
    ]
    return heat_maps(maps, [row["task"] for row in seen.tasks])


def page(seen: Seen, title: str) -> str:
    """One HTML file, the picture in it."""
    rows = seen.tasks
    values = [value for row in rows for value in row["over_time"]]
    low, high = min(values), max(values)
    body = [f"<h1>{html.escape(title)}</h1>", "<h2>Verdict</h2>", "<table><tr><th>method<th>fits<th>because</tr>"]
    body += [
        f'<tr><td>{html.escape(one.method)}<td class="{one.fits}">{one.fits}<td>{html.escape(one.reason)}</tr>'
        for one in seen.judgements
    ]
    head = ("task", "transitions", "episodes", "length", "return 5%", "50%", "95%", "coverage", "over time")
    body += ["</table>", "<h2>Tasks</h2>", "<table><tr>" + "".join(f"<th>{cell}" for cell in head) + "</tr>"]
    names = ("transitions", "episodes", "length", "return_5", "return_50", "return_95", "coverage")
    for row in rows:
        numbers = "".join(f'<td class="n">{_number(row.get(name))}' for name in names)
        spark = sparkline(row["over_time"], low, high)
        body.append(f"<tr><td>{html.escape(str(row['task']))}{numbers}<td>{spark}</tr>")
    body.append("</table>")
    if seen.pairs is not None:
        image = base64.b64encode(picture(seen)).decode()
        body += ["<h2>Pairs of tasks</h2>", f'<img alt="heat maps of pairs" src="data:image/png;base64,{image}">']
    head_html = f"<meta charset=utf-8><title>{html.escape(title)}</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang=en><head>{head_html}</head><body>{''.join(body)}</body></html>\n"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.4g}"

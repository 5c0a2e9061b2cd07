"""report.html of a plan: the load of ranks before and after, what each layer waits for, the wire.

One self-contained page without scripts; its tables and pictures are plain HTML and SVG.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import numpy as np

from supertile.targets.output.load_picture import layer_picture, rank_picture
from supertile.targets.output.units import seconds_text
from supertile.targets.placement.expert_map import over_mean
from supertile.targets.plan.comparison import EPLB, PLANNED, gain_over
from supertile.targets.plan.planned import Planned

FOLDER = Path(__file__).parent
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
COLUMNS = (
    ("layer", "number in the model"),
    ("before", "largest load of a rank over the mean, before planning"),
    ("planned", "the same, as planned"),
    ("lower bound", "no placement in these slots has less"),
    ("over bound", "planned over lower bound"),
    ("replicas", "most replicas of an expert"),
)
EXPECTED = ("expected", "mean over largest load over scenarios, shares split anew in each batch")
"""The column of plans that scenarios were drawn for."""


def plan_report(planned: Planned) -> str:
    """The page of a plan."""
    title = f"{planned.model} on {planned.machine}: placement of experts"
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    body = "\n".join(_body(planned, title))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>{style}</style></head><body><main>
{body}
</main></body></html>
"""


def _body(planned: Planned, title: str) -> Iterator[str]:
    yield f"<header><h1>{escape(title)}</h1>"
    yield f"<p>{escape(planned.slots_text)} · loads: {escape(planned.loads_source)}</p>"
    yield f"<p><code>{escape(planned.deployment)}</code></p></header>"
    if planned.gain:
        yield f"<p><b>{escape(planned.gain)}</b></p>"
    yield from _cards(planned)
    if planned.steps:
        yield from _section("Placements under these loads", [_placements(planned)])
    yield from _pictures(planned)
    columns = COLUMNS if planned.expected is None else (*COLUMNS, EXPECTED)
    yield from _section("Layers", [plain_table(columns, _layer_rows(planned))])
    if planned.communication:
        yield from _section("Communication and bounds", [_lines(planned.communication)])
    yield from _section("Notes", [_lines(planned.notes) if planned.notes else "<p>None.</p>"])


def _section(title: str, parts: Iterable[str]) -> Iterator[str]:
    yield f"<section><h2>{escape(title)}</h2>"
    yield from parts
    yield "</section>"


def _cards(planned: Planned) -> Iterator[str]:
    yield '<div class="cards">'
    for name, value, text in planned.headlines():
        yield (
            f'<div class="card"><span>{escape(name)}</span><b>{escape(value)}</b>'
            f"<small>{escape(text)}</small></div>"
        )
    yield "</div>"


def _pictures(planned: Planned) -> Iterator[str]:
    sides = list(planned.loads.items())
    fitting = (EPLB, PLANNED)
    drawn = layer_picture(planned.layers, sides, planned.bound, fitting)
    yield from _section("Fullest rank of each layer", [drawn])
    before = over_mean(planned.loads[planned.before_name]).max(axis=1)
    worst = int(np.argmax(before))
    yield from _section(
        f"Ranks of layer {planned.layers[worst]}, the least balanced before",
        [rank_picture([(name, loads[worst]) for name, loads in sides], fitting)],
    )


def _placements(planned: Planned) -> str:
    """A row for each placement: balance, and the step with it."""
    tokens = "prompt tokens" if planned.phase == "prefill" else "tokens"
    columns = (
        ("placement", "where the experts are"),
        ("load / mean", "largest load of a rank over the mean, mean over layers"),
        ("layer time", "how long dispatch, experts or combine of a layer run, chance included"),
        ("step", "one step of all layers"),
        ("tokens/s", f"{tokens} per second per {planned.device_unit}, of the whole step"),
        ("gain", "tokens per second of the plan over those of this placement"),
    )
    rows = []
    for name, step in planned.steps.items():
        rate = f"{step.tokens_per_second_per_device:,.1f}"
        times = (seconds_text(step.layer_seconds), seconds_text(step.step_seconds))
        fullest = f"{over_mean(planned.loads[name]).max(axis=1).mean():.4f}"
        gain = "" if name == PLANNED else f"{100 * gain_over(planned.steps, name):+.1f} %"
        rows.append([name, fullest, *times, rate, gain])
    return plain_table(columns, rows)


def _layer_rows(planned: Planned) -> Iterator[list[str]]:
    before = over_mean(planned.loads[planned.before_name]).max(axis=1)
    after = over_mean(planned.loads[PLANNED]).max(axis=1)
    mean = planned.loads[PLANNED].mean(axis=1)
    for row, layer in enumerate(planned.layers):
        bound = planned.bound[row] / mean[row] if mean[row] > 0 else 1.0
        expected = planned.expected
        yield [
            str(layer),
            f"{before[row]:.3f}",
            f"{after[row]:.3f}",
            f"{bound:.3f}",
            f"{after[row] / bound:.4f}",
            str(int(planned.replicas[row].max())),
            *([] if expected is None else [f"{expected[row]:.3f}"]),
        ]


def plain_table(columns: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]]) -> str:
    """A table of numbers as text; columns are (title, what it means)."""
    head = "".join(
        f'<th scope="col" class="number" title="{escape(meaning)}">{escape(name)}</th>'
        for name, meaning in columns
    )
    body = "\n".join(
        "<tr>" + "".join(f'<td class="number">{escape(cell)}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _lines(lines: Sequence[str]) -> str:
    return "<pre>" + escape("\n".join(lines)) + "</pre>"

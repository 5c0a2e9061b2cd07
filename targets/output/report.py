"""report.html: one page that says where a step's time goes, and on whose word.

It is self-contained: style, scripts and data are in it, and it asks the network for nothing. Tables
are plain HTML; the timeline is drawn by the scripts from the JSON in the page.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from supertile.targets.output.html import badge, part_class, stacked_bar
from supertile.targets.output.ops import Operation, kinds_of, operations_of
from supertile.targets.output.report_data import report_data, script_text
from supertile.targets.output.report_tables import (
    figure_table,
    memory_block,
    operation_table,
    summary_table,
)
from supertile.targets.output.step import EXPOSED, PARTS, split_step, step_duration
from supertile.targets.output.summary import assumed_figures, memory_verdict
from supertile.targets.output.units import (
    bytes_text,
    label_text,
    seconds_text,
    share_text,
    value_text,
)
from supertile.targets.timeline import Timeline

SIZE_LIMIT = 1_000_000
"""Bytes of a page; formulas are cut to these lengths, one after the other, until it is below."""
TEXT_LIMITS = (4000, 400, 160, 60)
FOLDER = Path(__file__).parent
SCRIPTS = ("timeline.js", "details.js", "page.js")
# No request can leave the page, whatever text it holds.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
HEADLINES = (
    "step_ms",
    "time_per_output_token_ms",
    "time_to_first_token_ms",
    "tokens_per_second_per_device",
    "prefill_tokens_per_second_per_device",
    "exposed_communication_ms",
)
SECTIONS = {
    "where": "Where the step goes",
    "timeline": "Timeline",
    "memory": "Memory of one device",
    "operations": "Operations",
    "machine": "Figures of the machine",
    "fields": "All figures of the summary",
    "notes": "Notes",
}
VERDICTS = ("verified", "partly verified", "unverified")


def report_page(timeline: Timeline) -> str:
    """The page, below `SIZE_LIMIT` unless the tables alone exceed it."""
    body = "\n".join(_body(timeline))
    page = ""
    for limit in TEXT_LIMITS:
        page = _page(timeline, body, script_text(report_data(timeline, limit)))
        if len(page.encode("utf-8", "surrogateescape")) < SIZE_LIMIT:
            break
    return page


def _page(timeline: Timeline, body: str, data: str) -> str:
    style = (FOLDER / "report.css").read_text(encoding="utf-8")
    scripts = "".join((FOLDER / name).read_text(encoding="utf-8") for name in SCRIPTS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(f"{timeline.model} on {timeline.machine}")}</title>
<style>{style}</style></head><body>
{body}
<script type="application/json" id="data">{data}</script>
<script>{scripts}</script>
</body></html>
"""


def _body(timeline: Timeline) -> Iterator[str]:
    operations, step = operations_of(timeline), step_duration(timeline)
    yield "<main>"
    yield from _header(timeline)
    yield from _warning(timeline)
    yield from _cards(timeline)
    yield from _where(timeline, operations, step)
    yield from _timeline()
    yield from _section("memory", memory_block(timeline))
    yield from _section("operations", [operation_table(timeline, operations, step)])
    yield from _section("machine", _machine(timeline))
    yield from _section("fields", [summary_table(timeline)])
    yield from _section("notes", _notes(timeline))
    yield "</main>"
    yield '<aside id="details" role="dialog" aria-label="details" hidden></aside>'
    yield '<div id="tip" role="tooltip" hidden></div>'


def _section(name: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield f'<section id="section-{name}"><h2>{SECTIONS[name]}</h2>'
    yield from lines
    yield "</section>"


def _header(timeline: Timeline) -> Iterator[str]:
    verdict = next((v for v in timeline.summary.values() if v in VERDICTS), None)
    mark = f' <span class="badge trust">{escape(str(verdict))}</span>' if verdict else ""
    title = f"{escape(timeline.model)} <small>on</small> {escape(timeline.machine)}"
    yield f"<header><h1>{title}{mark}</h1>"
    devices = "device is" if timeline.ranks == 1 else "devices, each"
    facts = [timeline.phase, f"{timeline.ranks:,} {devices} one {timeline.device_unit}"]
    facts += [f"config {timeline.config}"] if timeline.config else []
    yield f"<p>{escape(' · '.join(facts))}</p>"
    yield f"<p><code>{escape(timeline.deployment)}</code></p>"
    yield "<nav>" + " ".join(_goto(name, title) for name, title in SECTIONS.items())
    yield "</nav></header>"


def _goto(section: str, shown: str) -> str:
    return f'<button type="button" class="link" data-goto="section-{section}">{shown}</button>'


def _warning(timeline: Timeline) -> Iterator[str]:
    """What does not fit is said before any figure about speed."""
    if timeline.memory.fits:
        return
    yield f'<div class="warning"><b>Memory {escape(memory_verdict(timeline))}.</b><ul>'
    yield from (f"<li>{escape(note)}</li>" for note in timeline.notes)
    yield "</ul></div>"


def headline_keys(timeline: Timeline) -> list[str]:
    """The fields of the summary that stand on top; others follow where there are few."""
    given = {key for key, value in timeline.summary.items() if _is_figure(value)}
    first = [key for key in HEADLINES if key in given]
    others = [key for key in timeline.summary if key in given - set(first)]
    return first + others[: max(0, 4 - len(first))]


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cards(timeline: Timeline) -> Iterator[str]:
    yield '<div class="cards">'
    for key in headline_keys(timeline):
        shown = value_text(key, timeline.summary[key])
        definition = escape(timeline.definitions.get(key, ""))
        yield (
            f'<button type="button" class="card" data-field="{escape(key)}"'
            f' data-definition="{definition}"><span>{escape(label_text(key))}</span>'
            f"<b>{escape(shown)}</b><small>{definition}</small></button>"
        )
    memory = timeline.memory
    yield (
        '<button type="button" class="card" data-goto="section-memory"><span>memory</span>'
        f"<b>{bytes_text(memory.total)}</b><small>of {bytes_text(memory.capacity)} usable on one "
        f"{escape(timeline.device_unit)}; weights, caches, buffers</small></button></div>"
    )


def _where(timeline: Timeline, operations: list[Operation], step: float) -> Iterator[str]:
    split = {part: seconds for part, seconds in split_step(timeline).items() if step}
    shown = {part: seconds for part, seconds in split.items() if seconds > 1e-6 * step}
    yield f'<section id="section-where" class="halves"><div><h2>{SECTIONS["where"]}</h2>'
    yield f"<p>One step takes {seconds_text(step)}. Each moment of it counts once.</p>"
    yield stacked_bar(
        (part_class(part), seconds / step, f"{part}: {seconds_text(seconds)}")
        for part, seconds in shown.items()
    )
    yield '<ul class="legend parts">'
    for part, seconds in shown.items():
        time = f'<span class="whole">{seconds_text(seconds)}</span>'
        head = f'<i class="dot {part_class(part)}"></i><b>{share_text(seconds / step)}</b> {part}'
        yield f"<li>{head}, {time}<small>{escape(PARTS[part])}</small></li>"
    yield "</ul>"
    if timeline.loads:
        yield f"<p>Loads of the experts: {escape(timeline.loads)}.</p>"
    if timeline.overlap:
        yield f"<p>Communication is hidden by: {escape(timeline.overlap)}.</p>"
    if timeline.condition:
        yield f"<p>Where arithmetic bounds the experts, {escape(timeline.condition)}.</p>"
    yield "</div><div>"
    yield from _kinds(operations, step)
    yield "</div></section>"


def _kinds(operations: list[Operation], step: float) -> Iterator[str]:
    """A bar for each kind of work, the longest first, coloured by what bounds it."""
    kinds = kinds_of(operations)
    longest = max((kind.total + kind.hidden for kind in kinds.values()), default=0.0)
    if not longest:
        return
    yield '<h3>By kind of work</h3><div class="kinds">'
    for name, kind in kinds.items():
        pieces = [
            (part_class(part), seconds / longest, f"{name}, {part}: {seconds_text(seconds)}")
            for part, seconds in kind.own.items()
        ]
        unseen = f"{name}, hidden by kernels: {seconds_text(kind.hidden)}"
        pieces.append((f"pale {part_class(EXPOSED)}", kind.hidden / longest, unseen))
        yield f"<span>{escape(name)}</span>{stacked_bar(pieces)}"
        yield f"<span>{seconds_text(kind.total)}</span><span>{share_text(kind.total / step)}</span>"
    yield "</div>"
    hidden = sum(kind.hidden for kind in kinds.values())
    if hidden > 1e-6 * step:
        yield f"<p>Pale: {seconds_text(hidden)} of transfers that kernels hide; not counted.</p>"


def _timeline() -> Iterator[str]:
    yield f'<section id="section-timeline"><h2>{SECTIONS["timeline"]}</h2>'
    yield "<p>Above: the step, a block for each run of a layer. Below: one run of the chosen layer."
    yield "Click a bar for its formula and sources; drag or scroll with Ctrl to zoom. Transfers"
    yield "are pale where kernels hide them.</p>"
    yield '<div id="overview"></div><div id="programs" role="tablist"></div>'
    yield '<div id="zoom"><button type="button" data-zoom="0.5" aria-label="zoom in">+</button>'
    yield '<button type="button" data-zoom="2" aria-label="zoom out">−</button>'
    yield '<button type="button" data-zoom="all">all</button><span id="span"></span></div>'
    yield '<div id="lanes"></div>'
    yield "<noscript><p>The timeline needs scripts; the tables below do not.</p></noscript>"
    yield "</section>"


def _machine(timeline: Timeline) -> Iterator[str]:
    assumed = assumed_figures(timeline)
    if assumed:
        named = ", ".join(f"<code>{escape(figure.path)}</code>" for figure in assumed)
        yield f"<p>{badge('assumed')} and behind 5 % of the step or more: {named}</p>"
    yield figure_table(timeline)


def _notes(timeline: Timeline) -> Iterator[str]:
    if not timeline.notes:
        yield "<p>None.</p>"
        return
    yield "<ul>"
    yield from (f"<li>{escape(note)}</li>" for note in timeline.notes)
    yield "</ul>"

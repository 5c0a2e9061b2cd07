"""One self-contained page about a run of passes: times, op counts, and what each pass changed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from supertile.passes.driver import PassRecord, Report

STYLE = """
:root { color-scheme: light dark; --page: #fdfdfc; --text: #1d1f21; --faint: #8a8f94;
  --line: #dfe1e3; --bar: #f4f4f2; --added: #e2f4e4; --removed: #fbe5e3; --accent: #2455a4; }
@media (prefers-color-scheme: dark) { :root { --page: #17191b; --text: #dcdfe2; --faint: #7d838a;
  --line: #32363a; --bar: #1e2124; --added: #17351f; --removed: #42201e; --accent: #8ab4f8; } }
* { box-sizing: border-box; }
body { margin: 0; display: grid; grid-template-columns: 16rem minmax(0, 1fr); color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1rem;
  background: var(--bar); border-right: 1px solid var(--line); }
nav h1 { font-size: 1rem; margin: 0 0 1rem; }
nav h2 { font-size: .75rem; font-weight: 600; margin: 1rem 0 .25rem; color: var(--faint);
  text-transform: uppercase; letter-spacing: .06em; }
nav a { display: flex; justify-content: space-between; gap: .5rem; padding: .15rem 0;
  color: var(--accent); text-decoration: none; }
nav a:hover { text-decoration: underline; }
nav a.unchanged { color: var(--faint); }
nav a span, td.number { font-variant-numeric: tabular-nums; }
main { padding: 1.5rem 2rem 6rem; max-width: 90rem; }
section { margin-bottom: 3rem; scroll-margin-top: 1rem; }
section.unchanged h2 { color: var(--faint); }
h2 { font-size: 1.3rem; margin: 0 0 .25rem; }
h3 { font-size: 1rem; display: inline; font-weight: 600; }
p { margin: .25rem 0 .75rem; color: var(--faint); }
.failure { color: inherit; background: var(--removed); padding: .75rem 1rem; border-radius: 6px;
  white-space: pre-wrap; font-family: ui-monospace, Menlo, Consolas, monospace; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; }
th, td { text-align: left; padding: .15rem 1.25rem .15rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; }
details { margin: .75rem 0; }
summary { cursor: pointer; }
pre { margin: .5rem 0; padding: .75rem 0; overflow-x: auto; background: var(--bar);
  border: 1px solid var(--line); border-radius: 6px;
  font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre span { display: block; min-width: max-content; padding: 0 1rem; }
.added { background: var(--added); }
.removed { background: var(--removed); }
.hunk { color: var(--faint); }
@media (max-width: 50rem) { body { display: block; }
  nav { position: static; height: auto; border-right: 0; border-bottom: 1px solid var(--line); } }
"""


def trace_page(report: Report) -> str:
    """The page. Passes are numbered as their dumps are."""
    passes = list(enumerate(report.passes, 1))
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Supertile passes</title><style>{STYLE}</style></head><body>",
        "<nav><h1>Supertile passes</h1>",
        *_links(passes),
        "</nav><main>",
        *_failure(report),
        *(line for number, record in passes for line in _section(number, record)),
        "</main></body></html>",
    ]
    return "\n".join(lines) + "\n"


def unified_diff(before: str, after: str, context: int = 3) -> list[str]:
    """The lines of a unified diff. Numbers of unnamed values do not count: one op less renumbers
    all that follow."""
    old, new = before.splitlines(), after.splitlines()
    a, b = _unnumbered(old), _unnumbered(new)
    matcher = difflib.SequenceMatcher(None, a, b, autojunk=False)
    lines = []
    for group in matcher.get_grouped_opcodes(context):
        first, last = group[0], group[-1]
        lines.append(
            f"@@ -{first[1] + 1},{last[2] - first[1]} +{first[3] + 1},{last[4] - first[3]} @@"
        )
        for tag, i, j, k, m in group:
            if tag == "equal":
                lines += [f" {line}" for line in new[k:m]]
                continue
            lines += [f"-{line}" for line in old[i:j]]
            lines += [f"+{line}" for line in new[k:m]]
    return lines


def _unnumbered(lines: list[str]) -> list[str]:
    return [re.sub(r"%\d+", "%", line) for line in lines]


def _links(passes: list[tuple[int, PassRecord]]) -> Iterator[str]:
    phase = None
    for number, record in passes:
        if record.phase != phase:
            phase = record.phase
            yield f"<h2>{escape(phase)}</h2>"
        shown = f"{number:02} {escape(record.name)}"
        label = f"{shown} <span>{_milliseconds(record)}</span>"
        yield f'<a href="#pass-{number}" class="{_kind(record)}">{label}</a>'


def _failure(report: Report) -> Iterator[str]:
    if report.failure:
        yield f'<p class="failure">{escape(report.failure)}</p>'


def _section(number: int, record: PassRecord) -> Iterator[str]:
    yield f'<section id="pass-{number}" class="{_kind(record)}">'
    yield f"<h2>{number:02} {escape(record.name)}</h2>"
    facts = [record.equivalence, f"{record.phase} level", _milliseconds(record)]
    facts += [f"{key} = {value}" for key, value in record.options.items()]
    facts += [] if record.changed else ["nothing changed"]
    yield f"<p>{escape(' · '.join(facts))}</p>"
    if record.changed:
        counts = [(name, *_counts(record, name)) for name in record.changed]
        yield from _table(("function", "ops before", "ops after"), counts)
    if record.patterns:
        yield from _table(("pattern", "rewrites"), list(record.patterns.items()))
    for name in record.changed:
        yield from _diff(name, *record.texts[name])
    yield "</section>"


def _counts(record: PassRecord, name: str) -> tuple[object, object]:
    return record.ops_before.get(name, "none"), record.ops_after.get(name, "none")


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> Iterator[str]:
    """A table whose first column is text and whose others are numbers."""
    yield "<table>" + _row("th", header)
    yield from (_row("td", row) for row in rows)
    yield "</table>"


def _row(tag: str, cells: tuple[object, ...]) -> str:
    first, *numbers = (escape(str(cell)) for cell in cells)
    rest = "".join(f'<{tag} class="number">{cell}</{tag}>' for cell in numbers)
    return f"<tr><{tag}>{first}</{tag}>{rest}</tr>"


KINDS = {"+": "added", "-": "removed", "@": "hunk"}


def _diff(name: str, before: str, after: str) -> Iterator[str]:
    yield f"<details open><summary><h3>@{escape(name)}</h3></summary><pre>"
    yield "".join(
        f'<span class="{KINDS.get(line[0], "same")}">{escape(line)}</span>'
        for line in unified_diff(before, after)
    )
    yield "</pre></details>"


def _kind(record: PassRecord) -> str:
    return "changed" if record.changed else "unchanged"


def _milliseconds(record: PassRecord) -> str:
    return f"{1000 * record.seconds:.1f} ms"

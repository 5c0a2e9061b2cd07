"""What `supertile compile` writes and prints: a result that can be kept and shown again."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.passes.driver import Report
    from supertile.targets.timeline import Timeline

WIDTH = 100


@dataclass(frozen=True)
class Result:
    """What came of a compilation."""

    module: str
    """Text of module.mlir; empty where nothing is written."""
    plan: str
    lines: list[str]
    """What is said of the module and the passes."""
    tables: list[str]
    timeline: Timeline | None


def result_of(
    module: ModuleOp,
    report: Report,
    timeline: Timeline | None,
    tables: list[str],
    options: argparse.Namespace,
) -> Result:
    lines = _lines(Path(options.model).name, module, report)
    if not options.output:
        return Result("", "", lines, tables, timeline)
    from supertile.ir.text import print_module
    from supertile.runtime.plan import plan_module
    from supertile.targets.numpy.plan_text import plan_text

    plan = plan_text(plan_module(module))
    return Result(print_module(module), plan, lines, tables, timeline)


def _lines(model: str, module: ModuleOp, report: Report) -> list[str]:
    from supertile.passes.instruments import op_counts

    counts = op_counts(module)
    # A name and its count stay on one line.
    names = ", ".join(f"@{name}~{count}" for name, count in counts.items())
    listed = textwrap.wrap(names, WIDTH - 2, break_long_words=False, break_on_hyphens=False)
    changed = sum(bool(record.changed) for record in report.passes)
    return [
        f"{model}: {sum(counts.values())} ops in {len(counts)} functions",
        *(f"  {line.replace('~', ' ')}" for line in listed),
        f"  {len(report.passes)} passes, {changed} of them changed something",
    ]


def write_folder(result: Result, folder: str) -> None:
    """`module.mlir`, which parses back, `plan.txt`, what the executor runs, and the report.

    All of them or none: see `write_together`.
    """
    from supertile.targets.output.write import output_texts, write_together

    texts = {"module.mlir": result.module, "plan.txt": result.plan}
    if result.timeline is not None:
        texts |= output_texts(result.timeline)
    write_together(texts, folder)


def print_result(result: Result, options: argparse.Namespace) -> None:
    for line in result.lines:
        print(line)
    for label, place in _places(result, options):
        print(f"  {label}: {place}")
    if result.timeline is None:
        return
    from supertile.targets.output.summary import print_summary

    for table in result.tables:
        print(table)
    print_summary(result.timeline)


def _places(result: Result, options: argparse.Namespace) -> Sequence[tuple[str, str]]:
    written = (
        "module, plan" if result.timeline is None else "module, plan, schedule, report, summary"
    )
    places = (("IR of every pass", options.dump_ir), (written, options.output))
    return [(label, place) for label, place in places if place]

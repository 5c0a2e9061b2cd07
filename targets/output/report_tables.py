"""The tables of report.html: operations, memory, figures of the machine, fields of the summary."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from supertile.targets.output.html import (
    Cell,
    badge,
    number_cell,
    part_class,
    stacked_bar,
    table,
    task_button,
    text_cell,
)
from supertile.targets.output.ops import Operation, intensity
from supertile.targets.output.summary import memory_verdict
from supertile.targets.output.units import (
    bytes_text,
    label_text,
    number_text,
    scaled_text,
    seconds_text,
    share_text,
    value_text,
)
from supertile.targets.timeline import FigureUse, Timeline

OPERATION_COLUMNS = (
    ("operation", "kernel or communication op; click for formula, figures and sources"),
    ("kind", "fused kind or op of the model"),
    ("in", "layers and other programs that run it"),
    ("per step", "how often it runs in one step"),
    ("time", "in one step, all runs together"),
    ("share", "of the step, without what kernels hide of transfers: the sum is 100 %"),
    ("each", "time of one run"),
    ("bound", "what decides its time"),
    ("work", "arithmetic of one run, without padding"),
    ("bytes", "through the main memory in one run"),
    ("FLOP/B", "arithmetic intensity: work over bytes of main memory"),
    ("wire", "bytes that one run sends to other devices"),
    ("formula", "how the time of one run was computed"),
)


def operation_table(timeline: Timeline, operations: list[Operation], step: float) -> str:
    rows = (_row(timeline, one, step) for one in operations)
    return table("operations", OPERATION_COLUMNS, rows)


def _row(timeline: Timeline, one: Operation, step: float) -> list[Cell]:
    task = one.task
    share = one.own / step if step else 0.0
    ratio = intensity(task, timeline.main_memory)
    moved = task.bytes.get(timeline.main_memory, 0.0)
    dot = f'<i class="dot {part_class(one.part)}"></i>'
    formula = _short(task.formula)
    return [
        Cell(task.name, task.name, task_button(one.program, one.number, task.name)),
        text_cell(task.kind),
        text_cell(", ".join(one.programs)),
        number_cell(number_text(one.count), one.count),
        number_cell(seconds_text(one.seconds), one.seconds),
        number_cell(share_text(share), share),
        number_cell(seconds_text(task.duration), task.duration),
        Cell(task.bound, task.bound, f'<span class="whole">{dot}{escape(task.bound)}</span>'),
        number_cell(scaled_text(task.flops, "FLOP") if task.flops else "", task.flops),
        number_cell(bytes_text(moved) if moved else "", moved),
        number_cell("" if ratio is None else scaled_text(ratio, ""), ratio),
        number_cell(bytes_text(task.wire_bytes) if task.wire_bytes else "", task.wire_bytes),
        Cell(formula, formula, f"<code>{escape(formula)}</code>"),
    ]


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else text[:limit] + " ..."


# ---- memory ------------------------------------------------------------------------------------


def memory_block(timeline: Timeline) -> Iterator[str]:
    """A bar of the parts of device memory, as wide as the capacity or as what is needed."""
    memory = timeline.memory
    whole = max(memory.total, memory.capacity)
    pieces = [
        (f"memory-{number % 6}", size / whole if whole else 0.0, f"{name}: {bytes_text(size)}")
        for number, (name, size) in enumerate(memory.parts)
    ]
    verdict = "fits" if memory.fits else "over"
    yield f'<p class="verdict {verdict}">Memory {escape(memory_verdict(timeline))}</p>'
    limit = 100 * memory.capacity / whole if whole else 100.0
    mark = f'<i class="capacity" style="left:{limit:.3f}%" title="capacity"></i>'
    excess = "" if memory.fits else f'<i class="excess" style="left:{limit:.3f}%"></i>'
    yield f'<div class="gauge">{stacked_bar(pieces)}{excess}{mark}</div>'
    yield '<ul class="legend">'
    for number, (name, size) in enumerate(memory.parts):
        share = size / memory.capacity if memory.capacity else 0.0
        dot = f'<i class="dot memory-{number % 6}"></i>'
        yield f"<li>{dot}{escape(name)} <b>{bytes_text(size)}</b> {share_text(share)}</li>"
    if memory.fits:
        free = memory.capacity - memory.total
        yield f'<li><i class="dot free"></i>free <b>{bytes_text(free)}</b></li>'
    yield "</ul>"


# ---- figures -----------------------------------------------------------------------------------

FIGURE_COLUMNS = (
    ("figure", "name in the machine file"),
    ("value", "with its unit"),
    ("evidence", "on whose word: measured, vendor, derived, assumed"),
    ("share", "of the step that is spent in tasks whose deciding term rests on it"),
    ("source", "where it is published"),
)


def figure_table(timeline: Timeline) -> str:
    ordered = sorted(timeline.figures, key=lambda figure: (-figure.share, figure.path))
    return table("figures", FIGURE_COLUMNS, (_figure_row(figure) for figure in ordered))


def _figure_row(figure: FigureUse) -> list[Cell]:
    width = f"{100 * min(max(figure.share, 0.0), 1.0):.1f}%"
    bar = f'<span class="meter"><i style="width:{width}"></i></span>{share_text(figure.share)}'
    name = f'<code id="figure:{escape(figure.path)}">{escape(figure.path)}</code>'
    return [
        Cell(figure.path, figure.path, name),
        text_cell(figure.value),
        Cell(figure.evidence, figure.evidence, badge(figure.evidence)),
        Cell(share_text(figure.share), figure.share, bar, number=True),
        text_cell(figure.source),
    ]


SUMMARY_COLUMNS = (
    ("figure", "the field of summary.json is its name in full"),
    ("value", "with its unit"),
    ("definition", "what is counted, and per what"),
)


def summary_table(timeline: Timeline) -> str:
    return table(
        "summary",
        SUMMARY_COLUMNS,
        (
            [
                Cell(label_text(key), key, f'<span title="{escape(key)}">{_label(key)}</span>'),
                Cell(value_text(key, value), value_text(key, value), number=_is_number(value)),
                text_cell(timeline.definitions.get(key, "")),
            ]
            for key, value in timeline.summary.items()
        ),
    )


def _label(key: str) -> str:
    return escape(label_text(key))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

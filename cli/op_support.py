"""`supertile list ops --model M --target T`: each op native, converted or missing on a machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from supertile.cli.inputs import (
    config_path,
    model_path,
    read_files,
    shipped_configs,
    shipped_models,
)
from supertile.cli.target import target_machine
from supertile.ir.errors import UserError
from supertile.ir.tables import Table

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.program import Program
    from supertile.frontend.settle import ModelConfig
    from supertile.targets.machine_types import Machine

COLUMNS = ("op", "formats", "status")
# The config that a shipped model is listed with, unless another is given.
PUBLISHED = Table(
    __name__,
    "PUBLISHED",
    {
        "deepseek_v3": "deepseek_v3",
        "deepseek_v4": "deepseek_v4_pro",
        "llama": "llama_3_1_8b",
        "mixtral": "mixtral_8x7b",
        "qwen3_moe": "qwen3_30b_a3b",
    },
)
STRUCTURE = ("graph.layers",)
"""Ops that only call others."""


class Row(NamedTuple):
    """One kind of op in the formats that the machine treats alike."""

    op: str
    formats: str
    status: str
    """native, or converted or missing with what or why"""


def print_support(model: str, target: str, config: str | None, strict: bool = False) -> None:
    """The table of a model under its published config, or the one given, with deployed numerics."""
    machine = target_machine(target)
    path = model_path(model)
    chosen = config_path(config) if config is not None else _published(path)
    program, read, lines = read_files(path, chosen, "deployed", strict)
    print("".join(f"{line}\n" for line in lines), end="", file=sys.stderr)
    rows = support_rows(deployed_module(program, read), machine)
    counts = {kind: _count(rows, kind) for kind in ("native", "converted", "missing")}
    totals = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    print(f"{path.stem} ({chosen.stem}, deployed numerics) on {machine.name}: {totals}\n")
    _print_table([COLUMNS, *rows])


def support_rows(module: ModuleOp, machine: Machine) -> list[Row]:
    """One row for each op and status, in the order of the dialect."""
    from supertile.ir import graph
    from supertile.ir.walk import operations
    from supertile.targets.formats import FACTORS, Support, support_of

    order = {op.name: place for place, op in enumerate(graph.OPS)}
    found: dict[tuple[str, str], dict[str, None]] = {}
    known: dict[tuple[object, ...], Support] = {}
    for function in module.ops:
        for op in operations(function):
            if op.name not in order or op.name in STRUCTURE:
                continue
            # What a machine does with an op follows from the op and its types.
            key = (type(op), *(v.type for v in op.operands), None, *(v.type for v in op.results))
            support = known.get(key) or known.setdefault(key, support_of(op, machine))
            status = f"{support.status}: {support.why}" if support.why else support.status
            whole = type(op) in FACTORS  # the formats of a product belong together
            texts = [support.formats] if whole else support.formats.split(", ")
            found.setdefault((op.name, status), {}).update(dict.fromkeys(texts))
    rows = [Row(op, ", ".join(sorted(texts)), status) for (op, status), texts in found.items()]
    return sorted(rows, key=lambda row: (order[row.op], row.status, row.formats))


NAMED = 4
"""Ops that an error names for each reason."""


def check_ops(module: ModuleOp, machine: Machine) -> None:
    """Raise `format.missing`, with every reason why the machine lacks ops of the module."""
    reasons: dict[str, dict[str, None]] = {}
    for row in support_rows(module, machine):
        status, _, why = row.status.partition(": ")
        if status == "missing":
            reasons.setdefault(why, {})[row.op] = None
    if reasons:
        listed = "; ".join(f"{why} ({_few(ops)})" for why, ops in reasons.items())
        raise UserError("format.missing", machine=machine.name, found=listed)


def _few(ops: Iterable[str]) -> str:
    names = [*ops]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def deployed_module(program: Program, config: ModelConfig) -> ModuleOp:
    """The model with every rounding of its release, as the passes of a machine find it."""
    from supertile.frontend.build import build_program
    from supertile.passes.driver import run_passes
    from supertile.passes.pipeline import parse_pipeline

    module = build_program(program, config, "deployed", None)
    run_passes(module, parse_pipeline("canonicalize,cse"))
    return module


def check_options(
    what: str, show: str | None, model: str | None, target: str | None, config: str | None
) -> None:
    """Raise unless --model, --target and --config go together and with `list ops`."""
    given = {"model": model, "target": target, "config": config}
    first = next((name for name, value in given.items() if value is not None), None)
    if first is None:
        return
    if what != "ops":
        raise UserError("format.only_ops", option=first, what=what)
    if show is not None:
        raise UserError("format.one_op", option=first)
    if model is None:
        raise UserError("format.no_model", option=first, known=" or ".join(shipped_models()))
    if target is None:
        raise UserError("format.no_target", model=model[:100])


def _published(model: Path) -> Path:
    """The config of a shipped model; a file of the user's own has none."""
    shipped = shipped_models().get(model.stem)
    if shipped is None or shipped.resolve() != model.resolve():
        raise UserError("format.no_config", model=model, known=", ".join(shipped_configs()))
    return shipped_configs()[PUBLISHED[model.stem]]


def _count(rows: Iterable[Row], kind: str) -> int:
    return sum(row.status.split(":")[0] == kind for row in rows)


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Columns side by side, the last one as long as it is."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]))

"""`supertile list`: passes, ops, models and targets, from the classes and files themselves."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from supertile.cli.inputs import add_strict_option, shipped_configs, shipped_models
from supertile.cli.target import target_machine
from supertile.ir.errors import UserError, nearest

if TYPE_CHECKING:
    from supertile.ir.op import SupertileOp

WHAT = ("passes", "ops", "models", "targets")
Listed = TypeVar("Listed")


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=WHAT, metavar="WHAT", help=", ".join(WHAT))
    command.add_argument("--show", metavar="NAME", help="all there is to know about one of them")
    command.add_argument(
        "--model", metavar="M", help="with ops: those of this model, and with --target how they run"
    )
    command.add_argument("--target", metavar="T", help="a machine of `list targets`, or a file")
    command.add_argument(
        "--config", metavar="F", help="config of the model (default: the published one)"
    )
    add_strict_option(command)


def run(options: argparse.Namespace) -> int:
    from supertile.cli.op_support import check_options, print_support

    check_options(options.what, options.show, options.model, options.target, options.config)
    if options.model is not None:
        print_support(options.model, options.target, options.config, options.strict)
        return 0
    {"passes": _passes, "ops": _ops, "models": _models, "targets": _targets}[options.what](
        options.show
    )
    return 0


def _chosen(show: str, known: Mapping[str, Listed], what: str) -> Listed:
    if show not in known:
        names, hint = ", ".join(known), nearest(show, known)
        raise UserError("command.no_such", what=what, name=show[:100], known=names, hint=hint)
    return known[show]


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


# ---- passes ------------------------------------------------------------------------------------


def _passes(show: str | None) -> None:
    from supertile.passes.pipeline import load_pass, pass_names, phase_of

    classes = {name: load_pass(name) for name in pass_names()}
    if show is not None:
        _print_pass(_chosen(show, classes, "pass"))
        return
    for name, one in classes.items():
        print(f"{phase_of(name) or '':<8} {name:<16} {one.equivalence:<12} {_first_line(one)}")


def _print_pass(one: type) -> None:
    import dataclasses
    import sys
    import typing

    from supertile.passes.pipeline import type_text

    kinds = typing.get_type_hints(one)
    print(f"{one.name}: equivalence {one.equivalence}\n")  # type: ignore[attr-defined]
    print(inspect.getdoc(sys.modules[one.__module__]) or "")
    options = [
        f"  {field.name}: {type_text(kinds[field.name])}" for field in dataclasses.fields(one)
    ]
    if options:
        print("\n".join(["", "options:", *options]))


# ---- ops ---------------------------------------------------------------------------------------


def _ops(show: str | None) -> None:
    from supertile.ir import graph

    ops: dict[str, type[SupertileOp]] = {op.name: op for op in graph.OPS}
    if show is None:
        for name, op in ops.items():
            print(f"{name:<26} {_first_line(op)}")
        return
    _print_op(_chosen(show if show in ops else f"graph.{show}", ops, "op"))


def _print_op(op: type[SupertileOp]) -> None:
    from supertile.ir.shapes import RULES
    from supertile.ir.work import WORK
    from supertile.runtime.graph_ops import FUNCTIONS

    definition = op.get_irdl_definition()
    rule = RULES.get(op, (None, ()))[0]
    rows = {
        "operands": ", ".join(name for name, _ in definition.operands) or "none",
        "properties": ", ".join(definition.properties) or "none",
        "results": ", ".join(name for name, _ in definition.results) or "none",
        "shape rule": f"ir/shapes.py {rule.__name__}" if rule else "its type is declared",
        "NumPy": f"runtime/{_place(FUNCTIONS.get(op))}",
        "work rule": f"ir/work.py {getattr(WORK.get(op), '__name__', 'none')}",
    }
    print(f"{op.name}\n\n{inspect.getdoc(op)}\n")
    for label, text in rows.items():
        print(f"  {label:<11} {text}")


def _place(function: object) -> str:
    """The file and name of an op's function; NumPy's own stand in the table of graph_ops.py."""
    if function is None:
        return "execute.py"
    module = str(getattr(function, "__module__", None) or "numpy").rsplit(".", 1)[-1]
    name = getattr(function, "__name__", str(function))
    return f"{module}.py {name}" if module != "numpy" else f"graph_ops.py numpy.{name}"


# ---- models ------------------------------------------------------------------------------------


def _models(show: str | None) -> None:
    models, configs = shipped_models(), shipped_configs()
    if show is not None:
        chosen = _chosen(show, {**models, **configs}, "model or config")
        print(chosen.read_text(encoding="utf-8"), end="")
        return
    for name, path in models.items():
        comment = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        print(f"{name:<18} {comment}")
    print("\nconfigs: " + ", ".join(configs))


# ---- targets -----------------------------------------------------------------------------------


def _targets(show: str | None) -> None:
    from supertile.targets.machine_text import COLUMNS, show_text, target_rows

    if show is not None:
        print(show_text(target_machine(show)))
        return
    rows = [COLUMNS, *target_rows()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())

"""`supertile list`: passes, ops and models, from the classes and files themselves."""

from __future__ import annotations

import argparse
import inspect

from supertile.cli.inputs import shipped_configs, shipped_models
from supertile.ir.errors import UserError, nearest

WHAT = ("passes", "ops", "models")


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("what", choices=WHAT, metavar="WHAT", help=", ".join(WHAT))
    command.add_argument("--show", metavar="NAME", help="all there is to know about one of them")


def run(options: argparse.Namespace) -> int:
    {"passes": _passes, "ops": _ops, "models": _models}[options.what](options.show)
    return 0


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0]


def _choose(show: str, known: dict[str, object], what: str) -> object:
    if show not in known:
        hint = nearest(show, known)
        raise UserError("command.no_such", what=what, name=show, hint=hint)
    return known[show]


def _passes(show: str | None) -> None:
    from supertile.passes.pipeline import PIPELINE, load_pass

    classes = {name: load_pass(name) for _, name in PIPELINE}
    if show is not None:
        chosen = classes[str(getattr(_choose(show, dict(classes), "pass"), "name", ""))]
        print(f"{chosen.name}: equivalence {chosen.equivalence}\n\n{inspect.getdoc(chosen)}")
        return
    for phase, name in PIPELINE:
        one = classes[name]
        print(f"{phase:<8} {name:<16} {one.equivalence:<12} {_first_line(one)}")


def _ops(show: str | None) -> None:
    from supertile.ir import graph

    ops = {op.name: op for op in graph.OPS}
    if show is None:
        for name, op in ops.items():
            print(f"{name:<26} {_first_line(op)}")
        return
    name = show if show in ops else f"graph.{show}"
    _choose(name, dict(ops), "op")
    _print_op(ops[name])


def _print_op(op: type) -> None:
    from supertile.ir.shapes import RULES
    from supertile.ir.work import WORK
    from supertile.runtime.graph_ops import FUNCTIONS

    definition = op.get_irdl_definition()  # type: ignore[attr-defined]
    rule = RULES.get(op, (None, ()))[0]
    rows = {
        "operands": ", ".join(name for name, _ in definition.operands) or "none",
        "properties": ", ".join(definition.properties) or "none",
        "results": ", ".join(name for name, _ in definition.results) or "none",
        "shape rule": f"ir/shapes.py {rule.__name__}" if rule else "its type is declared",
        "NumPy": f"runtime/{_place(FUNCTIONS.get(op))}",
        "work rule": f"ir/work.py {getattr(WORK.get(op), '__name__', 'none')}",
    }
    print(f"{op.name}\n\n{inspect.getdoc(op)}\n")  # type: ignore[attr-defined]
    for label, text in rows.items():
        print(f"  {label:<11} {text}")


def _place(function: object) -> str:
    if function is None:
        return "execute.py"
    module = str(getattr(function, "__module__", "numpy")).rsplit(".", 1)[-1]
    name = getattr(function, "__name__", str(function))
    return f"{module}.py {name}" if module != "numpy" else f"graph_ops.py numpy.{name}"


def _models(show: str | None) -> None:
    models, configs = shipped_models(), shipped_configs()
    if show is not None:
        chosen = _choose(show, {**models, **configs}, "model or config")
        print(getattr(chosen, "read_text")(encoding="utf-8"), end="")
        return
    for name, path in models.items():
        comment = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
        print(f"{name:<18} {comment}")
    print("\nconfigs: " + ", ".join(configs))

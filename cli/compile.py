"""`supertile compile`: model file and config to IR, every pass on view, and the NumPy plan."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.inputs import add_model_options, config_path, model_path
from supertile.ir.errors import UserError, nearest

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.hf_config import Config
    from supertile.passes.driver import Report
    from supertile.passes.rewriting import Pass

TARGETS = ("numpy",)


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument("--entry", metavar="E", help="compile this entry alone (default: all)")
    command.add_argument("--target", default="numpy", metavar="T", help="numpy (default)")
    command.add_argument("-p", "--pipeline", metavar="P", help="passes to run instead of all")
    command.add_argument("--stop-after", metavar="P", help="the last pass, or phase, to run")
    command.add_argument("--dump-ir", metavar="DIR", help="write the IR after every pass, and diffs")
    command.add_argument("--stats", action="store_true", help="print times and op counts")
    command.add_argument(
        "--check-numerics",
        action="store_true",
        help="execute a small config of the model before and after every pass and compare",
    )
    command.add_argument("-o", "--output", metavar="DIR", help="write the module and its plan")


def run(options: argparse.Namespace) -> int:
    from supertile.passes.driver import Options, run_passes

    start = time.perf_counter()
    if options.target not in TARGETS:
        hint = nearest(options.target, TARGETS)
        known = ", ".join(TARGETS)
        raise UserError("command.target", name=options.target, known=known, hint=hint)
    passes = select_passes(options.pipeline, options.stop_after)
    module, config = build(options)
    built = time.perf_counter()
    if options.check_numerics:
        check_numerics(options, config, passes)
    checked = time.perf_counter()
    dump = Path(options.dump_ir) if options.dump_ir else None
    notes = (f"model: {options.model}", f"config: {options.config}")
    report = run_passes(module, passes, Options(dump=dump, notes=notes))
    done = time.perf_counter()
    if options.output:
        write_output(module, Path(options.output))
    _print_summary(options, module, report)
    if options.stats:
        print_stats(report, {"front end": built - start, "numeric check": checked - built,
                             "passes": done - checked, "writing": time.perf_counter() - done})
    return 0


def build(options: argparse.Namespace) -> tuple[ModuleOp, Config]:
    """The graph-level module of the model under its config."""
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config

    config = read_config(config_path(options.config))
    entries = [options.entry] if getattr(options, "entry", None) else None
    return build_model(model_path(options.model), config, options.numerics, entries), config


def select_passes(text: str | None, stop_after: str | None = None) -> list[Pass]:
    """The passes of a pipeline text, or all; cut behind a pass or behind the last of a phase."""
    from supertile.passes.pipeline import PIPELINE, load_pass, parse_pipeline, phase_of

    given = None if text is None else parse_pipeline(text)
    names = [name for _, name in PIPELINE] if given is None else [one.name for one in given]
    count = len(names)
    if stop_after is not None:
        ends = [n for n, name in enumerate(names) if stop_after in (name, phase_of(name))]
        if not ends:
            known = [*dict.fromkeys(phase for phase, _ in PIPELINE), *names]
            hint = nearest(stop_after, known)
            raise UserError(
                "command.stop_after", name=stop_after, known=", ".join(known), hint=hint
            )
        count = ends[-1] + 1
    return [load_pass(name)() for name in names[:count]] if given is None else given[:count]


def check_numerics(options: argparse.Namespace, config: Config, passes: list[Pass]) -> None:
    """Run the same passes over a small config of the model, comparing numbers after each."""
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import shrink
    from supertile.passes.driver import Options, run_passes
    from supertile.runtime.compare import NumericCheck

    entries = [options.entry] if options.entry else None
    small = build_model(model_path(options.model), shrink(config), options.numerics, entries)
    check = NumericCheck(small)
    equivalence = {one.name: one.equivalence for one in passes}
    folder = Path(options.dump_ir or options.output or ".")
    notes = (f"model: {options.model}", f"small config of: {options.config}", "seed: 0")

    def after_pass(name: str, before: ModuleOp, after: ModuleOp) -> None:
        check.compare(name, equivalence[name], after)

    run_passes(small, passes, Options(reproducers=folder, notes=notes, after_pass=after_pass))
    for line in check.lines:
        print(line)


def write_output(module: ModuleOp, folder: Path) -> None:
    """`module.mlir`, which parses back, and `plan.txt`, what the executor runs."""
    from supertile.ir.files import write_text
    from supertile.ir.text import print_module
    from supertile.runtime.plan import plan_module
    from supertile.targets.numpy.plan_text import plan_text

    write_text(folder / "module.mlir", print_module(module))
    write_text(folder / "plan.txt", plan_text(plan_module(module)))


def _print_summary(options: argparse.Namespace, module: ModuleOp, report: Report) -> None:
    from supertile.passes.instruments import op_counts

    counts = op_counts(module)
    names = ", ".join(f"@{name} {count}" for name, count in counts.items())
    print(f"{Path(options.model).name}: {sum(counts.values())} ops in {len(counts)} functions")
    print(f"  {names}")
    changed = sum(bool(record.changed) for record in report.passes)
    print(f"  {len(report.passes)} passes, {changed} of them changed something")
    for label, place in (("IR of every pass", options.dump_ir), ("module, plan", options.output)):
        if place:
            print(f"  {label}: {place}")


def print_stats(report: Report, phases: dict[str, float]) -> None:
    """Times and op counts by pass."""
    from rich.console import Console
    from rich.table import Table

    table = Table("pass", "phase", "ms", "ops before", "ops after", "functions changed", "rewrites")
    for record in report.passes:
        table.add_row(
            record.name,
            record.phase,
            f"{record.seconds * 1e3:.1f}",
            str(sum(record.ops_before.values())),
            str(sum(record.ops_after.values())),
            str(len(record.changed)),
            str(sum(record.patterns.values())),
        )
    console = Console(width=100)
    console.print(table)
    total = ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in phases.items())
    console.print(total)

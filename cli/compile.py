"""`supertile compile`: model file and config to IR, every pass on view, and the NumPy plan."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.answer_cache import cache_key, load, save
from supertile.cli.compile_output import Result, print_result, result_of, write_folder
from supertile.cli.deploy import Answer, Goal
from supertile.cli.expert_plans import add_other_plan_option
from supertile.cli.inputs import (
    add_model_options,
    check_output_folder,
    choose,
    read_model,
    reproducer_folder,
)
from supertile.cli.load_options import add_loads_option
from supertile.cli.progress import Bar
from supertile.cli.stats import Phases, print_stats

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.settle import ModelConfig
    from supertile.passes.driver import Report
    from supertile.passes.rewriting import Pass

NUMPY = "numpy"
FUSED = "fused"
"""The level that NumPy runs: without tiles, unless it is asked for them."""


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command, numerics=None)
    command.add_argument("--entry", metavar="E", help="compile this entry alone (default: all)")
    command.add_argument(
        "--target", default=NUMPY, metavar="T", help="a machine (list targets), or a machine file"
    )
    command.add_argument(
        "--deploy",
        metavar="D",
        help="'phase=decode ep=384 batch=96 context=4K', see docs/deploy.md",
    )
    add_overlap_option(command)
    add_plan_option(command)
    command.add_argument(
        "--tiles",
        choices=("machine", "test"),
        default="machine",
        help="test: smaller than all sizes",
    )
    command.add_argument(
        "-p", "--pipeline", metavar="P", help="passes to run instead of all: 'pass{a=1},pass2'"
    )
    command.add_argument(
        "--stop-after", metavar="P", help="the last pass to run, or a phase: graph, fused"
    )
    command.add_argument(
        "--dump-ir", metavar="DIR", help="write the IR after every pass, trace.json, trace.html"
    )
    command.add_argument("--stats", action="store_true", help="print times and op counts")
    command.add_argument(
        "--check-numerics",
        action="store_true",
        help="execute a small config of the model before and after every pass, and compare",
    )
    command.add_argument(
        "--no-cache", action="store_true", help="compute the answer to --deploy, though it is kept"
    )
    command.add_argument(
        "-o", "--output", metavar="DIR", help="write module.mlir and plan.txt there, and the report"
    )


def add_overlap_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--overlap",
        choices=("none", "waves", "batches", "both", "auto"),
        help="how a deployment hides communication (default: auto, the fastest)",
    )


def add_plan_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--plan",
        metavar="F",
        help="plan.json of supertile plan: where the experts of each layer live (default: dealt)",
    )
    add_other_plan_option(command)
    add_loads_option(command, "those of the plan, or balanced routing")
    command.add_argument(
        "--engine",
        metavar="E",
        help="who serves: under the loads replicas share tokens by its rule, and without a plan "
        "experts are where it starts (default: the engine of the plan, or round-robin)",
    )


def run(options: argparse.Namespace) -> int:
    check_output_folder(options.dump_ir)
    check_output_folder(options.output)
    phases = Phases.begin()
    kept, report = answer(options, Goal.of(options), phases)
    if options.output:
        write_folder(kept, options.output)
    phases.end("files")
    print_result(kept, options)
    if options.stats and report is not None:
        print_stats(report, phases)
    return 0


def answer(
    options: argparse.Namespace, goal: Goal, phases: Phases | None = None, keep: bool = False
) -> tuple[Result, Report | None]:
    """What comes of the compilation; without a report where it was kept from an earlier one.

    It is kept if it is written, or with `keep`.
    """
    key = cache_key(options, goal)
    kept = load(key) if key else None
    if kept is not None:
        return kept, None
    # A check of numbers prints as it goes, which a bar would write over.
    with nullcontext() if options.check_numerics else Bar("compiling", None):
        found, report = _compile(options, goal, phases or Phases.begin())
    if key and found.timeline is not None and (options.output or keep):
        save(key, found)
    return found, report


def _compile(options: argparse.Namespace, goal: Goal, phases: Phases) -> tuple[Result, Report]:
    """Run all passes, and cost the deployment if there is one."""
    from supertile.passes.driver import Options, run_passes

    if goal.deployment is None:
        passes = goal.passes(options)  # a wrong pipeline shows before the model is built
    module, _ = goal.build(options)
    if goal.deployment is not None:
        goal = goal.of_module(module)
        passes = goal.passes(options)
    phases.end("front end")
    if options.check_numerics:
        _check_numerics(options, passes, module)
        phases.end("numeric check")
    dump = Path(options.dump_ir) if options.dump_ir else None
    folder = reproducer_folder(options.dump_ir, options.output)
    notes = (f"model: {options.model}", f"config: {options.config}")
    answer = Answer(goal)
    how = Options(dump=dump, reproducers=folder, notes=notes, behind=answer.behind)
    report = run_passes(module, passes, how)
    phases.end("checks of passes")
    phases.move(answer.seconds, "checks of passes", "work")
    for record in report.passes:
        phases.move(record.seconds, "checks of passes", f"{record.phase} passes")
    timeline = answer.timeline(module)
    phases.end("cost")
    result = result_of(module, report, timeline, answer.tables, options)
    phases.end("texts")
    return result, report


def build(
    options: argparse.Namespace, entries: list[str] | None = None
) -> tuple[ModuleOp, ModelConfig]:
    """The graph-level module of the model under its config, with these entries or all."""
    from supertile.frontend.build import build_program

    program, config = read_model(options)
    entries = [options.entry] if getattr(options, "entry", None) else entries
    return build_program(program, config, options.numerics, entries), config


def select_passes(text: str | None, stop_after: str | None = None) -> list[Pass]:
    """The passes of a pipeline text, or all; cut behind a pass or behind the last of a phase."""
    from supertile.passes.pipeline import PIPELINE, load_pass, parse_pipeline, pass_names, phase_of

    given = None if text is None else parse_pipeline(text)
    names = pass_names() if given is None else [one.name for one in given]
    count = len(names)
    if stop_after is not None:
        known = [*dict.fromkeys(phase for phase, _ in PIPELINE), *names]
        choose(stop_after, known, "command.stop_after")
        # A phase without passes in the pipeline ends where the one before it ends.
        phases = list(dict.fromkeys(phase for phase, _ in PIPELINE))
        last = phases[: phases.index(stop_after) + 1] if stop_after in phases else [stop_after]
        ends = [n for n, name in enumerate(names, 1) if name in last or phase_of(name) in last]
        count = max(ends, default=0)
    return [load_pass(name)() for name in names[:count]] if given is None else given[:count]


def _check_numerics(options: argparse.Namespace, passes: list[Pass], module: ModuleOp) -> None:
    from supertile.cli.formats import effect_lines
    from supertile.cli.numerics import compare_small, small_module

    comparison, small = compare_small(options, passes), small_module(options, passes)
    comparison.run(small.clone())
    for line in (*comparison.lines, *effect_lines(passes, module, small)):
        print(line)

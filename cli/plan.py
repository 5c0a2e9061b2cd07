"""`supertile plan`: where experts live and how tokens travel, each figure beside its bound.

    supertile plan deepseek_v4 --config deepseek_v4_pro --target ascend-910c \\
        --deploy "phase=decode ep=384 batch=64 slots=768" --loads zipf:0.6 -o out
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.expert_plans import add_other_plan_option, tell_differences, use_of
from supertile.cli.inputs import (
    add_strict_option,
    check_output_folder,
    model_path,
    natural,
    positive,
    read_model,
)
from supertile.cli.load_options import add_loads_option
from supertile.cli.progress import Bar
from supertile.cli.target import target_machine
from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.cli.deploy import Goal
    from supertile.frontend.settle import ModelConfig
    from supertile.targets.comm.layer_table import LayerRow
    from supertile.targets.deploy import Deployment, Model
    from supertile.targets.engines.engine import Engine
    from supertile.targets.machine_types import Machine
    from supertile.targets.plan.current import InUse
    from supertile.targets.plan.exports import Drafts
    from supertile.targets.plan.hashed import HashedTokens
    from supertile.targets.plan.loads import Loads
    from supertile.targets.plan.plan_types import PlanFile
    from supertile.targets.plan.planned import Planned
    from supertile.targets.plan.planner import Request

BALANCED = ["uniform"]
PERCENT = 100


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", metavar="MODEL", help="a model file, or a shipped name")
    command.add_argument(
        "--config", required=True, metavar="F", help="config.json, its folder, or a shipped name"
    )
    add_strict_option(command)
    command.add_argument(
        "--target", required=True, metavar="T", help="a machine; with --sweep also several: T,T"
    )
    command.add_argument(
        "--deploy", metavar="D", help="'phase=decode ep=384 batch=64 slots=768', see docs/deploy.md"
    )
    command.add_argument(
        "--redundancy",
        metavar="R",
        help="slots beyond one an expert: 32 in all, or as bytes of each rank: 2GB",
    )
    _add_load_options(command)
    _add_method_options(command)
    command.add_argument(
        "--engine",
        metavar="E",
        help="who will load the plan, and splits tokens by rules of its own: sglang, vllm, "
        "vllm-ascend, trtllm (default: the first of --export)",
    )
    command.add_argument(
        "--export",
        metavar="E",
        help="also write what engines load: sglang, vllm, vllm-ascend, trtllm (E,E)",
    )
    command.add_argument(
        "--sweep",
        metavar="S",
        help="a layer of experts at many points instead: 'ep=8,64,384,8192 batch=1,16,64,256'",
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of text")
    command.add_argument(
        "-o", "--output", metavar="DIR", help="write plan.json, report.html and exports there"
    )


def _add_load_options(command: argparse.ArgumentParser) -> None:
    add_loads_option(command, BALANCED[0])
    command.add_argument(
        "--weights", metavar="DIR", help="a checkpoint: its tables say where token ids are routed"
    )
    command.add_argument(
        "--tokens", metavar="F", help="token ids: the loads of hash-routed layers follow from them"
    )


def _add_method_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--shares",
        choices=("weighted", "equal"),
        help="how replicas share an expert's tokens: as planned, or evenly (the default with an "
        "engine, as engines know no shares)",
    )
    command.add_argument(
        "--objective",
        choices=("time", "tokens"),
        help="what the fullest rank has least of: time (weights, products, wire; the default "
        "where the deployment says the batch) or tokens",
    )
    command.add_argument(
        "--robust",
        action="store_true",
        help="plan for scenarios of drift and finite batches, shares split anew in each batch",
    )
    command.add_argument(
        "--drift", type=_sigma, default=0.2, metavar="S", help="of scenarios (default 0.2)"
    )
    command.add_argument(
        "--scenarios", type=positive, default=16, metavar="N", help="how many (default 16)"
    )
    command.add_argument("--seed", type=natural, default=0, metavar="N", help="default 0")
    command.add_argument(
        "--current",
        metavar="F",
        help="what is in use, which the new plan comes from: plan.json, or the file of an engine",
    )
    add_other_plan_option(command)
    command.add_argument(
        "--moves", type=natural, metavar="M", help="move at most M experts from the plan in use"
    )


def _sigma(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 5:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no number from 0 to 5")
    return value


def run(options: argparse.Namespace) -> int:
    check_output_folder(options.output)
    model_path(options.model)
    if options.sweep is not None:
        return _sweep(options)
    from supertile.cli.placement_steps import compared
    from supertile.targets.plan.planner import make_plan

    engines = _engines(options.export)
    if engines and not options.output:
        raise UserError("plan.export_folder", engines=",".join(engines))
    request, goal, module = _request(options, _loader(options, engines))
    bar = Bar("candidates", PERCENT)
    try:
        planned = make_plan(
            replace(request, progress=lambda part: bar.reach(round(part * PERCENT)))
        )
        planned = compared(goal, module, planned)
    finally:
        bar.close()
    plan = planned.plan_file()
    if options.output:
        _write(options.output, engines, plan, planned, _drafts(request))
    if options.json:
        from supertile.targets.plan.plan_file import plan_text

        print(plan_text(plan), end="")
        return 0
    from supertile.targets.output.summary import print_lines
    from supertile.targets.plan.plan_lines import plan_lines

    print_lines(plan_lines(planned), sys.stdout)
    return 0


# ---- what is asked -----------------------------------------------------------------------------


def _request(options: argparse.Namespace, engine: Engine | None) -> tuple[Request, Goal, ModuleOp]:
    """What to plan; what `supertile compile` would be asked with the same options, and the module
    of the main model."""
    from supertile.cli.deploy import Goal
    from supertile.cli.deployed_model import deployed_model
    from supertile.cli.expert_kernels import ExpertKernels
    from supertile.frontend.bind import check_drafts
    from supertile.targets.deploy import check_deployment, parse_deployment
    from supertile.targets.plan.planner import Request, Robustness

    if options.deploy is None:
        raise UserError("plan.no_deploy")
    if options.moves is not None and options.current is None:
        raise UserError("plan.moves_alone")
    machine, deployment = target_machine(options.target), parse_deployment(options.deploy)
    module, config = _module(options)
    check_drafts(config, deployment.mtp is not None)
    model = deployed_model(module, config, machine)
    if options.redundancy is not None:
        deployment = _with_redundancy(deployment, options.redundancy, model)
    check_deployment(deployment, model, machine)
    loads, hashed = _loads(options, model)
    request = Request(
        model=Path(options.model).stem,
        config_name=Path(options.config).stem,
        config=model,
        machine=machine,
        deployment=deployment,
        loads=loads,
        works=ExpertKernels(module, machine, model),
        hashed=hashed,
        shares=options.shares or ("weighted" if engine is None else "equal"),
        objective=options.objective or _objective(options.deploy),
        robust=Robustness(options.drift, options.scenarios) if options.robust else None,
        seed=options.seed,
        current=_current(options, model, machine, deployment),
        moves=options.moves,
        engine=engine,
    )
    names = (options.model, options.config)
    return request, Goal(names, config, machine, deployment, read=model), module


def _current(
    options: argparse.Namespace, model: Model, machine: Machine, deployment: Deployment
) -> InUse | None:
    """What is in use; of a plan.json what it was made for is checked and told."""
    from supertile.targets.plan.current import read_current
    from supertile.targets.plan.model import expert_layers

    if options.current is None:
        return None
    found = read_current(options.current, expert_layers(model), deployment.ep)
    if found.plan is not None:
        use = use_of(options, machine, deployment)
        tell_differences(found.plan, options, use, options.current)
    return found


def _module(options: argparse.Namespace) -> tuple[ModuleOp, ModelConfig]:
    """The module of the main model, as it is deployed, and its configuration."""
    from supertile.frontend.build import build_program

    program, config = read_model(options, "deployed")
    return build_program(program, config, "deployed", ["logits"]), config


def _objective(deployment: str) -> str:
    """Time follows from the batch: where none is given, tokens are balanced."""
    from supertile.targets.deploy import given_keys

    return "time" if "batch" in given_keys(deployment) else "tokens"


def _with_redundancy(deployment: Deployment, text: str, model: Model) -> Deployment:
    """As many slots as there are experts and so many more, or as a memory of each rank holds."""
    from supertile.ir.even_parts import even_parts
    from supertile.targets.machine_units import parse_bytes

    if deployment.slots is not None:
        raise UserError("plan.redundancy_slots", found=text)
    sizes = model.expert_layer
    if text.isascii() and text.isdigit() and len(text) <= 7:
        slots = even_parts(sizes.experts + int(text), deployment.ep)
        return replace(deployment, slots=slots)
    budget = parse_bytes(text)
    if budget is None:
        raise UserError("plan.redundancy", found=text)
    least = -(-sizes.experts // deployment.ep)
    more = int(budget // (sizes.layers * sizes.expert_bytes))
    if more == 0:
        needed = f"{sizes.layers * sizes.expert_bytes / 1e9:.2f}GB"
        raise UserError("plan.redundancy_memory", found=text, needed=needed)
    return replace(deployment, slots=(min(least + more, sizes.experts),) * deployment.ep)


def _loads(options: argparse.Namespace, deployed: Model) -> tuple[Loads, HashedTokens | None]:
    """The loads, and token ids where they are given: hash-routed layers follow from those."""
    from supertile.targets.plan.argument import loads_from
    from supertile.targets.plan.model import expert_layers

    model = expert_layers(deployed)
    if options.tokens is not None and options.weights is None:
        raise UserError("plan.tokens_alone")
    named = options.loads or BALANCED
    if options.weights is None:
        return loads_from(named, model), None
    from supertile.runtime.checkpoint import Checkpoint
    from supertile.targets.plan.parametric import hash_tables

    tables = hash_tables(Checkpoint(Path(options.weights)), model)
    loads = loads_from(named, model, tables)
    if options.tokens is None:
        return loads, None
    import numpy as np

    from supertile.runtime.tokens import check_vocabulary, read_tokens
    from supertile.targets.plan.hashed import HashedTokens
    from supertile.targets.plan.parametric import with_token_ids

    rows = read_tokens(Path(options.tokens))
    check_vocabulary(rows, model.vocabulary)
    counted = with_token_ids(loads, model, rows, tables)
    return counted, HashedTokens(np.concatenate(rows), tables)


def _engines(text: str | None) -> list[str]:
    from supertile.targets.engines.engine import engine_named

    if text is None:
        return []
    names = [name.strip() for name in text.split(",")]
    for name in names:
        engine_named(name)  # an unknown one is an error before anything is planned
    return names


def _loader(options: argparse.Namespace, exports: Sequence[str]) -> Engine | None:
    """The engine whose rules the figures follow: as asked, or the first that is exported to."""
    from supertile.targets.engines.engine import engine_named

    name = options.engine if options.engine is not None else next(iter(exports), None)
    return None if name is None else engine_named(name)


def _drafts(request: Request) -> Drafts:
    from supertile.targets.plan.exports import Drafts

    layers = request.config.size("num_nextn_predict_layers")
    return Drafts(layers, request.deployment.mtp is not None)


# ---- what is written ---------------------------------------------------------------------------


def _write(
    folder: str, engines: list[str], plan: PlanFile, planned: Planned, drafts: Drafts
) -> None:
    """plan.json, report.html and a file for each engine: all of them or none."""
    from supertile.targets.engines.engine import engine_named
    from supertile.targets.output.plan_report import plan_report
    from supertile.targets.output.write import write_together
    from supertile.targets.plan.engine_balance import balance_notes
    from supertile.targets.plan.exports import export_files
    from supertile.targets.plan.plan_file import plan_text

    texts = {"plan.json": plan_text(plan), "report.html": plan_report(planned)}
    for engine in engines:
        for name, made in export_files(plan, engine, drafts).items():
            texts[name] = made.text
            for note in (*made.notes, *balance_notes(engine_named(engine), planned)):
                print(f"{name}: {note}", file=sys.stderr)
    write_together(texts, folder)


# ---- many points -------------------------------------------------------------------------------

POINTS = 10_000
SWEPT = {"ep": 2**20, "batch": 2**31}
"""Keys of --sweep and the largest value of each."""


def _sweep(options: argparse.Namespace) -> int:
    """A layer of experts at every number of ranks and batch, on each of the machines."""
    from supertile.targets.comm.layer_table import layer_table_text

    given = {
        "--deploy": options.deploy,
        "--output": options.output,
        "--engine": options.engine,
        "--export": options.export,
        "--current": options.current,
    }
    for name, value in given.items():
        if value is not None:
            raise UserError("plan.sweep_option", option=name)
    points = _points(options.sweep)
    module, config = _module(options)
    machines = [target_machine(name.strip()) for name in options.target.split(",")]
    rows = [row for machine in machines for row in _table_on(machine, module, config, points)]
    if options.json:
        print(json.dumps([row.as_dict() for row in rows], indent=1, allow_nan=False))
        return 0
    print(layer_table_text(rows))
    return 0


def _table_on(
    machine: Machine, module: ModuleOp, config: ModelConfig, points: dict[str, list[int]]
) -> list[LayerRow]:
    from supertile.cli.deployed_model import deployed_model
    from supertile.cli.expert_kernels import ExpertKernels
    from supertile.targets.comm.layer_table import moe_layer_table

    model = deployed_model(module, config, machine)
    _ = model.expert_layer  # a dense model has no such table
    works = ExpertKernels(module, machine, model)
    return moe_layer_table(machine, model, works, points["ep"], points["batch"])


def _points(text: str) -> dict[str, list[int]]:
    """`ep=8,64 batch=1,16` as lists; `plan.sweep` where it is something else."""
    found: dict[str, list[int]] = {}
    for item in text.split():
        key, _, values = item.partition("=")
        numbers = [
            int(value) if value.isascii() and value.isdigit() and len(value) < 11 else 0
            for value in values.split(",")
        ]
        if key not in SWEPT or key in found or not 1 <= min(numbers) <= max(numbers) <= SWEPT[key]:
            raise UserError("plan.sweep", found=item)
        found[key] = numbers
    if set(found) != set(SWEPT) or math.prod(map(len, found.values())) > POINTS:
        raise UserError("plan.sweep", found=text)
    return found

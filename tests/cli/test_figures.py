"""No two figures of an answer contradict each other, over machines, models and deployments."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from command_files import DATA
from output_figures import Output, faults, read_output
from plan_figures import plan_faults

from supertile.cli import compile, explain
from supertile.cli.compile_output import print_result
from supertile.cli.deploy import Goal
from supertile.cli.main import main
from supertile.targets.output.explain import explainable
from supertile.targets.output.write import write_outputs

V4 = ("deepseek_v4", str(DATA / "deepseek_v4_deployed"))
V3 = ("deepseek_v3", str(DATA / "deepseek_v3"))
QWEN = ("qwen3_moe", str(DATA / "qwen3_moe"))
LLAMA = ("llama", str(DATA / "llama"))
NONE = ("--overlap", "none")
SKEWED = ("--loads", "zipf:1.2,seed=3")
# Model, machine, deployment, further options.
DEPLOYMENTS: dict[str, tuple[tuple[str, str], str, str, tuple[str, ...]]] = {
    "one gpu": (LLAMA, "h200", "phase=decode batch=1500000 context=64", ()),
    "too much": (LLAMA, "gb200-nvl72", "phase=prefill batch=900000000 context=100 chunk=33", ()),
    "spread": (V3, "ascend-910c", "phase=decode ep=8 batch=1 context=64", NONE),
    "drafts": (V4, "h200", "phase=decode ep=4 batch=32 context=64 mtp=0.7", NONE),
    "waves": (V3, "h200", "phase=decode ep=4 batch=64 context=128", ("--overlap", "waves")),
    "halves": (QWEN, "gb200-nvl72", "phase=decode ep=2 batch=9 context=64", ("--overlap", "both")),
    "prefill": (QWEN, "ascend-910c", "phase=prefill ep=4 tp=2 batch=2 context=64 chunk=16", ()),
    "loads": (V3, "gb300-nvl72", "phase=decode ep=16 batch=300 context=128", SKEWED),
}
EXPLAINED = ("step_ms", "messages", "exposed_communication_ms", "memory_bytes_by_purpose")


@pytest.fixture(scope="module")
def output_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], Output]:
    """What the named deployment is answered with; each is compiled once."""
    outputs: dict[str, Output] = {}
    root = tmp_path_factory.mktemp("figures")

    def answered(name: str, capsys: Any) -> Output:
        if name not in outputs:
            (model, config), machine, deployment, more = DEPLOYMENTS[name]
            parser = argparse.ArgumentParser()
            explain.add_options(parser)
            asked = [model, "--config", config, "--target", machine, "--deploy", deployment, *more]
            options = parser.parse_args(asked)
            goal = Goal.of(options)
            result = compile.answer(options, goal)[0]
            timeline = result.timeline
            assert timeline is not None
            print_result(result, options)
            terminal = capsys.readouterr().out
            spread = () if " ep=" not in deployment else ("dispatch", "combine")
            explained = {
                what: explain.explained(options, goal, timeline, what)
                for what in (*EXPLAINED, *spread)
            }
            explained = json.loads(json.dumps({**explained, "": explainable(timeline)}))
            write_outputs(timeline, root / name)
            outputs[name] = read_output(root / name, terminal, explained)
        return outputs[name]

    return answered


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_no_figure_contradicts_another(name: str, output_of: Any, capsys: Any) -> None:
    assert [*faults(output_of(name, capsys))] == []


# ---- seeded faults -----------------------------------------------------------------------------


def scaled(*path: str | int) -> Callable[[Output], None]:
    """Makes a number 2 % larger, or at least by one."""

    def change(output: Output) -> None:
        holder: Any = getattr(output, str(path[0]))
        for key in path[1:-1]:
            holder = holder[key]
        value = holder[path[-1]]
        holder[path[-1]] = value + max(1, round(value * 0.02)) if isinstance(value, int) else (
            value * 1.02
        )  # fmt: skip

    return change


def reworded(found: str, text: str, name: str | None = None) -> Callable[[Output], None]:
    """Replaces a text in the terminal, or in what is explained of a name."""

    def change(output: Output) -> None:
        if name is None:
            assert found in output.terminal
            output.terminal = output.terminal.replace(found, text)
            return
        whole = json.dumps(output.explained[name])
        assert found in whole
        output.explained[name] = json.loads(whole.replace(found, text))

    return change


def shortened(output: Output) -> None:
    """The last run of a program ends early."""
    layers = [one for one in output.schedule["traceEvents"] if one.get("cat") == "layer"]
    max(layers, key=lambda one: float(one["ts"]))["dur"] *= 0.5


def more_messages(output: Output) -> None:
    for one in output.schedule["traceEvents"]:
        if one["ph"] == "X" and one["args"].get("messages"):
            one["args"]["messages"] += 1


def uneven(output: Output) -> None:
    """A part of a program takes more of it, and no other part less."""
    split = output.report["programs"][1]["split"]
    split[split.index(max(split))] *= 1.02


def longer(output: Output) -> None:
    """Links are alone for longer in the program that is first."""
    spans = next(one["exposed"] for one in output.report["programs"] if one["exposed"])
    spans[0][1] += 1000


def weaker(output: Output) -> None:
    output.report["figures"][0].update(evidence="unknown", share="50.0 %")
    output.summary["evidence"] = "verified"
    output.terminal = output.terminal.replace("unverified", "verified")


OF_SCHEDULE = ("an end", "messages of tasks")
"""Faults that need a copy of schedule.json, which is long."""
FAULTS: dict[str, Callable[[Output], None]] = {
    **{
        f"summary {key}": scaled("summary", key)
        for key in (
            *("step_ms", "time_per_output_token_ms", "tokens_per_second_per_device", "messages"),
            *("exposed_communication_ms", "hidden_communication_ms", "wire_bytes", "launches"),
            *("memory_bytes_per_device", "memory_capacity_bytes", "largest_batch"),
        )
    },
    "a part of memory": scaled("summary", "memory_bytes_by_purpose", "main cache"),
    "launches of a layer": scaled("summary", "launches_per_layer", "logits: behind layers"),
    "fits": lambda output: output.summary.update(fits=False),
    "a batch beyond what fits": lambda output: output.summary.update(largest_batch=0),
    "evidence": weaker,
    "an end": shortened,
    "messages of tasks": more_messages,
    "length of a program": scaled("report", "programs", 1, "duration"),
    "runs of a program": scaled("report", "programs", 1, "count"),
    "split of a program": uneven,
    "exposed interval": longer,
    "targets of a token": reworded("a token reaches ", "a token reaches 1", "dispatch"),
    "rows": reworded("rows = 1 tokens", "rows = 2 tokens", "dispatch"),
    "rows of a message": reworded(" on average: ", " on average: 0.5 rows of ", "combine"),
    "runs of a transfer": reworded(" a step, ", "0 a step, ", "dispatch"),
    "time of a route": lambda output: output.explained["dispatch"]["placement"].update(
        route=output.explained["dispatch"]["placement"]["alternatives"][-1]["route"]
    ),
    "a bound": lambda output: output.explained["dispatch"]["placement"]["bounds"].append(
        "a layer: 0.98 times as much"
    ),
    "hides": reworded("allowed:", "allowed: traffic hides,"),
    "tail": reworded(" times as many", "9 times as many"),
    "messages of a layer": reworded(" messages of", "9 messages of"),
    "parts of a sum": lambda output: output.explained["messages"]["explanations"][0]["parts"].pop(),
    "share of an operation": reworded("% of it", "9 % of it", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_checks_see_a_fault(fault: str, output_of: Any, capsys: Any) -> None:
    whole = output_of("spread", capsys)
    tasks = copy.deepcopy(whole.schedule) if fault in OF_SCHEDULE else whole.schedule
    output = replace(
        whole,
        summary=copy.deepcopy(whole.summary),
        schedule=tasks,
        report=copy.deepcopy(whole.report),
        explained=copy.deepcopy(whole.explained),
    )
    FAULTS[fault](output)
    assert [*faults(output)], f"nothing is wrong with {fault}"


# ---- plans -------------------------------------------------------------------------------------

PLANS: dict[str, tuple[tuple[str, str], str, str, tuple[str, ...]]] = {
    "replicas": (V3, "h200", "phase=decode ep=4 batch=64 context=128 slots=20", SKEWED),
    "prefill": (QWEN, "gb200-nvl72", "phase=prefill ep=2 batch=2 context=64", ()),
}


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Any], tuple[Any, str]]:
    """plan.json and the terminal of a planning, each planned once."""
    planned: dict[str, tuple[Any, str]] = {}
    root = tmp_path_factory.mktemp("plans")

    def answered(name: str, capsys: Any) -> tuple[Any, str]:
        if name not in planned:
            (model, config), machine, deployment, more = PLANS[name]
            asked = [model, "--config", config, "--target", machine, "--deploy", deployment, *more]
            assert main(["plan", *asked, "-o", str(root / name)]) == 0
            plan = json.loads((root / name / "plan.json").read_text("utf-8"))
            planned[name] = plan, capsys.readouterr().out
        return planned[name]

    return answered


@pytest.mark.parametrize("name", PLANS)
def test_no_figure_of_a_plan_contradicts_another(name: str, plan_of: Any, capsys: Any) -> None:
    assert [*plan_faults(*plan_of(name, capsys))] == []


def changed(*path: str | int) -> Callable[[Any, str], tuple[Any, str]]:
    """Makes a number of plan.json 2 % larger."""

    def change(plan: Any, terminal: str) -> tuple[Any, str]:
        holder = plan
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] *= 1.02
        return plan, terminal

    return change


PLAN_FAULTS: dict[str, Callable[[Any, str], tuple[Any, str]]] = {
    **{
        f"a layer's {key}": changed("layers", 0, key)
        for key in ("balancedness", "ratio", "max_load", "bound")
    },
    **{f"{key} of a step": changed("comparison", "planned", key) for key in (
        "layer_seconds", "step_seconds", "tokens_per_second_per_device", "load_over_mean"
    )},
    **{f"bound of {key}": changed("bounds", key) for key in ("serial", "overlapped", "latency")},
    "seconds of a transfer": changed("communication", "combine", "seconds"),
    "shares of an expert": changed("layers", 0, "shares", 1),
    "balance in the terminal": lambda plan, text: (plan, text.replace(" 1.0000 ", " 1.1000 ")),
    "gain": lambda plan, text: (plan, text.replace("The plan gives ", "The plan gives 1")),
}  # fmt: skip


@pytest.mark.parametrize("fault", PLAN_FAULTS)
def test_the_checks_see_a_fault_of_a_plan(fault: str, plan_of: Any, capsys: Any) -> None:
    plan, terminal = plan_of("replicas", capsys)
    assert [*plan_faults(*PLAN_FAULTS[fault](copy.deepcopy(plan), terminal))], fault

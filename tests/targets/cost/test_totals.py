"""The summary by hand: two programs of a few tasks, decoding and in prefill."""

from __future__ import annotations

from typing import Any

import pytest
from cost_examples import figure, machine

from supertile.targets.cost.memory import Fit
from supertile.targets.cost.totals import FIELDS, exposed_seconds, totals
from supertile.targets.deploy import Model, parse_deployment
from supertile.targets.timeline import MemoryUse, Program, Task

MODEL = Model("made", {"num_nextn_predict_layers": 1}, None)
FIT = Fit(40, 5000)
MEMORY = MemoryUse((("weights", 60.0), ("main cache", 30.0)), 100.0)


def task(lane: str, start: float, duration: float, **more: Any) -> Task:
    return Task("t", "kind", lane, start * 1e-3, duration * 1e-3, (), **more)


# 10 ms: a kernel to 4, a transfer from 3 to 8, a second kernel from 6 to 10: 2 ms are exposed.
LAYER = Program(
    "layer",
    (
        task("compute", 0, 4),
        task("pod", 3, 5, messages=100.0, wire_bytes=1e6),
        task("compute", 6, 4),
    ),
)
HEAD = Program("head", (task("compute", 0, 5),))
ORDER = (("layer", 2), ("layer", 1), ("head", 1))


def summary(text: str, **changes: Any) -> dict[str, Any]:
    held = machine(**changes)
    deployment = parse_deployment(text)
    found, _ = totals((LAYER, HEAD), ORDER, deployment, MODEL, held, MEMORY, FIT, "verified")
    return found


def test_decoding() -> None:
    found = summary("phase=decode ep=8 tp=2 batch=35 mtp=0.4")
    assert found["step_ms"] == pytest.approx(35)
    assert found["time_per_output_token_ms"] == pytest.approx(35 / 1.4)
    # 35 sequences on each of 4 groups, 1.4 tokens a step, 8 devices.
    assert found["tokens_per_second_per_device"] == pytest.approx(35 * 4 * 1.4 / 0.035 / 8)
    assert found["time_to_first_token_ms"] is None
    assert found["prefill_tokens_per_second_per_device"] is None


def test_prefill() -> None:
    found = summary("phase=prefill ep=8 tp=2 batch=7 context=1000 chunk=300")
    assert found["time_per_output_token_ms"] is None
    assert found["tokens_per_second_per_device"] is None
    assert found["time_to_first_token_ms"] == pytest.approx(4 * 35)
    rate = found["prefill_tokens_per_second_per_device"]
    assert rate == pytest.approx(7 * 4 * 1000 / 0.140 / 8)


def test_counts_follow_the_order() -> None:
    found = summary("phase=decode")
    assert found["exposed_communication_ms"] == pytest.approx(3 * 2)
    assert found["messages"] == 300 and found["wire_bytes"] == 3e6
    assert found["launches"] == 7
    assert found["launches_per_layer"] == {"layer": 2, "head": 1}


def test_memory_and_evidence() -> None:
    found = summary("phase=decode")
    assert found["memory_bytes_by_purpose"] == {"weights": 60.0, "main cache": 30.0}
    assert (found["memory_bytes_per_device"], found["memory_capacity_bytes"]) == (90, 100)
    assert found["fits"] is True
    assert found["evidence"] == "verified"


def test_a_graph_launch_is_told_apart() -> None:
    assert summary("phase=decode")["graph_launch_ms"] is None
    parameters = {"graph_launch": figure(0.7e-3)}
    found = summary("phase=decode", parameters=parameters)
    assert found["graph_launch_ms"] == pytest.approx(0.7)
    assert found["step_ms"] == summary("phase=decode")["step_ms"]


def test_every_field_has_one_sentence() -> None:
    deployment = parse_deployment("phase=decode")
    found, definitions = totals(
        (LAYER, HEAD), ORDER, deployment, MODEL, machine(), MEMORY, FIT, "verified"
    )
    assert list(found) == list(definitions) == list(FIELDS)
    for sentence in definitions.values():
        assert sentence.endswith(".") and ". " not in sentence and "{" not in sentence
    assert "one is a chip" in definitions["tokens_per_second_per_device"]


def test_links_alone() -> None:
    busy = Program("p", (task("node", 0, 2), task("pod", 1, 3), task("compute", 2, 1)))
    assert exposed_seconds(busy) == pytest.approx(3e-3)  # 0 to 2 and 3 to 4
    assert exposed_seconds(Program("p", (task("compute", 0, 1),))) == 0
    assert exposed_seconds(Program("p", ())) == 0

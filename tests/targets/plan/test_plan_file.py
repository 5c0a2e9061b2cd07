"""Plan files: they read back as they were written, and each wrong value has its place."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from plan_models import ROWS, even, plan_of, weighted

from supertile.ir.errors import UserError
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.plan.plan_file import plan_text, read_plan, write_plan
from supertile.targets.plan.plan_types import (
    SHARE_PARTS,
    LayerPlan,
    PlanFile,
    exact_shares,
)

FULL = plan_of(
    weighted(),
    bounds={"wire": 1e-4, "compute": 2.5e-5},
    load=np.array([[7, 2.5, 0, 1], [3, 3, 3, 3]]),
    comparison={"planned": {"step_seconds": 0.0625}},
    domains={"node": 2},
    communication={"dispatch": {"protocol": "load_store", "deduplicate": True, "waves": 4}},
    evidence={"wire": "measured: Huawei, EP64 \u00b5s"},
    notes=("layer 1: no counts",),
)
FULL = replace(FULL, layers=(replace(FULL.layers[0], expected=0.8), FULL.layers[1]))

# Equal in bytes for every plan that is equal.
GOLDEN = """{
"format": "supertile-plan",
"version": 1,
"model": "mixed",
"config": "config.json",
"machine": "h200",
"deployment": "phase=decode ep=3",
"loads": "zipf:0.6,seed=3",
"seed": 3,
"model_layers": 4,
"experts": 4,
"ranks": 3,
"slots": 2,
"shares": "weighted",
"share_parts": 281474976710656,
"domains": {"node":2},
"bounds": {"wire":0.0001,"compute":2.5e-05},
"comparison": {"planned":{"step_seconds":0.0625}},
"communication": {"dispatch":{"protocol":"load_store","deduplicate":true,"waves":4}},
"evidence": {"wire":"measured: Huawei, EP64 \u00b5s"},
"notes": ["layer 1: no counts"],
"layers": [
{"layer":1,"balancedness":0.714285714285715,"bound":3.5,"ratio":1.3999999999999986,\
"max_load":4.899999999999995,"expected":0.8,\
"loads":[7,2.5,0,1],"slots":[0,1,2,0,3,1],"shares":[84442493013197,140737488355328,281474976710656,197032483697459,\
281474976710656,140737488355328]},
{"layer":3,"balancedness":0.909090909090908,"bound":4.0,"ratio":1.1000000000000014,\
"max_load":4.400000000000006,\
"loads":[3,3,3,3],"slots":[3,2,1,0,3,0],"shares":[56294995342131,281474976710656,281474976710656,93824992236885,\
225179981368525,187649984473771]}
]
}
"""


def round_trip(path: Path, plan: PlanFile) -> PlanFile:
    write_plan(path, plan)
    return read_plan(path)


def test_the_bytes_of_a_plan():
    assert plan_text(FULL) == GOLDEN


def test_a_plan_reads_back(tmp_path):
    assert round_trip(tmp_path / "plan.json", FULL) == FULL
    back = round_trip(tmp_path / "plan.json", plan_of(even()))
    assert back == plan_of(even()) and back.shares == "equal" and back != FULL
    assert round_trip(tmp_path / "plan.json", back) != replace(back, seed=1)
    assert back != replace(back, load=FULL.load) != replace(back, load=np.ones((2, 4)))
    assert '"share' not in plan_text(back).replace('"shares": "equal"', "")


def test_older_plans_that_say_how_long_planning_took_are_read(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(GOLDEN.replace('"seed": 3,', '"seed": 3,\n"seconds": 0.25,'))
    assert read_plan(path) == FULL


def test_ranks_of_several_sizes_and_idle_slots(tmp_path):
    rows = [[0, 1, 2, 3, -1, 0, 2], [0, 1, 2, 3, 1, 2, -1]]
    plan = plan_of(even(rows, (4, 1, 2)))
    back = round_trip(tmp_path / "plan.json", plan)
    assert back == plan and back.placement.slots.tolist() == [4, 1, 2]
    assert (back.placement.share[plan.placement.expert == -1] == 0).all()


@st.composite
def placements(draw: Any) -> ExpertMap:
    """With shares of any kind."""
    experts = draw(st.integers(1, 6))
    slots = draw(st.lists(st.integers(1, experts), min_size=1, max_size=5))
    while sum(slots) < experts:
        slots.append(experts)
    layers, seed = draw(st.integers(1, 3)), draw(st.integers(0, 2**32))
    random = np.random.default_rng(seed)
    rows = [_row(random, experts, slots) for _ in range(layers)]
    expert = np.array(rows, np.int64)
    share = random.random(expert.shape) ** draw(st.integers(1, 9)) * (expert >= 0)
    for row, weights in zip(expert, share, strict=True):
        for one in range(experts):
            weights[row == one] /= weights[row == one].sum()
    return ExpertMap(experts, np.array(slots), expert, share)


def _row(random: np.random.Generator, experts: int, slots: list[int]) -> list[int]:
    """Each expert first where there is room, then replicas or nothing."""
    held: list[list[int]] = [[] for _ in slots]
    for expert in random.permutation(experts).tolist():
        room = [g for g, n in enumerate(slots) if len(held[g]) < n]
        held[random.choice(room)].append(expert)
    for rank, count in enumerate(slots):
        free = [e for e in random.permutation(experts).tolist() if e not in held[rank]]
        more = free[: count - len(held[rank])]
        held[rank] += [e if random.random() < 0.8 else -1 for e in more]
    return [expert for rank in held for expert in rank]


@settings(max_examples=60, deadline=None)
@given(placements(), st.booleans())
def test_any_plan_reads_back_with_shares_that_add_to_one(folder, placement, equal):
    exact = exact_shares(placement)
    assert np.abs(exact.share - placement.share).max() <= 1 / SHARE_PARTS + 1e-15
    np.testing.assert_array_equal(exact_shares(exact).share, exact.share)
    if equal:
        exact = ExpertMap.equal(placement.experts, placement.slots, placement.expert)
    plan = plan_of(exact, range(exact.layers), shares="equal" if equal else "weighted")
    back = round_trip(folder / "plan.json", plan)
    assert back == plan and plan_text(back) == plan_text(plan)
    if not equal:
        for row, share in zip(back.placement.expert, back.placement.share, strict=True):
            assert all(share[row == one].sum() == 1 for one in range(exact.experts))


# ---- plans that code may not make


def slots(*row: int) -> dict[str, Any]:
    """A plan with this row in its second layer."""
    rows = np.array([ROWS[0], row])
    return {"placement": ExpertMap(4, np.array([2, 2, 2]), rows, np.zeros(rows.shape))}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layers": FULL.layers[:1]}, "1 layers"),
        ({"layers": FULL.layers[::-1]}, r"layers \[3, 1\]"),
        ({"model_layers": 3}, "with 3"),
        ({"bounds": {"wire": float("nan")}}, "not finite"),
        ({"bounds": {"wire": float("inf")}}, "not finite"),
        ({"load": np.full((2, 4), np.nan)}, "not finite"),
        ({"load": np.ones((2, 3))}, r"loads of the shape \[2, 3\]"),
        ({"layers": (replace(FULL.layers[0], ratio=float("nan")), FULL.layers[1])}, "not finite"),
        ({"shares": "equal"}, r"layers\[0\]\.shares\[0\]: plan.not_equal"),
        ({"placement": replace(even(), share=even().share / 3)}, r"shares\[0\]: plan.share"),
        (slots(0, 1, 2, 0, 3, 4), r"layers\[1\]\.slots\[5\]: plan.expert"),
        (slots(0, 1, 2, 0, 1, 2), r"layers\[1\]\.slots: plan.no_slot"),
        (slots(0, 1, 2, 0, 3, 3), r"layers\[1\]\.slots\[5\]: plan.twice"),
    ],
)
def test_plans_that_do_not_fit_together(changes, told):
    with pytest.raises(ValueError, match=told):
        replace(FULL, **changes)


def test_shares_far_from_one_are_not_rounded():
    with pytest.raises(ValueError, match="add up to 1"):
        exact_shares(replace(even(), share=even().share * 0.9))


# ---- wrong files


def error(path: Path, text: str | bytes) -> UserError:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as caught:
        read_plan(path)
    return caught.value


def changed(*steps: str | int, value: Any) -> str:
    """The golden plan with one value; `...` removes the key."""
    data = json.loads(GOLDEN)
    place = data
    for step in steps[:-1]:
        place = place[step]
    place[steps[-1]] = value
    if value is ...:
        del place[steps[-1]]
    return json.dumps(data, indent=1)


WRONG: dict[str, tuple[tuple[str | int, ...], Any, str, str]] = {
    "format": (("format",), "other", "plan.format", 'found: "other"'),
    "no format": (("format",), ..., "plan.format", "found: no format"),
    "version": (("version",), 2, "plan.version", "expected: version 1"),
    "unknown": (("modell",), "x", "plan.unknown_key", "did you mean model?"),
    "missing": (("machine",), ..., "plan.missing", "`machine`"),
    "text": (("model",), 3, "plan.value", "expected: a text"),
    "seed": (("seed",), -1, "plan.value", "found: -1"),
    "flag": (("seed",), True, "plan.value", "found: true"),
    "shares": (("shares",), "even", "plan.value", 'expected: "equal" or "weighted"'),
    "parts": (("share_parts",), 100, "plan.value", "expected: 281474976710656"),
    "no parts": (("share_parts",), ..., "plan.value", "found: null"),
    "parts of equal": (("shares",), "equal", "plan.value", "no share_parts"),
    "ranks": (("ranks",), 0, "plan.value", "`ranks`"),
    "slots": (("slots",), [2, 2, 0], "plan.value", "`slots[2]`"),
    "few slots": (("slots",), [2, 2], "plan.value", "3 whole numbers"),
    "many slots": (("slots",), 2**22, "plan.value", "slots in all"),
    "experts": (("experts",), 7, "plan.value", "7 to"),
    "no layers": (("layers",), [], "plan.value", "one layer or more"),
    "layer kind": (("layers", 1), 3, "plan.value", "`layers[1]`"),
    "layer key": (("layers", 1, "slot"), 3, "plan.unknown_key", "`layers[1].slot`"),
    "layer lacks": (("layers", 1, "bound"), ..., "plan.missing", "`layers[1]` lacks"),
    "no shares": (("layers", 0, "shares"), ..., "plan.missing", "`shares`"),
    "number": (("layers", 0, "layer"), 4, "plan.value", "0 to 3"),
    "order": (("layers", 1, "layer"), 1, "plan.value", "2 to 3"),
    "balance": (("layers", 0, "balancedness"), 1.5, "plan.value", "0 to 1"),
    "expected": (("layers", 0, "expected"), -0.5, "plan.value", "`layers[0].expected`"),
    "bound": (("layers", 0, "bounds"), {"wire": "x"}, "plan.value", "`layers[0].bounds.wire`"),
    "loads": (("layers", 0, "loads", 2), -1, "plan.value", "`layers[0].loads[2]`"),
    "some loads": (("layers", 1, "loads"), ..., "plan.missing", "`loads`"),
    "few loads": (("layers", 1, "loads"), [1, 2], "plan.value", "4 numbers"),
    "comparison": (("comparison", "EPLB"), 3, "plan.value", "`comparison.EPLB`"),
    "length": (("layers", 0, "slots"), [0, 1], "plan.value", "6 whole numbers"),
    "no expert": (("layers", 1, "slots", 4), 17, "plan.expert", "`layers[1].slots[4]`"),
    "fraction": (("layers", 1, "slots", 4), 1.5, "plan.value", "`layers[1].slots[4]`"),
    "long": (("layers", 1, "slots", 4), 10**19, "plan.value", "64 bits"),
    "no slot": (("layers", 0, "slots", 2), 3, "plan.no_slot", "no slot for expert 2"),
    "twice": (("layers", 0, "slots", 1), 0, "plan.twice", "rank 0 has already"),
    "share": (("layers", 0, "shares", 1), -1, "plan.share", "`layers[0].shares[1]`"),
    "share sum": (("layers", 0, "shares", 2), 1, "plan.share_sum", "out expert 2"),
    "idle share": (("layers", 0, "slots", 0), -1, "plan.idle_share", "`layers[0].shares[0]`"),
    "choice": (("communication", "dispatch", "x"), [1], "plan.value", "found: a list"),
    "direction": (("communication", "dispatch"), 1, "plan.value", "an object"),
    "evidence": (("evidence",), {"wire": 1}, "plan.value", "`evidence.wire`"),
    "note": (("notes",), ["x", 2], "plan.value", "`notes[1]`"),
    "deployment": (("deployment",), "ep=3", "plan.value", "expected: a deployment: "),
    "other ranks": (("deployment",), "phase=decode ep=4", "plan.value", "ep=3, the ranks"),
    "other slots": (("deployment",), "phase=decode ep=3 slots=9", "plan.value", "6 slots"),
    "domain": (("domains", "node"), 3, "plan.value", "from 2 to 2"),
    "engine": (("engine",), "slang", "plan.value", "one of sglang"),
    "setting": (("engine_setting",), {}, "plan.value", "no setting without an engine"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_by_example(tmp_path, case):
    steps, value, code, told = WRONG[case]
    found = error(tmp_path / "plan.json", changed(*steps, value=value))
    assert found.code == code and told in found.render() and found.spot is not None


def test_a_wrong_value_is_shown_where_it_stands(tmp_path):
    path = tmp_path / "plan.json"
    text = GOLDEN.replace('"slots":[3,2,1,0,3,0]', '"slots":[3,2,1,0,37,0]')
    lines = error(path, text).render().splitlines()
    assert lines[0] == f"{path}:24:148: error: `layers[1].slots[4]` is no expert"
    assert lines[1][lines[2].index("^") :].startswith("37,0]")


FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"  ", "plan.empty"),
    "encoding": (b"\xff{}", "plan.encoding"),
    "syntax": (GOLDEN[:-10].encode(), "plan.syntax"),
    "twice": (GOLDEN.replace('"seed": 3', '"model": 3').encode(), "plan.duplicate"),
    "constant": (GOLDEN.replace("4.899999999999995", "NaN").encode(), "plan.constant"),
    "deep": (b"[" * 100_000, "plan.nested"),
    "list": (b"[]", "plan.value"),
    "loads": (b'{"logical_count": [[1]]}', "plan.format"),
}


@pytest.mark.parametrize("case", FILES)
def test_wrong_files_by_example(tmp_path, case):
    raw, code = FILES[case]
    assert error(tmp_path / "plan.json", raw).code == code


def test_what_is_no_file(tmp_path):
    for name, code in {"absent": "absent", ".": "folder"}.items():
        with pytest.raises(UserError) as caught:
            read_plan(tmp_path / name)
        assert caught.value.code == f"plan.{code}"


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_and_cut_files_are_read_or_refused(folder, data):
    raw = bytearray(GOLDEN.encode())
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = folder / "plan.json"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        plan = read_plan(path)
    except UserError as error:
        assert error.code.startswith("plan.") and str(path) in error.render()
    else:
        assert round_trip(path, plan) == plan


def test_a_plan_of_a_layer_alone():
    plan = plan_of(even([[3, 1, 0, 2]], (4,)), numbers=(0,), model_layers=1)
    assert plan.placement.ranks == 1 and plan.layers == (LayerPlan(0, 1.0, 4.0, 1.0, 4.0),)

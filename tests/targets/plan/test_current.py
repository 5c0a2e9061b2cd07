"""What is in use, read back from the files of engines; and what is refused, by name and place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plan_models import MIXED, ROWS, SPARSE, even, plan_of

from supertile.ir.errors import UserError
from supertile.targets.plan.current import read_current
from supertile.targets.plan.exports import Drafts, export
from supertile.targets.plan.plan_file import write_plan

PLAN = plan_of(even())
FILES = {
    "plan.json": None,
    "sglang.json": "sglang",
    "vllm.py": "vllm",
    "vllm-ascend.json": "vllm-ascend",
    "trtllm.yaml": "trtllm",
    "trtllm.json": "trtllm",
}


def written(tmp_path: Path, name: str) -> Path:
    """The plan as a file of that name, for an engine that drafts."""
    path, engine = tmp_path / name, FILES[name]
    if engine is None:
        write_plan(path, PLAN)
    else:
        export(PLAN, engine, path, drafts=Drafts(1, running=True))
    return path


def failure(path: Path, text: str | None = None, ranks: int = 3) -> UserError:
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_current(path, MIXED, ranks)
    return caught.value


@pytest.mark.parametrize("name", FILES)
def test_what_is_exported_is_read_back(tmp_path: Path, name: str) -> None:
    found = read_current(written(tmp_path, name), MIXED, ranks=3)
    assert found.placement.expert.tolist() == ROWS and found.numbers == (1, 3)
    assert found.placement.slots.tolist() == [2, 2, 2]
    assert (found.placement.share == PLAN.placement.share).all()


def test_maps_of_vllm_are_told_by_their_rows(tmp_path: Path) -> None:
    every = plan_of(even([*ROWS, ROWS[0]]), numbers=(0, 1, 2), model_layers=3)
    path = tmp_path / "map.json"
    for form in ("pr53022", "pr49572"):
        export(every, "vllm", path, form, Drafts(1))
        assert read_current(path, SPARSE, 3).placement.expert.tolist() == [*ROWS, ROWS[0]]
    path.write_text(json.dumps(ROWS[0]))
    assert read_current(path, MIXED, 3).placement.expert.tolist() == [ROWS[0]] * 2
    found = failure(path, json.dumps([*ROWS, ROWS[0]]))
    assert found.expected == "2 rows: layers with experts" and found.found == "3 rows"


@pytest.mark.parametrize("name", [name for name in FILES if FILES[name]])
def test_other_ranks_are_refused(tmp_path: Path, name: str) -> None:
    found = failure(written(tmp_path, name), ranks=4)
    assert found.code == "current.value" and name in found.render()


def test_a_rank_of_an_engine_may_hold_an_expert_twice(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    path.write_text(json.dumps([0, 0, 1, 2, 3, 1]))
    assert read_current(path, MIXED, 3).placement.share[0].tolist() == [0.5, 0.5, 0.5, 1, 1, 0.5]


ROW = "[0,1,2,0,3,1]"
DEVICES = '{"device_list": [{"device_expert": [0,1]}, {"device_expert": [2,3]}, {"device_expert":'
WRONG = {
    f'{{"physical_to_logical_map": [{ROW}, {ROW}]}}': ("rows of all 4 layers", "2"),
    f'{{"physical_to_logical_map": [{ROW}], "logical_count": []}}': ("no key but", "logical_count"),
    '{"logical_count": [[1]]}': ("plan.json, or a file of SGLang", "logical_count"),
    f"[{ROW}, [0,1,2,0,3]]": ("6 slots, as in the first layer", "5"),
    f"[{ROW}, [0,1,2,0,3,4]]": ("experts from 0 to 3", "4"),
    f"[{ROW}, [0,1,2,0,3,true]]": ("experts from 0 to 3", "True"),
    f"[{ROW}, [0,1,2,0,2,1]]": ("a slot of every expert", "none of 1 experts"),
    f"[{ROW}, 7]": ("a list", "7"),
    "[]": ("2 rows: layers with experts", "0 rows"),
    f'{{"layer_list": [{DEVICES} [1,0]}}]}}]}}': ("2 layers with experts", "1"),
    f'{{"layer_list": [{DEVICES} [1]}}]}}]}}': ("as many experts on each device", "different"),
    '{"layer_list": [{"device_list": [{"device_expert": [0]}]}]}': ("3 devices", "1"),
    '{"layer_list": [{"device_list": [1, 2, 3]}]}': ("an object with device_expert", "1"),
    f"initial_global_assignments:\n  1: {ROW}\n": ("rows of layers 1, 3", "no row of layer 3"),
    f"num_slots: 8\ninitial_global_assignments:\n  1: {ROW}\n  3: {ROW}\n": (
        "6, as its lists",
        "8",
    ),
    '{"moe_layer_count": 9, "layer_list": [{"device_list": [1]}]}': ("1, as its lists", "9"),
    '{"layer_list": [{"layer_id": 3, "device_list": [1]}]}': ("0, as its lists", "3"),
    '{"layer_list": [{"device_count": 8, "device_list": [1]}]}': ("1, as its lists", "8"),
    '{"layer_list": [{"device_list": [{"device_id": 2}]}]}': ("0, as its lists", "2"),
    "EXPERTS, RANKS, SLOTS = 1, 2, [[0]]\nSLOTS = [[0]]\n": ("plan.json, or", "without EXPERTS"),
    "EXPERTS = 9\nRANKS = 3\nSLOTS = [[0]]\n": ("4 experts", "9"),
    f"initial_global_assignments:\n  1: {ROW}\n  2: {ROW}\n  3: {ROW}\n": (
        "rows of layers 1, 3",
        "a row of layer 2",
    ),
    f"initial_global_assignments:\n  1: {ROW}\n  1: {ROW}\n": ("", "the key 1 stands twice"),
    "initial_global_assignments: [1\n": ("", "line 2"),
    "initial_global_assignments:\n  one: [0]\n": ("the number of a layer", "one"),
    "initial_global_assignments: 5\n": ("an object of lists by layer", "5"),
    "# initial_global_assignments\nnum_slots: 6\n": ("plan.json, or", "YAML without"),
    "SLOTS = [[0]]\n": ("plan.json, or", "without EXPERTS, RANKS and SLOTS"),
    "SLOTS = [open('x')]\n": ("plan.json, or", "no policy of Supertile's"),
    "layer,expert,count\n": ("plan.json, or", "neither JSON, nor YAML"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_understood_is_refused(tmp_path: Path, text: str) -> None:
    expected, found = WRONG[text]
    error = failure(tmp_path / "in_use", text)
    assert error.code.startswith("current.") and "in_use" in error.render()
    assert expected in error.expected and found in error.found

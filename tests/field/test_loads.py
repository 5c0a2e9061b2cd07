"""Recordings of expert loads as engines write them, and what their users make of them: each is read
for DeepSeek-V4-Flash as it is, told in part, or refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from torch_bytes import write_torch

from supertile.cli.deployed_model import deployed_model
from supertile.cli.inputs import config_path, model_path
from supertile.cli.main import main
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config
from supertile.ir.errors import UserError
from supertile.targets.machine import load_machine
from supertile.targets.plan.load_files import loads_files, read_loads
from supertile.targets.plan.loads import Loads
from supertile.targets.plan.model import ExpertLayers, expert_layers

LAYERS, EXPERTS, SLOTS, HASHED = 43, 256, 288, 3
DRAFT = LAYERS
RANDOM = np.random.default_rng(5)
COUNTS = np.round(50 * RANDOM.lognormal(1, 1, (LAYERS, EXPERTS))).astype(np.int64)
ROUTED = np.where(np.arange(LAYERS)[:, None] < HASHED, 0, COUNTS)
"""Recorders see no counts in layers that choose by token id."""
NO_COUNTS = "layers 0 to 2: no counts in "


@pytest.fixture(scope="module")
def model() -> ExpertLayers:
    config = read_config(config_path("deepseek_v4_flash"))
    module = build_model(model_path("deepseek_v4"), config, "deployed", ["logits"])
    return expert_layers(deployed_model(module, config, load_machine("h200")))


def csv(path: Path, counts: np.ndarray, header: str = "layer_id,expert_id,count") -> Path:
    """Lines of what is not zero, as SGLang's first recorder writes them."""
    layer, expert = np.nonzero(counts)
    rows = zip(layer, expert, counts[layer, expert], strict=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def shares(ranks: int) -> list[np.ndarray]:
    """What each of the ranks counted of `ROUTED`."""
    parts = [ROUTED // ranks for _ in range(ranks - 1)]
    return [*parts, ROUTED - sum(parts)]


def failure(paths: object, model: ExpertLayers) -> UserError:
    with pytest.raises(UserError) as caught:
        read_loads(paths, model)  # type: ignore[arg-type]
    return caught.value


def check_routed(found: Loads, told: str = NO_COUNTS) -> None:
    np.testing.assert_array_equal(found.total, ROUTED)
    assert any(note.startswith(told) for note in found.notes), found.notes


def test_a_stat_file_has_steps_and_no_counts_of_hashed_layers(tmp_path, model):
    steps = np.zeros((16, LAYERS, EXPERTS), np.int32)
    steps[3], steps[7] = ROUTED // 2, ROUTED - ROUTED // 2
    dump = {"rank": 0, "logical_count": steps, "average_utilization_rate_over_window": None}
    found = read_loads(write_torch(tmp_path / "stat.pt", dump), model)
    check_routed(found)
    assert found.windows == 16


def test_a_csv_of_one_rank_is_read_and_told(tmp_path, model):
    found = read_loads(csv(tmp_path / "expert_distribution_rank0_timestamp1.csv", ROUTED), model)
    check_routed(found)
    assert found.notes[0].endswith("timestamp1.csv has the counts of rank 0 alone")


@pytest.mark.parametrize("way", ["folder", "pattern", "names"])
def test_files_of_ranks_are_added_up(tmp_path, model, way):
    files = [
        csv(tmp_path / f"load_rank{rank}_timestamp9.csv", part)
        for rank, part in enumerate(shares(4))
    ]
    named = {
        "folder": [str(tmp_path)],
        "pattern": [str(tmp_path / "load_rank*.csv")],
        "names": [*map(str, files)],
    }
    found = read_loads(loads_files(named[way]), model)
    check_routed(found)
    assert found.notes[0] == "4 files are added up: ranks 0, 1, 2, 3"
    assert found.source == f"{files[0]} and 3 more"


def test_recorded_iterations_are_added_by_number(tmp_path, model):
    """A tensor for each iteration and layer, a file a rank, and other files beside them."""
    for rank, part in enumerate(shares(2)):
        rows = {f"{8 + rank}_{layer}": part[layer] for layer in range(HASHED, LAYERS)}
        rows |= {f"7_{layer}": np.zeros(EXPERTS, np.int32) for layer in range(HASHED, LAYERS)}
        save_file(rows, tmp_path / f"rank{rank}.safetensors")
        save_file({"7_3": np.zeros((9, 6), np.int32)}, tmp_path / f"rank{rank}_raw.safetensors")
    (tmp_path / "meta_info.json").write_text('{"num_experts": 256}')
    found = read_loads(loads_files([str(tmp_path)]), model)
    check_routed(found)
    assert found.windows == 3, "iterations 7, 8 and 9"
    again = failure([tmp_path / "rank0.safetensors", *_copied(tmp_path)], model)
    assert again.code == "loads.rank_twice" and "rank 0 in the window 7" in again.message
    raw = failure(tmp_path / "rank0_raw.safetensors", model)
    assert raw.code == "loads.rank" and raw.found == "[9, 6]"


def _copied(folder: Path) -> list[Path]:
    other = folder / "other"
    other.mkdir()
    (other / "rank0.safetensors").write_bytes((folder / "rank0.safetensors").read_bytes())
    return [other / "rank0.safetensors"]


def test_an_iteration_that_lacks_layers_is_told(tmp_path, model):
    rows = {f"1_{layer}": ROUTED[layer] for layer in range(HASHED, LAYERS)}
    save_file({**rows, "2_9": ROUTED[9]}, tmp_path / "counts.safetensors")
    found = read_loads(tmp_path / "counts.safetensors", model)
    assert found.total[9].tolist() == (2 * ROUTED[9]).tolist()
    assert any("lacks 39 of its pairs of iteration and layer" in note for note in found.notes)


def test_layers_keyed_by_number(tmp_path, model):
    path = tmp_path / "by_layer.json"
    path.write_text(json.dumps({str(at): ROUTED[at].tolist() for at in range(HASHED, LAYERS)}))
    check_routed(read_loads(path, model))
    windows = {at: np.stack([ROUTED[at], ROUTED[at]]) for at in range(HASHED, LAYERS)}
    found = read_loads(write_torch(tmp_path / "by_layer.pt", windows), model)
    assert found.windows == 2 and (found.total == 2 * ROUTED).all()
    path.write_text(json.dumps({"3": [1] * EXPERTS, "03": [1] * EXPERTS}))
    assert failure(path, model).code == "loads.keys"
    path.write_text(json.dumps({"3": [1] * EXPERTS, "44": [1] * EXPERTS}))
    assert failure(path, model).found == "layer 44"


ROWS = {
    "all": (np.arange(LAYERS), NO_COUNTS),
    "without hashed layers": (np.arange(HASHED, LAYERS), NO_COUNTS),
    "with drafts": (np.append(np.arange(LAYERS), DRAFT), f"layer {DRAFT} of "),
    "routed and drafts": (np.append(np.arange(HASHED, LAYERS), DRAFT), f"layer {DRAFT} of "),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows_of_drafts_and_of_hashed_layers_may_be_there(tmp_path, model, case):
    layers, told = ROWS[case]
    rows = np.concatenate([ROUTED, np.ones((1, EXPERTS), np.int64)])[layers]
    np.save(tmp_path / "rows.npy", rows)
    check_routed(read_loads(tmp_path / "rows.npy", model), told)
    lines = np.zeros((LAYERS + 1, EXPERTS), np.int64)
    lines[layers] = rows
    check_routed(read_loads(csv(tmp_path / "rows.csv", lines), model), told)


def test_other_rows_say_which_are_known(tmp_path, model):
    np.save(tmp_path / "rows.npy", np.ones((42, EXPERTS)))
    assert failure(tmp_path / "rows.npy", model).expected == (
        "43 rows, one for each layer with experts, or 44 with layer 43 of drafts behind them, or "
        "40 without layers 0 to 2, which choose by token id, or 41 without layers 0 to 2, which "
        "choose by token id, with layer 43 of drafts"
    )


def test_a_bare_tensor_and_a_window_of_slots(tmp_path, model):
    check_routed(read_loads(write_torch(tmp_path / "view.pt", ROUTED), model))
    held = np.tile(np.arange(SLOTS) % EXPERTS, (LAYERS, 1))
    slots = np.take_along_axis(ROUTED, held, 1)
    slots[:, EXPERTS:] //= 4
    slots[:, : SLOTS - EXPERTS] -= slots[:, EXPERTS:]
    dump = {"expert_load_window": np.stack([slots]), "physical_to_logical_map": held}
    check_routed(read_loads(write_torch(tmp_path / "window.pt", dump), model))


def test_a_pickle_of_old_torch_is_refused_with_the_way_round(tmp_path, model):
    (tmp_path / "legacy.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    found = failure(tmp_path / "legacy.pt", model)
    assert found.code == "loads.torch_refused" and "numpy.savez" in found.suggestion


def test_several_loads_are_one_question(tmp_path, capsys):
    """The command takes what adds up, and says what does not."""
    small = Path(__file__).parents[1] / "data" / "deepseek_v4"
    asked = ["deepseek_v4", "--config", str(small), "--target", "h200"]
    asked += ["--deploy", "phase=decode ep=4 batch=4 slots=12"]
    first = csv(tmp_path / "a_rank0.csv", np.ones((6, 8), np.int64))
    second = csv(tmp_path / "b_rank1.csv", np.arange(48).reshape(6, 8))
    assert main(["compile", *asked, "--loads", str(first), "--loads", str(second)]) == 0
    assert "a_rank0.csv and 1 more" in " ".join(capsys.readouterr().out.split())
    wrong = {
        "one law, or files alone": ["zipf:1", str(first)],
        "named twice": [str(first), str(tmp_path / "a*.csv")],
        "no file is named by": [str(tmp_path / "c*.csv")],
        "found: .csv and .json": [str(tmp_path)],
    }
    (tmp_path / "c.json").write_text("[]")
    for told, loads in wrong.items():
        assert main(["plan", *asked, *(word for one in loads for word in ("--loads", one))]) == 1
        assert told in capsys.readouterr().err

"""Checkpoints as users bring them: of another config, named otherwise, damaged, cut while read."""

import json
import os
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from supertile.cli.main import main

DATA = Path(__file__).parents[1] / "data"
V4 = DATA / "deepseek_v4"
EXPERT = "layers.1.ffn.experts.2.w1.weight"


def run(model: str, config: Path, weights: Path, *more: str) -> int:
    tokens = str(DATA / model / "io.npz")
    line = ["run", model, "--config", str(config), "--weights", str(weights), "--tokens", tokens]
    return main([*line, "--prompt", "3", *more])


def changed(folder: Path, change: object) -> Path:
    """A copy of the small V4 whose tensors `change` has changed."""
    copytree(V4, folder / "checkpoint")
    tensors = load_file(V4 / "model.safetensors")
    change(tensors)  # type: ignore[operator]
    save_file(tensors, folder / "checkpoint" / "model.safetensors")
    return folder / "checkpoint"


def cut_config(model: str, folder: Path, layers: int) -> Path:
    config = json.loads((DATA / model / "config.json").read_text())
    config["num_hidden_layers"] = layers
    for key, value in config.items():
        if isinstance(value, list) and key != "architectures":
            config[key] = value[:layers]
    if "num_hash_layers" in config:
        config["num_hash_layers"] = min(config["num_hash_layers"], layers)
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


@pytest.mark.parametrize(("model", "layers"), [("llama", 1), ("llama", 2), ("deepseek_v4", 2)])
def test_layers_that_the_config_lacks_are_surplus(
    model: str, layers: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = cut_config(model, tmp_path, layers)
    assert run(model, config, DATA / model) == 1
    text = capsys.readouterr().err
    assert f"which has {layers} layers" in text
    assert f"(layers {layers}" in text and "--allow-unused" in text
    assert run(model, config, DATA / model, "--allow-unused") == 0


def test_parts_that_the_config_gives_to_other_layers_are_surplus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A layer that has a compressor, where the config says that it sees a window alone."""
    config = json.loads((V4 / "config.json").read_text())
    config["layer_types"][3], config["compress_ratios"][3] = "sliding_attention", 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run("deepseek_v4", tmp_path / "config.json", V4) == 1
    assert "layers.3.attn.compressor.ape" in capsys.readouterr().err


def test_experts_that_the_config_lacks_are_surplus(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors["layers.1.ffn.experts.8.w1.weight"] = tensors[EXPERT]

    assert run("deepseek_v4", V4, changed(tmp_path, add)) == 1
    assert "experts.8.w1.weight (layers 1)" in capsys.readouterr().err


def test_draft_layers_behind_the_last_one_are_no_surplus(tmp_path: Path) -> None:
    """V3's release stores its draft layer as one more layer of the model."""
    case = DATA / "deepseek_v3"
    copytree(case, tmp_path / "v3")
    config = json.loads((case / "config.json").read_text())
    last = config["num_hidden_layers"]
    tensors = load_file(case / "model.safetensors")
    drafts = {
        name.replace(f"layers.{last - 1}.", f"layers.{last}."): tensor
        for name, tensor in tensors.items()
        if f"layers.{last - 1}." in name
    }
    save_file(tensors | drafts, tmp_path / "v3" / "model.safetensors")
    for count, code in ((1, 0), (0, 1)):
        text = json.dumps(config | {"num_nextn_predict_layers": count})
        (tmp_path / "v3" / "config.json").write_text(text)
        assert run("deepseek_v3", tmp_path / "v3", tmp_path / "v3") == code


# ---- what the release's and other tools' files may lack or have ----------------------------------


def _drop(tensors: dict[str, np.ndarray]) -> None:
    del tensors[EXPERT]


def _spoil(tensors: dict[str, np.ndarray]) -> None:
    tensors[EXPERT] = tensors[EXPERT].copy()
    tensors[EXPERT][2, 3] = np.nan


def _turn(tensors: dict[str, np.ndarray]) -> None:
    tensors[EXPERT] = np.ascontiguousarray(tensors[EXPERT].T)


def _add(tensors: dict[str, np.ndarray]) -> None:
    tensors["dspark.0.markov.weight"] = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_drop, f"no tensor '{EXPERT}'"),
        (_spoil, "the first at [2, 3]"),
        (_turn, "found: [64, 24]"),
        (_add, ""),
    ],
)
def test_what_is_wrong_with_a_tensor_is_named(
    change: object, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("deepseek_v4", V4, changed(tmp_path, change)) == (1 if text else 0)
    assert text in capsys.readouterr().err


def test_a_missing_shard_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = list(load_file(V4 / "model.safetensors"))
    index = {"weight_map": dict.fromkeys(names, "model-00001-of-00002.safetensors")}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert run("deepseek_v4", V4, tmp_path) == 1
    assert "model-00001-of-00002.safetensors" in capsys.readouterr().err


# ---- files that change ---------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["cut", "written"])
def test_a_file_that_changes_while_it_is_read_is_an_error(way: str, tmp_path: Path) -> None:
    from supertile.ir.errors import UserError
    from supertile.runtime.safetensors_file import SafetensorsFile

    path = tmp_path / "model.safetensors"
    path.write_bytes((DATA / "llama" / "model.safetensors").read_bytes())
    file = SafetensorsFile(path)
    *_, last = file.names()
    first = file.read(last).copy()
    if way == "cut":
        os.truncate(path, path.stat().st_size - 4)
    else:
        with path.open("r+b") as stream:
            stream.seek(-4, os.SEEK_END)
            stream.write(b"\0\0\0\0")
        os.utime(path, (1, 1))
    with pytest.raises(UserError) as caught:
        file.read(last)
    assert caught.value.code == "checkpoint.changed"
    assert first.size

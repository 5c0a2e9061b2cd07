"""Checkpoints that name their tensors as transformers does are read as those of the release."""

import re
from pathlib import Path

import numpy as np
import pytest
from case_runs import DATA, build
from model_files import model_for
from safetensors.numpy import load_file, save_file

from supertile.frontend.hf_config import read_config
from supertile.ir.errors import UserError
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.plan import ModulePlan, plan_module
from supertile.runtime.tensor_names import OWN, Dialect, Stored, read_dialects
from supertile.runtime.weights import Weights

Arrays = dict[str, np.ndarray]


def dialects_of(case: str) -> tuple[Dialect, ...]:
    return read_dialects(model_for(read_config(DATA / case / "config.json")))


CASES = [
    (case, dialect)
    for case in ("deepseek_v4", "deepseek_v3", "mixtral", "kimi_k2")
    for dialect in dialects_of(case)
]
IDS = [f"{case}, {dialect.title}" for case, dialect in CASES]


def renamed(tensors: Arrays, dialect: Dialect) -> Arrays:
    """The tensors as a checkpoint of the dialect has them."""
    whole: Arrays = {}
    parts: dict[str, dict[tuple[int, int], np.ndarray]] = {}
    for name, tensor in tensors.items():
        stored = dialect.stored(name)
        if stored.item is None:
            whole[stored.name] = tensor
        else:
            parts.setdefault(stored.name, {})[stored.item, stored.half or 0] = tensor
    for name, pieces in parts.items():
        items = [
            np.concatenate([piece for (item, _), piece in sorted(pieces.items()) if item == number])
            for number in sorted({item for item, _ in pieces})
        ]
        whole[name] = np.stack(items)
    return whole


def plan_of(case: str) -> ModulePlan:
    return plan_module(build(read_config(DATA / case / "config.json")))


def weights(folder: Path, plan: ModulePlan, dialects: tuple[Dialect, ...]) -> Weights:
    return Weights(Checkpoint(folder, dialects), plan, list(plan.entries))


@pytest.mark.parametrize(("case", "dialect"), CASES, ids=IDS)
def test_every_tensor_of_a_dialect_is_read_as_it_is(
    case: str, dialect: Dialect, tmp_path: Path
) -> None:
    plan, tensors = plan_of(case), load_file(DATA / case / "model.safetensors")
    stored = renamed(tensors, dialect)
    assert stored.keys() != tensors.keys()
    save_file(stored, tmp_path / "model.safetensors")
    own = weights(DATA / case, plan, ())
    other = weights(tmp_path, plan, dialects_of(case))
    assert other.checkpoint.dialect.title == dialect.title
    for use, layers in plan.weights_of("logits"):
        for layer in layers or (None,):
            assert np.array_equal(own.get(use, layer), other.get(use, layer))


@pytest.mark.parametrize(("case", "dialect"), CASES, ids=IDS)
def test_every_row_of_a_table_names_a_tensor_of_the_model(case: str, dialect: Dialect) -> None:
    plan = plan_of(case)
    forms = {use.pattern for entry in plan.entries for use, _ in plan.weights_of(entry)}
    assert dialect.exact.keys() <= forms
    assert all(any(form.startswith(prefix) for form in forms) for prefix in dialect.prefixes)


def test_names_of_two_dialects_do_not_mix(tmp_path: Path) -> None:
    case, dialect = CASES[0]
    tensors = load_file(DATA / case / "model.safetensors")
    stored = renamed(tensors, dialect)
    name = next(name for name in sorted(tensors) if dialect.stored(name).name not in tensors)
    stored[name] = stored.pop(dialect.stored(name).name)
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        weights(tmp_path, plan_of(case), dialects_of(case))
    assert caught.value.code == "checkpoint.missing"
    assert name in caught.value.render() and "one dialect" in caught.value.render()


def test_names_of_no_dialect_are_told_with_what_is_missing_of_each(tmp_path: Path) -> None:
    save_file({"x.weight": np.ones(2, np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as caught:
        weights(tmp_path, plan_of("deepseek_v4"), dialects_of("deepseek_v4"))
    assert caught.value.code == "checkpoint.other_names"
    text = caught.value.render()
    assert "embed.weight (the model file)" in text and "model.embed_tokens.weight" in text


# ---- tables --------------------------------------------------------------------------------------

TABLE = '["other"]\n"layers." = "model.layers."\n"layers.{l}.e.{e}.w1" = "m.{l}.gate_up[{e}] 1/2"\n'


def dialect_of(folder: Path, text: str) -> Dialect:
    (folder / "model.names.toml").write_text(text)
    (dialect,) = read_dialects(folder / "model.st")
    return dialect


def test_a_row_a_prefix_and_a_name_of_no_row(tmp_path: Path) -> None:
    dialect = dialect_of(tmp_path, TABLE)
    assert dialect.stored("layers.3.e.12.w1") == Stored("m.3.gate_up", 12, 0)
    assert dialect.stored("layers.3.norm") == Stored("model.layers.3.norm")
    assert dialect.stored("head") == Stored("head")
    assert OWN.stored("layers.3.e.12.w1") == Stored("layers.3.e.12.w1")
    assert read_dialects(tmp_path / "none.st") == ()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('["other"', "syntax"),
        ('other = "x"', "row"),
        ('["other"]\n"a" = 1', "row"),
        ('["other"]\n"a" = "b[{e}] 3/2"', "row"),
        ('["other"]\n"a." = "b[{e}]"', "row"),
        ("", "empty"),
    ],
)
def test_a_table_that_names_nothing_is_refused(tmp_path: Path, text: str, code: str) -> None:
    with pytest.raises(UserError) as caught:
        dialect_of(tmp_path, text)
    assert caught.value.code == f"names.{code}"
    assert re.search(r"model\.names\.toml", str(caught.value))

"""A checkpoint folder: which files it is made of, which tensors it hands out, what it refuses."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from xdsl.dialects.builtin import TensorType, f32

from supertile.ir.errors import CHECKPOINT_TEXTS, UserError
from supertile.runtime.checkpoint import Checkpoint, Format
from supertile.runtime.numerics import Scaled, quantize_blocks
from supertile.runtime.plan import ModulePlan, WeightUse
from supertile.runtime.safetensors_file import SafetensorsFile
from supertile.runtime.surplus import check_surplus
from supertile.runtime.tensor_names import Dialect

DEPLOYED = Path(__file__).parents[1] / "data" / "deepseek_v4_deployed"

F32 = Format("f32")
BF16 = Format("bf16")
I32 = Format("i32")
I64 = Format("i64")
FP8 = Format("f8e4m3", (128, 128))
FP4 = Format("f4e2m1", (1, 32))

STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3"}
STORED |= {"uint8": "U8", "int8": "I8", "int64": "I64", "int32": "I32", "uint16": "BF16"}

Raw = np.ndarray[Any, Any] | tuple[str, np.ndarray[Any, Any]]


def write(path: Path, **tensors: Raw) -> Path:
    """A safetensors file; an array's dtype says how it is stored unless given beside it.

    `__` in a name stands for a dot. Returns the path.
    """
    header: dict[str, Any] = {}
    data = b""
    for key, raw in tensors.items():
        dtype, array = raw if isinstance(raw, tuple) else (STORED[raw.dtype.name], raw)
        end = len(data) + array.nbytes
        entry = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), end]}
        header[key.replace("__", ".")] = entry
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_index(folder: Path, content: object) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def holding(folder: Path, **tensors: Raw) -> Checkpoint:
    """A checkpoint of one file."""
    write(folder / "model.safetensors", **tensors)
    return Checkpoint(folder)


def e8m0(*shape: int, byte: int = 127) -> tuple[str, np.ndarray[Any, Any]]:
    return "F8_E8M0", np.full(shape, byte, np.uint8)


def fp8(*shape: int) -> np.ndarray[Any, Any]:
    return np.ones(shape, ml_dtypes.float8_e4m3fn)


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def scaled(tensor: object) -> Scaled:
    assert isinstance(tensor, Scaled)
    return tensor


ONES = np.ones(2, np.float32)

# --- Folders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "other.safetensors"])
def test_a_folder_with_one_file_or_the_file_itself(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, norm__weight=ONES)
    for place in (tmp_path, path):
        checkpoint = Checkpoint(place)
        assert list(checkpoint.names()) == ["norm.weight"]
        assert checkpoint.has("norm.weight")
        assert not checkpoint.has("norm")


def test_an_index_joins_shards_and_its_list_counts(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", a=ONES, unlisted=ONES)
    write(tmp_path / "2.safetensors", b=2 * ONES)
    write_index(tmp_path, {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    checkpoint = Checkpoint(tmp_path)
    assert sorted(checkpoint.names()) == ["a", "b"]
    np.testing.assert_array_equal(checkpoint.tensor("b", (2,), F32), [2, 2])


def test_weights_and_their_scales_may_lie_in_different_shards(tmp_path: Path) -> None:
    write(tmp_path / "1.safetensors", w__weight=fp8(2, 2))
    write(tmp_path / "2.safetensors", w__scale=e8m0(1, 1, byte=128))
    write_index(tmp_path, {"weight_map": {"w.weight": "1.safetensors", "w.scale": "2.safetensors"}})
    tensor = scaled(Checkpoint(tmp_path).tensor("w.weight", (2, 2), FP8))
    np.testing.assert_array_equal(tensor.dequantize(), np.full((2, 2), 2))


# --- Tensors -------------------------------------------------------------------------------------


def test_f32_is_a_view_of_the_file(tmp_path: Path) -> None:
    array = holding(tmp_path, w=noise(3, 4)).tensor("w", (3, 4), F32)
    assert isinstance(array, np.ndarray)
    assert not array.flags.owndata
    np.testing.assert_array_equal(array, noise(3, 4))


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("declared", [BF16, FP8, FP4])
def test_floats_as_declared_or_wider_come_as_float32(
    tmp_path: Path, stored: str, declared: Format
) -> None:
    weight = noise(4, 64).astype(stored)
    array = holding(tmp_path, w=weight).tensor("w", (4, 64), declared)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, weight.astype(np.float32))


@pytest.mark.parametrize(
    ("declared", "stored"), [(I64, np.int64), (I32, np.int32), (I32, np.int64)]
)
def test_integers_come_as_stored(tmp_path: Path, declared: Format, stored: type) -> None:
    table: np.ndarray[Any, Any] = np.arange(6, dtype=stored).reshape(2, 3)
    array = holding(tmp_path, t=table).tensor("t", (2, 3), declared)
    assert isinstance(array, np.ndarray)
    assert array.dtype == stored
    np.testing.assert_array_equal(array, table)


@pytest.mark.parametrize("scale", ["w__scale", "w__weight_scale_inv"])
@pytest.mark.parametrize("wide", [False, True])
def test_fp8_with_the_scales_of_both_releases(tmp_path: Path, scale: str, wide: bool) -> None:
    exact = quantize_blocks(noise(300, 130), "f8e4m3", (128, 128))
    scales: Raw = exact.scale_values() if wide else ("F8_E8M0", exact.scales)
    checkpoint = holding(tmp_path, w__weight=("F8_E4M3", exact.codes), **{scale: scales})
    tensor = scaled(checkpoint.tensor("w.weight", (300, 130), FP8))
    assert (tensor.element, tensor.block) == ("f8e4m3", (128, 128))
    np.testing.assert_array_equal(tensor.dequantize(), exact.dequantize())


@pytest.mark.parametrize("dtype", ["I8", "U8"])
def test_fp4_is_two_codes_a_byte(tmp_path: Path, dtype: str) -> None:
    exact = quantize_blocks(noise(3, 64), "f4e2m1", (1, 32)).pack()
    scales = ("F8_E8M0", exact.scales)
    checkpoint = holding(tmp_path, w__weight=(dtype, exact.codes), w__scale=scales)
    tensor = scaled(checkpoint.tensor("w.weight", (3, 64), FP4))
    assert tensor.shape == (3, 64)
    np.testing.assert_array_equal(tensor.dequantize(), exact.dequantize())


@pytest.mark.parametrize("block", [(128, 128), (1, 32)])
def test_fp4_may_be_stored_as_fp8(tmp_path: Path, block: tuple[int, ...]) -> None:
    exact = quantize_blocks(noise(130, 64), "f8e4m3", block)
    scales = ("F8_E8M0", exact.scales)
    checkpoint = holding(tmp_path, w__weight=("F8_E4M3", exact.codes), w__scale=scales)
    tensor = scaled(checkpoint.tensor("w.weight", (130, 64), FP4))
    assert (tensor.element, tensor.block) == ("f8e4m3", block)
    np.testing.assert_array_equal(tensor.dequantize(), exact.dequantize())


def test_grouping_axes_need_not_be_stored(tmp_path: Path) -> None:
    weight = noise(6, 4)
    checkpoint = holding(tmp_path, w=weight, c__weight=fp8(256, 4), c__scale=e8m0(2, 1))
    array = checkpoint.tensor("w", (2, 3, 4), F32)
    np.testing.assert_array_equal(array, weight.reshape(2, 3, 4))
    codes = scaled(checkpoint.tensor("c.weight", (4, 64, 4), FP8))
    assert codes.shape == (256, 4)  # a block of 128 rows spans two groups


def test_a_stack_is_a_list_in_order(tmp_path: Path) -> None:
    tensors: dict[str, Raw] = {f"experts__{e}__w1": np.float32(e) * ONES for e in range(12)}
    stack = holding(tmp_path, **tensors).stack("experts.{e}.w1", 12, (2,), F32)
    np.testing.assert_array_equal(np.stack(stack)[:, 0], np.arange(12))  # type: ignore[arg-type]


def test_the_deployed_case() -> None:
    checkpoint = Checkpoint(DEPLOYED)
    experts = "layers.2.ffn.experts.{e}.w1.weight"
    required = [
        ("embed.weight", (128, 128), BF16),
        ("layers.0.ffn.gate.tid2eid", (128, 3), I64),
        ("layers.2.attn.attn_sink", (4,), F32),
        ("layers.2.attn.wo_a.weight", (2, 64, 256), FP8),
        *((experts.format(e=e), (128, 128), FP4) for e in range(6)),
    ]
    checkpoint.check(required)
    for name, shape, declared in required:
        tensor = checkpoint.tensor(name, shape, declared)
        values = tensor.dequantize() if isinstance(tensor, Scaled) else tensor
        assert np.isfinite(values.reshape(shape)).all()
    assert len(checkpoint.stack(experts, 6, (128, 128), FP4)) == 6


# --- Checks from the headers ---------------------------------------------------------------------


def test_check_tells_the_first_and_counts_the_others(tmp_path: Path) -> None:
    checkpoint = holding(tmp_path, a=ONES, b=ONES)
    checkpoint.check([("a", (2,), F32), ("b", (2,), F32)])
    wrong = [("b", (3,), F32), ("c", (2,), F32), ("d", (2,), F32), ("a", (2,), I64)]
    with pytest.raises(UserError) as caught:
        checkpoint.check([("a", (2,), F32), *wrong])
    assert caught.value.code == "checkpoint.shape"
    assert "'b'" in caught.value.message
    assert caught.value.message.endswith("; of the others, 2 are missing and 1 do not fit")


def test_check_looks_at_scales_but_not_at_data(tmp_path: Path) -> None:
    bad = np.full((2, 2), 0x7F, np.uint8)
    checkpoint = holding(tmp_path, w__weight=("F8_E4M3", bad), w__scale=e8m0(1, 1), v=fp8(2, 2))
    checkpoint.check([("w.weight", (2, 2), FP8)])
    with pytest.raises(UserError) as caught:
        checkpoint.check([("v", (2, 2), FP8)])
    assert caught.value.code == "checkpoint.no_scales"


@pytest.mark.parametrize(
    ("wanted", "suggestion"),
    [
        ("embd.weight", "did you mean embed.weight?"),
        ("layers.0.attn.wq.weight", "did you mean layers.0.attn.wq_a.weight?"),
        ("layers.9.attn.wq_a.weight", ""),
        ("something.else.entirely", ""),
    ],
)
def test_a_missing_name_suggests_its_neighbour(
    tmp_path: Path, wanted: str, suggestion: str
) -> None:
    names = ["embed__weight", "layers__0__attn__wq_a__weight", "layers__1__ffn__gate__bias"]
    tensors: dict[str, Raw] = dict.fromkeys(names, ONES)
    with pytest.raises(UserError) as caught:
        holding(tmp_path, **tensors).tensor(wanted, (2,), F32)
    assert caught.value.suggestion == suggestion


# --- Errors by example ---------------------------------------------------------------------------

Make = Callable[[Path], object]


def index(content: object) -> Make:
    return lambda folder: Checkpoint(write_index(folder, content))


def mapped(shard: object) -> Make:
    """A folder whose shard `s.safetensors` holds `a`, and an index that puts `w` in `shard`."""

    def make(folder: Path) -> object:
        write(folder / "s.safetensors", a=ONES)
        return index({"weight_map": {"w": shard}})(folder)

    return make


def raw(content: bytes) -> Make:
    def make(folder: Path) -> object:
        (folder / "model.safetensors").write_bytes(content)
        return Checkpoint(folder)

    return make


def header(text: str, data: bytes = b"") -> Make:
    return raw(len(text).to_bytes(8, "little") + text.encode() + data)


def tensor(shape: tuple[int, ...], declared: Format, name: str = "w.weight", **stored: Raw) -> Make:
    return lambda folder: holding(folder, **stored).tensor(name, shape, declared)


def unknown_dtype(folder: Path) -> object:
    return SafetensorsFile(write(folder / "m.safetensors", w=("F64", noise(2)))).read("w")


def two_files(folder: Path) -> object:
    write(folder / "a.safetensors", a=ONES)
    write(folder / "b.safetensors", b=ONES)
    return Checkpoint(folder)


def changed_file(folder: Path) -> object:
    path = write(folder / "m.safetensors", w=ONES)
    file = SafetensorsFile(path)
    path.write_bytes(b"")
    return file.read("w")


def other_names(folder: Path) -> object:
    write(folder / "model.safetensors", a=ONES)
    dialect = Dialect("other", {"w": "v"}, {})
    return Checkpoint(folder, (dialect,)).check([("w", (2,), F32)])


def surplus(folder: Path) -> object:
    path = write(folder / "model.safetensors", **{"layers.0.w": ONES, "layers.1.w": ONES})
    kind = TensorType(f32, [2])
    plan = SimpleNamespace(
        entries=("logits",), weights_of=lambda _: [(WeightUse("layers.{l}.w", kind), [0])]
    )
    return check_surplus(Checkpoint(path), cast(ModulePlan, plan))


def folder_as_file(folder: Path) -> object:
    (folder / "model.safetensors").mkdir()
    return Checkpoint(folder)


def torch_folder(folder: Path) -> object:
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps([1.0]))
    return Checkpoint(folder)


def nan_at(dtype: str, bits: np.ndarray[Any, Any], flat: int, bad: int) -> Raw:
    bits.reshape(-1)[flat] = bad
    return dtype, bits


ENTRY = '{"dtype": "U8", "shape": [4], "data_offsets": '
BYTES = np.zeros((2, 3), np.uint8)
NAN = np.array([[1, 2], [np.nan, np.inf]], np.float32)

# code, what provokes it, and a part of its paragraph
ERRORS: list[tuple[str, Make, str]] = [
    ("no_file", lambda folder: Checkpoint(folder / "nowhere"), "No such file or directory"),
    ("not_a_file", folder_as_file, "a folder"),
    ("empty", raw(b""), "0 bytes"),
    ("pickle", raw(pickle.dumps([1.0])), "pickles are never read"),
    ("pickle", torch_folder, "pytorch_model.bin"),
    ("header_length", raw(b"nothing like it"), "in a file of 15 bytes"),
    ("json", header("{]"), "Expecting property name"),
    ("json", index("[]"), "a JSON list"),
    ("json", index("\ufeff{}"), "BOM"),
    ("duplicate", header('{"w": 1, "w": 2}'), "the key 'w' twice"),
    ("entry", header('{"w": {"dtype": "F32"}}'), "data_offsets"),
    ("offsets", header(f'{{"w": {ENTRY} [0, 4]}}}}', b"123"), "found: 0 to 4"),
    ("size", header(f'{{"w": {ENTRY} [0, 3]}}}}', b"123"), "expected: 4 bytes for U8 [4]"),
    (
        "overlap",
        header(f'{{"v": {ENTRY} [0, 4]}}, "w": {ENTRY} [1, 5]}}}}', b"12345"),
        "'v' and 'w' share bytes",
    ),
    ("unknown_dtype", unknown_dtype, "found: 'F64'"),
    ("no_weights", Checkpoint, "holds no safetensors file"),
    ("many_files", two_files, "holds 2 safetensors files"),
    ("weight_map", index({}), "no such key"),
    ("weight_map", index({"weight_map": ["w"]}), "a list"),
    ("weight_map", index({"weight_map": {"w": 1}}), "a int for 'w'"),
    *[
        ("shard_name", mapped(shard), "plain file names")
        for shard in (
            "../s.safetensors",
            "/s.safetensors",
            "..",
            ".",
            "",
            "a/b",
            "a\\b",
            "c:s",
            "\0",
        )
    ],
    ("no_shard", mapped("t.safetensors"), "'t.safetensors'"),
    ("broken_promise", mapped("s.safetensors"), "the tensor 'w' lies in 's.safetensors'"),
    ("changed", changed_file, "has changed while it was read"),
    ("other_names", other_names, "found: missing of each: w (the model file), v (other)"),
    ("surplus", surplus, "layers.1.w (layers 1)"),
    ("missing", tensor((2,), BF16, w__wieght=ONES), "did you mean w.wieght?"),
    ("shape", tensor((3,), F32, w__weight=ONES), "expected: [3]"),
    ("shape", tensor((3, 2, 4), F32, w__weight=noise(2, 3, 4)), "found: [2, 3, 4]"),
    ("shape", tensor((2, 12), F32, w__weight=noise(6, 4)), "found: [6, 4]"),
    ("shape", tensor((2,), F32, w__weight=noise(1)[0]), "found: []"),
    ("shape", tensor((), F32, w__weight=ONES), "expected: []"),
    ("shape", tensor((2, 3), FP4, w__weight=("I8", BYTES)), "expected: [2, 2]"),
    ("shape", tensor((2, 2), FP8, w__weight=fp8(2, 2), w__scale=e8m0(1, 2)), "'w.scale'"),
    ("dtype", tensor((2,), I64, w__weight=ONES), "expected: I64"),
    ("dtype", tensor((2, 3), FP8, w__weight=("I8", BYTES)), "found: 'I8'"),
    (
        "dtype",
        tensor((2, 2), FP8, w__weight=fp8(2, 2), w__scale=np.ones((1, 1), np.float16)),
        "expected: F8_E8M0 or F32",
    ),
    ("narrower", tensor((2,), F32, w__weight=ONES.astype(ml_dtypes.bfloat16)), "found: 'BF16'"),
    ("narrower", tensor((2, 2), BF16, w__weight=fp8(2, 2)), "found: 'F8_E4M3'"),
    ("narrower", tensor((2,), I64, w__weight=np.ones(2, np.int32)), "found: 'I32'"),
    ("no_scales", tensor((2, 2), FP8, w__weight=fp8(2, 2)), "'w.scale' or 'w.weight_scale_inv'"),
    ("not_finite", tensor((2, 2), F32, w__weight=NAN), "2 of 4 elements, the first at [1, 0]"),
    ("not_finite", tensor((2, 2), BF16, w__weight=NAN.astype(ml_dtypes.bfloat16)), "[1, 0]"),
    ("not_finite", tensor((2, 2), BF16, w__weight=NAN.astype(np.float16)), "[1, 0]"),
    (
        "not_finite",
        tensor(
            (2, 3), FP8, w__weight=nan_at("F8_E4M3", BYTES.copy(), 4, 0xFF), w__scale=e8m0(1, 1)
        ),
        "1 of 6 elements, the first at [1, 1]",
    ),
    (
        "not_finite",
        tensor((2, 2), FP8, w__weight=fp8(2, 2), w__scale=e8m0(1, 1, byte=255)),
        "'w.scale'",
    ),
]


@pytest.mark.parametrize(
    ("code", "provoke", "part"), ERRORS, ids=[f"{case[0]}-{case[2]}" for case in ERRORS]
)
def test_error(tmp_path: Path, code: str, provoke: Make, part: str) -> None:
    with pytest.raises(UserError) as caught:
        provoke(tmp_path)
    assert caught.value.code == f"checkpoint.{code}"
    paragraph = caught.value.render()
    assert part in paragraph
    assert str(tmp_path) in paragraph
    assert all(line.strip() for line in paragraph.split("\n"))


def test_every_error_has_an_example() -> None:
    assert {f"checkpoint.{code}" for code, _, _ in ERRORS} == CHECKPOINT_TEXTS.keys()


def test_a_format_says_what_it_is() -> None:
    assert str(FP8) == "f8e4m3 with a scale per 128 x 128"
    assert str(BF16) == "bf16"
    for element, block in (("f8e4m3", None), ("bf16", (1, 32)), ("f64", None)):
        with pytest.raises(ValueError, match=element):
            Format(element, block)


# --- No index, however damaged, raises anything but a UserError ----------------------------------

RELAXED = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ANY_NAME = st.text(max_size=6) | st.sampled_from(["s.safetensors", "x" * 300, "../s", "\ud800"])


def open_any(folder: Path, content: str) -> None:
    write(folder / "s.safetensors", a=ONES)
    try:
        Checkpoint(write_index(folder, content))
    except UserError as error:
        assert error.render().encode()


@RELAXED
@given(weight_map=st.dictionaries(st.just("a") | ANY_NAME, ANY_NAME, max_size=3))
def test_any_weight_map(tmp_path: Path, weight_map: dict[str, str]) -> None:
    open_any(tmp_path, json.dumps({"weight_map": weight_map}))


@RELAXED
@given(content=st.text(st.characters(codec="utf-8"), max_size=60))
def test_any_index(tmp_path: Path, content: str) -> None:
    open_any(tmp_path, content)


@RELAXED
@given(at=st.integers(0, 35_000), value=st.integers(0, 255))
def test_a_damaged_header_of_the_deployed_case(tmp_path: Path, at: int, value: int) -> None:
    path = tmp_path / "model.safetensors"
    if not path.exists():
        shutil.copyfile(DEPLOYED / "model.safetensors", path)
    with path.open("r+b") as file:
        original = file.read(at + 1)[-1:]
        file.seek(at)
        file.write(bytes([value]))
    try:
        Checkpoint(tmp_path).check([("embed.weight", (128, 128), BF16)])
    except UserError as error:
        assert error.render().encode()
    finally:
        with path.open("r+b") as file:
            file.seek(at)
            file.write(original)

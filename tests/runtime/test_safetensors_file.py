"""One safetensors file: what is read, and what is refused with which error."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.numpy import save_file

from supertile.ir.errors import UserError
from supertile.runtime.safetensors_file import STORED, SafetensorsFile

DEPLOYED = Path(__file__).parents[1] / "data" / "deepseek_v4_deployed" / "model.safetensors"

Header = dict[str, Any]


def file_bytes(header: Header | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file, right or wrong: the header as given, its length a lie if one is given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> Header:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def one(*parts: object) -> bytes:
    """A file of 8 bytes of data and one tensor `w`, F32 [2] unless the parts say otherwise."""
    return file_bytes({"w": entry(*parts)}, bytes(8))


def refused(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        SafetensorsFile(path)
    assert str(path).replace("\0", "\\x00") in caught.value.message
    assert "\n\n" not in caught.value.render()
    return caught.value


# --- What is read --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f2", "i8", "i4", "i1", "u1", "?"])
def test_reads_what_the_library_writes(tmp_path: Path, dtype: str) -> None:
    stored = {"a": np.arange(6).reshape(2, 3).astype(dtype), "b": np.ones((), dtype)}
    save_file(stored, tmp_path / "m.safetensors", metadata={"format": "np"})
    file = SafetensorsFile(tmp_path / "m.safetensors")
    assert sorted(file.names()) == ["a", "b"]
    for name, array in stored.items():
        assert file.read(name).dtype == array.dtype
        np.testing.assert_array_equal(file.read(name), array)


def test_formats_without_numpy_type_come_as_bits(tmp_path: Path) -> None:
    numbers = np.array([[1.0, -2.5], [0.0, 448.0]])
    bits: dict[str, np.ndarray[Any, Any]] = {
        "BF16": numbers.astype(ml_dtypes.bfloat16).view(np.uint16),
        "F8_E4M3": numbers.astype(ml_dtypes.float8_e4m3fn).view(np.uint8),
        "F8_E8M0": np.array([[127, 128], [0, 254]], np.uint8),
    }
    for dtype, stored in bits.items():
        path = tmp_path / f"{dtype}.safetensors"
        path.write_bytes(
            file_bytes({"w": entry(dtype, (2, 2), (0, stored.nbytes))}, stored.tobytes())
        )
        np.testing.assert_array_equal(SafetensorsFile(path).read("w"), stored)


def test_a_read_is_read_only_and_outlives_the_file_object(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(one())
    array = SafetensorsFile(tmp_path / "m.safetensors").read("w")
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, [0, 0])


def test_data_may_be_unaligned_and_tensors_empty(tmp_path: Path) -> None:
    header = {"byte": entry("U8", (1,), (0, 1)), "w": entry("F32", (1,), (1, 5))}
    header["none"] = entry("F32", (0, 7), (5, 5))
    path = tmp_path / "m.safetensors"
    path.write_bytes(file_bytes(header, b"\x01" + np.float32(0.1).tobytes()))
    file = SafetensorsFile(path)
    assert file.read("w") == np.float32(0.1)
    assert file.read("none").shape == (0, 7)


def test_a_file_without_tensors_is_fine(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(file_bytes({}))
    assert not SafetensorsFile(tmp_path / "m.safetensors").names()


def test_the_deployed_case() -> None:
    file = SafetensorsFile(DEPLOYED)
    assert len(file.names()) == 367
    assert file.entry("layers.2.attn.wo_a.weight").dtype == "F8_E4M3"
    assert file.read("layers.2.attn.wo_a.scale").shape == (1, 2)
    embedding = file.read("embed.weight").view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.isfinite(embedding).all()


def test_an_unknown_dtype_is_refused_when_read(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(one("F4"))
    file = SafetensorsFile(tmp_path / "m.safetensors")
    assert list(file.names()) == ["w"]
    with pytest.raises(UserError) as caught:
        file.read("w")
    assert caught.value.code == "checkpoint.unknown_dtype"
    assert caught.value.found == "'F4'"


# --- What is refused -----------------------------------------------------------------------------

TWICE = b'{"w": {"dtype": "U8", "shape": [], "data_offsets": [0, 1], "dtype": "I8"}}'
HUGE = 10**30

REFUSED: list[tuple[str, bytes, str]] = [
    ("checkpoint.empty", b"", "0 bytes"),
    ("checkpoint.header_length", b"short", "5 bytes"),
    ("checkpoint.header_length", file_bytes({}, length=3), "a header of 3 bytes in a file of 10"),
    ("checkpoint.header_length", file_bytes({}, length=2**64 - 1), f"a header of {2**64 - 1}"),
    ("checkpoint.json", file_bytes({}, length=0), "Expecting value"),
    ("checkpoint.json", file_bytes({}, length=1), "Expecting property name"),
    ("checkpoint.json", file_bytes(b"not JSON"), "Expecting value"),
    ("checkpoint.json", file_bytes(b"[1, 2]"), "a JSON list"),
    ("checkpoint.json", file_bytes(b"\xff\xfe{\x00}\x00"), "can't decode"),
    ("checkpoint.json", file_bytes(b"[" * 200_000), "nested too deeply"),
    ("checkpoint.json", file_bytes(b'{"w": ' + b"9" * 5000 + b"}"), "4300 digits"),
    ("checkpoint.duplicate", file_bytes(b'{"w": {}, "w": {}}'), ""),
    ("checkpoint.duplicate", file_bytes(TWICE, b"\x00"), ""),
    ("checkpoint.entry", file_bytes({"w": 3}), ""),
    ("checkpoint.entry", file_bytes({"w": {}}), ""),
    ("checkpoint.entry", one(32), ""),
    ("checkpoint.entry", one("F32", "2"), ""),
    ("checkpoint.entry", one("F32", [-2]), ""),
    ("checkpoint.entry", one("F32", [2.0]), ""),
    ("checkpoint.entry", one("F32", [True, 2]), ""),
    ("checkpoint.entry", one("F32", [1] * 100 + [2]), ""),
    ("checkpoint.entry", one("F32", [0, HUGE], [0, 0]), ""),
    ("checkpoint.entry", one("F32", [2], [0, 8, 8]), ""),
    ("checkpoint.entry", one("F32", [2], [-8, 0]), ""),
    ("checkpoint.offsets", one("F32", [2], [8, 16]), "8 to 16"),
    ("checkpoint.offsets", one("F32", [2], [8, 0]), "8 to 0"),
    ("checkpoint.offsets", one("F4", [2], [0, HUGE]), f"0 to {HUGE}"),
    ("checkpoint.offsets", one()[:-1], "0 to 8"),
    ("checkpoint.size", one("F32", [3]), "8 bytes"),
    ("checkpoint.size", one("I64", [2, 2]), "8 bytes"),
    ("checkpoint.size", one("F32", [2**31, 2**31]), "8 bytes"),
    ("checkpoint.overlap", file_bytes({"a": entry(), "b": entry("U8", [1], [7, 8])}, bytes(8)), ""),
    ("checkpoint.pickle", pickle.dumps({"weight": [1.0] * 9}), ""),
    ("checkpoint.pickle", b"PK\x03\x04" + bytes(60) + b"archive/data.pkl", ""),
]


@pytest.mark.parametrize(
    ("code", "content", "found"), REFUSED, ids=[f"{case[0]}-{case[2]}" for case in REFUSED]
)
def test_refuses(tmp_path: Path, code: str, content: bytes, found: str) -> None:
    (tmp_path / "m.safetensors").write_bytes(content)
    error = refused(tmp_path / "m.safetensors")
    assert error.code == code
    assert found in error.found


def test_refuses_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path).found == "a folder"
    assert refused(tmp_path / "pipe").found == "a device or a pipe"
    assert refused(tmp_path / "nowhere").message.endswith("No such file or directory")
    assert refused(tmp_path / "zero\0byte").code == "checkpoint.no_file"
    assert refused(tmp_path / ("long" * 100)).code == "checkpoint.no_file"


def test_a_pickle_is_never_read_but_named(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x00" * 4 + b"\xff" * 60)
    error = refused(tmp_path / "pytorch_model.bin")
    assert error.code == "checkpoint.pickle"
    assert "pickles are never read" in error.expected


def test_a_header_of_640_bytes_is_not_taken_for_a_pickle(tmp_path: Path) -> None:
    text = json.dumps({"w": entry()}).encode().ljust(640)  # 640 is 0x0280: a pickle's first bytes
    (tmp_path / "m.safetensors").write_bytes(file_bytes(text, bytes(8)))
    assert list(SafetensorsFile(tmp_path / "m.safetensors").names()) == ["w"]


def test_names_that_would_break_a_message_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(file_bytes(b'{"two\\n\\nlines \\ud800": 1}'))
    message = refused(tmp_path / "m.safetensors").message
    assert r"'two\n\nlines \ud800'" in message
    assert message.encode()


# --- No file, however damaged, raises anything but a UserError -----------------------------------

RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_all(path: Path, content: bytes) -> None:
    """Opens and reads whatever the bytes are, and lets only a `UserError` pass."""
    path.write_bytes(content)
    try:
        file = SafetensorsFile(path)
    except UserError:
        return
    for name in file.names():
        try:
            assert file.read(name).shape == file.entry(name).shape
        except UserError as error:
            assert error.code == "checkpoint.unknown_dtype"


GOOD = file_bytes(
    {
        "__metadata__": {"format": "pt"},
        "a.weight": entry("BF16", [2, 2], [0, 8]),
        "a.scale": entry("F8_E8M0", [1, 1], [8, 9]),
        "b": entry("I64", [1], [9, 17]),
    },
    bytes(range(17)),
)


@RELAXED
@given(content=st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    read_all(tmp_path / "m.safetensors", content)


@RELAXED
@given(header=st.binary(max_size=100))
def test_any_header_bytes(tmp_path: Path, header: bytes) -> None:
    read_all(tmp_path / "m.safetensors", file_bytes(header, bytes(8)))


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    for size in range(len(GOOD)):
        (tmp_path / "m.safetensors").write_bytes(GOOD[:size])
        refused(tmp_path / "m.safetensors")


@RELAXED
@given(at=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), drop=st.integers(0, 2))
def test_any_byte_changed(tmp_path: Path, at: int, value: int, drop: int) -> None:
    content = GOOD[:at] + bytes([value]) + GOOD[at + drop :]
    read_all(tmp_path / "m.safetensors", content)


ANY_SIZE = st.one_of(st.integers(-1, 20), st.integers(), st.sampled_from([2**31, 2**63, 2**64]))
ANY_JSON = st.recursive(
    st.none() | st.booleans() | ANY_SIZE | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
ANY_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "F8_E4M3", "BOOL", "I64", "F4", ""]) | ANY_JSON,
        "shape": st.lists(ANY_SIZE, max_size=4) | ANY_JSON,
        "data_offsets": st.lists(ANY_SIZE, min_size=2, max_size=2) | ANY_JSON,
    },
)


@RELAXED
@given(header=st.dictionaries(st.text(max_size=5), ANY_ENTRY | ANY_JSON, max_size=4))
def test_any_json_header(tmp_path: Path, header: Header) -> None:
    read_all(tmp_path / "m.safetensors", file_bytes(header, bytes(16)))


@st.composite
def placed(draw: st.DrawFn) -> Header:
    """A tensor whose bytes are mostly as many as its shape needs, anywhere in or beside 24."""
    dtype, shape = draw(st.sampled_from([*STORED])), draw(st.lists(st.integers(0, 3), max_size=2))
    size = int(np.prod(shape)) * STORED[dtype].itemsize + draw(st.sampled_from([0, 0, 0, 1, -1]))
    begin = draw(st.integers(0, 24))
    return entry(dtype, shape, (begin, begin + size))


@RELAXED
@given(header=st.dictionaries(st.sampled_from("abc"), placed(), min_size=1))
def test_a_header_is_refused_or_its_values_are_right(tmp_path: Path, header: Header) -> None:
    data, path = bytes([0, 1] * 12), tmp_path / "m.safetensors"
    path.write_bytes(file_bytes(header, data))
    spans = sorted(tuple(held["data_offsets"]) for held in header.values())
    filled = [span for span in spans if span[0] < span[1]]
    is_apart = all(a[1] <= b[0] for a, b in itertools.pairwise(filled))
    is_right = is_apart and all(
        begin + int(np.prod(held["shape"])) * STORED[held["dtype"]].itemsize == end <= len(data)
        for held in header.values()
        for begin, end in [held["data_offsets"]]
    )
    if not is_right:
        refused(path)
        return
    file = SafetensorsFile(path)
    for name, held in header.items():
        begin, end = held["data_offsets"]
        wanted = np.frombuffer(data[begin:end], STORED[held["dtype"]]).reshape(held["shape"])
        np.testing.assert_array_equal(file.read(name), wanted)

"""Arrays from files that users made: no more is unpacked than allowed, nothing unpickled."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import UserError
from supertile.runtime.array_file import read_npz, read_numpy
from supertile.runtime.tokens import read_tokens

CODE = "run.pin_broken"
DTYPES = ("<f4", ">f8", "<i8", "|u1", "|b1", "<f2")


def npy(header: str, data: bytes = b"") -> bytes:
    line = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(line)) + line + data


def archive(path: Path, packing: int, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w", packing) as made:
        for name, data in entries.items():
            made.writestr(f"{name}.npy", data)
    return path


def declaring(path: Path, data: bytes, size: int) -> Path:
    """An archive whose one entry, input_ids, says that it unpacks to `size` bytes."""
    raw = archive(path, zipfile.ZIP_DEFLATED, input_ids=data).read_bytes()
    at = raw.rindex(b"PK\x01\x02") + 24
    path.write_bytes(raw[:at] + struct.pack("<I", size) + raw[at + 4 :])
    return path


def refusal(path: Path, limit: int = 1 << 20) -> str:
    with pytest.raises(UserError) as caught:
        read_numpy(str(path), limit, CODE)
    assert caught.value.code == CODE
    return caught.value.message


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 4), max_size=4),
    st.booleans(),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_what_numpy_writes_is_read(tmp_path_factory, dtype, shape, by_column, packing):
    count = int(np.prod(shape))
    array = np.arange(count).astype(dtype).reshape(shape, order="F" if by_column else "C")
    data = io.BytesIO()
    np.save(data, array)
    path = tmp_path_factory.mktemp("arrays") / "f.npz"
    (read,) = read_npz(str(archive(path, packing, x=data.getvalue())), CODE).values()
    assert read.dtype == array.dtype and np.array_equal(read, array)


def test_a_file_that_unpacks_to_gigabytes_is_refused_by_what_it_declares(tmp_path):
    """Nothing of it is unpacked."""
    data = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (402653184,)}")
    path = declaring(tmp_path / "bomb.npz", data + bytes(1 << 25), 3 << 30)
    tracemalloc.start()
    with pytest.raises(UserError, match="too large: 3,221,225,472 bytes unpacked"):
        read_tokens(path)
    with pytest.raises(UserError, match="too large: 3,221,225,472 bytes unpacked"):
        read_npz(str(path), CODE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


def test_no_more_is_unpacked_than_declared(tmp_path):
    """An entry that says it is small."""
    path = declaring(tmp_path / "liar.npz", bytes(1 << 25), 1000)
    tracemalloc.start()
    assert "Bad CRC" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 22


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_packings_without_a_bound_are_refused(tmp_path, packing):
    path = archive(tmp_path / "f.npz", packing, x=npy("{}"))
    assert "packed in a way that is not read" in refusal(path)


HEADERS = {
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}": "0 bytes",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 4)}": "0 bytes",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}": "0 bytes for float32 [4]",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}": "holds Python objects",
    "{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,)}": "holds Python objects",
    "{'descr': '<c8', 'fortran_order': False, 'shape': (0,)}": "complex64, not numbers",
    "__import__('os').abort()": "no header of an array",
    "{'descr': '<f4', 'shape': (4,)}": "no header of an array",
}


@pytest.mark.parametrize("header", HEADERS)
def test_headers(tmp_path, header):
    data = npy(header)
    (tmp_path / "f.npy").write_bytes(data)
    path = archive(tmp_path / "f.npz", zipfile.ZIP_STORED, x=data)
    assert HEADERS[header] in refusal(tmp_path / "f.npy")
    assert HEADERS[header] in refusal(path)


def test_pickles_are_told_and_never_loaded(tmp_path):
    class Harm:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / "f.npz").write_bytes(pickle.dumps(Harm()))
    np.savez(tmp_path / "g.npz", x=np.array([Harm()], object))
    assert "Python objects" in refusal(tmp_path / "f.npz")
    assert "Python objects" in refusal(tmp_path / "g.npz")
    assert not (tmp_path / "harm").exists()


def test_archives_without_arrays(tmp_path):
    np.savez(tmp_path / "none.npz")
    with pytest.raises(UserError, match="holds no arrays"):
        read_npz(str(tmp_path / "none.npz"), CODE)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(UserError, match="a device or a pipe"):
        read_npz(str(tmp_path / "pipe.npz"), CODE)

"""Parcels as bytes: what is sent arrives, whatever its shape and type."""

import numpy as np
import pytest

from supertile.runtime import mpi_communicator
from supertile.runtime.mpi_communicator import _parcel, _read, _records, _written
from supertile.runtime.numerics import Scaled, quantize


def fields(rows: int) -> tuple[object, ...]:
    generator = np.random.default_rng(rows)
    x = generator.standard_normal((rows, 24), np.float32)
    return (
        quantize(x, "f8e4m3", 8),
        quantize(x, "i8", 12),
        x[:, ::2],
        x[:, 0],
        generator.integers(0, 9, rows).astype(np.int32),
        generator.standard_normal((rows, 2, 3), np.float32),
    )


def same(a: object, b: object) -> bool:
    if isinstance(a, Scaled):
        assert isinstance(b, Scaled)
        return same(a.codes, b.codes) and same(a.scales, b.scales) and a.block == b.block
    assert isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return bool(a.dtype == b.dtype and np.array_equal(a, b))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_parcel_survives_as_records(rows):
    records = _records(fields(rows))
    assert records.shape == (rows, 24 + 3 + 24 + 8 + 48 + 4 + 4 + 24)
    back = _parcel(records, fields(2))
    assert all(same(a, b) for a, b in zip(back, fields(rows), strict=True))


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_values_survive_with_shapes_of_their_own(rows):
    value = (*fields(rows), np.float32(2.5))
    back = _read(_written(value), (*fields(3), np.float32(0)))
    assert all(same(a, b) for a, b in zip(back[:-1], value, strict=False))
    assert back[-1] == np.float32(2.5)
    one = fields(rows)[2]
    assert same(_read(_written(one), one), one)


def test_the_module_loads_without_mpi4py(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "mpi4py", None)
    __import__("importlib").reload(mpi_communicator)

"""Recording and pinning: rows over tokens and windows, of all calls, sequences and entries."""

import numpy as np
import pytest
from small_models import Array, runs, small_module

from supertile.ir.errors import UserError
from supertile.runtime.generate import Request
from supertile.runtime.trace import Recorder, leading_sizes

ROWS = [[1, 2, 3, 4, 5], [6, 7, 8]]
OUT = "layers.0.out"
POOLED = "layers.0.pooled"  # a row for each two tokens


@pytest.fixture(scope="module")
def module(tmp_path_factory):  # type: ignore[no-untyped-def]
    return small_module(tmp_path_factory.getbasetemp())


def trace(module, *patterns: str, request: Request | None = None, **pins: Array):  # type: ignore[no-untyped-def]
    """What a run records; pins by name with _ for the dots."""
    held = {name.replace("_", "."): pin for name, pin in pins.items()}
    recorder = Recorder(patterns, held)
    runs(module, ROWS, request, recorder)
    return recorder.arrays()


def same(found: Array, expected: Array) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize(
    "request_", [Request(chunk=1), Request(chunk=3), Request(prompt=2, teacher=True)]
)
def test_rows_of_all_calls_are_put_together(module, request_) -> None:  # type: ignore[no-untyped-def]
    whole = trace(module, OUT, POOLED)
    pieces = trace(module, OUT, POOLED, request=request_)
    assert whole[OUT].shape == (2, 5, 4) and whole[POOLED].shape == (2, 2, 4)
    assert same(pieces[OUT], whole[OUT]) and same(pieces[POOLED], whole[POOLED])


def test_rows_that_do_not_exist_are_nan(module) -> None:  # type: ignore[no-untyped-def]
    found = trace(module, OUT, POOLED)
    assert np.isnan(found[OUT][1, 3:]).all() and not np.isnan(found[OUT][1, :3]).any()
    assert np.isnan(found[POOLED][1, 1:]).all() and not np.isnan(found[POOLED][0]).any()


def test_patterns_choose_names(module) -> None:  # type: ignore[no-untyped-def]
    assert list(trace(module, "layers.*.out", "x")) == [OUT, "layers.1.out", "x"]
    assert list(trace(module)) == []


def test_values_without_rows_keep_the_last_call(module) -> None:  # type: ignore[no-untyped-def]
    assert trace(module, "layers.0.near", request=Request(chunk=1))["layers.0.near"].shape == (
        2,
        4,
        4,
    )


def test_entries_do_not_mix(module) -> None:  # type: ignore[no-untyped-def]
    found = trace(module, "*")
    assert found["x"].shape == (2, 5, 4) and found["draft.x"].shape == (2, 4, 4)
    assert not same(found["logits"][:, :4], found["draft.logits"])


def test_domains_are_found_when_needed(module) -> None:  # type: ignore[no-untyped-def]
    recorder = Recorder((OUT,), {}, leading_sizes(module))
    runs(module, ROWS, None, recorder)
    assert same(recorder.arrays()[OUT], trace(module, OUT)[OUT])


# ---- pins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [Request(), Request(chunk=2)])
def test_pins_replace_the_rows_they_have(module, request_) -> None:  # type: ignore[no-untyped-def]
    computed = trace(module, OUT)[OUT]
    pin = np.full((1, 3, 4), 7.0)
    found = trace(module, OUT, request=request_, layers_0_out=pin)[OUT]
    assert (found[0, :3] == 7).all()
    assert same(found[1], computed[1]) and same(found[0, 3:], computed[0, 3:])


@pytest.mark.parametrize("request_", [Request(), Request(chunk=1)])
def test_windows_are_pinned_by_their_number(module, request_) -> None:  # type: ignore[no-untyped-def]
    computed = trace(module, POOLED)[POOLED]
    pin = np.stack([computed[0], computed[0] + 1])
    found = trace(module, POOLED, request=request_, layers_0_pooled=pin)[POOLED]
    assert same(found[1, :1], computed[0, :1] + 1)
    assert same(found[0], computed[0])


def test_pinning_what_was_computed_changes_nothing(module) -> None:  # type: ignore[no-untyped-def]
    free = trace(module, "*")
    pinned = trace(module, "*", layers_0_out=np.nan_to_num(free[OUT]))
    assert all(same(pinned[name], held) for name, held in free.items())


# Pin: code, and what the message says.
WRONG = {
    "layers_0_otu": (np.zeros((2, 5, 4)), "run.pin_unused", "did you mean layers.0.out?"),
    "out": (np.zeros((2, 5, 4)), "run.pin_unused", "no value out was computed"),
    "layers_0_out": (np.zeros((2, 5, 3)), "run.pin_shape", "['sequences', 'rows', 4]"),
    "layers_1_out": (np.zeros(4), "run.pin_shape", "found: [4]"),
    "x": (np.zeros((2, 5, 4), complex), "run.pin_dtype", "complex128"),
    "layers_0_near": (np.zeros((2, 5, 4)), "run.pin_rows", "cannot be pinned"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_pins(module, name: str) -> None:  # type: ignore[no-untyped-def]
    pin, code, message = WRONG[name]
    with pytest.raises(UserError) as caught:
        trace(module, **{name: pin})
    assert caught.value.code == code
    assert message in str(caught.value)

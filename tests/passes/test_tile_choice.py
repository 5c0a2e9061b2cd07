"""Sizes of tiles: what fits on chip, what is small enough for tests, what is never small enough."""

from dataclasses import replace

import pytest
from fusion_checks import fused_of
from hypothesis import given, strategies as st

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.op import shape_of
from supertile.ir.types import ELEMENT_BITS
from supertile.passes.choose_tiles import ChooseTiles
from supertile.passes.tile_choice import (
    CHOICES,
    STEP_BYTES,
    Limits,
    _Matrix,
    _time,
    chosen_sizes,
    smaller,
)
from supertile.passes.tile_factors import factors_of
from supertile.passes.tile_memory import row_bytes
from supertile.passes.tiling import row_spaces, units_of
from supertile.targets.machine import load_machine, machine_names
from supertile.targets.tile_limits import tile_options

# Tokens, sequences, context of a call.
CALLS = {"decode": (96, 96, 4096), "prefill": (4096, 1, 4096), "one token": (1, 1, 131072)}
NONE = ChooseTiles().limits()


def phases_of(config, numerics):
    for function in fused_of(config, numerics).ops:
        spaces = row_spaces(function)
        for unit in units_of(function, spaces):
            for phase in unit.phases:
                yield phase, unit, spaces


PRO = list(phases_of("pro", "deployed"))


def limits_of(machine, call="decode"):
    return ChooseTiles(**tile_options(load_machine(machine), *CALLS[call])).limits()


# ---- for machines --------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", machine_names())
@pytest.mark.parametrize("call", CALLS)
def test_tiles_of_a_large_model_fit(machine, call):
    """Two tiles of each operand and the sum of a product; a row of values, or a part of one."""
    limits = limits_of(machine, call)
    for phase, unit, spaces in PRO:
        sizes = chosen_sizes(phase, unit, spaces, limits)
        assert all(number >= 1 for number in sizes.numbers()[:3])
        if phase.kind == "product":
            assert 4 * sizes.rows * sizes.columns <= limits.accumulator_bytes
            assert 2 * sizes.depth * (sizes.rows + sizes.columns) // 2 <= limits.operand_bytes
        if phase.kind == "rows" and not sizes.heads:
            each, fixed = row_bytes(phase, spaces)
            assert sizes.rows * each + fixed <= limits.vector_bytes


def test_every_kind_of_phase_is_chosen_for():
    assert {phase.kind for phase, _, _ in PRO} <= set(CHOICES)


def test_tiles_grow_with_the_call():
    phase, unit, spaces = next(p for p in PRO if p[0].kind == "product" and p[1].kind == "linear")
    few, many = (
        chosen_sizes(phase, unit, spaces, limits_of("ascend-910c", call)).rows
        for call in ("one token", "prefill")
    )
    assert few == 16 < many


def test_wide_rows_are_cut():
    phase, unit, spaces = next(p for p in PRO if p[1].kind == "query_norm_rope")
    assert sum(row_bytes(phase, spaces)) > limits_of("ascend-910c").vector_bytes
    sizes = chosen_sizes(phase, unit, spaces, limits_of("ascend-910c"))
    assert sizes.rows == 1 and 1 < sizes.heads < 128


def test_uses_in_one_space_share_it():
    apart, together = (
        Limits(False, 1, 1, 1, 1, 1, 1, 1.0, 100, 100, 100, spaces)
        for spaces in (("a", "b", "c"), ("a", "a", "a"))
    )
    assert apart.fit(100, 100, 100)
    assert together.fit(50, 30, 20)
    assert not together.fit(50, 30, 21)
    assert not apart.fit(101, 0, 0)


def test_rows_of_row_spaces():
    limits = ChooseTiles(tokens=100, arrived=70, sequences=4).limits()
    spaces = ("T", "T*6", "windows8", "windows128", "received")
    assert [limits.rows(space) for space in spaces] == [100, 600, 12, 1, 70]
    assert limits.rows_of_one() == 25


# ---- for tests -----------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.sampled_from([(), (8,), (32,), (32, 128)]))
def test_smaller(size, blocks):
    """At least three steps, the last one partial, wherever a size and its blocks allow it."""
    step = smaller(size, blocks)
    assert 1 <= step <= size
    assert all(step % block == 0 or block % step == 0 for block in blocks)
    if size >= 3:
        assert -(-size // step) >= 3
    if size >= 5 and not blocks:
        assert size % step


def test_tiles_for_tests_cut_every_size():
    limits = ChooseTiles(force="test").limits()
    for phase, unit, spaces in phases_of("small", "reference"):
        sizes = chosen_sizes(phase, unit, spaces, limits)
        assert sizes.rows == 2
        if phase.kind in ("product", "einsum_product"):
            factors = factors_of(phase.ops[0])
            assert sizes.depth < factors.size(factors.summed)
            columns = factors.size(factors.column)
            assert sizes.columns < columns or columns == 1
        if phase.kind == "attend":
            assert sizes.heads < shape_of(phase.ops[0].q)[1]


# ---- memories that are too small ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "kind"),
    [
        ({"operand_bytes": 64}, "product"),
        ({"vector_bytes": 16}, "rows"),
        ({"operand_bytes": 64}, "attend"),
        ({"vector_bytes": 64}, "combine"),
        ({"vector_bytes": 64}, "pool_windows"),
        ({"vector_bytes": 64}, "columns"),
    ],
)
def test_nothing_fits(memory, kind):
    found = next(p for p in PRO if p[0].kind == kind)
    spaces = {"operand": "l1", "accumulator": "l0c", "vector": "ub"}
    with pytest.raises(UserError) as caught:
        chosen_sizes(*found, ChooseTiles(**spaces, **memory).limits())
    assert caught.value.code == "pass.tile_too_large"
    (held,) = memory.values()
    assert f"not even the smallest tile of {found[1].kind} fits" in caught.value.message
    assert caught.value.found == f"{held} bytes"
    assert caught.value.values["needed"] > held


# ---- by hand -----------------------------------------------------------------------------------


def matrix_of(**changes):
    sizes = {
        "rows": 100, "columns": 70, "depth": 64, "beside": 3, "shared": 2, "x_bits": 8.25,
        "w_bits": 4.5, "y_bits": 16.0, "column_blocks": (), "depth_blocks": (),
    }  # fmt: skip
    return _Matrix(**{**sizes, **changes})


@pytest.mark.parametrize("balance", [0.01, 300.0])
def test_the_time_of_a_product_is_that_of_its_waves(balance):
    """4 x 3 x 2 blocks on 5 cores: 5 waves, each of 2 steps that compute or load, then a store."""
    limits = replace(NONE, cores=5, balance=balance)
    computed = 2 * (32 * 3) * 32 * 32 * 8.25 / 16
    loaded = (32 * (32 * 3 * 8.25 + 32 * 4.5) / 8 + STEP_BYTES) * balance
    stored = 32 * 3 * 32 * 4 * balance
    expected = 5 * (2 * max(computed, loaded) + loaded + stored)
    assert _time(matrix_of(), 32, 32, 32, limits) == pytest.approx(expected, rel=1e-3)


def of_kind(kind, phases=PRO):
    return next(
        (phase, unit, spaces)
        for phase, unit, spaces in phases
        if any(isinstance(op, kind) for op in phase.ops)
    )


def test_sums_of_rows_fill_the_memory_of_vectors():
    """Two rows as they come, one in float32, 16 bytes for each choice; of 8 tokens, twice."""
    phase, unit, spaces = of_kind(graph.Combine)
    (op,) = phase.ops
    width, bits = shape_of(op.rows)[1], ELEMENT_BITS[op.rows.type.element_type]
    each = 2 * width * bits // 8 + 4 * width + 16 * op.choices.value.data
    for bytes_, rows in ((16 * each, 8), (16 * each - 2, 7)):
        limits = replace(NONE, vector_bytes=bytes_, tokens=4096, arrived=4096)
        assert chosen_sizes(phase, unit, spaces, limits).rows == rows


def test_attention_steps_through_many_keys_at_once():
    """Without blocks of rounded weights; with them a tile is one block."""
    limits = limits_of("ascend-910c")
    plain = of_kind(graph.Attend, phases_of("pro", "reference"))
    assert chosen_sizes(*plain, limits).columns >= 16
    assert chosen_sizes(*plain, replace(limits, test=True)).columns == 3

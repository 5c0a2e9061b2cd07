"""Kernels by hand on a machine of round numbers, then what must hold for any kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cost_examples import B, R, T, elementwise, figure, kernel, machine, product
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import UserError
from supertile.ir.tile_work import Block, Extent, KernelWork, Loop, Phase
from supertile.targets.cost.kernel import KernelTime, kernel_time
from supertile.targets.machine import Machine, load_machine, machine_names

US = 1e-6


def time(work: KernelWork, held: Machine | None = None, **values: Any) -> KernelTime:
    named = {name.replace("S4", "S:4"): value for name, value in values.items()}
    return kernel_time(work, held or machine(), named)


def micros(work: KernelWork, held: Machine | None = None, **values: Any) -> float:
    return float(time(work, held, **values).duration / US)


# ---- a product --------------------------------------------------------------------------------
# A step of 100 x 100 x 100 is 2 MFLOP: 0.4 us on a core of 5 TFLOP/s. It loads 40 KB: 0.2 us.


def test_a_pipelined_product_is_bound_by_its_arithmetic() -> None:
    # 10 blocks on 10 cores; each 10 steps of 0.4 us, after the first load; 5 us launch.
    # 2.4 MB of HBM take 3.0 us, 4 MB through the L2 1.0 us.
    found = time(product(), T=100)
    assert found.duration / US == pytest.approx(5 + 10 * 0.4 + 0.2)
    assert found.bound == "launch" and found.launch == 5e-6
    assert found.busy["cube"] / US == pytest.approx(4.0)
    assert found.busy["l1"] / US == pytest.approx(2.0)
    assert found.busy["l2"] / US == pytest.approx(1.0)
    assert found.busy["hbm"] / US == pytest.approx(2.4 / 0.8)
    assert found.flops == 2 * 1000 * 1000 * 100
    assert found.bytes == {"hbm": 2.4e6, "l2": 4e6}


def test_without_stages_loads_and_arithmetic_add_up() -> None:
    assert micros(product(stages=1), T=100) == pytest.approx(5 + 10 * (0.4 + 0.2))


def test_an_eleventh_block_takes_a_second_wave() -> None:
    once, twice = micros(product(1000), T=100), micros(product(1100), T=100)
    assert once == pytest.approx(5 + 4.2) and twice == pytest.approx(5 + 2 * 4.2)


def test_a_row_more_than_a_tile_takes_another_tile() -> None:
    assert micros(product(), T=101) == pytest.approx(micros(product(), T=200))


def test_a_weight_read_once_is_bound_by_the_memory() -> None:
    # 20 MB at 0.8 TB/s take 25 us. Ten waves of ten loads of 0.1 us and the first are 11 us.
    step = Block({("matrix", "bf16"): 2000}, loaded={"l1": 20_000})
    block = Block(loops=(Loop(Extent(1000, 100), 2, step),))
    work = kernel(Phase((Extent(10_000, 100),), block), read=(("w", 20_000_000),))
    found = time(work)
    assert found.bound == "hbm"
    assert found.duration / US == pytest.approx(5 + 25)
    assert "memories.hbm.read" in found.figures
    assert "parameters.memory_fraction" in found.figures
    assert "engines.cube.rate.bf16" not in found.figures


def test_idle_experts_are_not_read() -> None:
    work = kernel(Phase((Extent(10, 1),), Block()), read=(("w", 8_000_000), ("", 800_000)))
    whole = kernel_time(work, machine(), {}, {})
    half = kernel_time(work, machine(), {}, {"w": 0.5})
    assert (whole.duration - half.duration) / US == pytest.approx(4 / 0.8)


# ---- blocks -----------------------------------------------------------------------------------


def blocks(extent: Extent, **values: Any) -> float:
    """How many blocks a grid has, told by the operations on one engine: 1 TFLOP/s a core."""
    work = kernel(Phase((extent,), Block({("vector", "f32"): 1_000_000})))
    return float(time(work, **values).busy["vec"] * 20e12 / 1e6)


def test_blocks_cover_the_size() -> None:
    assert blocks(Extent(T, 16), T=33) == pytest.approx(3)


def test_equal_sequences_are_exact() -> None:
    assert blocks(Extent(T, 16, B), T=51, B=3) == pytest.approx(3 * 2)  # 17 rows each


def test_rows_on_experts_are_an_expectation() -> None:
    # One row on average: an expert has none with chance exp(-1), and hardly ever over 16.
    assert blocks(Extent(R, 16, 8), arrived=8) == pytest.approx(8 * (1 - np.exp(-1)))


def test_a_loop_over_a_group_has_that_groups_steps() -> None:
    loop = Loop(Extent(T, 10, B), 1, Block({("vector", "f32"): 1_000_000}))
    work = kernel(Phase((Extent(20, 1),), Block(loops=(loop,))))
    assert micros(work, T=60, B=3) == pytest.approx(2 + 2)  # 20 rows each: 2 steps of 1 us


# ---- engines ----------------------------------------------------------------------------------


def test_elementwise_kernels_run_on_the_vector_cores() -> None:
    # 40 blocks of 10 rows, two waves on 20 cores. 10,000 operations are 0.01 us, and 40 KB in and
    # out at the core's share of the L2, 0.2 TB/s, take 0.2 us each; 3.2 MB of HBM take 4 us.
    found = time(elementwise(), T=400)
    assert found.launch == 2e-6
    assert found.busy["vec"] / US == pytest.approx(2 * 0.01)
    assert found.busy["ub"] / US == pytest.approx(2 * (0.2 + 0.2))
    assert found.duration / US == pytest.approx(2 + 3.2 / 0.8)
    assert found.bound == "hbm"


def test_exponentials_are_instructions_of_the_vector_engine() -> None:
    more = time(elementwise(exponentials=500_000), T=200).busy["vec"]
    assert (more - time(elementwise(), T=200).busy["vec"]) / US == pytest.approx(2 * 0.5)


def test_a_special_engine_takes_the_exponentials() -> None:
    held = machine()
    special = replace(held.engines["vec"], name="sfu", kind="special")
    held = replace(held, engines={**held.engines, "sfu": special})
    found = time(elementwise(exponentials=500_000), held, T=200)
    assert found.busy["sfu"] / US == pytest.approx(0.5)


def test_a_block_has_its_share_of_the_other_engine() -> None:
    # Ten cores multiply, so that two of twenty vector cores belong to each: 2 TFLOP/s.
    work = kernel(
        Phase((Extent(10, 1),), Block({("matrix", "bf16"): 5, ("vector", "f32"): 2_000_000}))
    )
    assert micros(work) == pytest.approx(5 + 1, rel=1e-5)


def test_phases_follow_one_another() -> None:
    one = Phase((Extent(20, 1),), Block({("vector", "f32"): 3_000_000}))
    assert micros(kernel(one, one)) == pytest.approx(2 + 3 + 3)


# ---- formats and unknown figures --------------------------------------------------------------


def test_a_format_that_is_only_stored_runs_as_what_it_is_decoded_to() -> None:
    found = time(product(element="f4e2m1"), T=100)
    assert found.duration == time(product(), T=100).duration
    assert "f4e2m1 runs on cube at the rate of bf16" in found.notes


def test_the_wider_of_two_formats_decides() -> None:
    h200, gb200 = load_machine("h200"), load_machine("gb200-nvl72")
    for held in (h200, gb200):
        mixed = time(product(element="f4e2m1 x f8e4m3"), held, T=4000)
        assert mixed.busy == time(product(element="f8e4m3"), held, T=4000).busy
    narrow, wide = (time(product(element=e), gb200, T=4000) for e in ("f4e2m1", "f8e4m3"))
    assert narrow.busy["tensor"] == pytest.approx(wide.busy["tensor"] / 2)


def test_a_format_that_the_machine_lacks_is_an_error() -> None:
    with pytest.raises(UserError) as caught:
        time(product(element="f8e4m3"), load_machine("ascend-910c"), T=100)
    assert caught.value.code == "machine.unknown_figure"
    assert "engines.cube.rate.f8e4m3" in str(caught.value)
    assert "the time of example" in str(caught.value)


def test_an_unknown_cache_is_left_out_and_noted() -> None:
    found = time(product(), load_machine("h200"), T=100)
    assert "l2" not in found.busy
    assert "the bandwidth of l2 is unknown: it is left out" in found.notes


def test_an_unknown_memory_bandwidth_is_an_error() -> None:
    held = machine()
    blind = replace(held.memories["hbm"], read=figure(None))
    with pytest.raises(UserError, match=r"memories\.hbm\.read"):
        time(product(), replace(held, memories={**held.memories, "hbm": blind}), T=100)


def test_an_unknown_number_of_cores_makes_no_waves() -> None:
    held = machine()
    blind = replace(held.engines["cube"], cores=figure(None))
    found = time(product(1100), replace(held, engines={**held.engines, "cube": blind}), T=100)
    # 220 MFLOP at 50 TFLOP/s, and 4.4 MB through the L2: as if on one core; the first load besides.
    assert found.duration / US == pytest.approx(5 + 4.4 + 11 * 0.01)
    assert "how many cores cube has is unknown: tiles fill all waves" in found.notes


def test_missing_parameters_are_noted() -> None:
    found = time(product(), replace(machine(), parameters={}), T=100)
    assert found.launch == 0
    assert "round gives no launch_matrix: launches are free" in found.notes
    assert "round gives no matrix_fraction: the peak is taken" in found.notes


def test_few_cores_draw_their_share_of_what_the_cache_fills() -> None:
    held = machine()
    cache = replace(held.memories["l2"], fill=figure(1e12))
    held = replace(held, memories={**held.memories, "l2": cache})
    work = kernel(Phase((Extent(1, 1),), Block({("matrix", "bf16"): 2})), read=(("w", 1_000_000),))
    assert micros(work, held) == pytest.approx(5 + 10)  # a tenth of 1 TB/s
    assert "memories.l2.fill" in time(work, held).figures


def test_the_formula_has_symbols_then_numbers() -> None:
    assert time(product(), T=100).formula.splitlines() == [
        "launch + sum over phases of max(ceil(blocks / cores) x block, memories)",
        "= 5 us launch + max(ceil(10 blocks / 10 cube cores) x 4.2 us, l2 1 us, hbm 3 us)",
        "= 9.2 us",
    ]


@pytest.mark.parametrize("name", machine_names())
def test_every_shipped_machine_has_the_figures(name: str) -> None:
    held = load_machine(name)
    found = time(product(element="f32"), held, T=1000)
    assert found.duration > found.launch > 0
    assert found.bound in (*held.engines, *held.memories, "launch")
    unknown = [path for path in found.figures if held.figure(path).value is None]
    assert all(path.split(".")[1] in " ".join(found.notes) for path in unknown), (
        "stand-ins are told"
    )
    assert time(elementwise(exponentials=100), held, T=1000).duration > 0


# ---- what must hold ---------------------------------------------------------------------------

TOKENS = st.integers(1, 5000)
WORKS = (product(), product(3000, 200, "i8", 1), elementwise(), elementwise(1000))


@given(st.sampled_from(WORKS), TOKENS, TOKENS)
def test_more_tokens_never_take_less(work: KernelWork, a: int, b: int) -> None:
    assert micros(work, T=min(a, b)) <= micros(work, T=max(a, b)) + 1e-9


FIGURES = ("read", "write", "fill")


@settings(deadline=None)
@given(st.sampled_from(WORKS), TOKENS, st.sampled_from(["hbm", "l2", "l1"]))
def test_twice_the_bandwidth_is_never_slower(work: KernelWork, tokens: int, name: str) -> None:
    held = machine()
    memory = held.memories[name]
    twice = {key: getattr(memory, key) for key in FIGURES}
    twice = {k: figure(2 * f.value) for k, f in twice.items() if f.value is not None}
    faster = replace(held, memories={**held.memories, name: replace(memory, **twice)})
    assert micros(work, faster, T=tokens) <= micros(work, held, T=tokens) + 1e-9


@given(st.sampled_from(WORKS), st.lists(TOKENS, min_size=1, max_size=5))
def test_arrays_equal_scalars(work: KernelWork, tokens: list[int]) -> None:
    swept = time(work, T=np.array(tokens))
    points = [time(work, T=one) for one in tokens]
    assert swept.duration.tolist() == pytest.approx([one.duration for one in points])
    assert [str(name) for name in swept.bound] == [one.bound for one in points]
    for name, seconds in points[0].busy.items():
        assert np.ravel(swept.busy[name])[0] == pytest.approx(seconds)

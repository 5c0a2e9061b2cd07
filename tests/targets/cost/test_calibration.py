"""The shipped machines against published measurements, copied here with their sources.

The bounds on the ratio of predicted and measured say how far the model is off today, rounded up.
Dispatch and combine of the H100 were fitted to tables that these rows are from; those of the 910C
to rows of which these are a part. The products were not fitted: tiles are 64 or 128 x 128 x 128.
"""

from __future__ import annotations

import pytest

from supertile.ir.tile_work import Block, Extent, KernelWork, Loop, Phase
from supertile.targets.cost.kernel import kernel_time
from supertile.targets.cost.link import transfer_time
from supertile.targets.machine import load_machine
from supertile.targets.traffic import distinct_targets

ROWS_910C = 7680, 14336  # bytes of a copy: INT8 with a scale, padded to 512 B units; BF16
ROWS_H100 = 7392, 14336  # FP8 with 56 scales of 4 B; BF16


def micros(machine: str, ranks: int, tokens: int, row: int, operation: str) -> float:
    copies = 8 * tokens  # V3 chooses 8 experts for a token
    held = load_machine(machine)
    return float(transfer_time(held, ranks, copies, copies * row, operation).duration * 1e6)


# CM384 (arXiv 2506.12708 v2) Table 7: fused CANN kernels, 128 tokens a rank, us.
CM384 = [
    *((8, 116, 118), (16, 131, 132), (32, 133, 146)),
    *((64, 141, 150), (128, 152, 150), (256, 152, 149)),
]


@pytest.mark.parametrize(("ranks", "dispatch", "combine"), CM384)
def test_910c_expert_kernels(ranks: int, dispatch: float, combine: float) -> None:
    """Within 1.25 for dispatch, which does not grow with the ranks here, and 1.4 for combine."""
    assert 1 / 1.25 < micros("ascend-910c", ranks, 128, ROWS_910C[0], "dispatch") / dispatch < 1.25
    assert 1 / 1.4 < micros("ascend-910c", ranks, 128, ROWS_910C[1], "combine") / combine < 1.4


# AIConfigurator 095f58a51, h100_sxm wideep_deepep_ll_perf: ranks, tokens a rank, us.
DEEPEP = [
    *((8, 32, 20.499, 24.637), (8, 128, 39.829, 72.382), (8, 512, 122.642, 269.277)),
    *((16, 32, 40.07, 60.93), (16, 128, 102.1, 186.17), (32, 32, 55.23, 85.57)),
    (32, 256, 264.47, 500.2),
]


@pytest.mark.parametrize(("ranks", "tokens", "dispatch", "combine"), DEEPEP)
def test_h100_expert_kernels(ranks: int, tokens: int, dispatch: float, combine: float) -> None:
    assert 0.88 < micros("h100", ranks, tokens, ROWS_H100[0], "dispatch") / dispatch < 1.13
    assert 0.88 < micros("h100", ranks, tokens, ROWS_H100[1], "combine") / combine < 1.13


# DeepEP docs/legacy.md dd758ca, low latency on the H800 with ConnectX-7, 128 tokens a rank, us. The
# H100's figures stand for it: the same network card, and fits of a later release.
DEEPEP_V1 = [
    *((16, 118, 195), (32, 155, 273), (64, 173, 314), (128, 192, 369), (256, 194, 360)),
]


@pytest.mark.parametrize(("ranks", "dispatch", "combine"), DEEPEP_V1)
def test_h800_expert_kernels(ranks: int, dispatch: float, combine: float) -> None:
    """Within 15 %, and always below: 0.88 to 0.99."""
    assert 0.85 < micros("h100", ranks, 128, ROWS_H100[0], "dispatch") / dispatch < 1
    assert 0.85 < micros("h100", ranks, 128, ROWS_H100[1], "combine") / combine < 1


def test_one_h800_server_is_not_met() -> None:
    """77 and 114 us at EP8: this release sent over RDMA inside the server too, in part."""
    assert micros("h100", 8, 128, ROWS_H100[0], "dispatch") / 77 == pytest.approx(0.54, abs=0.01)
    assert micros("h100", 8, 128, ROWS_H100[1], "combine") / 114 == pytest.approx(0.64, abs=0.01)


# DeepEP-Ascend, README: 950DT, 16,384 tokens a rank, top-6 of 256, FP8 out and BF16 back, GB/s, the
# middle of what is given. Counted on one copy a rank; the machine file's figures are from here.
ROWS_950DT = {"dispatch": 7168 + 56, "combine": 14336}
DEEPEP_ASCEND = [
    *((8, 374, 346), (16, 350, 339.5), (32, 337.5, 322), (64, 325, 296), (128, 316.5, 275)),
]


@pytest.mark.parametrize(("ranks", "dispatch", "combine"), DEEPEP_ASCEND)
def test_950dt_expert_kernels(ranks: int, dispatch: float, combine: float) -> None:
    """Within 10 %, start-up included, which is a vendor's figure. Rows are not rebuilt there."""
    held, copies = load_machine("ascend-950dt"), 16384 * distinct_targets(256, ranks, 6)
    for operation, published in (("dispatch", dispatch), ("combine", combine)):
        size = copies * ROWS_950DT[operation]
        time = transfer_time(held, ranks, copies, size, operation).duration
        assert size / time / 1e9 == pytest.approx(published, rel=0.10)


# DeepGEMM README a6d97a1 and InferSim f2293da, FP8 on the H800, the H100's die: m, n, k, us.
PRODUCTS = [
    *((64, 24576, 1536, 16.7), (64, 7168, 16384, 44.7), (128, 7168, 16384, 46.6)),
    *((128, 4096, 7168, 20.276), (512, 7168, 2048, 20.999), (512, 24576, 1536, 37.939)),
    *((4096, 7168, 16384, 649.13), (4096, 4096, 7168, 169.08), (4096, 24576, 1536, 312.4)),
]


def gemm(m: int, n: int, k: int) -> KernelWork:
    rows = 64 if m <= 64 else 128
    step = Block({("matrix", "f8e4m3"): 2 * rows * 128 * 128}, loaded={"smem": (rows + 128) * 128})
    block = Block(stored={"smem": rows * 128 * 2}, loops=(Loop(Extent(k, 128), 4, step),))
    grid = (Extent(m, rows), Extent(n, 128))
    read, written = (("w", n * k), ("", m * k)), (("", 2 * m * n),)
    return KernelWork("gemm", "linear", (Phase(grid, block),), read, written, 2 * m * n * k)


@pytest.mark.parametrize(("m", "n", "k", "measured"), PRODUCTS)
def test_h800_products(m: int, n: int, k: int, measured: float) -> None:
    """Within 1.75 here; small products of few tiles are up to 2.2 too slow (docs/costs.md).

    Above all large products run below the 0.875 of peak that the machine file assumes.
    """
    predicted = kernel_time(gemm(m, n, k), load_machine("h100"), {}).duration * 1e6
    assert 1 / 1.75 < predicted / measured < 1.2

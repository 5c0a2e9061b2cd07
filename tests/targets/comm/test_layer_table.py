"""Layers of experts in closed form: sizes as in the IR, bounds, the table, the shared expert."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployed_models import kernels_on, model_on

from supertile.ir.errors import UserError
from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.bounds import layer_bounds
from supertile.targets.comm.layer_table import layer_table_text, moe_layer_table
from supertile.targets.comm.layer_time import layer_time
from supertile.targets.comm.shared_expert import TAKEN, shared_options
from supertile.targets.cost.chance import touched_share
from supertile.targets.machine import Machine, load_machine

DATA = Path(__file__).parents[2] / "data"


def sizes(machine: str, config: str = "deepseek_v4_pro", numerics: str = "deployed") -> ExpertLayer:
    return model_on(config, machine, numerics).expert_layer


# ---- sizes -------------------------------------------------------------------------------------

# Machine, numerics -> bytes of a row out and back, bytes of an expert.
SIZES = {
    ("ascend-910c", "deployed"): (7168 + 4, 14336, 66.11e6),
    ("h200", "deployed"): (7168 + 56, 14336, 35.09e6),
    ("h200", "reference"): (28672, 28672, 35.09e6),
}


@pytest.mark.parametrize(("machine", "numerics"), SIZES)
def test_sizes_of_v4_pro(machine: str, numerics: str) -> None:
    held = sizes(machine, numerics=numerics)
    found = held.row.out, held.row.back, held.expert_bytes
    assert found == pytest.approx(SIZES[machine, numerics], rel=1e-3)
    assert held.flops == 6 * 7168 * 3072


def test_one_expert_in_all_layers() -> None:
    """2.14 GB in FP4 with scales, 4.03 GB in INT8."""
    for machine, expected in (("h200", 2.14e9), ("ascend-910c", 4.03e9)):
        held = sizes(machine)
        assert held.layers * held.expert_bytes == pytest.approx(expected, rel=2e-3)


def test_a_dense_model_has_no_experts() -> None:
    with pytest.raises(UserError, match="is dense"):
        sizes("h200", "llama_3_1_8b")


# ---- published layers --------------------------------------------------------------------------


def published() -> list[dict[str, str]]:
    lines = (DATA / "expert_layers.csv").read_text().splitlines()[1:]
    return list(csv.DictReader(lines))


def test_no_published_layer_is_faster_than_the_bound_and_all_are_near_the_model() -> None:
    """48 rows, none of them fitted. Layers in one kernel overlap what the model adds up, and reach
    more of the peak in large ones on the GB300 (up to 1.33); tiny ones wait for what is not
    modelled, and kernels that are not fused for launches between them (down to 0.59)."""
    rows = published()
    assert len(rows) == 48
    for row in rows:
        machine, held = load_machine(row["machine"]), sizes(row["machine"], row["config"])
        if row["machine"] == "h200":  # these kernels have FP8 weights
            held = replace(held, expert_bytes=3.0 * held.channels * held.inner)
        tokens, measured = np.array([float(row["tokens"])]), float(row["us"]) * 1e-6
        layer = layer_time(machine, held, int(row["ranks"]), tokens)
        touched = touched_share(tokens * held.choices, float(layer.slots))
        bounds = layer_bounds(machine, held, layer.exchanges, layer.slots, touched)
        assert measured > float(np.max(bounds.overlapped)), row
        assert 0.58 < float(layer.total[0]) / measured < 1.35, row


def test_operations_of_published_layers_are_within_the_peak() -> None:
    """6 C D x tokens x choices / time; some 0.45 of 5 PFLOP/s where batches are large."""
    for row in published():
        held = sizes(row["machine"], row["config"])
        rate = held.flops * float(row["tokens"]) * held.choices / float(row["us"]) / 1e6  # TFLOP/s
        peak = {"h200": 1979, "gb200-nvl72": 5000, "gb300-nvl72": 5000}[row["machine"]]
        assert rate < 0.56 * peak
        if row["machine"] == "gb200-nvl72" and int(row["tokens"]) >= 8192:
            assert 0.43 < rate / peak < 0.47


# ---- the table ---------------------------------------------------------------------------------


def table(machine: str, eps: tuple[int, ...], batches: tuple[int, ...]):
    model, works = model_on("deepseek_v4_pro", machine), kernels_on("deepseek_v4_pro", machine)
    return moe_layer_table(load_machine(machine), model, works, eps, batches)


def test_a_row_for_each_point_in_order() -> None:
    rows = table("ascend-910c", (64, 384), (1, 64, 256))
    assert [(row.ep, row.batch) for row in rows] == [
        (e, b) for e in (64, 384) for b in (1, 64, 256)
    ]
    for row in rows:
        assert row.total == pytest.approx(row.dispatch + row.experts + row.combine)
        assert row.overlapped <= row.serial <= row.total
        # The bandwidth of combine is unknown, and the link's stands for it.
        assert row.evidence == ("derived", "derived", "assumed")


def test_what_takes_most() -> None:
    rows = table("ascend-910c", (32, 384, 8192), (4, 16, 256))
    found = {(row.ep, row.batch): row.dominates for row in rows}
    assert found[32, 16] == "experts: weights"
    assert found[384, 4] == "dispatch: start-up"
    assert found[384, 16] == "experts: weights"
    assert found[384, 256] == "experts: arithmetic"
    assert found[8192, 256] == "combine: bytes"


def test_a_millisecond_a_layer() -> None:
    found = {
        (row.ep, row.batch): row.holds for row in table("ascend-910c", (8, 384, 8192), (64, 256))
    }
    assert found == {
        (8, 64): False,
        (8, 256): False,  # 48 experts do not fit 64 GB
        (384, 64): True,
        (384, 256): True,
        (8192, 64): True,
        (8192, 256): False,
    }


def test_ranks_that_do_not_fit_or_do_not_reach_each_other_say_so() -> None:
    (row,) = table("ascend-910c", (8,), (64,))
    assert row.obstacle == "194 GB of experts, 64 GB a die" and row.total is not None
    held = load_machine("h200")
    alone: Machine = replace(held, domains=held.domains[:1])
    model, works = model_on("deepseek_v4_pro", "h200"), kernels_on("deepseek_v4_pro", "h200")
    rows = moe_layer_table(alone, model, works, (8, 16), (1,))
    assert [row.total is None for row in rows] == [False, True]
    assert rows[1].obstacle == "at most 8 gpus are connected"
    text = layer_table_text(rows)
    assert "at most 8 gpus are connected" in text and len(text.splitlines()) == 3


def test_one_rank_has_no_traffic() -> None:
    (row,) = table("gb200-nvl72", (1,), (8,))
    assert (row.dispatch, row.combine, row.routes) == (0, 0, ())


# ---- the shared expert -------------------------------------------------------------------------


def test_the_shared_expert_hides_under_dispatch() -> None:
    found = shared_options(load_machine("ascend-910c"), sizes("ascend-910c"), 384, 96.0)
    assert [one.name for one in found] == [TAKEN, "fused", "on 55 ranks of its own"]
    assert found[0].seconds == min(one.seconds for one in found)
    assert found[0].weight_bytes == pytest.approx(4.03e9, rel=2e-3)


def test_without_shared_experts_there_is_nothing_to_place() -> None:
    held = replace(sizes("h200"), shared=0)
    assert shared_options(load_machine("h200"), held, 8, 64.0) == []

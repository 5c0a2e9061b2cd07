"""Lower bounds by hand, and when traffic hides, against what the study of the planner has."""

from dataclasses import replace

import numpy as np
import pytest
from deployed_models import model_on

from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.bounds import HideCondition, hide_condition, layer_bounds, threshold
from supertile.targets.comm.choice import choose, exchanges
from supertile.targets.machine import load_machine

MACHINES = ("ascend-910c", "ascend-950dt", "h200", "gb200-nvl72")


def sizes(machine: str, config: str = "deepseek_v4_pro") -> ExpertLayer:
    return model_on(config, machine).expert_layer


def test_bounds_of_a_server_by_hand() -> None:
    """H200, EP8, 64 tokens: a token reaches 8 (1 - C(336,6)/C(384,6)) GPUs, 7 of 8 others."""
    machine, held = load_machine("h200"), sizes("h200")
    found = layer_bounds(machine, held, exchanges(held.row, 8, 384, 6, 64.0), 48)
    missed = np.prod([(336 - i) / (384 - i) for i in range(6)])
    leaving = 64 * 8 * (1 - missed) * 7 / 8 * 7224 / 450e9
    assert found.cuts["dispatch"]["leaving a rank"] == pytest.approx(leaving)
    assert found.cuts["dispatch"]["entering a rank"] > leaving  # the fullest rank's
    assert found.arithmetic == pytest.approx(6 * 7168 * 3072 * 384 / 1979e12)
    assert found.weights == pytest.approx(48 * held.expert_bytes / 4.8e12)
    assert found.latency == pytest.approx(20e-6)
    assert found.overlapped == found.weights
    assert found.serial > found.overlapped


def test_the_narrowest_cut_decides() -> None:
    held = sizes("h200")
    found = layer_bounds(load_machine("h200"), held, exchanges(held.row, 64, 384, 6, 64.0), 6)
    assert max(found.cuts["combine"], key=found.cuts["combine"].__getitem__).endswith("node")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("ranks", [8, 64, 384, 8192])
@pytest.mark.parametrize("tokens", [1.0, 64.0, 4096.0])
def test_no_route_is_faster_than_its_bound(machine: str, ranks: int, tokens: float) -> None:
    held, one = load_machine(machine), sizes(machine)
    sent = exchanges(one.row, ranks, 384, 6, tokens)
    cuts = layer_bounds(held, one, sent, 1).cuts
    for name, exchange in sent.items():
        assert float(choose(held, exchange).best.seconds) > max(cuts[name].values())


def test_one_rank_has_no_cuts() -> None:
    held = sizes("h200")
    found = layer_bounds(load_machine("h200"), held, exchanges(held.row, 1, 384, 6, 8.0), 384)
    assert (found.bandwidth, found.latency) == (0, 0)


# ---- C / B -------------------------------------------------------------------------------------


def test_the_threshold_is_twice_the_inner_size() -> None:
    """2 D for FP8 rows out and BF16 results back: 6,144 and 4,096 FLOP/B."""
    assert threshold(sizes("h200")) == 2 * 3072
    assert threshold(sizes("h200", "deepseek_v4_flash")) == 2 * 2048
    assert threshold(sizes("h200"), scales=True) == pytest.approx(2 * 3072 * 21504 / 21560)
    assert threshold(sizes("h200"), distinct=0.5) == pytest.approx(2 * 3072 * 3 / 2.5)


# Peak TFLOP/s, GB/s, what the study says for Pro and for Flash: times as long, or 1 where hidden.
STUDY = {
    "H800 NVLink": (1979, 200, 1.6, 2.4),
    "RDMA of 50 GB/s": (1979, 50, 6.4, 9.7),
    "H200 NVLink": (1979, 450, 1, 1.1),
    "GB200": (4500, 900, 1, 1.2),
    "910C INT8": (752, 196, 1, 1),
    "950DT FP8, measured link": (1000, 375, 1, 1),
}


@pytest.mark.parametrize("name", STUDY)
def test_the_condition_at_peaks(name: str) -> None:
    rate, bandwidth, pro, flash = STUDY[name]
    for exposed, inner in ((pro, 3072), (flash, 2048)):
        found = HideCondition(rate * 1e12, bandwidth * 1e9, 2.0 * inner)
        assert found.holds == (exposed == 1)
        assert max(found.exposed, 1) == pytest.approx(exposed, abs=0.06)


def test_the_condition_of_the_shipped_machines() -> None:
    """At what kernels reach, over the outermost links of 64 ranks."""
    found = {}
    for config in ("deepseek_v4_pro", "deepseek_v4_flash"):
        for machine in MACHINES:
            held = sizes(machine, config)
            sent = exchanges(held.row, 64, held.experts, held.choices, 64.0)
            condition = hide_condition(load_machine(machine), held, sent)
            found[config[12:], machine] = condition.holds
            assert f"traffic takes {condition.exposed:.3g} x as long" in str(condition)
    assert [machine for (size, machine), holds in found.items() if size == "pro" and not holds] == [
        "h200"  # RDMA between servers
    ]
    assert [key for key, holds in found.items() if key[0] == "flash" and holds] == [
        *(("flash", "ascend-910c"), ("flash", "ascend-950dt"))
    ]


def test_a_condition_at_its_threshold_holds() -> None:
    exact = HideCondition(6144e9, 1e9, 6144.0)
    assert exact.holds and exact.exposed == 1
    assert not replace(exact, rate=6145e9).holds

"""Inputs that once ended in a traceback, and what they must give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from pytest import MonkeyPatch

from supertile.cli.main import main

DATA = Path(__file__).parents[1] / "data"
LAYERS, EXPERTS = 6, 8
ONE_DOMAIN = "phase=decode ep=4 batch=4 context=64 slots=12"
"""All ranks inside one server: the commonest machine, whose outer domain has no share of them."""


def test_a_robust_plan_from_pairs_of_experts_where_all_ranks_are_in_one_domain(
    tmp_path: Path, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    together = random.integers(0, 50, (LAYERS, EXPERTS, EXPERTS))
    together += together.transpose(0, 2, 1)
    together[:, range(EXPERTS), range(EXPERTS)] = 0
    loads = {
        "counts": random.integers(1, 1000, (LAYERS, EXPERTS)).tolist(),
        "layers": list(range(LAYERS)),
        "pairs": together.tolist(),
    }
    Path("loads.json").write_text(json.dumps(loads))
    config = str(DATA / "deepseek_v4" / "config.json")
    line = ["plan", "deepseek_v4", "--config", config, "--target", "h200", "--deploy", ONE_DOMAIN]
    more = ["--loads", "loads.json", "--robust", "--scenarios", "2", "-o", "out"]
    assert main([*line, *more]) == 0
    layers = json.loads(Path("out/plan.json").read_text())["layers"]
    assert len(layers) == LAYERS
    assert all(0.25 <= layer["balancedness"] <= 1 for layer in layers)

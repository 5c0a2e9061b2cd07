"""Qwen3-MoE at every level, on one rank and on four, against NumPy and against transformers."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from case_runs import DATA, TOLERANCE, Array, Rows, apart, arrays, build, rows_of
from level_runs import LEVELS, module_at
from qwen3_numpy import Qwen3Moe
from scheduled_runs import model_of

from supertile.frontend.hf_config import read_config
from supertile.ir.errors import UserError
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks

CASE = "qwen3_moe"
LENGTH = 12
"""Tokens of each row: small tiles take a while."""
GROUPS = "shard-attention{ranks=2},plan-experts{ranks=4}"
"""--ep 4 --tp 2"""


def rows() -> Rows:
    return [row[:LENGTH] for row in rows_of(CASE)]


@cache
def expected() -> Array:
    """[2, LENGTH, V], by NumPy."""
    model = Qwen3Moe(DATA / CASE)
    return np.stack([model.logits(row) for row in rows()]).astype(np.float32)


def test_numpy_agrees_with_transformers() -> None:
    """The stored logits, of all 37 tokens."""
    model = Qwen3Moe(DATA / CASE)
    logits = np.stack([model.logits(row) for row in rows_of(CASE)]).astype(np.float32)
    assert apart(logits, arrays(CASE, "io.npz")["logits_prefill"]) < TOLERANCE


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_logits(level: str) -> None:
    model = model_of(CASE, module_at(CASE, level))
    kind = ScheduledExecutor if level == "scheduled" else Executor
    session = Session(kind(model.plan, model.weights.get), "logits", 2, LENGTH)
    logits = Generator(session).run(rows(), Request(chunk=LENGTH - 5)).logits
    assert apart(logits, expected()) < TOLERANCE


@pytest.mark.parametrize("level", ["graph", "scheduled"])
def test_four_ranks_in_groups_of_two_give_the_logits(level: str) -> None:
    model = model_of(CASE, module_at(CASE, level, GROUPS))
    if level == "scheduled":
        programs = ScheduledExecutor(model.plan, model.weights.get)
        session = LockstepSession(ScheduledRanks(programs, 4), "logits", 2, LENGTH)
    else:
        ranks = LockstepExecutor(Executor(model.plan, model.weights.get), 4)
        session = LockstepSession(ranks, "logits", 2, LENGTH)
    logits = Generator(session).run(rows(), Request(chunk=LENGTH - 5)).logits
    assert apart(logits, expected()) < TOLERANCE


def test_weights_that_are_not_renormalised_are_refused(tmp_path: Path) -> None:
    text = (DATA / CASE / "config.json").read_text()
    file = tmp_path / "config.json"
    for wrong in (text.replace('"norm_topk_prob": true', '"norm_topk_prob": false'),
                  text.replace('"norm_topk_prob": true,', "")):  # fmt: skip
        assert wrong != text
        file.write_text(wrong)
        with pytest.raises(UserError, match="norm_topk_prob"):
            build(read_config(file))

"""Kimi-K2, Moonlight, Mixtral and Qwen3-MoE against transformers, at every level.

Moonlight is a V3 whose queries are not compressed (`q_lora_rank` null), Kimi-K2 one without groups
of experts whose YaRN has both betas at 1.
"""

import pytest
from case_runs import TOLERANCE, apart, arrays, rows_of
from level_runs import LEVELS, module_at
from scheduled_runs import model_of

from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.sched_execute import ScheduledExecutor

CASES = ("kimi_k2", "moonlight", "mixtral", "qwen3_moe")
LENGTH = 9
"""Tokens of each row: small tiles take a while."""


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("case", CASES)
def test_every_level_gives_the_logits_of_transformers(case: str, level: str) -> None:
    """One shot, and token by token."""
    model = model_of(case, module_at(case, level, length=LENGTH))
    kind = ScheduledExecutor if level == "scheduled" else Executor
    rows = [row[:LENGTH] for row in rows_of(case)]
    for chunk in (None, 1):
        session = Session(kind(model.plan, model.weights.get), "logits", 2, LENGTH)
        logits = Generator(session).run(rows, Request(chunk=chunk)).logits
        assert apart(logits, arrays(case, "io.npz")["logits_prefill"][:, :LENGTH]) < TOLERANCE


@pytest.mark.parametrize("case", ["kimi_k2", "moonlight", "mixtral"])
def test_all_tokens_at_the_level_of_the_graph(case: str) -> None:
    model = model_of(case, module_at(case, "graph"))
    rows = rows_of(case)
    session = Session(Executor(model.plan, model.weights.get), "logits", 2, len(rows[0]))
    logits = Generator(session).run(rows, Request(prompt=16, teacher=True)).logits
    for stored in ("logits_prefill", "logits_decode"):
        assert apart(logits, arrays(case, "io.npz")[stored]) < TOLERANCE

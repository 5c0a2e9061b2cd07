"""What a plan gains, in a sentence: more, less, nothing, beside one placement or two."""

from __future__ import annotations

import pytest

from supertile.targets.plan.comparison import StepFigures, expert_seconds, gain_over, gain_text
from supertile.targets.timeline import Program, Task


def steps(**rates: float) -> dict[str, StepFigures]:
    return {name: StepFigures(1e-3, 0.06, rate) for name, rate in rates.items()}


@pytest.mark.parametrize(
    ("rates", "sentence"),
    [
        (
            {"in use": 1366.0, "EPLB": 1563.0, "planned": 1612.0},
            "The plan gives 1,612 tokens per second per die, 3.1 % more than EPLB and 18 % more "
            "than the current placement (in use).",
        ),
        (
            {"in use": 1612.4, "planned": 1612.0},
            "The plan gives 1,612 tokens per second per die, as many as the current placement "
            "(in use).",
        ),
        (
            {"in use": 100.0, "EPLB": 101.0, "planned": 100.0},
            "The plan gives 100 tokens per second per die, 1.0 % less than EPLB and as many as the "
            "current placement (in use).",
        ),
    ],
)
def test_the_gain_in_a_sentence(rates: dict[str, float], sentence: str) -> None:
    assert gain_text(steps(**rates), "in use", "die", "decode") == sentence


def test_prefill_counts_prompt_tokens() -> None:
    told = gain_text(steps(**{"in use": 1.0, "planned": 2.0}), "in use", "gpu", "prefill")
    assert told.startswith("The plan gives 2 prompt tokens per second per gpu, 100 % more than")


def test_a_gain_is_of_the_other_rate() -> None:
    assert gain_over(steps(EPLB=4.0, planned=5.0), "EPLB") == pytest.approx(0.25)


def test_what_runs_at_once_counts_once() -> None:
    """Two waves; the second dispatch runs under the experts of the first."""
    tasks = (
        Task("attention_1", "attention", "compute", 0.0, 5.0, ()),
        Task("dispatch", "communication", "node", 5.0, 2.0, (0,)),
        Task("experts_1", "experts", "compute", 7.0, 3.0, (1,)),
        Task("dispatch", "communication", "node", 7.0, 2.0, (1,)),
        Task("experts_1", "experts", "compute", 10.0, 3.0, (2, 3)),
        Task("combine", "communication", "node", 10.0, 1.0, (2,)),
        Task("combine", "communication", "node", 14.0, 1.0, (4, 5)),
    )
    assert expert_seconds(Program("moe", tasks)) == 8 + 1

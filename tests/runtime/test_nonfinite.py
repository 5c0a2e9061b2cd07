"""The first value that is not finite is the one that an observer of every step sees first."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from small_models import random_weights, small_module

from supertile.ir import graph
from supertile.runtime.engine import Session
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generator, Request
from supertile.runtime.nonfinite import NonFiniteError, Tracker, first_not_finite
from supertile.runtime.plan import plan_module
from supertile.runtime.trace import Recorder

ROWS = [np.array([1, 2, 3, 4, 5]), np.array([6, 7, 8])]
UNSEEN = (graph.Constant, graph.Layers)


@dataclass
class Observer(Executor):
    """Notes the first step whose result is not finite, in the order of the program."""

    observes = True
    first: str | None = None
    steps: int = field(default=0)

    def observed(self, step, registers, results, layer):  # type: ignore[no-untyped-def]
        if isinstance(step.op, UNSEEN):
            return results
        self.steps += 1
        held = results[0]
        if self.first is None and held.dtype.kind == "f" and not np.isfinite(held).all():
            self.first = f"{step.op.name} at {step.source}" + (
                "" if layer is None else f" in layer {layer}"
            )
        return results


@pytest.fixture(scope="module")
def module(tmp_path_factory):  # type: ignore[no-untyped-def]
    return small_module(tmp_path_factory.getbasetemp())


def fails(executor: Executor, request: Request) -> NonFiniteError | None:
    generator = Generator(Session(executor, "logits", len(ROWS), 40))
    try:
        generator.run(ROWS, request)
    except NonFiniteError as error:
        return error
    return None


NAMES = ("embed", "scale", "gates")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([1.0, 1e18, 1e25, 3e37, np.inf]),
    st.sampled_from([Request(), Request(chunk=2), Request(prompt=1, teacher=True)]),
)
def test_the_step_that_is_named_is_the_first(module, name, layer, factor, request_):
    """The small model has no infinity that a later step takes away."""

    def weights(use, number):  # type: ignore[no-untyped-def]
        held = random_weights(use, number)
        is_meant = name in use.pattern and layer in (None, number)
        with np.errstate(over="ignore"):
            return held * np.float32(factor) if is_meant else held

    plan = plan_module(module)
    observer = Observer(plan, weights)
    error = fails(observer, request_)
    if error is None:
        return
    tracker = Tracker(plan)
    assert fails(Executor(plan, weights, tracker=tracker), request_) == error
    verdict = tracker.verdict()
    assert verdict is not None and observer.first is not None
    assert verdict.value.endswith(observer.first)


def test_no_value_is_named_where_all_are_finite(module):
    plan = plan_module(module)
    tracker = Tracker(plan)
    assert fails(Executor(plan, random_weights, tracker=tracker), Request(chunk=2)) is None
    assert tracker.verdict() is None and tracker.step


def test_a_value_that_state_brings_to_a_later_call(module):
    """It was made in the call before; the pin makes that call's own logits finite."""
    plan = plan_module(module)
    recorder = Recorder(pins={"layers.1.out": np.ones((2, 1, 4), np.float32)})

    def weights(use, number):  # type: ignore[no-untyped-def]
        held = random_weights(use, number)
        return held * np.float32(np.inf) if "scale" in use.pattern and number == 1 else held

    tracker = Tracker(plan)
    executor = Executor(plan, weights, recorder.watch, tracker=tracker)
    generator = Generator(Session(executor, "logits", len(ROWS), 40), recorder=recorder)
    with pytest.raises(NonFiniteError):
        generator.run([row * 0 + 10 for row in ROWS], Request(prompt=1, teacher=True))
    verdict = tracker.verdict()
    assert verdict is not None and "in layer 1" in verdict.value
    assert verdict.place.endswith("call 1") and tracker.call == 2


def test_drafts(module):
    plan = plan_module(module)
    recorder = Recorder(pins={"draft.x": np.full((2, 5, 4), 3e38, np.float32)})
    tracker = Tracker(plan)
    executor = Executor(plan, random_weights, recorder.watch, tracker=tracker)
    sessions = [Session(executor, entry, len(ROWS), 40) for entry in ("logits", "draft")]
    with pytest.raises(NonFiniteError) as caught:
        Generator(*sessions, recorder).run(ROWS, Request())
    assert caught.value.what == "draft logits"
    verdict = tracker.verdict()
    assert verdict is not None and "graph.attend at small.st" in verdict.value


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_the_first_row_of_logits(number):
    logits = np.zeros((4, 3), np.float32)
    assert first_not_finite(logits) is None
    assert first_not_finite(logits[:0]) is None
    logits[2, 1] = number
    assert first_not_finite(logits) == 2

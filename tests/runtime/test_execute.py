"""The executor: rounding, layers and their state, what is watched, and errors that name the op."""

from pathlib import Path

import numpy as np
import pytest
from small_models import Array, planned, random_weights, small_module

from supertile.ir.errors import UserError
from supertile.runtime.engine import Session
from supertile.runtime.execute import ExecutionError, Executor
from supertile.runtime.numerics import round_bf16
from supertile.runtime.plan import plan_module

F, B = "tensor<2xf32>", "tensor<2xbf16>"
X = np.array([1.001, -3.3], np.float32)


def no_weights(use: object, layer: int | None) -> None:
    raise AssertionError("the function reads no weights")


def run(body: str, x: Array = X, result: str = F) -> Array:
    """The result of a function of %x: tensor<2xf32>."""
    text = f"func.func @f(%x: {F}) -> {result} {{\n{body}\nfunc.return %y : {result}\n}}"
    (found,) = Executor(planned(text), no_weights).call("f", [x])
    return np.asarray(found)


def test_results_are_rounded_to_their_type() -> None:
    exact = np.exp(X)
    assert (run(f"%y = graph.exp %x : ({F}) -> {F}") == exact).all()
    rounded = f"%a = graph.exp %x : ({F}) -> {F}\n%y = graph.cast %a : ({F}) -> {B}"
    assert (run(rounded, result=B) == round_bf16(exact)).all()
    half = rounded.replace("bf16", "f16")
    assert (run(half, result="tensor<2xf16>") == exact.astype(np.float16)).all()


def test_constants_and_groups_of_operands() -> None:
    body = f"""
    %two = graph.constant {{value = 2.0 : f64}} : () -> tensor<f32>
    %a = graph.multiply %x, %two : ({F}, tensor<f32>) -> {F}
    %y = graph.concat %x, %a, %x {{axis = 0 : i64}} : ({F}, {F}, {F}) -> tensor<6xf32>"""
    assert (run(body, result="tensor<6xf32>") == np.concatenate([X, 2 * X, X])).all()


def test_an_error_names_the_op_the_function_and_the_line() -> None:
    text = """func.func @f(%x: tensor<5x2xf32>, %i: tensor<?xi64>) -> tensor<?x2xf32> {
      %y = graph.gather %x, %i : (tensor<5x2xf32>, tensor<?xi64>) -> tensor<?x2xf32> loc("m.st":7:1)
      func.return %y : tensor<?x2xf32>
    }"""
    executor = Executor(planned(text), no_weights)
    with pytest.raises(ExecutionError, match=r"^m\.st:7 graph\.gather in @f: index 9 is out of"):
        executor.call("f", [np.zeros((5, 2)), np.array([9])])


def small_session(folder: Path, executor: type[Executor] = Executor, **parts: object) -> Session:
    plan = plan_module(small_module(folder))
    return Session(executor(plan, **{"weights": random_weights, **parts}), "logits", 1, 8)  # type: ignore[arg-type]


def test_errors_inside_layers_name_the_layer_function(tmp_path: Path) -> None:
    def wrong(use, layer):  # type: ignore[no-untyped-def]
        return np.zeros(3, np.float32) if layer == 1 else random_weights(use, layer)

    with pytest.raises(ExecutionError, match=r"small\.st:\d+ graph\.\w+ in @layers: "):
        small_session(tmp_path, weights=wrong).call({"ids": np.array([1])}, [1])


def test_errors_of_the_user_pass_through(tmp_path: Path) -> None:
    def damaged(use: object, layer: int | None) -> None:
        raise UserError("run.pin_rows", name="a weight that cannot be read")

    with pytest.raises(UserError):
        small_session(tmp_path, weights=damaged).call({"ids": np.array([1])}, [1])


def test_layers_run_in_order_on_their_own_weights_and_state(tmp_path: Path) -> None:
    read = []

    def weights(use, layer):  # type: ignore[no-untyped-def]
        read.append((use.pattern, layer))
        return random_weights(use, layer)

    session = small_session(tmp_path, weights=weights)
    session.call({"ids": np.array([1, 2])}, [2])
    layers = [layer for pattern, layer in read if pattern == "layers.{l}.scale"]
    assert layers == [0, 1]
    assert ("embed", None) in read
    pairs = session.states[2]
    assert (pairs[0] != pairs[1]).any()


def test_watch_sees_names_and_replaces_values(tmp_path: Path) -> None:
    names = []

    def watch(name, value, step):  # type: ignore[no-untyped-def]
        names.append(name)
        return np.zeros_like(value) if name == "layers.1.out" else value

    session = small_session(tmp_path, watch=watch)
    outputs = session.call({"ids": np.array([1, 2])}, [2])
    assert (outputs["streams"] == 0).all() and (outputs["logits"] == 0).all()
    assert names == list(session.executor.plan.value_names("logits"))


def test_steps_can_be_observed(tmp_path: Path) -> None:
    class Counting(Executor):
        count = 0

        def _step(self, step, registers, layer):  # type: ignore[no-untyped-def]
            self.count += 1
            return super()._step(step, registers, layer)

    session = small_session(tmp_path, Counting)
    session.call({"ids": np.array([1])}, [1])
    plan = session.executor.plan
    steps = len(plan.functions["logits"].steps) + 2 * len(plan.functions["layers"].steps)
    assert session.executor.count == steps  # type: ignore[attr-defined]

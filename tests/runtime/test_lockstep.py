"""Ranks in lock step: a batch split over them, what onlookers see, and modules with experts."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import Array, planned, random_weights, small_module

from supertile.cli.inputs import config_path, model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config, shrink
from supertile.ir import comm
from supertile.ir.text import context
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.compare import NumericCheck
from supertile.runtime.engine import Session
from supertile.runtime.execute import ExecutionError, Executor, Watch
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession, merged
from supertile.runtime.numerics import quantize_blocks
from supertile.runtime.observe import NumericError
from supertile.runtime.plan import plan_module
from supertile.runtime.trace import Recorder

CONTEXT = 24
ROWS = [[1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 1, 2], [3], [4, 5, 6, 7]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("small")


def on_ranks(
    folder: Path,
    ranks: int | None,
    recorder: Recorder | None = None,
    request: Request | None = None,
) -> tuple[Generated, Session]:
    """The small model on all rows; ranks None: without lock step."""
    watch = recorder.watch if recorder else None
    executor = Executor(plan_module(small_module(folder)), random_weights, watch)
    sessions = []
    for entry in ("logits", "draft"):
        if ranks is None:
            sessions.append(Session(executor, entry, len(ROWS), CONTEXT))
        else:
            lockstep = LockstepExecutor(executor, ranks)
            sessions.append(LockstepSession(lockstep, entry, len(ROWS), CONTEXT))
    generator = Generator(sessions[0], sessions[1], recorder)
    return generator.run([np.array(row) for row in ROWS], request or Request(chunk=3)), sessions[0]


def run_passes(module: Any, pipeline: str) -> None:
    """Without what the driver does around them, which takes longer than they do."""
    for one in parse_pipeline(pipeline):
        one.apply(context(), module)


def close(found: Any, wanted: Any) -> bool:
    return bool(np.allclose(found, wanted, rtol=1e-5, atol=1e-5, equal_nan=True))


# ---- a batch over ranks ------------------------------------------------------------------------

ways = pytest.mark.parametrize("ranks", [1, 2, 3, 5, 8])


@ways
@pytest.mark.parametrize("request_", [Request(), Request(chunk=2), Request(prompt=2, decode=3)])
def test_a_batch_gives_the_same_on_any_number_of_ranks(
    folder: Path, ranks: int, request_: Request
) -> None:
    """Up to three ranks have no sequence at all."""
    (found, session), (wanted, plain) = (
        on_ranks(folder, held, request=request_) for held in (ranks, None)
    )
    assert close(found.logits, wanted.logits)
    assert found.draft is not None and close(found.draft, wanted.draft)
    assert found.tokens.tolist() == wanted.tokens.tolist()
    assert session.length.tolist() == plain.length.tolist()
    assert all(
        close(ours, theirs) for ours, theirs in zip(session.states, plain.states, strict=True)
    )


def test_sequences_go_to_ranks_in_runs(folder: Path) -> None:
    executor = LockstepExecutor(Executor(plan_module(small_module(folder)), random_weights), 3)
    session = LockstepSession(executor, "logits", 5, CONTEXT)
    assert [(held.start, held.stop) for held in session.sequences] == [(0, 2), (2, 4), (4, 5)]


def test_a_context_that_is_too_long_is_refused(folder: Path) -> None:
    executor = LockstepExecutor(Executor(plan_module(small_module(folder)), random_weights), 2)
    session = LockstepSession(executor, "logits", 2, 3)
    with pytest.raises(ValueError, match="state for 3 tokens cannot hold 4"):
        session.call({"ids": np.ones(5, np.int64)}, [4, 1])


def test_an_entry_for_a_number_of_sequences_has_them_on_each_rank(folder: Path) -> None:
    module = small_module(folder).clone()
    run_passes(module, "specialize{batch=2}")
    executor = LockstepExecutor(Executor(plan_module(module), random_weights), 3)
    session = LockstepSession(executor, "logits", 6, CONTEXT)
    session.call({"ids": np.ones(6, np.int64)}, [1] * 6)
    assert {state.shape[1] for state in session.states} == {6}
    with pytest.raises(ValueError, match="is made for B = 6, not 4"):
        LockstepSession(executor, "logits", 4, CONTEXT)


# ---- who looks on ------------------------------------------------------------------------------


@ways
def test_traces_are_those_of_one_rank(folder: Path, ranks: int) -> None:
    recorders = Recorder(("*",)), Recorder(("*",))
    on_ranks(folder, ranks, recorders[0])
    on_ranks(folder, None, recorders[1])
    found, wanted = (recorder.arrays() for recorder in recorders)
    assert list(found) == list(wanted)
    by_row = [name for name in wanted if wanted[name].shape[:1] == (len(ROWS),)]
    assert len(by_row) > 5
    for name in by_row:
        if not name.endswith("near"):  # as long as the most new rows of a sequence of the rank
            assert close(found[name], wanted[name]), name


def test_pins_reach_the_rank_of_their_sequence(folder: Path) -> None:
    pin = np.full((5, 7, 4), 0.5, np.float32)
    pin[2] = 7.0
    (found, _), (wanted, _) = (
        on_ranks(folder, ranks, Recorder(pins={"layers.0.out": pin})) for ranks in (3, None)
    )
    free, _ = on_ranks(folder, None)
    assert close(found.logits, wanted.logits)
    assert not close(found.logits, free.logits)


def test_values_of_unequal_size_are_padded() -> None:
    whole = merged([np.ones((1, 2), np.float32), np.zeros((2, 3), np.float32)])
    assert np.array_equal(whole, np.array([[1, 1, np.nan], [0, 0, 0], [0, 0, 0]]), equal_nan=True)
    assert merged([np.ones((1, 1), np.int32), np.ones((0, 2), np.int32)]).tolist() == [[1, -1]]
    assert merged([np.float32(1), np.float32(2)]).tolist() == [1, 2]


def test_scaled_values_are_joined() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    parts = [quantize_blocks(x[:1], "f8e4m3", (1, 2)), quantize_blocks(x[1:], "f8e4m3", (1, 2))]
    whole = quantize_blocks(x, "f8e4m3", (1, 2))
    assert np.array_equal(merged(parts).dequantize(), whole.dequantize())


# ---- experts -----------------------------------------------------------------------------------

CONFIGS = {"deepseek_v4": "deepseek_v4_pro", "deepseek_v3": "deepseek_v3"}


@cache
def graph_module(model: str, numerics: str) -> Any:
    config = shrink(read_config(config_path(CONFIGS[model])))
    module = build_model(model_path(model), config, numerics, ["logits"])
    run_passes(module, "canonicalize,cse")
    return module


def placed(model: str, numerics: str, pipeline: str) -> tuple[Any, Any]:
    before = graph_module(model, numerics)
    after = before.clone()
    run_passes(after, pipeline)
    return before, after


@pytest.mark.parametrize(
    "model, numerics, pipeline",
    [
        ("deepseek_v3", "reference", "plan-experts{slots=16}"),
        ("deepseek_v3", "deployed", "plan-experts{ranks=4}"),
        ("deepseek_v3", "reference", "plan-experts{ranks=3 slots=1,16,2}"),
        ("deepseek_v4", "deployed", "plan-experts{ranks=3 slots=1,16,2}"),
    ],
)
def test_placed_experts_compute_the_same(model: str, numerics: str, pipeline: str) -> None:
    before, after = placed(model, numerics, pipeline)
    check = NumericCheck(before)
    check.compare("plan-experts", "reassociate", before, after)
    assert "0 ties" in check.lines[0]
    if "ranks" not in pipeline:
        check.compare("one rank", "exact", before, after)


def test_specialised_experts_compute_the_same() -> None:
    """Then every rank has so many tokens, before the placement as well."""
    before, after = placed(
        "deepseek_v3", "reference", "specialize{tokens=3 batch=2},plan-experts{ranks=3}"
    )
    fixed = before.clone()
    run_passes(fixed, "specialize{tokens=3 batch=2}")
    check = NumericCheck(fixed)
    check.compare("plan-experts", "reassociate", fixed, after)
    assert "of 36 tokens" in check.lines[0]


def test_fused_groups_of_a_placed_module_compute_the_same() -> None:
    _, after = placed("deepseek_v3", "deployed", "plan-experts{ranks=3}")
    fused = after.clone()
    run_passes(fused, "fuse-norm,fuse-residual,fuse-attention,fuse-moe")
    NumericCheck(after).compare("fusions", "exact", after, fused)


def test_a_rank_that_reads_the_wrong_expert_is_noticed() -> None:
    before, after = placed("deepseek_v3", "reference", "plan-experts{ranks=4}")
    _, other = placed("deepseek_v3", "reference", "plan-experts{ranks=4 slots=5}")
    swapped = next(op for op in other.walk() if isinstance(op, comm.Dispatch)).placement
    for op in after.walk():
        if isinstance(op, comm.Dispatch):
            kept = op.placement.placement
            slots = (kept.slots[1], kept.slots[0], *kept.slots[2:])
            op.properties["placement"] = type(swapped).of(type(kept)(kept.experts, slots))
    with pytest.raises(NumericError):
        NumericCheck(before).compare("plan-experts", "reassociate", before, after)


# ---- groups ------------------------------------------------------------------------------------

CONFIGS["llama"] = "llama_3_1_8b"
CONFIGS["qwen3_moe"] = "qwen3_30b_a3b"


@cache
def splittable(model: str, numerics: str) -> Any:
    """A small model whose heads and widths two ranks share without cutting a block of codes."""
    config = shrink(read_config(config_path(CONFIGS[model])), is_split=True)
    module = build_model(model_path(model), config, numerics, ["logits"])
    run_passes(module, "canonicalize,cse")
    return module


@pytest.mark.parametrize(
    "model, numerics, options",
    [
        ("llama", "deployed", "ranks=2"),
        ("llama", "reference", "ranks=4"),
        ("qwen3_moe", "deployed", "ranks=2"),
        ("deepseek_v3", "deployed", "ranks=2"),
        ("deepseek_v3", "reference", "ranks=4 experts=slice"),
        ("deepseek_v4", "deployed", "ranks=2"),
    ],
)
def test_split_attention_computes_the_same(model: str, numerics: str, options: str) -> None:
    """Results and states: slices of these are put together."""
    before = splittable(model, numerics)
    after = before.clone()
    run_passes(after, f"shard-attention{{{options}}}")
    check = NumericCheck(before)
    check.compare("shard-attention", "reassociate", before, after)
    assert "0 ties" in check.lines[0]


def test_experts_are_placed_on_the_ranks_of_groups() -> None:
    before = splittable("deepseek_v3", "reference").clone()
    run_passes(before, "shard-attention{ranks=2}")
    after = before.clone()
    run_passes(after, "plan-experts{ranks=6}")
    check = NumericCheck(before)
    check.compare("plan-experts", "reassociate", before, after)
    fused = after.clone()
    run_passes(fused, "fuse-norm,fuse-residual,fuse-attention,fuse-moe")
    check.compare("fusions", "exact", after, fused)


def test_slices_of_experts_in_codes_differ_by_roundings_alone() -> None:
    """The first layer that has any, before a code can become another and choose otherwise."""
    recorders = []
    for pipeline in ("shard-attention", "shard-attention{ranks=2 experts=slice}"):
        module = splittable("deepseek_v4", "deployed").clone()
        run_passes(module, pipeline)
        plan = plan_module(module)
        recorders.append(Recorder(("layers.0.ffn_out",)))
        executor = Executor(plan, NumericCheck(module).weights.get, recorders[-1].watch)
        session = LockstepSession(LockstepExecutor(executor, plan.group), "logits", 1, 8)
        recorders[-1].begin(*session.vectors([8]))
        session.call({"ids": np.arange(8)}, [8])
    whole, sliced = (held.arrays()["layers.0.ffn_out"] for held in recorders)
    largest = np.abs(whole).max()
    assert 0 < np.abs(sliced - whole).max() < 2**-6 * largest


@pytest.mark.parametrize("name", ["q_proj", "o_proj", "v_proj", "down_proj"])
def test_a_rank_that_reads_the_wrong_slice_is_noticed(name: str) -> None:
    before = splittable("llama", "reference")
    after = before.clone()
    run_passes(after, "shard-attention{ranks=2}")
    check = NumericCheck(before)
    get = check.weights.get

    def swapped(use: Any, layer: int | None) -> Any:
        is_wrong = name in use.pattern and use.rank is not None
        return get(use.on(1 - use.rank) if is_wrong else use, layer)

    check.weights.get = swapped  # type: ignore[method-assign]
    with pytest.raises(NumericError):
        check.compare("shard-attention", "reassociate", before, after)


def test_ranks_of_a_group_have_states_of_their_own() -> None:
    module = splittable("llama", "reference").clone()
    run_passes(module, "shard-attention{ranks=2}")
    plan = plan_module(module)
    assert (plan.ranks, plan.group, plan.groups) == (2, 2, 1)
    executor = Executor(plan, NumericCheck(module).weights.get)
    session = LockstepSession(LockstepExecutor(executor, 6), "logits", 4, 8)
    assert [(held.start, held.stop) for held in session.sequences] == [(0, 2), (2, 3), (3, 4)]
    session.call({"ids": np.ones(4, np.int64)}, [1] * 4)
    (first, *_), (second, *_) = session.copies
    assert first.shape == second.shape and not np.array_equal(first, second)
    whole = session.whole_states()[0]
    assert np.array_equal(whole, np.concatenate([first, second], 3))


def test_one_executor_alone_refuses_comm_ops() -> None:
    _, after = placed("deepseek_v3", "reference", "plan-experts{ranks=2}")
    check = NumericCheck(after)
    executor = Executor(plan_module(after), check.weights.get)
    session = Session(executor, "logits", 1, 8)
    with pytest.raises(ExecutionError, match=r"comm\.dispatch needs all ranks"):
        session.call({"ids": np.array([1, 2])}, [2])


def test_errors_name_the_op() -> None:
    kind = "tensor<?x2xf32>"
    plan = planned(
        f"func.func @f(%x: {kind}) -> {kind} {{\n"
        f'%w = graph.weight {{checkpoint = "w"}} : () -> tensor<3x3xf32>\n'
        f"%y = graph.add %x, %x : ({kind}, {kind}) -> {kind}\nfunc.return %y : {kind}\n}}"
    )

    def fails(use: Any, layer: int | None) -> Array:
        raise OSError("no such file")

    executor = LockstepExecutor(Executor(plan, fails), 2)
    with pytest.raises(ExecutionError, match=r"graph\.weight in @f: no such file"):
        executor.call("f", [[np.zeros((1, 2), np.float32)]] * 2)


def test_watch_sees_a_value_without_rows_once(folder: Path) -> None:
    seen: list[tuple[str, Any]] = []

    def watch(name: str, value: Any, step: Any) -> Any:
        seen.append((name, np.shape(value)))
        return value

    watching: Watch = watch
    executor = Executor(plan_module(small_module(folder)), random_weights, watching)
    session = LockstepSession(LockstepExecutor(executor, 4), "logits", 3, CONTEXT)
    session.call({"ids": np.array([1, 2, 3, 4])}, [2, 1, 1])
    assert len({name for name, _ in seen}) == len(seen)
    assert ("layers.1.out", (4, 4)) in seen

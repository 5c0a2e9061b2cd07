"""Experts on many ranks: the logits of whole models are those of one rank, however they are placed.

Sums have another order where fewer or more rows come to an expert at once; on one rank none does.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from case_runs import DATA, FEEDS, TOLERANCE, Array, Model, Rows, apart, rows_of, shared_model
from placement_plans import plan_for
from safetensors.numpy import load_file, save_file

from supertile.ir.errors import UserError
from supertile.ir.expert_plan import PLAN, ExpertPlan, PlanAttr
from supertile.ir.text import context
from supertile.passes.pipeline import parse_pipeline
from supertile.runtime.checkpoint import Checkpoint
from supertile.runtime.execute import Executor
from supertile.runtime.generate import Generated, Generator, Request
from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
from supertile.runtime.plan import plan_module
from supertile.runtime.trace import Recorder
from supertile.runtime.weights import Weights

# V4 has 8 experts, V3 16; the batch has five sequences.
PLACEMENTS = {
    "one rank": ("ranks=1 slots=16", "ranks=1 slots=16"),
    "two ranks": ("ranks=2", "ranks=2"),
    "four, uneven": ("ranks=4 slots=3,1,2,2", "ranks=4 slots=7,1,3,5"),
    "four, replicas": ("ranks=4 slots=3", "ranks=4 slots=6"),
    "eight, more than sequences": ("ranks=8", "ranks=8"),
    "eight, uneven replicas": ("ranks=8 slots=8,1,1,2,1,1,1,3", "ranks=8 slots=16,1,1,2,1,1,1,3"),
}
CASES = ("deepseek_v4", "deepseek_v3")


def five_rows(case: str) -> Rows:
    first, second = rows_of(case)
    return [first[:30], second[:7], first[:1], second[3:20], first[5:9]]


# Another placement with shares in every layer, on four ranks of uneven slots.
PLANS = {
    "deepseek_v4": plan_for(list(range(6)), 8, 4, (3, 5, 1, 4)),
    "deepseek_v3": plan_for([1, 2, 3], 16, 4, (9, 7, 3, 8)),
}


@cache
def placed(
    case: str,
    options: str,
    numerics: str = "reference",
    fused: bool = False,
    plan: ExpertPlan | None = None,
    row_invariant: bool = False,
) -> Model:
    fusions = ",fuse-norm,fuse-residual,fuse-attention,fuse-moe" if fused else ""
    return split(case, f"plan-experts{{{options}}}{fusions}", numerics, plan, row_invariant)


@cache
def split(
    case: str,
    pipeline: str,
    numerics: str = "reference",
    plan: ExpertPlan | None = None,
    row_invariant: bool = False,
) -> Model:
    module = shared_model(case, numerics).module.clone()
    if plan is not None:
        module.attributes[PLAN] = PlanAttr(plan)
    for one in parse_pipeline(f"canonicalize,cse,{pipeline}"):
        one.apply(context(), module)
    program = plan_module(module, row_invariant)
    weights = Weights(Checkpoint(DATA / case), program, list(program.entries))
    return Model(module, program, weights)


def run(
    model: Model, rows: Rows, request: Request | None = None, recorder: Recorder | None = None
) -> Generated:
    request = request or Request()
    watch = recorder.watch if recorder else None
    assert model.plan.ranks is not None
    executor = LockstepExecutor(Executor(model.plan, model.weights.get, watch), model.plan.ranks)
    size = len(rows), max(map(len, rows)) + request.decode
    draft = LockstepSession(executor, "draft", *size) if "draft" in model.plan.entries else None
    generator = Generator(LockstepSession(executor, "logits", *size), draft, recorder)
    return generator.run(rows, request)


@cache
def on_one_rank(case: str, feed: str = "one shot") -> Generated:
    return shared_model(case).run(five_rows(case), FEEDS[feed])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", PLACEMENTS)
def test_logits_are_those_of_one_rank(case: str, name: str) -> None:
    options = PLACEMENTS[name][CASES.index(case)]
    found = run(placed(case, options), five_rows(case))
    assert apart(found.logits, on_one_rank(case).logits) < TOLERANCE
    if name == "one rank":
        assert found.logits.tobytes() == on_one_rank(case).logits.tobytes()


@pytest.mark.parametrize("case", CASES)
def test_logits_under_a_plan_are_those_of_one_rank(case: str) -> None:
    found = run(placed(case, "", plan=PLANS[case]), five_rows(case))
    assert apart(found.logits, on_one_rank(case).logits) < TOLERANCE


def test_ranks_read_the_experts_of_their_layer() -> None:
    plan = PLANS["deepseek_v4"]
    model = placed("deepseek_v4", "", plan=plan)
    for use, layers in model.plan.weights_of("logits"):
        if use.is_stacked:
            for layer in layers:
                assert use.on(3).experts(layer) == plan.at(layer).held(3)
    assert len({plan.at(layer).held(3) for layer in range(6)}) > 1


def test_a_rank_needs_no_experts_of_others(tmp_path: Path) -> None:
    """The checkpoint of one rank: all that is common, and the experts of its slots."""
    model = placed("deepseek_v4", "", plan=PLANS["deepseek_v4"])
    tensors = load_file(DATA / "deepseek_v4" / "model.safetensors")
    read = {
        use.pattern.replace("{l}", str(layer)).replace("{e}", str(expert))
        for use, layers in model.plan.weights_of("logits")
        if use.is_stacked
        for layer in layers
        for expert in use.on(2).experts(layer) or ()
    }
    other = [name for name in tensors if ".experts." in name and name not in read]
    assert len(other) > len(read) > 0
    save_file({n: x for n, x in tensors.items() if n not in other}, tmp_path / "model.safetensors")
    Weights(Checkpoint(tmp_path), model.plan, ["logits"], ranks=[2])
    with pytest.raises(UserError, match="missing"):
        Weights(Checkpoint(tmp_path), model.plan, ["logits"], ranks=[1])


@pytest.mark.parametrize("planned", [False, True])
def test_chunks_and_fused_groups(planned: bool) -> None:
    plan, options = (PLANS["deepseek_v4"], "") if planned else (None, "ranks=4 slots=3,1,2,2")
    model = placed("deepseek_v4", options, fused=True, plan=plan)
    found = run(model, five_rows("deepseek_v4"), FEEDS["chunks of 7"])
    assert apart(found.logits, on_one_rank("deepseek_v4", "chunks of 7").logits) < TOLERANCE


def test_routes_are_equal_and_greedy_tokens_too() -> None:
    """A difference in the last bits changes no choice here: the scores are apart."""
    recorders = Recorder(("layers.*.chosen",)), Recorder(("layers.*.chosen",))
    rows, request = five_rows("deepseek_v3"), Request(prompt=6, decode=3)
    found = run(placed("deepseek_v3", "ranks=4 slots=6"), rows, request, recorders[0])
    wanted = shared_model("deepseek_v3").run(rows, request, recorders[1])
    assert found.tokens.tolist() == wanted.tokens.tolist()
    ours, theirs = (recorder.arrays() for recorder in recorders)
    assert ours and list(ours) == list(theirs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


# ---- groups of ranks ---------------------------------------------------------------------------

# V4 has 4 heads in 2 output groups, V3 4 heads, Llama 8 heads and 2 key-value heads.
GROUPS = [
    ("deepseek_v4", "shard-attention{ranks=2},plan-experts{ranks=4 slots=3,1,2,2}"),
    ("deepseek_v4", "shard-attention{ranks=2},plan-experts{ranks=8}"),
    ("deepseek_v4", "shard-attention{ranks=2 experts=slice}"),
    ("deepseek_v3", "shard-attention{ranks=2},plan-experts{ranks=4 slots=6}"),
    ("deepseek_v3", "shard-attention{ranks=4},plan-experts{ranks=4}"),
    ("deepseek_v3", "shard-attention{ranks=4 experts=slice}"),
    ("llama", "shard-attention{ranks=2}"),
    ("llama", "shard-attention{ranks=8}"),
]


@pytest.mark.parametrize(("case", "pipeline"), GROUPS)
def test_logits_of_groups_are_those_of_one_rank(case: str, pipeline: str) -> None:
    """Up to four groups for five sequences; neighbours hold one key-value head beyond two."""
    feed = "chunks of 7"
    found = run(split(case, pipeline), five_rows(case), FEEDS[feed])
    assert apart(found.logits, on_one_rank(case, feed).logits) < TOLERANCE


@pytest.mark.parametrize("more", ["", ",overlap-comm{microbatches=2}"])
def test_traces_of_groups_are_those_of_one_rank(more: str) -> None:
    """What is equal in a group counts once, rows of shares one after the other, slices not."""
    names = ("layers.*.chosen", "layers.*.ffn_out", "layers.*.attn_out", "layers.*.q")
    recorders = Recorder(names), Recorder(names)
    rows = five_rows("deepseek_v4")
    model = split("deepseek_v4", f"shard-attention{{ranks=2}},plan-experts{{ranks=4}}{more}")
    run(model, rows, FEEDS["chunks of 7"], recorders[0])
    shared_model("deepseek_v4").run(rows, FEEDS["chunks of 7"], recorders[1])
    ours, theirs = (recorder.arrays() for recorder in recorders)
    assert {name.split(".")[-1] for name in set(theirs) - set(ours)} == {"q"}
    assert len(ours) > 12
    for name, held in ours.items():
        assert np.allclose(held, theirs[name], atol=TOLERANCE, equal_nan=True), name


# ---- the same bits on any ranks ----------------------------------------------------------------

WAYS = {
    "two ranks": ("ranks=2", False),
    "three ranks": ("ranks=3", False),
    "four, replicas": ("ranks=4 slots=7,5,8,6", False),
    "shares in every layer": ("", True),
}
FED = {
    "one shot": Request(),
    "chunks of 7": FEEDS["chunks of 7"],
    "a prompt, single tokens, decoding": Request(prompt=6, decode=4),
}
DEPLOYED = "deepseek_v4_deployed"


@cache
def alone(case: str, feed: str) -> Generated:
    """Row-invariant, without placement."""
    numerics = "deployed" if case == DEPLOYED else "reference"
    shared = shared_model(case, numerics)
    plan = plan_module(shared.module, row_invariant=True)
    return Model(shared.module, plan, shared.weights).run(five_rows(case), FED[feed])


@pytest.mark.parametrize("feed", FED)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_row_invariant_runs_are_bit_equal(case: str, way: str, feed: str) -> None:
    options, planned = WAYS[way]
    model = placed(case, options, plan=PLANS[case] if planned else None, row_invariant=True)
    found = run(model, five_rows(case), FED[feed])
    wanted = alone(case, feed)
    assert found.logits.tobytes() == wanted.logits.tobytes()
    assert found.tokens.tolist() == wanted.tokens.tolist()
    assert (
        apart(found.logits, shared_model(case).run(five_rows(case), FED[feed]).logits) < TOLERANCE
    )


def test_row_invariant_codes_and_fused_groups_are_bit_equal() -> None:
    model = placed(DEPLOYED, "ranks=4 slots=5,2,3,2", "deployed", fused=True, row_invariant=True)
    found = run(model, five_rows(DEPLOYED), FED["chunks of 7"])
    assert found.logits.tobytes() == alone(DEPLOYED, "chunks of 7").logits.tobytes()


def spread(found: Array, wanted: Array) -> float:
    return float(np.nanmean(np.abs(found - wanted)))


def test_deployed_numerics_send_codes() -> None:
    """Free runs differ by more: a last bit becomes another code, and that another selection."""
    rows = five_rows("deepseek_v4_deployed")
    model = placed("deepseek_v4_deployed", "ranks=4 slots=2", "deployed")
    found = run(model, rows, FEEDS["chunks of 21"])
    wanted = shared_model("deepseek_v4_deployed", "deployed").run(rows, FEEDS["chunks of 21"])
    assert spread(found.logits, wanted.logits) < 0.1

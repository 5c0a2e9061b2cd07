"""Comparing two modules: what each equivalence class allows, and which op is to blame."""

import re
from dataclasses import dataclass, replace
from itertools import count
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from xdsl.dialects.builtin import FloatAttr, f64

from supertile.cli.inputs import config_path, model_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import read_config, shrink
from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.text import parse_module
from supertile.passes.driver import InternalError, Options, run_passes
from supertile.passes.pipeline import parse_pipeline
from supertile.passes.rewriting import Equivalence, Pass
from supertile.runtime import graph_ops
from supertile.runtime.compare import NumericCheck, _Pair, inputs_of, tolerance_of
from supertile.runtime.observe import NumericError, _steps_apart
from supertile.runtime.plan import plan_module
from supertile.runtime.seeded import CALLS, SeededWeights, calls_of

ROWS = "tensor<?x16xf32>"
HALF = "tensor<?x8xf32>"
WEIGHT = "tensor<8x16xf32>"
CHOSEN = '"chosen"("m.st":8:1)'
CALL = """%ids: tensor<?xi64> {graph.name = "ids", graph.sizes = ["T"]},
    %sequence: tensor<?xi32> {graph.name = "sequence", graph.sizes = ["T"]},
    %position: tensor<?xi32> {graph.name = "position", graph.sizes = ["T"]},
    %length: tensor<?xi32> {graph.name = "length", graph.sizes = ["B"]}"""
# Scores that stand twice: every choice is a tie, unless the two halves are summed differently.
MODULE = f"""// supertile IR 1
builtin.module attributes {{supertile.entries = ["logits"], supertile.numerics = "reference"}} {{
  func.func @logits({CALL}) -> ({ROWS}, {ROWS})
      attributes {{graph.results = ["logits", "mask"]}} {{
    %table = graph.weight {{checkpoint = "embed"}} : () -> tensor<40x16xf32> loc("m.st":1:1)
    %w = graph.weight {{checkpoint = "w"}} : () -> {WEIGHT} loc("m.st":2:1)
    %x = graph.gather %table, %ids : (tensor<40x16xf32>, tensor<?xi64>) -> {ROWS} loc("m.st":3:1)
    %n = graph.rms_norm %x {{eps = 1.0e-06}} : ({ROWS}) -> {ROWS} loc("n"("m.st":4:1))
    %a = graph.linear %n, %w : ({ROWS}, {WEIGHT}) -> {HALF} loc("m.st":5:1)
    %b = graph.linear %n, %w : ({ROWS}, {WEIGHT}) -> {HALF} loc("m.st":6:1)
    %s = graph.concat %a, %b {{axis = 1}} : ({HALF}, {HALF}) -> {ROWS} loc("m.st":7:1)
    %c = graph.top_k %s {{k = 3}} : ({ROWS}) -> tensor<?x3xi32> loc({CHOSEN})
    %m = graph.member %c {{size = 16}} : (tensor<?x3xi32>) -> tensor<?x16xi1> loc("m.st":9:1)
    %g = graph.cast %m : (tensor<?x16xi1>) -> {ROWS} loc("m.st":10:1)
    %d = graph.subtract %x, %n : ({ROWS}, {ROWS}) -> {ROWS} loc("d"("m.st":11:1))
    %e = graph.exp %n : ({ROWS}) -> {ROWS} loc("e"("m.st":12:1))
    %q = graph.divide %d, %e : ({ROWS}, {ROWS}) -> {ROWS} loc("m.st":13:1)
    func.return %q, %g : {ROWS}, {ROWS} loc("m.st":14:1)
  }} loc("m.st":1:1)
}} loc("m.st":1:1)
"""
SECOND = re.search(r"    %b = .*\n", MODULE)[0]
# The second half as the sum of two shorter sums.
SPLIT = "".join(
    f'    {line} loc("m.st":6:1)\n'
    for line in (
        f"%n0 = graph.slice %n {{axis = 1, start = 0, size = 8}} : ({ROWS}) -> {HALF}",
        f"%n1 = graph.slice %n {{axis = 1, start = 8, size = 8}} : ({ROWS}) -> {HALF}",
        f"%w0 = graph.slice %w {{axis = 1, start = 0, size = 8}} : ({WEIGHT}) -> tensor<8x8xf32>",
        f"%w1 = graph.slice %w {{axis = 1, start = 8, size = 8}} : ({WEIGHT}) -> tensor<8x8xf32>",
        f"%b0 = graph.linear %n0, %w0 : ({HALF}, tensor<8x8xf32>) -> {HALF}",
        f"%b1 = graph.linear %n1, %w1 : ({HALF}, tensor<8x8xf32>) -> {HALF}",
        f"%b = graph.add %b0, %b1 : ({HALF}, {HALF}) -> {HALF}",
    )
)


def compared(old: str, new: str, equivalence: str = "exact") -> list[str]:
    """What comparing the module with one text replaced in it tells."""
    assert old in MODULE
    before, after = parse_module(MODULE), parse_module(MODULE.replace(old, new))
    check = NumericCheck(before)
    check.compare("change", equivalence, before, after)
    return check.lines


def test_a_library_that_adds_by_place_is_not_taken_for_the_pass(monkeypatch):
    """Every call of this product turns the order of its terms a little further."""
    calls = count()

    def turning(x, w):
        order = np.roll(np.arange(x.shape[-1]), next(calls))
        total = np.zeros((*x.shape[:-1], len(w)), np.float32)
        for term in order.tolist():
            total += x[..., term, None] * w[:, term]
        return total

    monkeypatch.setitem(graph_ops.FUNCTIONS, graph.Linear, turning)
    same = "graph.subtract %x, %n", "graph.subtract  %x, %n"
    renamed = SECOND.replace("%n, %w", "%n, %w2").replace(
        "    %b", f'    %w2 = graph.weight {{checkpoint = "w"}} : () -> {WEIGHT}\n    %b', 1
    )
    assert compared(*same) == ["change: changes nothing"]
    [line] = compared(SECOND, renamed)
    assert line.endswith("of exact arithmetic: the library adds in another order")
    with pytest.raises(NumericError):
        compared(SECOND, SPLIT)


# ---- the op to blame ---------------------------------------------------------------------------

# what a pass did wrong -> (text, replacement, what the failure says)
WRONG = {
    "swaps the operands of a subtraction": (
        "graph.subtract %x, %n",
        "graph.subtract %n, %x",
        r"m\.st:11: graph\.subtract \(d\) is the first op that differs, by [\d.]+ where values "
        r"reach [\d.]+, in call 0; its operand 0 comes from graph\.rms_norm \(n\) at line 4, came "
        r"from graph\.gather at line 3",
    ),
    "swaps the operands of a division": (
        "graph.divide %d, %e",
        "graph.divide %e, %d",
        r"m\.st:13: graph\.divide is the first op that differs.*operand 0 comes from graph\.exp",
    ),
    "changes eps": (
        "eps = 1.0e-06",
        "eps = 1.0e-03",
        r"m\.st:4: graph\.rms_norm \(n\) is the first.*; its eps is 0\.001, was 1e-06",
    ),
    "drops an op": (
        "graph.subtract %x, %n",
        "graph.subtract %x, %x",
        r"m\.st:11: graph\.subtract.*operand 1 comes from graph\.gather at line 3, came from "
        r"graph\.rms_norm \(n\) at line 4",
    ),
    "reads another weight": (
        'checkpoint = "w"',
        'checkpoint = "v"',
        r"m\.st:5: graph\.linear is the first op",
    ),
    "uses another op": (
        "graph.exp %n",
        "graph.silu %n",
        r"m\.st:13: graph\.divide is the first.*operand 1 comes from graph\.silu \(e\) at line 12",
    ),
}  # fmt: skip


@pytest.mark.parametrize("old, new, told", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("equivalence", ["exact", "reassociate", "requantize"])
def test_the_first_op_that_differs_is_named(old, new, told, equivalence):
    with pytest.raises(NumericError, match=told):
        compared(old, new, equivalence)


def test_another_k_is_named():
    text = MODULE.replace("k = 3", "k = 2").replace("tensor<?x3xi32>", "tensor<?x2xi32>")
    before, after = parse_module(MODULE), parse_module(text)
    told = r"m\.st:8: graph\.top_k \(chosen\).*by its shape, \[18, 2\] instead of \[18, 3\].*k is 2"
    for equivalence in ("exact", "reassociate"):
        with pytest.raises(NumericError, match=told):
            NumericCheck(before).compare("change", equivalence, before, after)


def test_a_dropped_rounding_is_named():
    rounded = "tensor<?x16xbf16>"
    old = f'    %e = graph.exp %n : ({ROWS}) -> {ROWS} loc("e"("m.st":12:1))\n'
    cast = f'    %r = graph.cast %n : ({ROWS}) -> {rounded} loc("m.st":12:1)\n'
    back = f'    %f = graph.cast %r : ({rounded}) -> {ROWS} loc("m.st":12:1)\n'
    before = parse_module(MODULE.replace(old, cast + back + old.replace("%n", "%f")))
    with pytest.raises(
        NumericError, match=r"m\.st:12: graph\.exp.*came from graph\.cast at line 12"
    ):
        NumericCheck(before).compare("drop", "exact", before, parse_module(MODULE))


def test_zero_and_minus_zero_are_not_bit_equal():
    old = "graph.subtract %x, %n"
    before = parse_module(MODULE.replace(old, "graph.subtract %n, %n"))
    negated = f'graph.negate %z : ({ROWS}) -> {ROWS} loc("d"("m.st":11:1))'
    zero = f'    %z = graph.subtract %n, %n : ({ROWS}, {ROWS}) -> {ROWS} loc("m.st":11:1)\n'
    line = re.search(r"    %d = .*\n", MODULE)[0]
    after = parse_module(MODULE.replace(line, f"{zero}    %d = {negated}\n"))
    with pytest.raises(NumericError):
        NumericCheck(before).compare("change", "exact", before, after)
    check = NumericCheck(before)
    check.compare("change", "reassociate", before, after)
    assert "largest difference 0," in check.lines[0]


def test_results_of_other_shape_or_number_differ():
    with pytest.raises(NumericError, match=r"2 results became 1|results"):
        before = parse_module(MODULE)
        one = MODULE.replace(f"-> ({ROWS}, {ROWS})\n", f"-> ({ROWS})\n")
        one = one.replace('"logits", "mask"', '"logits"')
        one = one.replace(f"func.return %q, %g : {ROWS}, {ROWS}", f"func.return %q : {ROWS}")
        NumericCheck(before).compare("change", "exact", before, parse_module(one))


# ---- what the classes allow --------------------------------------------------------------------


def test_nothing_changed_runs_nothing():
    assert compared("m.st", "m.st") == ["change: changes nothing"]


def test_bit_equal():
    line = re.search(r"    %s = .*\n", MODULE)[0]
    moved = MODULE.replace(line, "").replace(SECOND, SECOND + line)
    assert moved == MODULE
    lines = compared("graph.linear %n, %w", "graph.linear %n, %w ", "exact")
    assert lines == ["change: changes nothing"]
    twice = compared("graph.concat %a, %b", "graph.concat %b, %a")
    assert twice == ["change: exact, bit-equal in 4 calls of 37 tokens"]


def test_another_order_of_a_sum_is_not_exact():
    with pytest.raises(NumericError, match=r"m\.st:6: graph\.linear is the first op"):
        compared(SECOND, SPLIT, "exact")


def test_ties_are_listed_and_pinned():
    head, *ties = compared(SECOND, SPLIT, "reassociate")
    assert re.fullmatch(
        r"change: reassociate, largest difference 0, \d+ ties in 4 calls of 37 tokens", head
    )
    assert 0 < len(ties) <= 21
    pattern = (
        r"  m\.st:8: graph\.top_k \(chosen\) row \[\d+\] selects \[.*\], not \[.*\]: a tie, .*"
    )
    assert all(re.fullmatch(pattern, tie) for tie in ties[:-1])


@pytest.mark.parametrize(("ties", "lines"), [(0, 0), (20, 20), (21, 21), (50, 21)])
def test_the_first_twenty_ties_are_listed_one_by_one(ties, lines):
    found = _Pair.tie_lines(SimpleNamespace(ties=[f"tie {n}" for n in range(ties)]))
    assert len(found) == lines and found[:20] == [f"  tie {n}" for n in range(min(ties, 20))]
    assert ties <= 20 or found[20] == f"  and {ties - 20} more ties"


def test_every_call_has_tokens_of_its_own(monkeypatch):
    """The seed counts calls: what goes wrong for some tokens alone is seen in one of them."""
    seeds = []

    def watched(plan, names, tokens, vocabulary, seed):
        seeds.append(seed)
        return inputs_of(plan, names, tokens, vocabulary, seed)

    monkeypatch.setattr("supertile.runtime.compare.inputs_of", watched)
    compared("graph.concat %a, %b", "graph.concat %b, %a")
    assert seeds[:4] == [0, 1, 2, 3]


def test_another_selection_that_is_no_tie_fails():
    with pytest.raises(NumericError, match=r"m\.st:8: graph\.top_k.*no tie, the scores are"):
        negated = f'    %t = graph.negate %s : ({ROWS}) -> {ROWS} loc("m.st":7:1)\n'
        line = re.search(r"    %c = .*\n", MODULE)[0]
        compared(line, negated + line.replace("%s", "%t"), "reassociate")


def test_convert_only_measures():
    lines = compared("eps = 1.0e-06", "eps = 1.0e-01", "convert")
    assert re.match(r"change: convert, largest difference [\d.]+, 0 ties", lines[0])


def test_the_bound_grows_with_the_sum():
    assert tolerance_of("reassociate", parse_module(MODULE)).bound >= 2 * 16 * 2**-24


def test_a_few_roundings_may_be_a_step_apart():
    values = np.linspace(1, 2, 1000, dtype=np.float32).astype(np.float32)
    step = values.copy()
    step[:10] += 2.0**-7
    few = replace(tolerance_of("reassociate", parse_module(MODULE)), share=0.02)
    assert _steps_apart(values, step, "bf16", few) == 10
    assert _steps_apart(values, step, "bf16", replace(few, share=0.001)) is None
    step[0] += 1
    assert _steps_apart(values, step, "bf16", few) is None


# ---- what is fed -------------------------------------------------------------------------------


def test_weights_depend_on_name_and_seed_alone():
    module = parse_module(MODULE)
    plan = plan_module(module)
    use = next(iter(plan.functions["logits"].weights()))
    first, same = (SeededWeights(plan, module, 0).get(use, None) for _ in range(2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, SeededWeights(plan, module, 1).get(use, None))


# sizes -> tokens of the calls
SIZES = {
    "canonicalize": list(CALLS),
    "specialize{tokens=4 batch=2}": [(2, 2)] * 4,
    "specialize{tokens=3 batch=2}": [(2, 1)] * 4,
    "specialize{batch=3 context=12}": [(11, 7, 11), (1, 5, 1)],
    "specialize{tokens=1 batch=1 context=2}": [(1,)] * 2,
    "specialize{tokens=60 batch=1}": [(60,)],
}


@pytest.mark.parametrize("pipeline, counts", SIZES.items(), ids=SIZES)
def test_calls_fit_what_a_module_is_specialised_to(pipeline, counts):
    module = small("llama", "llama_3_1_8b")
    check = run_checked(module, pipeline)
    calls = calls_of(plan_module(module).functions["logits"])
    assert list(calls.counts) == counts
    assert len(check.lines) == 1


def test_calls_that_fit_nowhere_are_the_users_to_repair():
    with pytest.raises(UserError, match="no call fits"):
        run_checked(small("llama", "llama_3_1_8b"), "specialize{tokens=9 batch=1 context=4}")


def test_a_module_of_full_size_is_refused():
    config = read_config(config_path("llama_3_1_8b"))
    with pytest.raises(UserError, match="too large to compare"):
        NumericCheck(build_model(model_path("llama"), config))


def test_a_module_without_entries_is_refused():
    with pytest.raises(UserError, match="names no entries"):
        NumericCheck(parse_module(MODULE.replace('["logits"], s', "[], s")))


# ---- whole models ------------------------------------------------------------------------------

MODELS = {
    "deepseek_v4": "deepseek_v4_pro",
    "deepseek_v3": "deepseek_v3",
    "llama": "llama_3_1_8b",
    "qwen3_moe": "qwen3_30b_a3b",
}
ALL = "canonicalize,cse,fuse-norm,fuse-residual,fuse-attention,fuse-moe"


def small(model: str, config: str, numerics: str = "reference"):
    return build_model(model_path(model), shrink(read_config(config_path(config))), numerics)


def run_checked(module, pipeline: str, equivalence: str | None = None) -> NumericCheck:
    """Passes over a module, compared around each one."""
    check = NumericCheck(module)
    passes = {one.name: one for one in parse_pipeline(pipeline)}

    def after_pass(name, before, after):
        check.compare(name, equivalence or passes[name].equivalence, before, after)

    run_passes(module, list(passes.values()), Options(after_pass=after_pass))
    return check


@pytest.mark.parametrize("numerics", ["reference", "deployed"])
@pytest.mark.parametrize("model", MODELS)
def test_every_pass_keeps_the_numbers(model, numerics):
    check = run_checked(small(model, MODELS[model], numerics), ALL)
    assert len(check.lines) == 6
    assert all(re.search("exact, bit-equal|changes nothing", line) for line in check.lines)


@pytest.mark.parametrize("equivalence", ["reassociate", "requantize", "convert"])
def test_equal_numbers_satisfy_every_class(equivalence):
    module = small("deepseek_v3", "deepseek_v3", "deployed")
    check = run_checked(module, "canonicalize,specialize{tokens=2 batch=2}", equivalence)
    assert all(f"{equivalence}, largest difference 0, 0 ties in" in line for line in check.lines)


@dataclass(frozen=True)
class LargerEps(Pass):
    """Changes one number in one of the layer functions."""

    name = "larger-eps"
    equivalence: ClassVar[Equivalence] = "exact"

    def apply(self, ctx, op):
        norms = [inner for inner in op.walk() if isinstance(inner, graph.RmsNorm)]
        norms[len(norms) // 2].properties["eps"] = FloatAttr(0.5, f64)


@pytest.mark.parametrize("model", MODELS)
def test_the_driver_tells_the_op_in_a_model(model, tmp_path):
    module = small(model, MODELS[model])
    check = NumericCheck(module)
    options = Options(
        reproducers=tmp_path,
        after_pass=lambda name, before, after: check.compare(name, "exact", before, after),
    )
    with pytest.raises(InternalError) as caught:
        run_passes(module, [*parse_pipeline("canonicalize"), LargerEps()], options)
    told = rf"larger-eps failed: NumericError: {model}\.st:\d+: graph\.rms_norm.*is the first op "
    assert re.search(told, caught.value.message)
    assert "its eps is 0.5, was 1e-0" in caught.value.message

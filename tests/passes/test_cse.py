"""What cse merges, and that it looks at properties, types and regions before it does."""

import pytest
from pass_checks import check, check_kept, module_of

from supertile.ir.locations import name_of
from supertile.passes.driver import run_passes
from supertile.passes.pipeline import parse_pipeline

F = "tensor<?x8xf32>"


def two(first: str, second: str) -> str:
    return f"""(%x: {F}) -> {F}
        %a = {first}
        %b = {second}
        %y = graph.add %a, %b : ({F}, {F}) -> {F}
        func.return %y : {F}"""


EXP = f"graph.exp %x : ({F}) -> {F}"
MERGED = f"""(%x: {F}) -> {F}
    %a = {EXP}
    %y = graph.add %a, %a : ({F}, {F}) -> {F}
    func.return %y : {F}"""


def norm(eps: str) -> str:
    return f"graph.rms_norm %x {{eps = {eps} : f64}} : ({F}) -> {F}"


def group(kind: str, op: str) -> str:
    return f"""graph.fused {{kind = "{kind}"}} : () -> {F} {{
          %i = graph.{op} %x : ({F}) -> {F}
          graph.yield %i : ({F}) -> ()
        }}"""


def test_equal_ops_merge():
    report = check(two(EXP, EXP), "cse", MERGED)
    assert report.passes[0].patterns["merge equal ops"] == 1


def test_weights_of_one_name_merge():
    weight = f'graph.weight {{checkpoint = "w"}} : () -> {F}'
    check(two(weight, weight), "cse", MERGED.replace(EXP, weight))


@pytest.mark.parametrize(
    "pair",
    [
        (EXP, f"graph.silu %x : ({F}) -> {F}"),
        (norm("1.0e-06"), norm("1.0e-05")),
        (group("x", "exp"), group("x", "silu").replace("%i", "%j")),
        (group("x", "exp"), group("y", "exp").replace("%i", "%j")),
    ],
    ids=["another op", "another property", "another region", "another kind of group"],
)
def test_different_ops_stay(pair):
    check_kept(two(*pair), "cse")


def test_another_result_type_stays():
    check_kept(
        f"""(%x: {F}) -> ({F}, tensor<?x8xbf16>)
        %a = graph.exp %x : ({F}) -> {F}
        %b = graph.exp %x : ({F}) -> tensor<?x8xbf16>
        func.return %a, %b : {F}, tensor<?x8xbf16>""",
        "cse",
    )


def test_a_group_sees_the_ops_above_it_but_shows_none_of_its_own():
    inner = group("x", "exp")
    after = inner.replace(f"%i = graph.exp %x : ({F}) -> {F}", "").replace("%i", "%a")
    check(two(EXP, inner), "cse", two(EXP, after))
    check_kept(two(inner, EXP), "cse")


@pytest.mark.parametrize("named", [0, 1])
def test_the_merged_value_bears_the_name_that_either_had(named):
    ops = [EXP + ' loc("m.st":1:1)', EXP + ' loc("m.st":2:1)']
    ops[named] = EXP + ' loc("attn.q"("m.st":3:1))'
    module = module_of(two(*ops))
    run_passes(module, parse_pipeline("cse"))
    assert name_of(next(iter(next(iter(module.ops)).body.block.ops)).location) == "attn.q"

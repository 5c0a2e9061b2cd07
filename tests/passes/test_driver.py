"""The driver: records, dumps, the page, and what happens when a pass is broken on purpose."""

import json
from dataclasses import dataclass
from typing import ClassVar, get_type_hints

import pytest
from pass_checks import module_of, run, text_of
from xdsl.dialects.builtin import f32
from xdsl.pattern_rewriter import RewritePattern

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.files import write_text
from supertile.ir.locations import location_text
from supertile.ir.text import parse_module, print_module
from supertile.ir.types import tensor
from supertile.ir.verify import CONTEXT_LINES
from supertile.passes.driver import (
    InternalError,
    Options,
    reproducer_pipeline,
    run_passes,
)
from supertile.passes.pipeline import load_pass, parse_pipeline, pass_names
from supertile.passes.rewriting import Equivalence, Pass, rewrite

F = "tensor<?x8xf32>"
STATE = "tensor<?x8x8xf32>"
MODULE = f"""
func.func @first(%x: {F}, %st: {STATE} {{graph.state = #graph.state<"ring", "recent", [8]>}})
    -> ({F}, {STATE}) {{
  %c = graph.cast %x : ({F}) -> {F} loc("c<&>"("model.st":1:1))
  %y = graph.exp %c : ({F}) -> {F} loc("y"("model.st":2:1))
  func.return %y, %st : {F}, {STATE} loc("model.st":3:1)
}} loc("model.st":1:1)
func.func @second(%x: {F}) -> {F} {{
  %y = graph.exp %x : ({F}) -> {F} loc("model.st":5:1)
  func.return %y : {F} loc("model.st":6:1)
}} loc("model.st":4:1)
"""


def ops_of(module, number: int = 0):
    function = list(module.ops)[number]
    return function, list(function.body.block.ops)


# ---- passes broken on purpose ------------------------------------------------------------------


@dataclass(frozen=True)
class Broken(Pass):
    """A pass that does wrong; `after` lets a test say so in the pipeline text."""

    equivalence: ClassVar[Equivalence] = "exact"
    mark: int = 0


class InvalidIR(Broken):
    name = "makes-invalid-ir"

    def apply(self, ctx, op):
        function, (_, exp, _) = ops_of(op)
        wrong = graph.Exp.create(operands=[exp.x], result_types=[tensor([3, 3], f32)])
        function.body.block.insert_op_before(wrong, exp)


class UseBeforeDefinition(Broken):
    name = "uses-too-early"

    def apply(self, ctx, op):
        _, (cast, exp, _) = ops_of(op)
        cast.operands[0] = exp.result


class TwoStateUses(Broken):
    name = "doubles-a-state"

    def apply(self, ctx, op):
        function, (_, _, last) = ops_of(op)
        values = [*last.operands, function.body.block.args[1]]
        last.detach()
        last.erase()
        function.body.block.add_op(last.create(operands=values, location=last.location))
        kinds = [value.type for value in values]
        function.function_type = type(function.function_type).from_lists(
            list(function.function_type.inputs), kinds
        )


class Swap(RewritePattern):
    def match_and_rewrite(self, op, rewriter):
        other = {graph.Exp: graph.Silu, graph.Silu: graph.Exp}.get(type(op))
        if other:
            kinds = [value.type for value in op.results]
            rewriter.replace(op, other.create(operands=op.operands, result_types=kinds))


class Endless(Broken):
    name = "never-ends"

    def apply(self, ctx, op):
        rewrite(ctx, op, [Swap()])


class Raises(Broken):
    name = "raises"

    def apply(self, ctx, op):
        raise KeyError("no such thing")


class RaisesInPattern(Broken):
    name = "raises-in-a-pattern"

    def apply(self, ctx, op):
        class Raising(RewritePattern):
            def match_and_rewrite(self, op, rewriter):
                raise ZeroDivisionError("within the pattern")

        rewrite(ctx, op, [Raising()])


class WrongLevel(Broken):
    name = "wrong-level"

    def apply(self, ctx, op):
        from xdsl.dialects.builtin import UnrealizedConversionCastOp

        function, (cast, *_) = ops_of(op)
        foreign = UnrealizedConversionCastOp.create(operands=[cast.x], result_types=[cast.x.type])
        function.body.block.insert_op_before(foreign, cast)


# pass -> what its failure says
FAILURES = {
    InvalidIR: "result 0 of graph.exp has shape [3, 3]",
    UseBeforeDefinition: "operand 0, %y, is not defined above",
    TwoStateUses: "%st is a version of the state and is used 2 times",
    Endless: "more than 1000 rewrites, the last one by Swap",
    Raises: "KeyError: 'no such thing'",
    RaisesInPattern: "ZeroDivisionError: within the pattern",
    WrongLevel: "the level graph does not hold this op",
}
EXTRA = {kind.name: kind for kind in FAILURES}


@pytest.mark.parametrize("kind", FAILURES, ids=EXTRA)
def test_a_broken_pass_leaves_a_reproducer_that_fails_alike(kind, tmp_path):
    text = f"cse,{kind.name}{{mark=3}},canonicalize"
    options = Options(reproducers=tmp_path, budget=1000, notes=("configuration: small, seed 7",))
    with pytest.raises(InternalError) as caught:
        run_passes(module_of(MODULE), parse_pipeline(text, EXTRA), options)
    first = caught.value
    assert f"the pass {kind.name} failed" in first.message
    assert FAILURES[kind] in first.message
    assert len(first.message.splitlines()) <= CONTEXT_LINES + 1, "no module dumps"
    assert first.reproducer == tmp_path / f"reproducer-{kind.name}.mlir"

    # The file alone is enough.
    content = first.reproducer.read_text()
    assert "// configuration: small, seed 7\n" in content
    pipeline = reproducer_pipeline(content)
    assert pipeline == f"{kind.name}{{mark=3}},canonicalize"
    first.reproducer.unlink()
    with pytest.raises(InternalError) as again:
        run_passes(parse_module(content), parse_pipeline(pipeline, EXTRA), options)
    assert again.value.message == first.message
    assert again.value.reproducer.read_text() == content


def test_a_reproducer_is_of_the_ir_before_the_pass(tmp_path):
    with pytest.raises(InternalError) as caught:
        passes = parse_pipeline("canonicalize,raises", EXTRA)
        run_passes(module_of(MODULE), passes, Options(reproducers=tmp_path))
    expected, _ = run(MODULE, "canonicalize")
    assert text_of(parse_module(caught.value.reproducer.read_text())) == expected


def test_a_failure_is_told_when_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InternalError) as caught:
        folder = tmp_path / "file" / "folder"
        run_passes(module_of(MODULE), [Raises()], Options(reproducers=folder))
    assert caught.value.reproducer is None
    assert "no such thing" in str(caught.value)


def test_unsound_ir_is_not_blamed_on_the_first_pass(tmp_path):
    module = module_of(MODULE)
    UseBeforeDefinition().apply(None, module)
    with pytest.raises(InternalError, match="unsound before the first pass"):
        run_passes(module, parse_pipeline("cse"), Options(reproducers=tmp_path))


def test_user_errors_pass_through(tmp_path):
    with pytest.raises(UserError):
        run(MODULE, "specialize{tokens=0}", Options(reproducers=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_other_text_is_no_reproducer():
    assert reproducer_pipeline(print_module(module_of(MODULE))) is None
    assert reproducer_pipeline("") is None


# ---- records -----------------------------------------------------------------------------------


def test_records():
    _, report = run(MODULE, "cse,canonicalize,specialize{tokens=2}")
    cse, canonicalize, specialize = report.passes
    assert (cse.changed, canonicalize.changed, specialize.changed) == ([], ["first"], [])
    assert canonicalize.patterns == {"SameFormat": 1}
    assert (canonicalize.ops_before, canonicalize.ops_after) == (
        {"first": 3, "second": 2},
        {"first": 2, "second": 2},
    )
    assert (specialize.options, cse.options) == ({"tokens": 2}, {})
    assert {record.equivalence for record in report.passes} == {"exact"}
    assert {record.phase for record in report.passes} == {"graph"}
    assert all(record.seconds > 0 for record in report.passes)


def test_the_hook_sees_the_module_before_and_after():
    seen = []
    run(
        MODULE,
        "cse,canonicalize",
        Options(after_pass=lambda *arguments: seen.append(arguments)),
    )
    assert [name for name, _, _ in seen] == ["cse", "canonicalize"]
    _, before, after = seen[1]
    assert "graph.cast" in text_of(before)
    assert "graph.cast" not in text_of(after)


def test_what_is_found_behind_a_pass_gives_options_to_those_to_come(tmp_path):
    """A reproducer names them like any others."""
    passes = parse_pipeline("cse,canonicalize,raises,cse", EXTRA)
    found = {"raises": {"mark": 5}}
    how = Options(reproducers=tmp_path, behind={"cse": lambda module: found})
    with pytest.raises(InternalError):
        run_passes(module_of(MODULE), passes, how)
    text = (tmp_path / "reproducer-raises.mlir").read_text()
    assert reproducer_pipeline(text) == "raises{mark=5},cse"


def test_a_hook_that_raises_fails_the_pass(tmp_path):
    def compare(*_):
        raise ArithmeticError("the numbers differ")

    with pytest.raises(InternalError, match="cse failed: ArithmeticError: the numbers differ"):
        run(MODULE, "cse", Options(reproducers=tmp_path, after_pass=compare))
    assert reproducer_pipeline((tmp_path / "reproducer-cse.mlir").read_text()) == "cse"


# ---- locations ---------------------------------------------------------------------------------


class Unlocated(Broken):
    """Wraps and inserts without a thought of locations."""

    name = "unlocated"

    def apply(self, ctx, op):
        function, (cast, exp, _) = ops_of(op)
        block = function.body.block
        new = graph.Silu.create(operands=[cast.result], result_types=[cast.result.type])
        newer = graph.Silu.create(operands=[new.result], result_types=[cast.result.type])
        block.insert_op_before(new, exp)
        block.insert_op_before(newer, exp)
        exp.operands[0] = newer.result


def test_new_ops_are_located_by_their_users():
    module = module_of(MODULE)
    run_passes(module, [Unlocated()])
    _, ops = ops_of(module)
    assert [location_text(op.location) for op in ops[1:4]] == ["model.st:2:1 (y)"] * 3


def test_ops_of_patterns_are_located_by_what_they_replace():
    class Once(Swap):
        def match_and_rewrite(self, op, rewriter):
            if isinstance(op, graph.Exp):
                super().match_and_rewrite(op, rewriter)

    module = module_of(MODULE)
    rewrite(None, module, [Once()])
    _, ops = ops_of(module)
    assert (ops[1].name, location_text(ops[1].location)) == ("graph.silu", "model.st:2:1 (y)")


# ---- dumps -------------------------------------------------------------------------------------


def dump(folder, text="cse,canonicalize,specialize{tokens=2}"):
    run(MODULE, text, Options(dump=folder))
    return {file.name: file.read_text() for file in folder.iterdir()}


def test_dumps_parse_back(tmp_path):
    files = dump(tmp_path / "new" / "folder")
    assert sorted(files) == [
        "00-frontend.mlir",
        "01-cse.mlir",
        "02-canonicalize.mlir",
        "03-specialize.mlir",
        "trace.html",
        "trace.json",
    ]
    for name, text in files.items():
        if name.endswith(".mlir"):
            assert print_module(parse_module(text, name)) == text
    assert files["00-frontend.mlir"] == files["01-cse.mlir"]
    assert 'loc("y"("model.st":2:1))' in files["02-canonicalize.mlir"]


def test_trace_json(tmp_path):
    trace = json.loads(dump(tmp_path)["trace.json"])
    assert trace["failure"] is None
    assert [record["name"] for record in trace["passes"]] == ["cse", "canonicalize", "specialize"]
    assert trace["passes"][1] | {"seconds": 0} == {
        "name": "canonicalize",
        "options": {},
        "phase": "graph",
        "equivalence": "exact",
        "file": "02-canonicalize.mlir",
        "seconds": 0,
        "ops_before": {"first": 3, "second": 2},
        "ops_after": {"first": 2, "second": 2},
        "changed": ["first"],
        "patterns": {"SameFormat": 1},
    }


def test_the_page_stands_alone_and_shows_the_diff(tmp_path):
    page = dump(tmp_path)["trace.html"]
    for outside in ("http", "src=", "@import", "url(", "<script", "<link"):
        assert outside not in page
    gone = f"graph.cast %x : ({F}) -&gt; {F}".replace("<", "&lt;").replace("x8xf32>", "x8xf32&gt;")
    assert f'<span class="removed">-  %c = {gone}</span>' in page
    assert 'class="unchanged">01 cse' in page
    assert 'class="changed">02 canonicalize' in page
    assert "SameFormat" in page
    assert 'loc("' not in page.replace("&quot;", '"')


def test_the_page_is_well_formed_and_escapes_everything(tmp_path):
    from html.parser import HTMLParser

    class Balance(HTMLParser):
        depth, most = 0, 0

        def handle_starttag(self, tag, attributes):
            self.depth += tag != "meta"

        def handle_endtag(self, tag):
            self.depth -= 1

    text = MODULE.replace("@first", '@"<b>&first"')
    run(text, "canonicalize", Options(dump=tmp_path))
    page = (tmp_path / "trace.html").read_text()
    parser = Balance()
    parser.feed(page)
    assert parser.depth == 0
    assert "<b>" not in page
    assert "@&lt;b&gt;&amp;first" in page


def test_a_failure_is_in_the_trace(tmp_path):
    with pytest.raises(InternalError):
        passes = parse_pipeline("canonicalize,raises", EXTRA)
        run_passes(module_of(MODULE), passes, Options(dump=tmp_path))
    assert "no such thing" in json.loads((tmp_path / "trace.json").read_text())["failure"]
    assert "no such thing" in (tmp_path / "trace.html").read_text()
    assert (tmp_path / "reproducer-raises.mlir").exists()


def test_an_interruption_leaves_the_old_files(tmp_path):
    class Interrupted(Broken):
        name = "interrupted"

        def apply(self, ctx, op):
            raise KeyboardInterrupt

    old = dump(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run_passes(module_of(MODULE), [Interrupted()], Options(dump=tmp_path))
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == old


def test_a_dump_that_cannot_be_written_is_the_users_to_repair(tmp_path):
    write_text(tmp_path / "file", "")
    with pytest.raises(UserError) as caught:
        run(MODULE, "cse", Options(dump=tmp_path / "file"))
    assert caught.value.code == "command.unwritable"


def number_options():
    """(pass, option) of every option that is an integer, alone or in a list."""
    for name in pass_names():
        kind = load_pass(name)
        for option, declared in get_type_hints(kind).items():
            if declared in (int, int | None, tuple[int, ...]) and not option.startswith("_"):
                yield name, option


@pytest.mark.parametrize(("name", "option"), [*number_options()])
def test_every_number_that_a_pass_takes_has_a_range(name, option):
    """Sizes below or beyond any real one would be bugs of the passes that count with them."""
    for number in ("-1", "9" * 18):
        (one,) = parse_pipeline(f"{name}{{{option}={number}}}")
        with pytest.raises(UserError, match=f"the option {option} of the pass {name}") as caught:
            one.check_options()
        assert caught.value.code == "pass.option_value" and caught.value.found == number

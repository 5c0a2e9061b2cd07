"""What a program becomes: functions, names, state, the two numerics."""

from __future__ import annotations

import pytest
from snippets import build, config, put
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp

from supertile.frontend.build import build_program
from supertile.frontend.parse import parse_model
from supertile.frontend.program import program_of
from supertile.ir import graph
from supertile.ir.locations import name_of

SECOND = """\
entry {name}(ids: i64[T]) -> out
  weight embed: bf16[V, D] "embed"
  part {part}: decoder[layers] "{prefix}.{{l}}."
  x = gather(embed, ids)
  for l in layers
    x = {part}[l](x)
  return x"""


def functions(module: ModuleOp) -> dict[str, func.FuncOp]:
    return {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}


def ops(module: ModuleOp, kind: type[graph.GraphOp]) -> list[graph.GraphOp]:
    return [op for op in module.walk() if isinstance(op, kind)]


def test_each_kind_of_layer_is_one_function() -> None:
    module = build(put(), config(num_hidden_layers=40))
    assert list(functions(module)) == ["logits", "layers"]
    (call,) = ops(module, graph.Layers)
    assert isinstance(call, graph.Layers)
    assert call.kinds.get_values() == (0,) * 40


@pytest.mark.parametrize(
    ("part", "prefix", "names"),
    [
        ("layers", "layers", ["logits", "other", "layers"]),  # the same layers in two entries
        ("layers", "mtp", ["logits", "other", "layers", "layers_2"]),
    ],
)
def test_functions_have_names_of_their_own(part: str, prefix: str, names: list[str]) -> None:
    text = put(item=SECOND.format(name="other", part=part, prefix=prefix))
    assert sorted(functions(build(text))) == sorted(names)


def test_a_part_named_as_another_entry_makes_no_second_function_of_that_name() -> None:
    text = put(item=SECOND.format(name="layers", part="more", prefix="mtp"))
    text = text.replace("part layers: decoder[layers]", "part deep: decoder[layers]")
    text = text.replace("x = layers[l](x)", "x = deep[l](x)")
    module = build(text)
    module.verify()
    assert sorted(functions(module)) == ["deep", "layers", "logits", "more"]


def test_entries_may_be_chosen() -> None:
    text = put(item=SECOND.format(name="other", part="more", prefix="mtp"))
    program = program_of(parse_model(text, "model.st"))
    module = build_program(program, config(), entries=["other"])
    assert list(functions(module)) == ["other", "more"]


def test_state_is_an_argument_and_a_result() -> None:
    body = "state kept: ring[4] bf16[D]\nseen = append(kept, x)"
    held = functions(build(put(body=body)))
    types = [str(kind) for kind in held["logits"].function_type.outputs]
    assert types == ["tensor<?x16xf32>", "tensor<2x?x4x8xf32>"]
    types = [str(kind) for kind in held["layers"].function_type.outputs]
    assert types == ["tensor<?x8xf32>", "tensor<?x4x8xf32>"]


def test_reference_numerics_round_nothing() -> None:
    body = "y = round_trip(bf16(z), row8)"
    assert not ops(build(put(body=body)), graph.Quantize)
    text = put(body=body).replace("return linear(z, v)", "return bf16(linear(z, v))")
    deployed = build(text, numerics="deployed")
    assert ops(deployed, graph.Quantize) and "bf16" in str(functions(deployed)["layers"])


def test_a_number_is_made_once_in_a_function() -> None:
    module = build(put(body="y = z * 3 + 3\nq = y * (1 + 2)"))
    assert len(ops(module, graph.Constant)) == 1


def test_names_come_from_the_innermost_block_that_gives_one() -> None:
    item = """\
block inner(x) -> y
  named = 2 * x
  return named
block nameless(x) -> y
  hidden = 3 * x
  return hidden"""
    body = 'part a: inner ""\ny = a(z)\nq = nameless(z)\nr = inner(z) + 1'
    held = [name_of(op.location) for op in build(put(item=item, body=body)).walk()]
    assert "a.named" in held and "q" in held and "r" in held
    assert "y" not in held and "hidden" not in held


def test_parts_used_twice_have_one_set_of_weights() -> None:
    body = 'part more: norm(D) "more."\ny = more(x) + more(2 * x)'
    weights = [op for op in ops(build(put(body=body)), graph.Weight) if "more" in str(op)]
    assert len({str(op.properties) for op in weights}) == 1


def test_a_source_that_is_none_drops_out() -> None:
    body = """\
state kept: blocks[1] bf16[H, C]
k = append(kept, heads)
y = attend(heads, [(k, visible(k)), (none, none)], scale = 1)"""
    (op,) = ops(build(put(body=body)), graph.Attend)
    assert isinstance(op, graph.Attend) and len(op.keys) == 1


def test_an_unused_choice_of_the_config_is_not_built() -> None:
    item = "block thin(x: [T, V]) -> y\n  return x"
    build(put(item=item))  # never called, so its sizes are never compared

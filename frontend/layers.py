"""Layers: one function for each distinct row of the layer table, one op that calls them in order.

for l in layers
  X = layers[l](X, ids)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, SymbolRefAttr, i64

from supertile.frontend import syntax
from supertile.frontend.arguments import tensor
from supertile.frontend.dimensions import Size
from supertile.frontend.evaluate import Evaluator
from supertile.frontend.function_builder import FunctionBuilder
from supertile.frontend.instance import Instance, inputs_of
from supertile.frontend.rules import is_of_the_model
from supertile.frontend.values import (
    BlockValue,
    PartValue,
    Row,
    StateValue,
    TensorValue,
    TupleValue,
    describe,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError

if TYPE_CHECKING:
    from supertile.frontend.build import ModelBuilder

# A state of a layer, and how layers share a stack: name, kind, sizes, axes, element.
StackKey = tuple[str, str, tuple[int, ...], tuple[Size, ...], Any]


def run_loop(model: ModelBuilder, e: Evaluator, statement: syntax.Loop) -> None:
    """`for l in layers` with one call: a graph.layers op over the rows of the part."""
    part, call = _loop_call(e, statement)
    rows = model.config.layers if part.rows == "layers" else model.config.draft_layers
    if not rows:
        raise UserError("language.no_layers", statement.where, rows=part.rows)
    targets = [target.name for target in statement.body[0].targets]
    arguments = _arguments(e, call, targets)
    layers = [_layer_function(model, part, row, arguments, call.where) for row in rows]
    for layer in dict.fromkeys(layers):
        _check_carried(layer, arguments[: len(targets)], call.where)
    for number, layer in enumerate(layers):
        model.record_weights(layer, str(number))
    outputs = _emit(e, statement, part, layers, arguments, len(targets))
    for name, value in zip(targets, outputs, strict=True):
        e.scope.names[name] = value


def _loop_call(e: Evaluator, statement: syntax.Loop) -> tuple[PartValue, syntax.Call]:
    """The one call `part[l](...)` in the body."""
    body = statement.body
    call = body[0].value if len(body) == 1 else None
    callee = call.callee if isinstance(call, syntax.Call) else None
    if not isinstance(call, syntax.Call) or not isinstance(callee, syntax.Item):
        raise UserError("language.loop", statement.where)
    indexed = [index.name for index in callee.indices if isinstance(index, syntax.Name)]
    if len(callee.indices) != 1 or indexed != [statement.variable.name]:
        raise UserError("language.loop", callee.where)
    part = e.evaluate(callee.value)
    if not isinstance(part, PartValue) or part.rows is None:
        raise UserError("language.loop_part", callee.where, found=describe(part))
    if statement.over.name != part.rows:
        raise UserError("language.loop_rows", statement.over.where, wanted=part.rows)
    return part, call


def _arguments(e: Evaluator, call: syntax.Call, targets: list[str]) -> list[TensorValue]:
    """A loop carries its first arguments: X = layers[l](X, ids)."""
    first = call.arguments[: len(targets)]
    names = [argument.name for argument in first if isinstance(argument, syntax.Name)]
    if names != targets:
        raise UserError("language.carried", call.where, wanted=", ".join(targets))
    held = []
    for argument in call.arguments:
        if isinstance(argument, syntax.Keyword):
            raise UserError("language.no_keywords", argument.where, name="a part over layers")
        held.append(tensor(e.evaluate(argument), argument.where))
    return held


def _check_carried(layer: FunctionBuilder, carried: list[TensorValue], where: Spot) -> None:
    """What a layer gives takes the place of what it was called with."""
    found = [f"{value}" for value in layer.results]
    wanted = [f"{value}" for value in carried]
    if found != wanted:
        raise UserError(
            "language.carried_kind", where, wanted=", ".join(wanted), found=", ".join(found)
        )


# ---- functions ---------------------------------------------------------------------------------


def _layer_function(
    model: ModelBuilder, part: PartValue, row: Row, arguments: list[TensorValue], where: Spot
) -> FunctionBuilder:
    """The function of a kind of layer, made when its first layer comes."""
    instance = part.instance
    key = (
        instance.block.name,
        instance.path,
        instance.prefix,
        tuple(instance.settings.items()),
        tuple(row.items()),
        tuple((value.axes, value.kind) for value in arguments),
    )
    if key not in model.layer_functions:
        model.layer_functions[key] = _make_function(model, part, row, arguments, where)
    return model.layer_functions[key]


def _make_function(
    model: ModelBuilder, part: PartValue, row: Row, arguments: list[TensorValue], where: Spot
) -> FunctionBuilder:
    name = _function_name(model, part, row)
    function = FunctionBuilder(name, model.known, model.reference, in_layer=True)
    block = part.instance.block
    values = [
        function.add_argument(parameter.name, value.axes, value.kind.element_type, where)
        for parameter, value in zip(inputs_of(block), arguments, strict=False)
    ]
    function.add_call_vectors(where)
    instance = Instance(block, "", part.instance.prefix, part.instance.settings, row)
    inner = Evaluator(model, function, instance)
    # Arguments beyond the inputs have no value inside; `call` refuses them by their number.
    result = inner.call(values if len(values) == len(arguments) else arguments, where)
    results = result.items if isinstance(result, TupleValue) else (result,)
    function.results = [tensor(value, block.where) for value in results]
    model.functions.append(function.finish([p.name for p in block.results], block.where))
    return function


def _function_name(model: ModelBuilder, part: PartValue, row: Row) -> str:
    """`decoder_csa_score_router`: the part, then the blocks in which rows can differ."""
    chosen = [
        value.block.name
        for table in model.program.tables.values()
        for column in table.columns
        if column.kind.name == "block" and column.name in row and not is_of_the_model(column)
        for value in [model.cell(column, row)]
        if isinstance(value, BlockValue)
    ]
    name = "_".join([part.instance.path.replace(".", "_"), *chosen])
    taken = {held.name for held in model.layer_functions.values()} | {*model.program.entries}
    unique, number = name, 2
    while unique in taken:
        unique, number = f"{name}_{number}", number + 1
    return unique


# ---- the op ------------------------------------------------------------------------------------


def _emit(
    e: Evaluator,
    statement: syntax.Loop,
    part: PartValue,
    layers: list[FunctionBuilder],
    arguments: list[TensorValue],
    carried: int,
) -> list[TensorValue]:
    """The op, with the state of all layers in stacks; what the layers carry to the end."""
    function, where = e.function, statement.where
    kinds = list(dict.fromkeys(layers))
    keys, uses = _stack_keys(kinds)
    stacks = [_declare(e, part, key, keys, layers, where) for key in keys]
    operands = [value.ssa for value in arguments]
    op = function.emit(
        graph.Layers,
        [
            operands[:carried],
            [*operands[carried:], *function.call_vectors()],
            [function.use_state(stack, where) for stack in stacks],
        ],
        where,
        functions=ArrayAttr([SymbolRefAttr(kind.name) for kind in kinds]),
        kinds=[kinds.index(layer) for layer in layers],
        uses=ArrayAttr([DenseArrayBase.from_list(i64, held) for held in uses]),
        label=part.instance.path,
    )
    for stack, result in zip(stacks, op.results[carried:], strict=True):
        function.keep_state(stack, result)
    return [
        TensorValue(result, value.axes)
        for result, value in zip(op.results, arguments[:carried], strict=False)
    ]


def _stack_keys(kinds: list[FunctionBuilder]) -> tuple[list[StackKey], list[list[int]]]:
    """One stack for each state that layers share in name and type; which each kind uses."""
    held = [
        [(s.state.name, s.state.kind, s.state.sizes, s.state.axes, s.element) for s in states]
        for states in (kind.states.values() for kind in kinds)
    ]
    keys = list(dict.fromkeys(key for states in held for key in states))
    return keys, [[keys.index(key) for key in states] for states in held]


def _declare(
    e: Evaluator,
    part: PartValue,
    key: StackKey,
    keys: list[StackKey],
    layers: list[FunctionBuilder],
    where: Spot,
) -> StateValue:
    name, kind, sizes, axes, element = key
    count = sum(name in layer.states and _has(layer, key) for layer in layers)
    full = f"{part.instance.path}.{name}"
    if sum(other[0] == name for other in keys) > 1:
        full += f"#{'_'.join(str(size) for size in sizes)}"
    stack = StateValue(full, kind, sizes, (Size.of(count), *axes))
    return e.function.add_state(stack, element, where)


def _has(layer: FunctionBuilder, key: StackKey) -> bool:
    held = layer.states[key[0]]
    return (held.state.sizes, held.state.axes, held.element) == (key[2], key[3], key[4])

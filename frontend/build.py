"""From a program and a config to a graph-level module.

Entries become functions; a part over the rows of the layer table becomes one function for each
distinct row and one `graph.layers` op that calls them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute, SSAValue

from supertile.frontend import bind, layers, syntax
from supertile.frontend.arguments import tensor as tensor_argument
from supertile.frontend.check import check_program
from supertile.frontend.check_body import ROW_SETS
from supertile.frontend.dimensions import Size
from supertile.frontend.evaluate import Evaluator, Experts
from supertile.frontend.function_builder import (
    SEQUENCES,
    FunctionBuilder,
    blocks_axis,
    hint_name,
    location,
    name_value,
)
from supertile.frontend.hf_config import Config
from supertile.frontend.instance import Instance, settings_of
from supertile.frontend.parse import too_deep
from supertile.frontend.program import Program, load_program
from supertile.frontend.settle import ModelConfig, settle
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    Number,
    PartValue,
    RopeValue,
    Row,
    StateValue,
    TensorValue,
    TupleValue,
    Value,
    describe,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import f32, is_float, is_integer, tensor

NUMERICS = ("reference", "deployed")
CALL_LIMIT = 10_000  # of blocks, each inlined; whole models have some hundred


def build_model(
    path: Path,
    config: Config | ModelConfig,
    numerics: str = "reference",
    entries: Sequence[str] | None = None,
) -> ModuleOp:
    """The module of a model file under a config; without `entries`, all that the config allows."""
    return build_program(load_program(path), config, numerics, entries)


def build_program(
    program: Program,
    config: Config | ModelConfig,
    numerics: str = "reference",
    entries: Sequence[str] | None = None,
) -> ModuleOp:
    try:
        check_program(program)
        return ModelBuilder(program, config, numerics).build(entries)
    except RecursionError:  # within the limits of a line, but in many lines or blocks
        raise too_deep(Spot(program.path, 1, 1)) from None


class ModelBuilder:
    """Holds what all functions of a module share."""

    def __init__(self, program: Program, config: Config | ModelConfig, numerics: str) -> None:
        self.program = program
        self.config = config if isinstance(config, ModelConfig) else settle(program, config)
        bind.check_config(program, self.config)
        self.numerics = numerics
        self.reference = numerics == "reference"
        self.globals = bind.config_values(program, self.config)
        self.known = {
            name: value.value
            for name, value in self.globals.items()
            if isinstance(value, Number) and isinstance(value.value, int)
        }
        self.formats = bind.read_formats(program)
        self.functions: list[func.FuncOp] = []
        self.layer_functions: dict[tuple[object, ...], FunctionBuilder] = {}
        self.open_blocks: list[syntax.Block] = []
        self.calls = 0
        self.weight_kinds: dict[str, Attribute] = {}

    # -- entries

    def build(self, entries: Sequence[str] | None) -> ModuleOp:
        names = list(entries) if entries else self._possible_entries()
        for name in names:
            if name not in self.program.entries:
                hint = nearest(name, self.program.entries)
                known = ", ".join(self.program.entries)
                raise UserError("language.unknown_entry", None, name=name, known=known, hint=hint)
            bind.check_drafts(self.config, runs_draft_layers(self.program.entries[name]))
        entry_functions = [self._entry(self.program.entries[name]) for name in names]
        module = ModuleOp([*entry_functions, *self.functions])
        assert self.program.model is not None
        module.location = location(self.program.model.where)
        module.attributes["supertile.model"] = StringAttr(self.program.model.name)
        module.attributes["supertile.numerics"] = StringAttr(self.numerics)
        module.attributes["supertile.entries"] = ArrayAttr([StringAttr(name) for name in names])
        return module

    def _possible_entries(self) -> list[str]:
        """Entries whose layers the config has: without draft layers there is no draft entry."""
        possible = [
            name
            for name, entry in self.program.entries.items()
            if self.config.draft_layers or not runs_draft_layers(entry)
        ]
        return possible or list(self.program.entries)

    def _entry(self, entry: syntax.Block) -> func.FuncOp:
        function = FunctionBuilder(entry.name, self.known, self.reference, in_layer=False)
        evaluator = Evaluator(self, function, Instance(entry, "", ""))
        values = [self._entry_argument(evaluator, parameter) for parameter in entry.parameters]
        function.add_call_vectors(entry.where)
        result = evaluator.call(values, entry.where)
        results = result.items if isinstance(result, TupleValue) else (result,)
        function.results = [tensor_argument(value, entry.where) for value in results]
        names = [parameter.name for parameter in entry.results]
        for value, name in zip(function.results, names, strict=True):
            name_value(value.ssa, name)
        self.record_weights(function, "")
        return function.finish(names, entry.where)

    def _entry_argument(self, evaluator: Evaluator, parameter: syntax.Parameter) -> TensorValue:
        kind, where = parameter.kind, parameter.where
        assert kind is not None and kind.sizes is not None  # checked by check_program
        axes = [evaluator.size(expression) for expression in kind.sizes]
        declared: Attribute = f32
        if kind.name is not None:
            declared = self._plain_element(evaluator.format_of(kind.name), kind.where)
        element = evaluator.function.element(declared)
        return evaluator.function.add_argument(parameter.name, axes, element, where)

    def _plain_element(self, declared: FormatValue, where: Spot) -> Attribute:
        if declared.block is not None or not _stands_alone(declared):
            raise UserError("language.plain_format", where, found=declared.name)
        return declared.element

    # -- names

    def lookup(self, name: str, function: FunctionBuilder) -> Value | None:
        """A name that is none of the block's own."""
        if name == "position":
            return function.position
        if name == "infinity":
            return Number(float("inf"))
        held = self.globals.get(name) or self.formats.get(name)
        if held is None and name in self.program.blocks:
            return BlockValue(self.program.blocks[name])
        return held

    def column(self, instance: Instance, expression: syntax.Field) -> Value:
        """`layer.ratio`: what the config's row of this layer holds in a column."""
        if instance.row is None:
            raise UserError("language.no_row", expression.where, name=expression.name)
        columns = self.program.tables[expression.name].columns
        column = next(held for held in columns if held.name == expression.field)
        return self.cell(column, instance.row)

    def cell(self, column: syntax.Column, row: Row) -> Value:
        return bind.cell(self.program, self.formats, column, row)

    # -- instances and calls

    def part(self, evaluator: Evaluator, statement: syntax.Part) -> PartValue:
        """The instance that a `part` line declares."""
        parent = evaluator.instance
        block = self._block(evaluator, statement.block)
        settings = _settings(evaluator, block, statement)
        path = parent.named(statement.name.name)
        prefix = parent.prefix + statement.prefix.value
        count = statement.count
        if isinstance(count, syntax.Name) and count.name in ROW_SETS:
            if "{l}" not in statement.prefix.value:
                raise UserError("language.rows_prefix", statement.prefix.where)
            return PartValue(Instance(block, path, prefix, settings), rows=count.name)
        experts = evaluator.size(count) if count is not None else None
        if experts is not None and evaluator.experts is not None:
            raise UserError("language.nested_experts", statement.where)
        if (experts is None) == ("{e}" in statement.prefix.value):
            raise UserError("language.expert_prefix", statement.prefix.where)
        return PartValue(Instance(block, path, prefix, settings, parent.row), experts=experts)

    def _block(self, evaluator: Evaluator, reference: syntax.Name | syntax.Field) -> syntax.Block:
        if isinstance(reference, syntax.Name) and reference.name in self.program.blocks:
            return self.program.blocks[reference.name]  # a part may bear the name of its block
        held = evaluator.evaluate(reference)
        if not isinstance(held, BlockValue):
            found = describe(held)
            raise UserError("language.value_kind", reference.where, wanted="a block", found=found)
        return held.block

    def call(
        self,
        evaluator: Evaluator,
        instance: Instance,
        arguments: Sequence[Value],
        where: Spot,
        experts: Experts | None = None,
    ) -> Value:
        """Inline a call of an instance."""
        if instance.block in self.open_blocks:
            raise UserError("language.recursion", where, name=instance.block.name)
        self.calls += 1
        if self.calls > CALL_LIMIT:
            raise UserError("language.calls", where, limit=CALL_LIMIT)
        self.open_blocks.append(instance.block)
        inner = Evaluator(self, evaluator.function, instance, experts or evaluator.experts)
        result = inner.call(arguments, where)
        self.open_blocks.pop()
        return result

    def call_experts(
        self,
        evaluator: Evaluator,
        part: PartValue,
        arguments: Sequence[Value],
        routed: tuple[TensorValue, Size],
        where: Spot,
    ) -> Value:
        """Inline the block of experts, once for all: `routed` are rows of each expert, and all."""
        return self.call(evaluator, part.instance, arguments, where, Experts(*routed))

    def loop(self, evaluator: Evaluator, statement: syntax.Loop) -> None:
        layers.run_loop(self, evaluator, statement)

    # -- weights, state, formats in IR

    def weight(
        self,
        evaluator: Evaluator,
        name: str,
        axes: tuple[Size, ...],
        declared: FormatValue,
        where: Spot,
    ) -> TensorValue:
        """A `graph.weight`; inside experts it has a leading expert axis."""
        function, experts = evaluator.function, evaluator.experts
        if ("{e}" in name) == (experts is None):
            raise UserError("language.expert_prefix", where)
        if "{l}" in name and function.layer is None:
            raise UserError("language.layer_prefix", where, name=name)
        if declared.block is None:
            self._plain_element(declared, where)
        elif len(axes) < len(declared.block):
            found = len(declared.block)
            raise UserError("language.format_axes", where, name=declared.name, wanted=found)
        axes = (*experts.counts.axes, *axes) if experts is not None else axes
        shape = [function.known_size(axis, where) for axis in axes]
        if declared.block is None:
            kind = tensor(shape, declared.element)
        else:
            kind = graph.scaled_type(shape, declared.element, declared.block, declared.scale)
        if function.weights.setdefault(name, (kind, where))[0] != kind:
            raise UserError("language.weight_twice", where, name=name)
        operands: list[SSAValue] = []
        if function.layer is not None and "{l}" in name:
            operands = [function.layer]
        op = graph.Weight.create(
            operands=operands, result_types=[kind], properties={"checkpoint": StringAttr(name)}
        )
        function.add(op, where)
        hint_name(op.results[0], name.removesuffix(".weight"))
        return TensorValue(op.results[0], axes, None, experts is not None, declared)

    def record_weights(self, function: FunctionBuilder, layer: str) -> None:
        """A name of the checkpoint has one shape and format, whoever reads it."""
        for name, (kind, where) in function.weights.items():
            full = name.replace("{l}", layer)
            if self.weight_kinds.setdefault(full, kind) != kind:
                raise UserError("language.weight_twice", where, name=full)

    def state(self, evaluator: Evaluator, statement: syntax.State) -> StateValue:
        """Register state with the function; its capacity in blocks is a run-time size."""
        sort, where, kind = statement.sort.name, statement.where, statement.kind
        assert kind.sizes is not None and kind.name is not None  # checked by check_program
        numbers = [evaluator.size(expression) for expression in statement.sizes]
        counts = [evaluator.function.known_size(number, where, least=0) for number in numbers]
        if counts[0] < 1 or any(overlap > 1 for overlap in counts[1:]):
            raise UserError("language.state_sizes", where, found=counts)
        row = tuple(evaluator.size(expression) for expression in kind.sizes)
        for size in row:
            evaluator.function.known_size(size, where)
        if sort == "ring":
            axes = (SEQUENCES, numbers[0], *row)
        elif sort == "blocks":
            axes = (SEQUENCES, blocks_axis(counts[0]), *row)
        else:
            slots = (Size.of(1) + numbers[1]) * numbers[0]
            axes = (SEQUENCES, slots, Size.of(2), *row)
        declared = evaluator.format_of(kind.name)
        if declared.block is not None or not is_float(declared.element):
            raise UserError("language.state_format", kind.where, found=declared.name)
        name = evaluator.instance.named(statement.name.name)
        state = StateValue(name, sort, tuple(counts), axes)
        return evaluator.function.add_state(state, declared.element, where)

    def quantize(
        self, function: FunctionBuilder, x: TensorValue, to: FormatValue, where: Spot
    ) -> SSAValue:
        """Codes and scales of x; the block goes along the last axis."""
        assert to.block is not None
        shape = [function.size(axis, where) for axis in x.axes]
        block = to.block if len(shape) >= len(to.block) else to.block[-len(shape) :]
        kind = graph.scaled_type(shape, to.element, block, to.scale)
        op = graph.Quantize.create(operands=[x.ssa], result_types=[kind])
        function.add(op, where)
        return op.results[0]


def runs_draft_layers(entry: syntax.Block) -> bool:
    loops = [statement for statement in entry.statements if isinstance(statement, syntax.Loop)]
    return any(loop.over.name == "draft_layers" for loop in loops)


def _stands_alone(declared: FormatValue) -> bool:
    """Elements that mean something without scales."""
    return is_float(declared.element) or is_integer(declared.element)


# ---- settings ----------------------------------------------------------------------------------


def _settings(
    evaluator: Evaluator, block: syntax.Block, statement: syntax.Part
) -> dict[str, Value]:
    """The values of a block's settings, given in order or by name."""
    wanted = {parameter.name: parameter for parameter in settings_of(block)}
    order = list(wanted)
    held: dict[str, Value] = {}
    for position, argument in enumerate(statement.arguments):
        if isinstance(argument, syntax.Keyword):
            name, value = argument.name, argument.value
        else:
            name, value = (order[position] if position < len(order) else ""), argument
        if name not in wanted or name in held:
            raise _misfit(block, order, argument.where)
        held[name] = evaluator.evaluate(value)
        _check_setting(wanted[name], held[name], argument.where)
    if len(held) < len(wanted):
        raise _misfit(block, order, statement.where)
    return held


def _misfit(block: syntax.Block, names: list[str], where: Spot) -> UserError:
    wanted = ", ".join(names) or "none"
    return UserError("language.settings", where, block=block.name, wanted=wanted)


def _check_setting(parameter: syntax.Parameter, value: Value, where: Spot) -> None:
    assert parameter.kind is not None and isinstance(parameter.kind.name, syntax.Name)
    wanted = parameter.kind.name.name
    fits = {
        "int": isinstance(value, Number) and value.size is not None,
        "float": isinstance(value, Number),
        "rope": isinstance(value, RopeValue),
        "block": isinstance(value, BlockValue),
        "format": isinstance(value, FormatValue),
    }
    if not fits[wanted]:
        wanted = f"{wanted} for {parameter.name}"
        raise UserError("language.value_kind", where, wanted=wanted, found=describe(value))

"""From a program and a config to a graph-level module.

Entries become functions; a part over the rows of the layer table becomes one function for each
distinct row and one `graph.layers` op that calls them in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DenseArrayBase, ModuleOp, StringAttr, SymbolRefAttr, i64
from xdsl.ir import SSAValue

from supertile.frontend import builtins, syntax
from supertile.frontend.check import check_program
from supertile.frontend.dimensions import Size
from supertile.frontend.evaluate import Evaluator, settings_of
from supertile.frontend.function_builder import SEQUENCES, FunctionBuilder, location, name_value
from supertile.frontend.hf_config import Config, Rope, value_spot
from supertile.frontend.instance import Instance
from supertile.frontend.program import Program, load_program
from supertile.frontend.values import (
    BlockValue,
    FormatValue,
    Number,
    PartValue,
    RopeValue,
    StateValue,
    TensorValue,
    TextValue,
    TupleValue,
    Value,
    describe,
)
from supertile.ir import graph
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.types import (
    ELEMENTS,
    SCALED_ELEMENTS,
    StateAttr,
    f32,
    is_float,
    tensor,
)

NUMERICS = ("reference", "deployed")
ROW_SETS = ("layers", "draft_layers")


def build_model(
    path: Path, config: Config, numerics: str = "reference", entries: Sequence[str] | None = None
) -> ModuleOp:
    """The module of a model file under a config; without `entries`, all that the config allows."""
    return build_program(load_program(path), config, numerics, entries)


def build_program(
    program: Program,
    config: Config,
    numerics: str = "reference",
    entries: Sequence[str] | None = None,
) -> ModuleOp:
    check_program(program)
    return ModelBuilder(program, config, numerics).build(entries)


class ModelBuilder:
    """Holds what all functions of a module share."""

    def __init__(self, program: Program, config: Config, numerics: str) -> None:
        self.program = program
        self.config = config
        self.reference = numerics == "reference"
        self.numerics = numerics
        self.known: dict[str, int] = {}
        self.globals: dict[str, Value] = {}
        self.formats: dict[str, FormatValue] = {
            name: FormatValue(name, element) for name, element in ELEMENTS.items()
        }
        self.functions: list[func.FuncOp] = []
        self.layer_functions: dict[tuple[Any, ...], tuple[FunctionBuilder, str]] = {}
        self._bind_config()
        self._read_formats()

    # -- config and formats

    def _bind_config(self) -> None:
        model = self.program.model
        assert model is not None
        if self.config.family not in model.families:
            raise UserError(
                "language.family",
                value_spot(self.config, "model_type"),
                model=model.name,
                wanted=" or ".join(model.families),
                found=self.config.family,
            )
        for bind in self.program.binds.values():
            self.globals[bind.name] = self._bound(bind)
        for require in self.program.requires:
            held = self.config.values.get(require.key, require.value)
            if held != require.value:
                raise UserError(
                    "language.require",
                    value_spot(self.config, require.key),
                    model=model.name,
                    key=require.key,
                    wanted=require.value,
                    found=held,
                )

    def _bound(self, bind: syntax.Bind) -> Value:
        if bind.kind.name == "rope":
            rope = self.config.ropes.get(bind.key)
            if rope is None:
                known = ", ".join(self.config.ropes) or "none"
                raise UserError("language.no_rope", bind.where, key=bind.key, known=known)
            return RopeValue(rope)
        value = self.config.values.get(bind.key, bind.default)
        if value is None:
            raise UserError(
                "language.config_missing", bind.where, key=bind.key, file=self.config.file
            )
        kinds: dict[str, tuple[type, ...]] = {
            "int": (int,),
            "float": (int, float),
            "text": (str,),
        }
        wanted = kinds[bind.kind.name]
        if isinstance(value, bool) or not isinstance(value, wanted):
            spot = value_spot(self.config, bind.key) or bind.where
            raise UserError(
                "language.config_kind", spot, key=bind.key, wanted=bind.kind.name, found=repr(value)
            )
        if isinstance(value, str):
            return TextValue(value)
        if isinstance(value, int) and bind.kind.name == "int":
            self.known[bind.name] = value
            return Number(value, Size.of(bind.name))
        assert isinstance(value, int | float)
        return Number(float(value))

    def _read_formats(self) -> None:
        for item in self.program.formats.values():
            self.formats[item.name] = self._format(item)

    def _format(self, item: syntax.Format) -> FormatValue:
        """`scaled(f8e4m3, f8e8m0, [128, 128], inputs = act8, result = bf16)` or another's name."""
        value = item.value
        if isinstance(value, syntax.Name):
            held = self._known_format(value)
            return replace(held, name=item.name)
        assert isinstance(value, syntax.Call)  # checked by check_program
        element, scale, block = value.arguments[:3]
        assert isinstance(element, syntax.Name) and isinstance(scale, syntax.Name)
        assert isinstance(block, syntax.Sequence)
        held_element = self._known_format(element).element
        if held_element not in SCALED_ELEMENTS:
            raise UserError("language.format_element", element.where, found=element.name)
        inputs = result = after = None
        for keyword in value.arguments[3:]:
            assert isinstance(keyword, syntax.Keyword) and isinstance(keyword.value, syntax.Name)
            if keyword.name == "inputs":
                inputs = self._known_format(keyword.value)
            elif keyword.name == "result":
                result = self._known_format(keyword.value).element
            else:
                after = keyword.value.name
        sizes = tuple(int(item.value) for item in block.items if isinstance(item, syntax.Number))
        held_scale = self._known_format(scale).element
        return FormatValue(item.name, held_element, sizes, inputs, result, after, held_scale)

    def _known_format(self, name: syntax.Name) -> FormatValue:
        held = self.formats.get(name.name)
        if held is None:
            hint = nearest(name.name, self.formats)
            raise UserError("language.unknown_format", name.where, name=name.name, hint=hint)
        return held

    # -- names

    def lookup(self, name: str, function: FunctionBuilder) -> Value | None:
        """A name that is none of the block's own."""
        if name == "position":
            return function.position
        if name == "infinity":
            return Number(float("inf"))
        if name in self.globals:
            return self.globals[name]
        if name in self.formats:
            return self.formats[name]
        block = self.program.blocks.get(name)
        return BlockValue(block) if block is not None else None

    def column(self, instance: Instance, expression: syntax.Field) -> Value:
        """`layer.ratio`: what the config's row of this layer holds in a column."""
        table = self.program.tables.get(expression.name)
        if table is None:
            hint = nearest(expression.name, self.program.tables)
            raise UserError(
                "language.unknown_name", expression.where, name=expression.name, hint=hint
            )
        column = next((held for held in table.columns if held.name == expression.field), None)
        if column is None:
            hint = nearest(expression.field, [held.name for held in table.columns])
            raise UserError(
                "language.unknown_column", expression.where, name=expression.field, hint=hint
            )
        if instance.row is None:
            raise UserError("language.no_row", expression.where, name=expression.name)
        if column.name not in instance.row:
            raise UserError("language.row_column", column.where, name=column.name)
        return self._cell(column, instance.row[column.name])

    def _cell(self, column: syntax.Column, value: object) -> Value:
        if column.kind.name == "rope" and isinstance(value, Rope):
            return RopeValue(value)
        if column.kind.name == "int" and isinstance(value, int):
            return Number(value, Size.of(value))
        if column.kind.name == "float" and isinstance(value, float | int):
            return Number(float(value))
        if column.kind.name in ("block", "format"):
            return self._case(column, value)
        raise UserError(
            "language.cell", column.where, name=column.name, wanted=column.kind.name, found=value
        )

    def _case(self, column: syntax.Column, value: object) -> Value:
        target = dict(column.cases).get(str(value))
        if target is None:
            known = ", ".join(case for case, _ in column.cases)
            raise UserError(
                "language.case", column.where, name=column.name, found=value, known=known
            )
        if column.kind.name == "format":
            return self._known_format(target)
        return BlockValue(self.program.blocks[target.name])

    # -- instances

    def part(self, evaluator: Evaluator, statement: syntax.Part) -> PartValue:
        """The instance that a `part` line declares."""
        parent = evaluator.instance
        name = statement.block.name
        if isinstance(statement.block, syntax.Name) and name in self.program.blocks:
            held: Value = BlockValue(self.program.blocks[name])  # a part may bear its name
        else:
            held = evaluator.evaluate(statement.block)
        if not isinstance(held, BlockValue):
            raise UserError(
                "language.value_kind", statement.where, wanted="a block", found=describe(held)
            )
        settings = self._settings(evaluator, held.block, statement)
        path = parent.named(statement.name.name)
        prefix = parent.prefix + statement.prefix.value
        count = statement.count
        if isinstance(count, syntax.Name) and count.name in ROW_SETS:
            return PartValue(Instance(held.block, path, prefix, settings), rows=count.name)
        experts = evaluator.size(count) if count is not None else None
        if (experts is None) == ("{e}" in statement.prefix.value):
            raise UserError("language.expert_prefix", statement.prefix.where)
        instance = Instance(held.block, path, prefix, settings, parent.row)
        return PartValue(instance, experts=experts)

    def _settings(
        self, evaluator: Evaluator, block: syntax.Block, statement: syntax.Part
    ) -> dict[str, Value]:
        wanted = settings_of(block)
        names = [parameter.name for parameter in wanted]
        held: dict[str, Value] = {}
        for position, argument in enumerate(statement.arguments):
            keyword = isinstance(argument, syntax.Keyword)
            name = argument.name if isinstance(argument, syntax.Keyword) else None
            if not keyword and position < len(names):
                name = names[position]
            if name not in names or name in held:
                raise UserError(
                    "language.settings",
                    argument.where,
                    block=block.name,
                    wanted=", ".join(names) or "none",
                )
            value = argument.value if isinstance(argument, syntax.Keyword) else argument
            held[name] = evaluator.evaluate(value)
        missing = [name for name in names if name not in held]
        if missing:
            raise UserError(
                "language.settings", statement.where, block=block.name, wanted=", ".join(names)
            )
        for parameter in wanted:
            _check_setting(parameter, held[parameter.name], statement.where)
        return held

    def call(
        self,
        evaluator: Evaluator,
        instance: Instance,
        arguments: Sequence[Value],
        where: Spot,
        counts: TensorValue | None = None,
    ) -> Value:
        """Inline a call of an instance; `counts` are the rows of each expert, inside experts."""
        inner = Evaluator(self, evaluator.function, instance, counts is not None)
        inner.counts = counts or evaluator.counts
        inner.stacked = inner.counts is not None
        return inner.call(arguments, where)

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
        function = evaluator.function
        stacked = evaluator.counts is not None
        if stacked and evaluator.counts is not None:
            axes = (*evaluator.counts.axes, *axes)
        shape = [function.size(axis, where) for axis in axes]
        if any(size < 1 for size in shape):
            raise UserError("language.weight_size", where, found=shape)
        if declared.block is None:
            kind = tensor(shape, declared.element)
        else:
            kind = graph.scaled_type(shape, declared.element, declared.block, declared.scale)
        needs_layer = "{l}" in name
        if needs_layer and function.layer is None:
            raise UserError("language.layer_prefix", where, name=name)
        operands: list[SSAValue] = [function.layer] if needs_layer and function.layer else []
        op = graph.Weight.create(
            operands=operands, result_types=[kind], properties={"checkpoint": StringAttr(name)}
        )
        function.add(op, where)
        op.results[0].name_hint = name.removesuffix(".weight").rsplit(".", 1)[-1]
        return TensorValue(op.results[0], axes, None, stacked, declared)

    def state(self, evaluator: Evaluator, statement: syntax.State) -> StateValue:
        """Register state with the function; its capacity in blocks is a run-time size."""
        sort = statement.sort.name
        numbers = [evaluator.size(expression) for expression in statement.sizes]
        counts = [evaluator.function.size(number, statement.where) for number in numbers]
        if any(count < (0 if i else 1) for i, count in enumerate(counts)):
            raise UserError("language.state_sizes", statement.where, found=counts)
        assert statement.kind.sizes is not None
        row = tuple(evaluator.size(expression) for expression in statement.kind.sizes)
        if sort == "ring":
            axes = (SEQUENCES, numbers[0], *row)
        elif sort == "blocks":
            axes = (SEQUENCES, Size.of(f"S:{counts[0]}"), *row)
        else:
            slots = (Size.of(1) + numbers[1]) * numbers[0]
            axes = (SEQUENCES, slots, Size.of(2), *row)
        assert statement.kind.name is not None
        element = evaluator.format_of(statement.kind.name).element
        name = evaluator.instance.named(statement.name.name)
        state = StateValue(name, sort, tuple(counts), axes)
        return evaluator.function.add_state(state, element, statement.where)

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

    # -- layers

    def loop(self, evaluator: Evaluator, statement: syntax.Loop) -> None:
        """`for l in layers` with one call: a graph.layers op over the rows of the part."""
        part, call = self._loop_call(evaluator, statement)
        assert part.rows is not None
        rows = self.config.layers if part.rows == "layers" else self.config.draft_layers
        if not rows:
            raise UserError("language.no_layers", statement.where, rows=part.rows)
        arguments = [evaluator.evaluate(argument) for argument in call.arguments]  # type: ignore[arg-type]
        held = [builtins.tensor(value, call.where) for value in arguments]
        targets = [target.name for target in statement.body[0].targets]
        _check_carried(targets, call)
        layers = [self._layer_function(evaluator, part, row, held, call.where) for row in rows]
        LayersOp(self, evaluator, statement, part, layers).emit(held, targets)

    def _loop_call(
        self, evaluator: Evaluator, statement: syntax.Loop
    ) -> tuple[PartValue, syntax.Call]:
        body = statement.body
        call = body[0].value if len(body) == 1 else None
        callee = call.callee if isinstance(call, syntax.Call) else None
        if not isinstance(call, syntax.Call) or not isinstance(callee, syntax.Item):
            raise UserError("language.loop", statement.where)
        indexed = len(callee.indices) == 1 and callee.indices[0]
        if not isinstance(indexed, syntax.Name) or indexed.name != statement.variable.name:
            raise UserError("language.loop", callee.where)
        part = evaluator.evaluate(callee.value)
        if not isinstance(part, PartValue) or part.rows is None:
            raise UserError("language.loop_part", callee.where, found=describe(part))
        if statement.over.name != part.rows:
            raise UserError("language.loop_rows", statement.over.where, wanted=part.rows)
        return part, call

    def _layer_function(
        self,
        evaluator: Evaluator,
        part: PartValue,
        row: Any,
        arguments: list[TensorValue],
        where: Spot,
    ) -> FunctionBuilder:
        """The function of a kind of layer, made when its first layer comes."""
        key = (part.instance.path, part.instance.prefix, tuple(sorted(row.items(), key=str)))
        if key in self.layer_functions:
            return self.layer_functions[key][0]
        function = FunctionBuilder(
            self._layer_name(part, row), self.known, self.reference, in_layer=True
        )
        block = part.instance.block
        inputs = [p.name for p in block.parameters if p.kind is None or p.kind.sizes is not None]
        values: list[Value] = [
            function.add_argument(name, value.axes, value.kind.element_type, where)
            for name, value in zip(inputs, arguments, strict=False)
        ]
        function.add_call_vectors(where)
        instance = Instance(block, "", part.instance.prefix, part.instance.settings, row)
        inner = Evaluator(self, function, instance, stacked=False)
        result = inner.call(values, where)
        results = result.items if isinstance(result, TupleValue) else (result,)
        tensors = [builtins.tensor(value, where) for value in results]
        names = [parameter.name for parameter in block.results]
        self.functions.append(function.finish([v.ssa for v in tensors], names, block.where))
        self.layer_functions[key] = (function, function.name)
        return function

    def _layer_name(self, part: PartValue, row: Any) -> str:
        """`decoder_csa_score_router`: the block, then the blocks that the row chooses."""
        chosen = []
        for table in self.program.tables.values():
            for column in table.columns:
                if column.kind.name == "block" and column.name in row:
                    case = self._cell(column, row[column.name])
                    assert isinstance(case, BlockValue)
                    chosen.append(case.block.name)
        name = "_".join([part.instance.path.replace(".", "_"), *chosen])
        taken = {held for _, held in self.layer_functions.values()}
        number = 2
        unique = name
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        return unique

    # -- entries

    def build(self, entries: Sequence[str] | None) -> ModuleOp:
        names = list(entries) if entries else self._possible_entries()
        for name in names:
            if name not in self.program.entries:
                hint = nearest(name, self.program.entries)
                known = ", ".join(self.program.entries)
                raise UserError("language.unknown_entry", None, name=name, known=known, hint=hint)
        entry_functions = [self._entry(self.program.entries[name]) for name in names]
        module = ModuleOp([*entry_functions, *self.functions])
        assert self.program.model is not None
        module.location = location(self.program.model.where)
        module.attributes["supertile.model"] = StringAttr(self.program.model.name)
        module.attributes["supertile.numerics"] = StringAttr(self.numerics)
        module.attributes["supertile.entries"] = ArrayAttr([StringAttr(name) for name in names])
        return module

    def _possible_entries(self) -> list[str]:
        """Entries whose layers the config has; without draft layers there is no draft entry."""
        names = []
        for name, entry in self.program.entries.items():
            over = [s.over.name for s in entry.statements if isinstance(s, syntax.Loop)]
            empty = "draft_layers" in over and not self.config.draft_layers
            names += [] if empty else [name]
        return names

    def _entry(self, entry: syntax.Block) -> func.FuncOp:
        function = FunctionBuilder(entry.name, self.known, self.reference, in_layer=False)
        instance = Instance(entry, "", "")
        evaluator = Evaluator(self, function, instance, stacked=False)
        values: list[Value] = []
        for parameter in entry.parameters:
            kind = parameter.kind
            assert kind is not None and kind.sizes is not None  # checked by check_program
            axes = [evaluator.size(expression) for expression in kind.sizes]
            declared = evaluator.format_of(kind.name).element if kind.name is not None else f32
            element = function.element(declared)
            values.append(function.add_argument(parameter.name, axes, element, parameter.where))
        function.add_call_vectors(entry.where)
        result = evaluator.call(values, entry.where)
        results = result.items if isinstance(result, TupleValue) else (result,)
        tensors = [builtins.tensor(value, entry.where) for value in results]
        names = [parameter.name for parameter in entry.results]
        for value, name in zip(tensors, names, strict=True):
            name_value(value.ssa, name)
        return function.finish([value.ssa for value in tensors], names, entry.where)


class LayersOp:
    """Collects the state of all layers into stacks and emits the graph.layers op."""

    def __init__(
        self,
        model: ModelBuilder,
        evaluator: Evaluator,
        statement: syntax.Loop,
        part: PartValue,
        layers: list[FunctionBuilder],
    ) -> None:
        self.model = model
        self.evaluator = evaluator
        self.statement = statement
        self.part = part
        self.layers = layers
        self.kinds = list(dict.fromkeys(layers))

    def emit(self, arguments: list[TensorValue], targets: list[str]) -> None:
        function = self.evaluator.function
        where = self.statement.where
        stacks, uses = self._stacks()
        carried = arguments[: len(targets)]
        shared = arguments[len(targets) :]
        states = [function.use_state(stack, where) for stack in stacks]
        op = function.emit(
            graph.Layers,
            [
                [value.ssa for value in carried],
                [*(value.ssa for value in shared), *function.call_vectors()],
                states,
            ],
            where,
            functions=ArrayAttr([SymbolRefAttr(kind.name) for kind in self.kinds]),
            kinds=[self.kinds.index(layer) for layer in self.layers],
            uses=ArrayAttr([DenseArrayBase.from_list(i64, held) for held in uses]),
            label=self.part.instance.path,
        )
        for name, value, result in zip(targets, carried, op.results, strict=False):
            self.evaluator.scope.names[name] = TensorValue(result, value.axes)
        for stack, result in zip(stacks, op.results[len(targets) :], strict=True):
            function.keep_state(stack, result)

    def _stacks(self) -> tuple[list[StateValue], list[list[int]]]:
        """One stack for each state that layers share in name and type, sized by its layers."""
        keys: list[tuple[Any, ...]] = []
        users: dict[tuple[Any, ...], list[FunctionBuilder]] = {}
        uses: list[list[int]] = []
        for kind in self.kinds:
            held = [
                (s.state.name, s.state.kind, s.state.sizes, s.state.axes, s.element)
                for s in kind.states.values()
            ]
            for key in held:
                users.setdefault(key, []).append(kind)
            keys += [key for key in held if key not in keys]
            uses.append([keys.index(key) for key in held])
        return [self._declare(key, users[key], keys) for key in keys], uses

    def _declare(
        self, key: tuple[Any, ...], users: list[FunctionBuilder], keys: list[tuple[Any, ...]]
    ) -> StateValue:
        name, kind, sizes, axes, element = key
        count = sum(layer in users for layer in self.layers)
        full = self.part.instance.path + "." + name
        if sum(other[0] == name for other in keys) > 1:
            full += f"#{'_'.join(str(size) for size in sizes)}"
        stack = StateValue(full, kind, sizes, (Size.of(count), *axes))
        return self.evaluator.function.add_state(stack, element, self.statement.where)


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
        raise UserError(
            "language.value_kind",
            where,
            wanted=f"{wanted} for {parameter.name}",
            found=describe(value),
        )


def _check_carried(targets: list[str], call: syntax.Call) -> None:
    """A loop carries its first arguments: X = layers[l](X, ids)."""
    names = [argument.name for argument in call.arguments if isinstance(argument, syntax.Name)]
    if names[: len(targets)] != targets:
        raise UserError("language.carried", call.where, wanted=", ".join(targets))


__all__ = ["NUMERICS", "ModelBuilder", "StateAttr", "build_model", "build_program", "is_float"]

"""Which number formats of a module a machine has natively, which it must convert, which it lacks.

    options = legalize_options(load_machine("ascend-910c"))   # fields of the pass legalize-formats
    assert not lacking_formats(module, machine)               # of a module after that pass

A kernel may decode what memory holds to a wider format that the matrix engine multiplies, if that
holds each number exactly; it applies scales that the engine does not. So "native" means that the
engine takes the numbers as they are, "converted" that a kernel or the pass changes them first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xdsl.dialects.builtin import ModuleOp, TensorType
from xdsl.dialects.func import FuncOp
from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.locations import location_text
from supertile.ir.types import (
    DECODED_AS,
    ELEMENT_NAMES,
    MxAttr,
    f8e8m0,
    is_float,
    is_scaled,
    type_of,
)
from supertile.ir.walk import operations
from supertile.ir.work import WORK, none
from supertile.targets.cost.figures import Ledger
from supertile.targets.machine_types import Machine

KNOWN = ("f32", "bf16", "f16", "f8e4m3", "f4e2m1", "i8")
"""The formats of the IR that a machine may have; tf32 and others are a machine's own."""
TARGETS = ("i8", "bf16")
"""What codes are converted to; the first that the machine has, unless it is told."""
SCALE_GROUP = 32
"""Elements that share an E8M0 scale where the matrix engine applies it."""

NATIVE, CONVERTED, MISSING = "native", "converted", "missing"


# ---- the options of the pass -------------------------------------------------------------------


def stored_formats(machine: Machine) -> tuple[str, ...]:
    """The formats of the IR that the machine's memory holds, in the order of its file."""
    return tuple(name for name in machine.stored_formats if name in KNOWN)


def computed_formats(machine: Machine) -> tuple[str, ...]:
    """The formats of the IR whose products the machine computes.

    Those of the matrix engine, and f32 on the vector engine where the matrix engine lacks it.
    """
    matrix = tuple(name for name in machine.computed_formats if name in KNOWN)
    return (*matrix, "f32") if "f32" not in matrix and _vector_has_f32(machine) else matrix


def legalize_options(machine: Machine, to: str | None = None) -> dict[str, Any]:
    """The fields of the pass legalize-formats for a machine; `to` is "i8" or "bf16"."""
    stored, computed = stored_formats(machine), computed_formats(machine)
    held = (name for name in TARGETS if name in stored and _decoded([name], computed))
    return {"stored": stored, "computed": computed, "to": to or next(held, TARGETS[0])}


def legalize_text(machine: Machine, to: str | None = None) -> str:
    """The pass with its options as a pipeline names it."""
    options = legalize_options(machine, to)
    fields = [f"{key}={','.join(options[key])}" for key in ("stored", "computed") if options[key]]
    return f"legalize-formats{{{' '.join([*fields, 'to=' + options['to']])}}}"


# ---- what an op needs, and what it gets --------------------------------------------------------


@dataclass(frozen=True)
class Support:
    """How a machine does one op: `formats` are those of the model, `why` is empty for native."""

    formats: str
    status: str
    """native, converted or missing"""
    why: str = ""


def support_of(op: Operation, machine: Machine) -> Support:
    """How the machine does an op of a module that the pass legalize-formats has not seen."""
    held = _formats_held(op)
    multiplied = _factors(op)
    names = [_format(value) for value in multiplied]
    shown = _product_text(op, names) if multiplied else ", ".join(held) or _integers(op)
    replaced, problem = _replaced(held, names, machine)
    if problem:
        return Support(shown, MISSING, problem)
    notes = [f"{', '.join(replaced)} -> {next(iter(replaced.values()))}"] if replaced else []
    names = [replaced.get(name, name) for name in names]
    if multiplied:
        scales_fit = not replaced and all(map(_has_machine_scales, multiplied))
        note, problem = _product(names, scales_fit, machine)
    else:
        note = _coding(op, [name for name in held if name not in replaced], machine)
    problem = problem or _without_rate(op, names, held, machine)
    if problem:
        return Support(shown, MISSING, problem)
    notes += [note] if note else []
    return Support(shown, CONVERTED if notes else NATIVE, "; ".join(notes))


FACTORS: dict[type[Operation], tuple[str, ...]] = {
    graph.Linear: ("x", "w"),
    graph.GroupedLinear: ("x", "w"),
    graph.Einsum: ("inputs",),
    graph.Attend: ("q", "keys", "values"),
}
"""The operands that each product multiplies, by name."""


def _replaced(
    held: Sequence[str], names: Sequence[str], machine: Machine
) -> tuple[dict[str, str], str]:
    """Format -> what the pass brings it to; and why it cannot, if so."""
    options = legalize_options(machine)
    stored, computed, to = options["stored"], options["computed"], options["to"]
    lacking = [name for name in held if name not in stored]
    # Codes of one product are converted together.
    codes = [name for name in held if name in ("f8e4m3", "f4e2m1", "i8")]
    undecoded = [name for name in codes if not _decoded([name], computed)]
    plain = [name for name in lacking if name not in codes]
    if plain:
        return {}, f"{plain[0]} is not stored"
    if not lacking and not undecoded:
        return {}, ""
    if to not in stored or not _decoded([to], computed):
        found = " nor ".join(((lacking or undecoded)[0], *TARGETS))
        return {}, f"neither {found} is stored and multiplied"
    chosen = codes if names else [*lacking, *undecoded]
    return dict.fromkeys(chosen, to), ""


def _product(names: Sequence[str], scales_fit: bool, machine: Machine) -> tuple[str, str]:
    """What a kernel does to operands of these formats first; and why that does not help, if so."""
    computed, kinds = computed_formats(machine), list(dict.fromkeys(names))
    by_engine = scales_fit and all(name in machine.formats.scaled for name in kinds)
    if by_engine or (len(kinds) == 1 and kinds[0] in computed):
        return "", ""
    common = _decoded(kinds, computed)
    if not common:
        listed = " and ".join(kinds)
        return "", f"no engine multiplies {listed}, or a format that holds {listed} exactly"
    decoded = [name for name in kinds if name != common]
    return f"{', '.join(decoded)} decoded to {common} in the kernel", ""


def _without_rate(
    op: Operation, names: Sequence[str], held: Sequence[str], machine: Machine
) -> str:
    """The rate that the op needs and that is unknown; empty if there is none."""
    ledger = Ledger(machine, "formats")
    kind = "matrix" if names else "vector"
    engine = machine.engine(kind)
    if engine is None or not (names or (held and _computes(op))):
        return ""
    try:
        ledger.rate(engine, " x ".join(names) if names else "f32")
    except UserError as error:
        if error.code != "machine.unknown_figure":
            raise
        return f"{error.values['name']} is unknown"
    return ""


def _computes(op: Operation) -> bool:
    """Whether the op does arithmetic, and not only moves numbers."""
    return WORK.get(type(op), none) is not none


def _coding(op: Operation, held: Sequence[str], machine: Machine) -> str:
    """Where no engine knows the format of codes, the kernel makes and reads them itself."""
    foreign = [name for name in held if name in DECODED_AS and name not in machine.computed_formats]
    codes = [name for name in foreign if name not in ("bf16", "f16")]
    if not codes:
        return ""
    if isinstance(op, graph.Quantize):
        return f"{codes[0]} encoded in the kernel"
    return f"{codes[0]} decoded in the kernel" if isinstance(op, graph.Dequantize) else ""


def _decoded(names: Sequence[str], computed: Sequence[str]) -> str:
    """The first computed format that holds the numbers of all these exactly; empty if none does."""
    holders = [(name, *DECODED_AS.get(name, ())) for name in names]
    common = (name for name in holders[0] if all(name in held for held in holders))
    return next((name for name in common if name in computed), "")


def _has_machine_scales(value: SSAValue) -> bool:
    """Whether scales are as a matrix engine applies them: E8M0, for whole groups of elements."""
    encoding = type_of(value).encoding
    if not isinstance(encoding, MxAttr):
        return False
    return encoding.scale == f8e8m0 and encoding.sizes[-1] % SCALE_GROUP == 0


def _vector_has_f32(machine: Machine) -> bool:
    vector = machine.engine("vector")
    return vector is not None and "f32" in vector.rate


# ---- what ops hold -----------------------------------------------------------------------------


def _factors(op: Operation) -> list[SSAValue]:
    """The operands that a product multiplies; none of other ops."""
    groups = (getattr(op, name) for name in FACTORS.get(type(op), ()))
    return [
        value
        for group in groups
        for value in ([group] if isinstance(group, SSAValue) else list(group))
    ]


def _product_text(op: Operation, names: Sequence[str]) -> str:
    """`bf16 x f8e4m3`; all keys and values of attention in one format count as one."""
    kept = [names[0], *dict.fromkeys(names[1:])] if isinstance(op, graph.Attend) else names
    return " x ".join(kept)


def _format(value: SSAValue) -> str:
    return ELEMENT_NAMES[type_of(value).element_type]


def _tensors(op: Operation) -> Iterator[SSAValue]:
    for value in (*op.operands, *op.results):
        if isinstance(value.type, TensorType):
            yield value


def _formats_held(op: Operation) -> list[str]:
    """Floats and codes among operands and results, each once; integers are always there."""
    held = {
        _format(value)
        for value in _tensors(op)
        if is_float(type_of(value).element_type) or is_scaled(type_of(value))
    }
    return sorted(held, key=KNOWN.index)


def _integers(op: Operation) -> str:
    return ", ".join(dict.fromkeys(_format(value) for value in _tensors(op)))


# ---- the checker -------------------------------------------------------------------------------


def lacking_formats(module: ModuleOp, machine: Machine) -> list[str]:
    """Every place where a module holds or multiplies a format that the machine has no way to.

    Reads types alone, and knows nothing of the pass that should have seen to it.
    """
    found: list[str] = []
    for function in module.ops:
        if isinstance(function, FuncOp):
            for value in function.body.block.args:
                name = function.sym_name.data
                found += _not_stored(f"an argument of @{name}", [value], machine)
        for op in operations(function):
            place = f"{location_text(op.location)}: {op.name}"
            found += _not_stored(place, list(_tensors(op)), machine)
            found += _not_multiplied(place, op, machine)
    return found


def _not_stored(place: str, values: Sequence[SSAValue], machine: Machine) -> Iterator[str]:
    for value in values:
        kind = value.type
        if not isinstance(kind, TensorType):
            continue
        name = ELEMENT_NAMES[kind.element_type]
        if name in KNOWN and name not in machine.stored_formats:
            yield f"{place} holds {name}, which {machine.name} does not store"


def _not_multiplied(place: str, op: Operation, machine: Machine) -> Iterator[str]:
    names = [_format(value) for value in _factors(op)]
    if names and not _decoded(names, computed_formats(machine)):
        text = _product_text(op, names)
        yield f"{place} multiplies {text}, which {machine.name} does not compute"

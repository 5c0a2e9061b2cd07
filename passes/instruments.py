"""What the driver looks at around every pass: texts, counts, what changed, missing locations."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation

from supertile.ir.locations import is_unknown
from supertile.ir.sched import Program
from supertile.ir.text import print_op
from supertile.ir.tile import Kernel
from supertile.ir.walk import operations, ops_within

Texts = dict[str, str]
Fingerprints = dict[str, list[tuple[object, ...]]]
Symbol = FuncOp | Kernel | Program


def function_texts(module: ModuleOp) -> Texts:
    """Function name -> its text without locations."""
    return {name: print_op(function, locations=False) for name, function in _named(module)}


def op_counts(module: ModuleOp) -> dict[str, int]:
    """Function name -> how many ops it has; a fused group counts as its ops."""
    return {name: len(operations(function)) for name, function in _named(module)}


def fingerprints(module: ModuleOp) -> Fingerprints:
    """Function name -> its ops in order, each with all that a pass could change of it."""
    return {name: [_fingerprint(op) for op in ops_within(one)] for name, one in _named(module)}


def _fingerprint(op: Operation) -> tuple[object, ...]:
    return (
        op,
        *op.operands,
        *(value.type for value in op.results),
        *op.properties.items(),
        *op.attributes.items(),
    )


def changed_functions(old: Fingerprints, new: Fingerprints) -> list[str]:
    """The functions that are new, gone or other than before, in the order of the module.

    Names of values and locations do not count. An op that a pass put in the place of an equal one
    does: ops are told apart by what they are, not by what they say, which needs no copy.
    """
    return [name for name in {**new, **old} if old.get(name) != new.get(name)]


def fill_locations(module: ModuleOp, changed: Collection[str] | None = None) -> None:
    """Give ops without a location one from their surroundings: users, operands, neighbours.

    `changed` names the functions to look into, None all. `rewrite` locates what its patterns
    insert; this is for passes that build ops in other ways.
    """
    for name, function in _named(module):
        if changed is not None and name not in changed:
            continue
        if any(is_unknown(op.location) for op in ops_within(function)):
            for region in function.regions:
                for block in region.blocks:
                    _fill_block(block)


def _fill_block(block: Block) -> None:
    # From the last op on, so that a chain of new ops takes the location of its user.
    for op in reversed(list(block.ops)):
        if is_unknown(op.location):
            source = _neighbour(op)
            op.location = op.location if source is None else source.location
        for region in op.regions:
            for inner in region.blocks:
                _fill_block(inner)


def _neighbour(op: Operation) -> Operation | None:
    """The nearest op with a location: a user, a producer, one beside it, the one around it."""
    users = (use.operation for value in op.results for use in value.uses)
    producers = (value.owner for value in op.operands if isinstance(value.owner, Operation))
    beside = (other for other in (op.next_op, op.prev_op, op.parent_op()) if other is not None)
    candidates: Iterable[Operation] = (*users, *producers, *beside)
    return next((other for other in candidates if not is_unknown(other.location)), None)


def _named(module: ModuleOp) -> list[tuple[str, Symbol]]:
    """The functions, kernels and programs of a module."""
    return [(op.sym_name.data, op) for op in module.ops if isinstance(op, Symbol)]

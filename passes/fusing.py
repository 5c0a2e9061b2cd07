"""What the fusions share: to find a group of ops around an anchor, and to wrap it in one op.

    %n = graph.rms_norm %x               %n, %c = graph.fused {kind = "norm"} {
    %y = graph.linear %n, %w               %n_1 = graph.rms_norm %x
    %c = graph.quantize %n        ->       %c_1 = graph.quantize %n_1
                                           graph.yield %n_1, %c_1
                                         }
                                         %y = graph.linear %n, %w

A group keeps its ops in their order. It stands where its last op stood; ops between that wait for
its results come behind it. Weights stay outside, so that they are seen as operands of a kernel;
constants that nobody else uses go inside. A fused op is never pulled into another group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from xdsl.context import Context
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.dialects.func import FuncOp
from xdsl.ir import Block, Operation, OpResult, Region, SSAValue

from supertile.ir import graph
from supertile.ir.walk import captured, is_state
from supertile.passes.rewriting import rewrites_of

Kinds = tuple[type[Operation], ...]
Edges = Mapping[type[Operation], Kinds]
Anchors = Callable[[Block], list[Operation]]

PARTS: Kinds = (graph.Slice, graph.Split)
"""The ops that cut a part, or all parts, out of an axis."""


@dataclass(frozen=True)
class Pattern:
    """A kind of group: its anchor, what ops pull in from there, and what marks the kind."""

    kind: str
    anchor: type[Operation] | Anchors
    """An op of this kind, or one that this finds in a block, where its kind does not say so."""
    producers: Edges = field(default_factory=dict)
    """op -> producers of its operands that it pulls in, if only the group uses their values."""
    users: Edges = field(default_factory=dict)
    """op -> users of its results that it pulls in."""
    shared: Kinds = ()
    """Producers that are pulled in even if ops outside use their values, too."""
    requires: Kinds = ()
    """The anchor must have pulled in one op of each of these."""
    feeds: Kinds = ()
    """An op of these must use a result of the group."""
    beside: Kinds = ()
    """A user of a result must also use a value that an op of these produces."""
    apart: Kinds = ()
    """No op of these may produce a value that the group reads."""

    def anchors(self, block: Block) -> list[Operation]:
        if not isinstance(self.anchor, type):
            return self.anchor(block)
        kind: type[Operation] = self.anchor
        return [op for op in block.ops if isinstance(op, kind)]


def fuse(ctx: Context, module: ModuleOp, patterns: Sequence[Pattern]) -> None:
    """Wrap every group of every pattern; where two want the same op, the first pattern has it."""
    rewrites = rewrites_of(ctx)
    for function in module.ops:
        assert isinstance(function, FuncOp)
        block = function.body.block
        for pattern in patterns:
            for anchor in pattern.anchors(block):
                # A group of this pattern may have taken the anchor meanwhile.
                if anchor.parent is block and _fuse_around(anchor, pattern):
                    rewrites.count(pattern.kind)


def unfuse(module: ModuleOp) -> None:
    """Put the ops of every group in its place.

    The program is the one before fusion, but for the order of ops that do not need each other.
    """
    _open([op for op in module.walk() if isinstance(op, graph.Fused)])


def flatten(function: Operation) -> None:
    """Put the ops of every group that is in a group in its place: kernels hold no kernels."""
    groups = [op for op in function.walk() if isinstance(op, graph.Fused)]
    _open([op for op in groups if isinstance(op.parent_op(), graph.Fused)])


def _open(groups: Sequence[graph.Fused]) -> None:
    for fused in groups:
        block, inside = fused.parent, fused.body.block
        assert block is not None
        *ops, last = inside.ops
        for result, value in zip(fused.results, last.operands, strict=True):
            result.replace_all_uses_with(value)
        for op in ops:
            inside.detach_op(op)
            block.insert_op_before(op, fused)
        block.erase_op(fused)


def _fuse_around(anchor: Operation, pattern: Pattern) -> bool:
    group = grow(anchor, pattern)
    if not _is_of_kind(group - {anchor}, anchor, pattern):
        return False
    group.update(_own_constants(group))
    assert anchor.parent is not None
    ops = [op for op in anchor.parent.ops if op in group]
    waiting = waiting_ops(ops)
    if waiting is None:
        return False
    wrap(ops, waiting, anchor, pattern.kind)
    return True


# ---- finding -----------------------------------------------------------------------------------


def grow(anchor: Operation, pattern: Pattern) -> set[Operation]:
    """All that the anchor pulls in, directly or through others; the order of pulling is no matter.

    A producer may become the group's own only once other ops are in, hence the repetition.
    """
    group: set[Operation] = {anchor}
    size = 0
    while size < len(group):
        size = len(group)
        for op in list(group):
            group.update(_pulled_users(op, pattern))
            group.update(_pulled_producers(op, group, pattern))
    return group


def _pulled_users(op: Operation, pattern: Pattern) -> Iterator[Operation]:
    kinds = pattern.users.get(type(op), ())
    for user in _users(op.results):
        if isinstance(user, kinds) and user.parent is op.parent:
            yield user


def _pulled_producers(
    op: Operation, group: set[Operation], pattern: Pattern
) -> Iterator[Operation]:
    kinds = pattern.producers.get(type(op), ())
    for producer in _producers(op.operands):
        if not isinstance(producer, kinds):
            continue
        if isinstance(producer, pattern.shared) or _serves_only(producer, group):
            yield producer


def _own_constants(group: set[Operation]) -> list[Operation]:
    producers = (producer for op in group for producer in _producers(op.operands))
    return [op for op in producers if isinstance(op, graph.Constant) and _serves_only(op, group)]


def _serves_only(producer: Operation, group: set[Operation]) -> bool:
    """Whether only the group uses the values of an op; a state leaves every group."""
    values = [value for value in producer.results if not is_state(value)]
    return all(user in group for user in _users(values))


def _is_of_kind(pulled: set[Operation], anchor: Operation, pattern: Pattern) -> bool:
    """Whether the ops around the anchor are a group of the pattern's kind."""
    if not pulled:
        return False
    if not all(any(isinstance(op, kind) for op in pulled) for kind in pattern.requires):
        return False
    group = {anchor, *pulled}
    operands = (value for op in group for value in op.operands)
    if any(isinstance(op, pattern.apart) for op in _producers(operands) if op not in group):
        return False
    results = [value for op in group for value in op.results]
    users = [user for user in _users(results) if user not in group]
    if pattern.feeds and not any(isinstance(user, pattern.feeds) for user in users):
        return False
    neighbours = (value for user in users for value in user.operands)
    return not pattern.beside or any(
        isinstance(op, pattern.beside) for op in _producers(neighbours)
    )


def _users(values: Iterable[SSAValue]) -> Iterator[Operation]:
    return (use.operation for value in values for use in value.uses)


def _producers(values: Iterable[SSAValue]) -> Iterator[Operation]:
    return (value.op for value in values if isinstance(value, OpResult))


# ---- placing -----------------------------------------------------------------------------------


def waiting_ops(ops: Sequence[Operation]) -> list[Operation] | None:
    """The ops amid those of a group, in order, that must wait for it.

    None if the group must wait for one of them in turn: then the ops cannot stand together.
    """
    group = set(ops)
    own, waiting = _Done(), _Done()
    for op in _span(ops[0], ops[-1]):
        if op in group:
            if waiting.must_precede(op):
                return None
            own.add(op)
        elif own.must_precede(op) or waiting.must_precede(op):
            waiting.add(op)
    return waiting.ops


def _span(first: Operation, last: Operation) -> Iterator[Operation]:
    op: Operation | None = first
    while op is not None:
        yield op
        op = None if op is last else op.next_op


class _Done:
    """Ops, with the values they define and the states they read and write in place."""

    def __init__(self) -> None:
        self.ops: list[Operation] = []
        self.values: set[SSAValue] = set()
        self.read: set[SSAValue] = set()
        self.written: set[SSAValue] = set()

    def add(self, op: Operation) -> None:
        self.ops.append(op)
        self.values.update(op.results)
        read, written = _states(op)
        self.read |= read
        self.written |= written

    def must_precede(self, op: Operation) -> bool:
        """Whether an op below these must stay below: it uses a value of theirs, or a state."""
        if any(value in self.values for value in _operands(op)):
            return True
        read, written = _states(op)
        return bool(read & self.written or written & (self.read | self.written))


def _operands(op: Operation) -> Sequence[SSAValue]:
    return captured(op) if isinstance(op, graph.Fused) else op.operands


def _states(op: Operation) -> tuple[set[SSAValue], set[SSAValue]]:
    """The states that an op reads through a view, and those that it writes."""
    read: set[SSAValue] = set()
    written: set[SSAValue] = set()
    for value in _operands(op):
        state = _state_behind(value)
        if state is not None:
            (written if is_state(value) else read).add(state)
    return read, written


def _state_behind(value: SSAValue) -> SSAValue | None:
    """The first version of the state that a value is a version or a view of."""
    if not isinstance(value, OpResult):
        return value if is_state(value) else None
    op = value.op
    match op:
        case graph.Append():
            return _state_behind(op.state)
        case graph.PoolWindows() if is_state(value):
            return _state_behind(op.state)
        case graph.Layers() if is_state(value):
            return _state_behind(op.states[value.index - len(op.carried)])
        case graph.Fused():
            last = op.body.block.last_op
            return None if last is None else _state_behind(last.operands[value.index])
        case graph.Reshape() | graph.Transpose() | graph.Slice() | graph.Split():
            return _state_behind(op.x)
        case _:
            return None


# ---- wrapping ----------------------------------------------------------------------------------


def wrap(
    ops: Sequence[Operation], waiting: Sequence[Operation], anchor: Operation, kind: str
) -> graph.Fused:
    """Move the ops into a fused op where the last of them stood, and the waiting ones behind it."""
    block, behind = ops[-1].parent, ops[-1].next_op
    assert block is not None and behind is not None, "a terminator is in no group"
    group = set(ops)
    results: list[SSAValue] = [
        value
        for op in ops
        for value in op.results
        if any(user not in group for user in _users([value]))
    ]
    for op in (*ops, *waiting):
        block.detach_op(op)
    fused = _fused(ops, results, anchor, kind)
    for op in (fused, *waiting):
        block.insert_op_before(op, behind)
    inside = fused.body.block
    for value, result in zip(results, fused.results, strict=True):
        result.name_hint = value.name_hint
        value.replace_uses_with_if(result, lambda use: use.operation.parent is not inside)
    return fused


def _fused(
    ops: Sequence[Operation], results: list[SSAValue], anchor: Operation, kind: str
) -> graph.Fused:
    last = graph.Yield.create(operands=results, location=anchor.location)
    return graph.Fused.create(
        result_types=[value.type for value in results],
        properties={"kind": StringAttr(kind)},
        regions=[Region(Block([*ops, last]))],
        location=anchor.location,
    )

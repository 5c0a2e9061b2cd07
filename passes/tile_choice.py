"""Closed forms behind `choose-tiles`: bytes that a block holds, its work, the time it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

from xdsl.ir import Operation, SSAValue

from supertile.ir import graph
from supertile.ir.errors import UserError
from supertile.ir.locations import location_text
from supertile.ir.op import shape_of
from supertile.ir.types import DYNAMIC, ELEMENT_BITS, MxAttr, type_of
from supertile.passes.inner_axis import inner_axis
from supertile.passes.tile_factors import factors_of
from supertile.passes.tile_memory import row_bytes
from supertile.passes.tile_sizes import PhaseSizes
from supertile.passes.tiling import Phase, Spaces, Unit, has_columns, stored_values

POWERS = tuple(1 << power for power in range(12))
ROUNDING = 512
"""Bytes left free for the small tiles of a block, which take up a multiple of 32 each."""
BALANCE_BITS = 16
"""Of the format whose rate `balance` refers to."""
STEP_BYTES = 16384
"""What starting a step costs, as bytes that could have been loaded: keeps steps from being tiny."""
SMALLEST_SIDE = 16
"""Of a product: matrix engines work on 16 rows or columns at once."""


@dataclass(frozen=True)
class Limits:
    """What tiles are chosen for; see the options of `choose-tiles`."""

    test: bool
    tokens: int
    arrived: int
    sequences: int
    context: int
    cores: int
    vector_cores: int
    balance: float
    operand_bytes: int
    accumulator_bytes: int
    vector_bytes: int
    spaces: tuple[str, str, str]
    """Those of operands, accumulators and other tiles."""

    def fit(self, operand: float = 0, accumulator: float = 0, vector: float = 0) -> bool:
        """Whether so many bytes of each use fit. Uses that lie in one space share it."""
        needed = (operand, accumulator, vector)
        if operand > self.operand_bytes or accumulator > self.accumulator_bytes:
            return False
        if vector > self.vector_bytes:
            return False
        return all(sum([needed[use] for use in uses]) <= held for uses, held in self._shared)

    @cached_property
    def _shared(self) -> list[tuple[list[int], int]]:
        """Of each space that several uses share: the uses by number, and the bytes of them all."""
        held = (self.operand_bytes, self.accumulator_bytes, self.vector_bytes)
        uses = [[n for n, at in enumerate(self.spaces) if at == s] for s in set(self.spaces)]
        return [(ours, max(held[n] for n in ours)) for ours in uses if len(ours) > 1]

    def rows(self, space: str) -> int:
        """How many rows a row space has in the calls to choose for."""
        base, star, factor = space.rpartition("*")
        if star:
            return self.rows(base) * int(factor)
        if space.startswith("windows"):
            return max(1, self.tokens // int(space.removeprefix("windows")))
        if space.startswith("share"):
            return -(-self.tokens // int(space.removeprefix("share")))
        return self.arrived if space == "received" else self.tokens

    def rows_of_one(self) -> int:
        """The most rows of one sequence in a block."""
        return max(1, self.tokens // self.sequences)


def chosen_sizes(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    """The sizes of a phase. UserError when not even the smallest block fits."""
    choose = CHOICES[phase.kind]
    try:
        return choose(phase, unit, spaces, limits)
    except _TooLargeError as error:
        raise UserError(
            "pass.tile_too_large",
            name=unit.kind,
            place=location_text(phase.ops[0].location),
            needed=error.needed,
            held=error.held,
            memory=error.memory,
        ) from None


class _TooLargeError(Exception):
    """The smallest block needs more than a memory holds."""

    def __init__(self, memory: str, needed: int, held: int) -> None:
        super().__init__()
        self.memory, self.needed, self.held = memory, needed, held


# ---- sizes for tests ---------------------------------------------------------------------------


def smaller(size: int, blocks: Sequence[int] = ()) -> int:
    """The largest step that cuts a size in three or more with a remainder, as far as that goes.

    It divides each scale block, or is a multiple of it.
    """
    if size == DYNAMIC:
        return 2
    legal = [step for step in range(1, size + 1) if _suits(step, blocks)] or [size]
    cuts = [step for step in legal if -(-size // step) >= 3] or legal[:1]
    uneven = [step for step in cuts if size % step] or cuts
    return max(uneven)


def _suits(step: int, blocks: Iterable[int]) -> bool:
    """Whether tiles of this step hold whole scale blocks, or lie in one."""
    return all(step % block == 0 or block % step == 0 for block in blocks)


# ---- products ----------------------------------------------------------------------------------


def _product(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    (op,) = phase.ops
    factors = factors_of(op)
    columns, depth = factors.size(factors.column), factors.size(factors.summed)
    beside = math.prod(factors.size(c) for c in factors.x_letters[1:-1] if c not in factors.shared)
    shared = math.prod(factors.size(c) for c in factors.shared)
    return _matrix_sizes(
        _Matrix(
            limits.rows(phase.space), columns, depth, beside, shared,
            _bits(factors.x), _bits(factors.w), _bits(op.results[0]),
            _blocks(factors.w, 2), (*_blocks(factors.x, 1), *_blocks(factors.w, 1)),
        ),
        limits,
    )  # fmt: skip


def _grouped(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    (op,) = phase.ops
    assert isinstance(op, graph.GroupedLinear)
    x, w = op.x, op.w
    experts, columns, depth = shape_of(w)
    experts = max(experts, 1)
    rows = limits.rows(phase.space)
    used = min(rows, experts)
    return _matrix_sizes(
        _Matrix(
            -(-rows // used), columns, depth, 1, used, _bits(x), _bits(w), _bits(op.result),
            _blocks(w, 2), (*_blocks(x, 1), *_blocks(w, 1)),
        ),
        limits,
    )  # fmt: skip


@dataclass(frozen=True)
class _Matrix:
    """A product of matrices to be cut: `shared` of them, `beside` rows for each row."""

    rows: int
    columns: int
    depth: int
    beside: int
    shared: int
    x_bits: float
    w_bits: float
    y_bits: float
    column_blocks: tuple[int, ...]
    depth_blocks: tuple[int, ...]


@cache
def _matrix_sizes(m: _Matrix, limits: Limits) -> PhaseSizes:
    if limits.test:
        columns = smaller(m.columns, m.column_blocks)
        return PhaseSizes(2, columns, smaller(m.depth, m.depth_blocks))
    least: tuple[float, ...] | None = None
    best = PhaseSizes()
    for rows, columns, depth in _candidates(m):
        sums = rows * m.beside * columns
        rounded = sums * m.y_bits / 8 if m.y_bits < 32 else 0
        if not limits.fit(_operand_bytes(m, rows, columns, depth), sums * 4, rounded):
            continue
        rank = (_time(m, rows, columns, depth, limits), -depth, -columns, -rows)
        if least is None or rank < least:
            least, best = rank, PhaseSizes(rows, columns, depth)
    if least is None:
        rows, columns, depth = next(_candidates(m))
        needed = _operand_bytes(m, rows, columns, depth)
        raise _TooLargeError("the memory of operands", needed, limits.operand_bytes)
    return best


def _candidates(m: _Matrix) -> Iterator[tuple[int, int, int]]:
    """(rows, columns, depth), the smallest first: powers of two, no larger than needed."""
    rows = [1] if m.beside >= SMALLEST_SIDE else _sides(m.rows, ())
    return iter(
        list(product(rows, _sides(m.columns, m.column_blocks), _sides(m.depth, m.depth_blocks)))
    )


def _sides(size: int, blocks: Sequence[int]) -> list[int]:
    largest = 1 << max(size - 1, 1).bit_length()
    powers = [p for p in POWERS if SMALLEST_SIDE <= p <= max(largest, SMALLEST_SIDE) and p <= 1024]
    return [p for p in powers if _suits(p, blocks)] or [size]


def _operand_bytes(m: _Matrix, rows: int, columns: int, depth: int) -> int:
    """Two tiles of each operand: one at work, one on its way."""
    return math.ceil(2 * depth * (rows * m.beside * m.x_bits + columns * m.w_bits) / 8)


def _time(m: _Matrix, rows: int, columns: int, depth: int, limits: Limits) -> float:
    """Of all waves, in operations of one core; loading and computing overlap."""
    blocks = -(-m.rows // rows) * -(-m.columns // columns) * m.shared
    waves = -(-blocks // limits.cores)
    steps = -(-m.depth // depth)
    # Engines multiply formats of half the bits twice as fast.
    computed = 2 * rows * m.beside * columns * depth * max(m.x_bits, m.w_bits) / BALANCE_BITS
    loaded = (_operand_bytes(m, rows, columns, depth) / 2 + STEP_BYTES) * limits.balance
    stored = rows * m.beside * columns * 4 * limits.balance
    return waves * (steps * max(computed, loaded) + loaded + stored)


def _bits(value: SSAValue) -> float:
    """Bits of an element, its share of a scale included."""
    kind = type_of(value)
    bits: float = ELEMENT_BITS[kind.element_type]
    if isinstance(kind.encoding, MxAttr):
        bits += ELEMENT_BITS[kind.encoding.scale] / math.prod(kind.encoding.sizes)
    return bits


def _blocks(value: SSAValue, axis_from_end: int) -> tuple[int, ...]:
    """The scale block along an axis, if the value is scaled."""
    encoding = type_of(value).encoding
    if not isinstance(encoding, MxAttr) or len(encoding.sizes) < axis_from_end:
        return ()
    size = encoding.sizes[-axis_from_end]
    return (size,) if size > 1 else ()


# ---- rows --------------------------------------------------------------------------------------


def _rows(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    """Whole rows where one fits; else one row at a time, cut along an inner axis."""
    each, fixed = row_bytes(phase, spaces)
    fits = each + fixed <= limits.vector_bytes
    inner = None
    if limits.test or not fits:
        inner = inner_axis(phase, stored_values(phase, unit), spaces)
    if limits.test:
        return PhaseSizes(2, heads=smaller(inner.parts) if inner else 0)
    if inner is None:
        return PhaseSizes(_fitting_rows((each, fixed), phase.space, limits), heads=0)
    for parts in sorted(_divisors(inner.parts), reverse=True):
        share = dict.fromkeys(inner.cuts, parts / inner.parts)
        if 2 * sum(row_bytes(phase, spaces, share)) <= limits.vector_bytes:
            return PhaseSizes(1, heads=parts)
    raise _TooLargeError("the memory of vectors", each + fixed, limits.vector_bytes)


def _fitting_rows(bytes_of: tuple[int, int], space: str, limits: Limits) -> int:
    """Rows of a block: as many as fit twice, but no fewer blocks than cores."""
    each, fixed = bytes_of
    if fixed + each > limits.vector_bytes:
        raise _TooLargeError("the memory of vectors", fixed + each, limits.vector_bytes)
    room = max(limits.vector_bytes // 2 - fixed, each)
    share = -(-limits.rows(space) // limits.vector_cores)
    return max(1, min(room // max(each, 1), share, 1024))


def _moved(op: Operation) -> SSAValue:
    """The value whose rows an op moves."""
    match op:
        case graph.Append() | graph.Combine():
            return op.rows
        case graph.Dispatch():
            return op.x
        case _:
            return op.results[0]


def _bytes_of_row(value: SSAValue) -> int:
    return math.ceil(math.prod(shape_of(value)[1:]) * _bits(value) / 8)


def _plain_rows(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    """Rows that are moved as they are."""
    (op,) = phase.ops
    if limits.test:
        return PhaseSizes(2, _moved_columns(op))
    return PhaseSizes(_fitting_rows((2 * _bytes_of_row(_moved(op)), 0), phase.space, limits))


def _combine(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    """Sums of rows: two rows and their sum in float32."""
    (op,) = phase.ops
    assert isinstance(op, graph.Combine)
    if limits.test:
        return _plain_rows(phase, unit, spaces, limits)
    each = 2 * _bytes_of_row(op.rows) + 4 * math.prod(shape_of(op.rows)[1:])
    places = 16 * op.choices.value.data
    return PhaseSizes(_fitting_rows((each + places, 0), phase.space, limits))


def _moved_columns(op: Operation) -> int:
    """For tests: part of the width of what is moved."""
    width = shape_of(op.results[0])[-1] if shape_of(op.results[0]) else 1
    return smaller(width) if width != DYNAMIC else 1


def _pool_windows(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    (op,) = phase.ops
    assert isinstance(op, graph.PoolWindows)
    slots = (1 + op.overlap.value.data) * op.ratio.value.data
    width = shape_of(op.rows)[1]
    if limits.test:
        return PhaseSizes(2, smaller(width))
    # Values, scores, weights and their product, in float32.
    each = 16 * slots
    fits = [c for c in POWERS if c <= width and each * c <= limits.vector_bytes // 2]
    if not fits:
        raise _TooLargeError("the memory of vectors", 2 * each, limits.vector_bytes)
    columns = max(fits)
    rows = max(1, min(16, limits.vector_bytes // 2 // (each * columns)))
    return PhaseSizes(rows, columns)


def _columns(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    if limits.test:
        return PhaseSizes(2, 3)
    widths = [
        math.prod(shape_of(value)[1:-1])
        for op in phase.ops
        for value in op.results
        if len(shape_of(value)) > 1
    ]
    held = 2 * sum(sorted(widths)[-2:]) * 4 + 8
    scores = 4 * max(widths)
    keys = max((_entry_bytes(op) for op in phase.ops if isinstance(op, graph.Einsum)), default=0)
    kept = sum(16 * op.k.value.data for op in phase.ops if isinstance(op, graph.TopK))
    # Rows without entries, such as queries, are there all the time.
    asked = dict.fromkeys(value for op in phase.ops for value in op.operands)
    kept += sum(
        _bytes_of_row(value)
        for value in asked
        if spaces.get(value) == phase.space and not has_columns(value)
    )
    fits = [
        (rows * columns, rows, columns)
        for rows in POWERS[: limits.rows_of_one().bit_length()]
        for columns in POWERS[4:]
        if columns <= 1024
        and limits.fit(2 * columns * keys, rows * columns * scores, rows * (columns * held + kept))
    ]
    if not fits:
        raise _TooLargeError("the memory of vectors", 16 * held + kept, limits.vector_bytes)
    _, rows, columns = max(fits)
    return PhaseSizes(rows, columns)


def _entry_bytes(op: graph.Einsum) -> float:
    """Bytes of one entry of the operand that the sequences of the rows name."""
    terms = op.equation.data.split("->")[0].split(",")
    found = [v for v, term in zip(op.inputs, terms, strict=True) if "b" in term]
    return sum(math.prod(shape_of(value)[2:]) * _bits(value) / 8 for value in found)


# ---- attention ---------------------------------------------------------------------------------


def _attend(phase: Phase, unit: Unit, spaces: Spaces, limits: Limits) -> PhaseSizes:
    (op,) = phase.ops
    assert isinstance(op, graph.Attend)
    _, heads, channels = shape_of(op.q)
    shared = _key_heads(op)
    group = heads // shared if shared else heads
    block = op.block.value.data if op.block is not None and op.round is not None else 1
    # Blocks of rounded weights belong to the result: a tile is one of them.
    steps = POWERS[4:10] if block == 1 else (block,)
    if limits.test:
        columns = block if block > 1 else 3
        return PhaseSizes(2, columns, heads=_divisor(group, 3) if shared else smaller(heads))
    keys = _Keys(
        heads, channels, op.value_width.value.data, _bits(op.q),
        sum(shape_of(held[0])[-1] * _bits(held[0]) for held in (op.keys, op.values) if held),
        any(len(shape_of(value)) == 2 for value in op.index),
    )  # fmt: skip
    sizes = [
        (rows, part, columns)
        for rows, part, columns in product(POWERS[:7], _divisors(group), steps)
        if rows <= (1 if keys.gathered else limits.rows_of_one())
        and keys.fit(rows, part, columns, limits)
    ]
    if not sizes:
        needed = math.ceil(32 * keys.bits / 8)
        raise _TooLargeError("the memory of operands", needed, limits.operand_bytes)
    rows, part, columns = min(
        sizes,
        key=lambda size: (keys.time(size, limits), -size[2], -size[1], size[0]),
    )
    return PhaseSizes(rows, columns, heads=part)


@dataclass(frozen=True)
class _Keys:
    """What attention works on: query heads, channels, width of the values and of results."""

    heads: int
    channels: int
    width: int
    q_bits: float
    bits: float
    """Of a key and its value, all channels."""
    gathered: bool
    """Each row has keys of its own."""

    def fit(self, rows: int, part: int, columns: int, limits: Limits) -> bool:
        """Whether queries and two tiles of keys, one product, the sums and the scores fit."""
        each = rows * part
        keys = 2 * columns * self.bits / 8 * (rows if self.gathered else 1)
        product = 4 * each * max(self.width, columns)
        # Scores with their indices, two of them in flight, and eight numbers for each head.
        vector = 4 * each * (self.width + columns + 8) + 8 * rows * columns + ROUNDING
        if (part if self.gathered else each) < SMALLEST_SIDE:
            # The vector engine multiplies, where its results lie.
            return limits.fit(keys + each * self.channels * self.q_bits / 8, 0, vector + product)
        return limits.fit(keys + each * self.channels * self.q_bits / 8, product, vector)

    def time(self, sizes: tuple[int, int, int], limits: Limits) -> float:
        """For each key, of all waves, in operations of one core; a step has a cost of its own."""
        rows, part, columns = sizes
        rows, part, columns = sizes
        blocks = -(-limits.tokens // rows) * (self.heads // part)
        computed = 4 * rows * max(part, SMALLEST_SIDE) * self.channels
        loaded = self.bits / 8 * (rows if self.gathered else 1) * limits.balance
        return -(-blocks // limits.cores) * (max(computed, loaded) + 64 * self.channels / columns)


def _key_heads(op: graph.Attend) -> int:
    """Heads of the keys; 0 where all heads share them."""
    shape = shape_of(op.keys[0])
    return shape[2] if len(shape) == 4 else 0


def _divisors(size: int) -> list[int]:
    return [part for part in range(1, size + 1) if size % part == 0]


def _divisor(size: int, parts: int) -> int:
    """The largest divisor that leaves at least so many parts; 1 where there is none."""
    return max((d for d in _divisors(size) if size // d >= parts), default=1)


Choice = Callable[[Phase, Unit, Spaces, Limits], PhaseSizes]

CHOICES: dict[str, Choice] = {
    "rows": _rows,
    "columns": _columns,
    "product": _product,
    "einsum_product": _product,
    "grouped_product": _grouped,
    "append": _plain_rows,
    "completed_windows": _plain_rows,
    "pool_windows": _pool_windows,
    "window_index": _plain_rows,
    "attend": _attend,
    "dispatch": _plain_rows,
    "combine": _combine,
}

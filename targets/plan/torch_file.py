"""Reads the tables of numbers in a file of torch.save, without torch and without unpickling.

Such a file is a zip archive: `data.pkl` is a pickle, `data/N` are the bytes of the tensors. A
pickle is a program that may call anything. Here its instructions are listed, never run: those that
build dictionaries, lists, tuples, numbers, words and tensors are followed, one call is known
(`torch._utils._rebuild_tensor_v2`), and everything else is refused.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.runtime.numerics import bf16_from_bits
from supertile.runtime.zip_file import ZipArchive

PICKLE_LIMIT = 8_000_000  # bytes of data.pkl; a recorder's has some hundred
STEP_LIMIT = 1_000_000
RANK_LIMIT = 8
ELEMENT_LIMIT = 2**26

# Storage classes of torch: the elements of their bytes. BF16 comes as its bits.
STORAGES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
TENSOR, ORDERED = ("torch._utils", "_rebuild_tensor_v2"), ("collections", "OrderedDict")
KNOWN = {TENSOR, ORDERED, *(("torch", name) for name in STORAGES)}


class Name(NamedTuple):
    """What the pickle imports: never imported here."""

    module: str
    name: str


class Storage(NamedTuple):
    """The bytes of tensors: which class of torch, which entry of the archive, how many elements."""

    kind: str
    key: str
    size: int


class Mark:
    """Where a run of values on the stack begins."""


@dataclass(frozen=True)
class RefusedError(Exception):
    """An instruction, or what it is given, that is not followed."""

    what: str


def read_torch(file: str, limit: int) -> object:
    """What the file holds: dict, list, tuple, str, int, float, bool, None and arrays.

    `loads.torch_refused` for whatever else a pickle can hold, `loads.broken` for damage.
    """
    archive = ZipArchive(file, limit, "loads.broken")
    pickles = [name for name in archive.names() if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise archive.broken("it has no data.pkl, which torch.save writes")
    folder = pickles[0].removesuffix("data.pkl")
    if any(map(archive.is_packed, archive.names())):
        raise archive.broken("its entries are packed, which torch.save never does")
    raw = archive.read(pickles[0])
    if len(raw) > PICKLE_LIMIT:
        raise archive.broken(f"data.pkl has {len(raw)} bytes, the limit is {PICKLE_LIMIT}")
    order = "little"
    if f"{folder}byteorder" in archive.names():
        order = archive.read(f"{folder}byteorder").decode("ascii", "replace").strip()
    if order not in ("little", "big"):
        raise archive.broken(f"the byte order {order:.20}")
    try:
        return _Builder(Storages(archive, f"{folder}data/", order)).build(raw)
    except RefusedError as error:
        raise UserError("loads.torch_refused", file=file, found=error.what[:200]) from None


class Storages:
    """The bytes of the tensors, read once each when a tensor needs them."""

    def __init__(self, archive: ZipArchive, folder: str, order: str) -> None:
        self.archive, self.folder, self.order = archive, folder, order
        self.elements = 0
        self._read: dict[str, bytes] = {}

    def array(self, storage: Storage) -> NDArray[Any]:
        if storage.key not in self._read:
            self._read[storage.key] = self.archive.read(self.folder + storage.key)
        dtype = np.dtype(STORAGES[storage.kind]).newbyteorder(
            "<" if self.order == "little" else ">"
        )
        data = self._read[storage.key]
        if storage.size * dtype.itemsize != len(data):
            found = f"{len(data)} bytes for {storage.size} elements of {storage.kind}"
            raise self.archive.broken(f"data/{storage.key:.20} has {found}")
        return np.frombuffer(data, dtype)

    def tensor(self, storage: Storage, offset: int, size: Sizes, stride: Sizes) -> NDArray[Any]:
        """A copy of the elements at offset + index * stride, in the machine's byte order."""
        self.elements += math.prod(size)
        if len(size) > RANK_LIMIT or self.elements > ELEMENT_LIMIT:
            raise RefusedError(f"a tensor of {list(size[:RANK_LIMIT])}, too many elements")
        held = self.array(storage)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 in size:
            return np.zeros(size, held.dtype.newbyteorder("="))
        if last >= len(held):
            raise self.archive.broken(f"a tensor reaches beyond data/{storage.key:.20}")
        strides = [step * held.itemsize for step in stride]
        view = np.ndarray(size, held.dtype, held, offset * held.itemsize, strides)
        native = view.astype(held.dtype.newbyteorder("="))
        return bf16_from_bits(native) if storage.kind == "BFloat16Storage" else native


Sizes = tuple[int, ...]


class _Builder:
    """Follows the instructions of a pickle on a stack of its own."""

    def __init__(self, storages: Storages) -> None:
        self.storages = storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def build(self, raw: bytes) -> object:
        try:
            for count, (instruction, argument, _) in enumerate(pickletools.genops(raw)):
                if count >= STEP_LIMIT:
                    raise RefusedError(f"more than {STEP_LIMIT} instructions")
                if instruction.name == "STOP":
                    break
                self._follow(instruction.name, argument)
        except (ValueError, IndexError, KeyError, OverflowError, UnicodeDecodeError) as error:
            reason = f"data.pkl is damaged: {type(error).__name__} {error}"
            raise self.storages.archive.broken(reason) from None
        if len(self.stack) != 1:
            raise self.storages.archive.broken("data.pkl is damaged: it ends early")
        return self.stack[0]

    def _follow(self, name: str, argument: Any) -> None:
        if name in PUSHED:
            self.stack.append(PUSHED[name](argument))
        elif name in INSTRUCTIONS:
            INSTRUCTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"the pickle instruction {name}")

    # ---- parts of instructions

    def run(self) -> list[Any]:
        """The values from the last mark on, taken off the stack."""
        start = len(self.stack) - 1
        while start >= 0 and not isinstance(self.stack[start], Mark):
            start -= 1
        if start < 0:
            raise IndexError("no mark")
        values = self.stack[start + 1 :]
        del self.stack[start:]
        return values

    def take(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        values = self.stack[max(start, 0) :]
        if start < 0 or any(isinstance(value, Mark) for value in values):
            raise IndexError("too few values")
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise RefusedError(f"items added to {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def set_items(self, pairs: list[Any]) -> None:
        table = self.top(dict)
        if len(pairs) % 2 or not all(isinstance(key, str | int) for key in pairs[::2]):
            raise RefusedError("a dictionary whose keys are no words or numbers")
        table.update(zip(pairs[::2], pairs[1::2], strict=True))

    def add_items(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def keep(self, index: int) -> None:
        if isinstance(self.stack[-1], Mark):
            raise IndexError("a mark is no value")
        self.memo[index] = self.stack[-1]

    def again(self, index: int) -> None:
        """A value used a second time. A list may so hold itself: readers must not trust depths."""
        self.stack.append(self.memo[index])

    def imported(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise RefusedError("an import without a name")
        if (module, name) not in KNOWN:
            raise RefusedError(f"{module:.80}.{name:.80}")
        self.stack.append(Name(module, name))

    def stored(self) -> None:
        """A persistent id: ("storage", class, key, device, number of elements)."""
        match self.stack.pop():
            case ("storage", Name("torch", kind), str(key), str(), int(size)) if (
                kind in STORAGES and size >= 0
            ):
                self.stack.append(Storage(kind, key, size))
            case _:
                raise RefusedError("a storage of another form")

    def call(self) -> None:
        function, arguments = self.take(2)
        if type(function) is not Name or type(arguments) is not tuple:
            raise RefusedError("a call of something that is no import")
        if function == TENSOR:
            self.stack.append(self.tensor(arguments))
        elif function == ORDERED and not arguments:
            self.stack.append({})
        else:
            raise RefusedError(f"a call of {function.module}.{function.name}")

    def tensor(self, arguments: tuple[Any, ...]) -> NDArray[Any]:
        """Arguments: storage, offset, size, stride, and what concerns gradients."""
        match arguments:
            case (Storage() as storage, int(offset), tuple(size), tuple(stride), *_) if len(
                size
            ) == len(stride) and all(map(_is_count, (offset, *size, *stride))):
                return self.storages.tensor(storage, offset, size, stride)
        raise RefusedError("a tensor of another form")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**62


PUSHED: dict[str, Callable[[Any], Any]] = {
    "MARK": lambda _: Mark(),
    "EMPTY_DICT": lambda _: {},
    "EMPTY_LIST": lambda _: [],
    "EMPTY_TUPLE": lambda _: (),
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1"), lambda value: value),
    **dict.fromkeys(("BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"), lambda value: value),
}
"""Instructions that put one value onto the stack."""

INSTRUCTIONS: dict[str, Callable[[_Builder, Any], None]] = {
    "TUPLE": lambda builder, _: builder.stack.append(tuple(builder.run())),
    "TUPLE1": lambda builder, _: builder.stack.append(tuple(builder.take(1))),
    "TUPLE2": lambda builder, _: builder.stack.append(tuple(builder.take(2))),
    "TUPLE3": lambda builder, _: builder.stack.append(tuple(builder.take(3))),
    "SETITEM": lambda builder, _: builder.set_items(builder.take(2)),
    "SETITEMS": lambda builder, _: builder.set_items(builder.run()),
    "APPEND": lambda builder, _: builder.add_items(builder.take(1)),
    "APPENDS": lambda builder, _: builder.add_items(builder.run()),
    "BINPUT": lambda builder, index: builder.keep(index),
    "LONG_BINPUT": lambda builder, index: builder.keep(index),
    "MEMOIZE": lambda builder, _: builder.keep(len(builder.memo)),
    "BINGET": lambda builder, index: builder.again(index),
    "LONG_BINGET": lambda builder, index: builder.again(index),
    "GLOBAL": lambda builder, names: builder.imported(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda builder, _: builder.imported(*builder.take(2)),
    "BINPERSID": lambda builder, _: builder.stored(),
    "REDUCE": lambda builder, _: builder.call(),
}
"""Instructions that take values off the stack, or use what was seen before."""

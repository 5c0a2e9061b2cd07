"""Changes of what JSON means: keys and elements lost, doubled, retyped, moved, nested."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from fuzzing.changes import odd

Slot = tuple[Any, Any]
"""A dict or a list, and a key or an index of it."""


def changed(value: object, random: Random) -> object:
    """The value with one to three changes."""
    holder = [copy.deepcopy(value)]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        slots = list(_slots(holder))
        if not slots:
            break
        random.choice(CHANGES)(random, random.choice(slots), slots)
    return holder[0] if holder else None


def json_bytes(value: object, random: Random) -> bytes:
    """JSON in one of the ways that it can be written, with NaN and Infinity as Python has them."""
    indent = random.choice([None, None, 2])
    text = json.dumps(value, indent=indent, ensure_ascii=random.random() < 0.8)
    return text.encode("utf-8", "surrogatepass")


def _slots(holder: Any) -> Iterator[Slot]:
    """Every place of a value within; those of long lists are few of them."""
    for key in list(holder) if isinstance(holder, dict) else _some(len(holder)):
        yield holder, key
        if isinstance(holder[key], dict | list):
            yield from _slots(holder[key])


def _some(length: int) -> list[int]:
    return list(range(length)) if length < 12 else [0, 1, 2, length // 2, length - 2, length - 1]


# ---- the changes -------------------------------------------------------------------------------


def _drop(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    # One that an earlier change has taken out has nothing more to lose.
    if isinstance(holder, dict):
        holder.pop(key, None)
    elif key < len(holder):
        del holder[key]


def _double(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    else:
        holder[f"{key}{random.choice(['_2', ' ', 's'])}"] = copy.deepcopy(holder[key])


def _odd(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    holder[key] = odd.value(random)


def _null(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    holder[key] = None


def _scale(random: Random, slot: Slot, slots: list[Slot]) -> None:
    """A number that is off by a factor or by one; of anything else an odd number."""
    holder, key = slot
    found = holder[key]
    if isinstance(found, bool) or not isinstance(found, int | float):
        holder[key] = odd.number(random)
        return
    scaled = found * random.choice(odd.FACTORS)
    whole = isinstance(found, int) and abs(scaled) < 2**80
    near = [found + 1, found - 1, int(scaled) if whole else scaled]
    holder[key] = random.choice(near)


def _retype(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    match holder[key]:
        case bool(found):
            holder[key] = random.choice([int(found), str(found)])
        case int(found) | float(found):
            holder[key] = random.choice([str(found), [found], bool(found), {"value": found}])
            if isinstance(found, int) and abs(found) < 2**53:
                holder[key] = random.choice([holder[key], float(found), found + 0.5])
        case str(found):
            holder[key] = random.choice([[found], list(found[:20]), len(found), {found: found}])
        case list(found):
            numbered = {str(number): item for number, item in enumerate(found)}
            holder[key] = random.choice([numbered, found[:1], [found], len(found), str(found[:3])])
        case dict(found):
            holder[key] = random.choice([list(found), list(found.values()), [found], len(found)])
        case _:
            holder[key] = odd.value(random)


def _swap(random: Random, slot: Slot, slots: list[Slot]) -> None:
    (holder, key), (other, place) = slot, random.choice(slots)
    first, second = copy.deepcopy(holder[key]), copy.deepcopy(other[place])
    holder[key], other[place] = second, first


def _rename(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    if isinstance(holder, dict):
        kept = holder.pop(key)
        holder[random.choice([odd.text(random), key[:-1], key + "x", key.upper()])] = kept


def _nest(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    for _ in range(random.choice(odd.DEPTHS)):
        holder[key] = [holder[key]] if random.random() < 0.7 else {"x": holder[key]}


def _shuffle(random: Random, slot: Slot, slots: list[Slot]) -> None:
    holder, key = slot
    if isinstance(holder[key], list):
        random.shuffle(holder[key])
    else:
        _swap(random, slot, slots)


def _cut(random: Random, slot: Slot, slots: list[Slot]) -> None:
    """A list of another length; of anything else an odd value."""
    holder, key = slot
    if isinstance(holder[key], list) and holder[key]:
        size = random.randint(0, 2 * len(holder[key]))
        holder[key] = (holder[key] * 2)[: min(size, 10_000)]
    else:
        _odd(random, slot, slots)


CHANGES: tuple[Callable[[Random, Slot, list[Slot]], None], ...] = (
    _drop, _double, _odd, _odd, _null, _scale, _scale, _retype, _retype, _swap, _rename, _nest,
    _shuffle, _cut,
)  # fmt: skip

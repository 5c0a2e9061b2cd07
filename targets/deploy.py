"""The text of `--deploy`, read: a deployment, checked as far as it needs no model and no machine.

    deployment = parse_deployment("phase=decode ep=384 batch=96 context=4K")
    check_deployment(deployment, model, machine)    # impossible ones raise, with the nearest

docs/deploy.md has the grammar.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, get_args

from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.even_parts import even_parts
from supertile.targets.deployment import (
    CACHES,
    Config,
    Deployment,
    Model,
    Phase,
    deployment_text,
    expert_slots,
)
from supertile.targets.deployment_rules import (
    FORM_RULES,
    check_deployment,
    error_values,
    first_problem,
)

__all__ = [
    "KEYS",
    "Config",
    "Deployment",
    "Model",
    "check_deployment",
    "deployment_text",
    "expert_slots",
    "given_keys",
    "parse_deployment",
]

RANK_LIMIT = 2**20
COUNT_LIMIT = 2**31

SEPARATORS = re.compile(r"[\s,]*")
# What follows a comma belongs to the value before if it begins with a digit: no key does.
ITEM = re.compile(r"(?P<key>[^\s,=]*)=?(?P<value>(?<==)[^\s,=]*(?:\s*,\s*[0-9][^\s,=]*)*)?")
COUNT = re.compile(r"([0-9]{1,15})([kKmM]?)")
NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
SUFFIXES = {"": 1, "k": 2**10, "m": 2**20}


def _count(text: str, limit: int) -> int | None:
    match = COUNT.fullmatch(text)
    number = int(match[1]) * SUFFIXES[match[2].lower()] if match else 0
    return number if 1 <= number <= limit else None


def _number(text: str) -> float | None:
    number = float(text) if NUMBER.fullmatch(text) else math.inf
    return number if math.isfinite(number) else None


def _word(text: str, known: Iterable[str]) -> str | None:
    return text if text in known else None


def _slots(text: str) -> Callable[[int], tuple[int, ...]] | None:
    """The slots of each rank, once the number of ranks is known."""
    pieces = [piece.strip() for piece in text.split(",")]
    total, each = _count(text, RANK_LIMIT * 8), _count(text.removesuffix("/rank"), COUNT_LIMIT)
    if text.endswith("/rank"):
        return None if each is None else lambda ranks: (each,) * ranks
    if total is not None:
        return lambda ranks: even_parts(total, ranks)
    pairs = [[_count(part, RANK_LIMIT) for part in piece.split("x")] for piece in pieces]
    runs = [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0] and pair[1]]
    if len(runs) < len(pairs) or sum(ranks for _, ranks in runs) > RANK_LIMIT:
        return None
    return lambda _: tuple(itertools.chain(*((slots,) * ranks for slots, ranks in runs)))


class Kind(NamedTuple):
    """How the value of a key is read, and what is expected there."""

    read: Callable[[str], Any]
    expected: str
    known: Sequence[str] = ()


def _words(words: Sequence[str]) -> Kind:
    return Kind(partial(_word, known=words), " or ".join(words), words)


def _counts(limit: int) -> Kind:
    expected = f"a whole number from 1 to {limit}; 4K is 4096, 1M is 1048576"
    return Kind(partial(_count, limit=limit), expected)


KEYS: dict[str, Kind] = {
    "phase": _words(get_args(Phase)),
    "ep": _counts(RANK_LIMIT),
    "tp": _counts(RANK_LIMIT),
    "dp": _counts(RANK_LIMIT),
    "batch": _counts(COUNT_LIMIT),
    "context": _counts(COUNT_LIMIT),
    "chunk": _counts(COUNT_LIMIT),
    "slots": Kind(_slots, "768 in all, 3/rank, or SLOTSxRANKS such as 2x100,1x284"),
    "mtp": Kind(_number, "the draft tokens accepted a step, such as 0.7"),
    "cache": _words(tuple(CACHES)),
}
SPECULATION = "drafts of a layer that runs several times a step, or of another model"
SLICED = "experts that are sliced over the ranks of several groups"
CONTEXT = "sequences that are cut over ranks"
PREFIX = "prompt tokens whose cache is there before the prefill"
UNSAID_KEYS = {
    **dict.fromkeys(("pp", "stages"), "pipeline stages"),
    **dict.fromkeys(("moe_tp", "etp", "moe_dp", "moe_ep"), SLICED),
    **dict.fromkeys(("cp", "pcp", "dcp", "sp"), CONTEXT),
    **dict.fromkeys(("prefix", "cached", "reuse", "hit"), PREFIX),
    **dict.fromkeys(("drafts", "next_n", "speculative", "eagle", "draft_model"), SPECULATION),
    **dict.fromkeys(("offload", "host", "kv_offload"), "caches that move to the host's memory"),
    **dict.fromkeys(("transfer", "pd", "kv_transfer"), "caches that move from prefill to decode"),
}
"""Keys that engines know, and what they mean there: no deployment says it, so none is costed."""
FP4 = "caches in 4 bits"
UNSAID_VALUES = {
    "phase": dict.fromkeys(("mixed", "aggregated", "both"), "steps that mix prefill and decode"),
    "cache": {
        **dict.fromkeys(("nvfp4", "mxfp4", "fp4", "f4e2m1", "int4", "i4", "turboquant"), FP4),
        **dict.fromkeys(("int8", "i8"), "caches in INT8"),
    },
}
"""The same of values."""
DEFAULTS = {"batch": 1, "context": 4096, "chunk": None, "mtp": None, "cache": "bf16"}


class Item(NamedTuple):
    """KEY=VALUE in a text: the value as read, and the offset at which it is written."""

    value: Any
    offset: int


def parse_deployment(text: str) -> Deployment:
    """The deployment that `text` describes, checked as far as it needs no model and no machine."""
    items = _items(text)
    if "phase" not in items:
        phase = "prefill" if "chunk" in items else "decode"
        raise _error("deploy.no_phase", text, 0, nearest=f"phase={phase} {text.strip()}".strip())
    given = {key: item.value for key, item in items.items()}
    world = _world(given)
    slots = given["slots"](world["ep"]) if "slots" in given else None
    deployment = Deployment(**{**DEFAULTS, **given, **world, "slots": slots})
    problem = first_problem(deployment, FORM_RULES)
    if problem is not None:
        offset = next((items[key].offset for key in problem.keys if key in items), 0)
        raise _error(problem.code, text, offset, **error_values(problem, FORM_RULES))
    return deployment


def given_keys(text: str) -> frozenset[str]:
    """The keys that the text of a deployment gives, as against those that have their default."""
    return frozenset(_items(text))


def _items(text: str) -> dict[str, Item]:
    found: dict[str, Item] = {}
    position = _skip(text, 0)
    while position < len(text):
        match = ITEM.match(text, position)
        assert match is not None  # it matches the empty text too
        key = match["key"]
        if not key:
            raise _error("deploy.syntax", text, position, found=text[position:])
        if key.lower() in UNSAID_KEYS:
            raise _unsaid(text, position, match[0], UNSAID_KEYS[key.lower()])
        if key not in KEYS:
            known, hint = ", ".join(KEYS), nearest(key.lower(), KEYS)
            raise _error("deploy.unknown_key", text, position, key=key, known=known, hint=hint)
        if key in found:
            raise _error("deploy.twice", text, position, key=key)
        found[key] = _item(text, match)
        position = _skip(text, match.end())
    return found


def _item(text: str, match: re.Match[str]) -> Item:
    key, written, kind = match["key"], match["value"], KEYS[match["key"]]
    if not written:
        raise _error("deploy.no_value", text, match.start(), key=key, expected=kind.expected)
    value = kind.read(written)
    if value is None and written.lower() in UNSAID_VALUES.get(key, {}):
        raise _unsaid(text, match.start("value"), match[0], UNSAID_VALUES[key][written.lower()])
    if value is None:
        told = {"expected": kind.expected, "hint": nearest(written.lower(), kind.known)}
        raise _error("deploy.value", text, match.start("value"), key=key, found=written, **told)
    return Item(value, match.start("value"))


def _unsaid(text: str, offset: int, found: str, what: str) -> UserError:
    return _error("deploy.unsaid", text, offset, what=what, found=found, known=", ".join(KEYS))


def _world(given: dict[str, Any]) -> dict[str, int]:
    """ep, tp and dp; those not given such that ep = tp * dp where they can, or else 1."""
    ep = given.get("ep", 1)
    rest = max(1, ep // given["dp"]) if "dp" in given else 1
    tp = given.get("tp", rest)
    return {"ep": ep, "tp": tp, "dp": given.get("dp", max(1, ep // tp))}


def _skip(text: str, position: int) -> int:
    match = SEPARATORS.match(text, position)
    return match.end() if match else position


def _error(code: str, text: str, offset: int, **values: Any) -> UserError:
    line = text.count("\n", 0, offset)
    column = offset - (text.rfind("\n", 0, offset) + 1)
    spot = Spot("--deploy", line + 1, column + 1, text.split("\n")[line])
    return UserError(code, spot, **values)

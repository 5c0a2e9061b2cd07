"""Deployments: how a model is spread over a machine, and the text of `--deploy` that says so.

    deployment = parse_deployment("phase=decode ep=384 batch=96 context=4K")
    check_deployment(deployment, model, machine)    # impossible ones raise, with the nearest

docs/deploy.md has the grammar. A rule about deployments is a function that returns what is wrong
together with a repaired deployment; the nearest possible one is what repairing ends at.
Whether the memory suffices is not judged here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, get_args

from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.expert_layer import ExpertLayer
from supertile.targets.machine_needs import check_costed

if TYPE_CHECKING:
    from supertile.targets.machine_types import Machine

Phase = Literal["prefill", "decode"]

RANK_LIMIT = 2**20
COUNT_LIMIT = 2**31
CACHES = {"bf16": "bf16", "fp8": "f8e4m3"}
"""Format of cached entries -> the format that the machine must store for it."""


class Config(Protocol):
    """What is read of a model's configuration (`frontend.hf_config.Config`)."""

    @property
    def family(self) -> str: ...

    @property
    def values(self) -> Mapping[str, object]: ...


@dataclass(frozen=True)
class Model:
    """What is known of a model that is deployed; its experts are those of its module."""

    family: str
    values: Mapping[str, object]
    """Keys of the configuration; none of them is about experts."""
    experts: ExpertLayer | None
    """None: the model is dense."""

    @staticmethod
    def of(config: Config, experts: ExpertLayer | None) -> Model:
        return Model(config.family, config.values, experts)

    @property
    def expert_layer(self) -> ExpertLayer:
        """Its experts; `placement.dense` where it has none."""
        if self.experts is None:
            raise UserError("placement.dense", model=self.family)
        return self.experts


@dataclass(frozen=True)
class Deployment:
    """Attention runs on `dp` groups of `tp` ranks, the experts on `ep` ranks; a rank is a device.

    The ranks of one group work on the same sequences. With ep > 1 the ranks of both are the same,
    ep = tp * dp; with ep = 1 each group has every expert and slices it over its tp ranks.
    """

    phase: Phase
    ep: int
    tp: int
    dp: int
    batch: int
    """Sequences that a rank works on: `batch * dp` in all."""
    context: int
    """Tokens a sequence: those in the cache (decode), or the whole prompt (prefill)."""
    chunk: int | None
    """Prefill: prompt tokens of a sequence in one call; None: the whole prompt."""
    slots: tuple[int, ...] | None
    """Experts, replicas counted, that each of the ep ranks holds; None: see `expert_slots`."""
    mtp: float | None
    """Decode: draft tokens accepted a step, on average; None: the draft layers do not run."""
    cache: str
    """Format of the cached entries, a key of `CACHES`."""

    @property
    def ranks(self) -> int:
        """Devices that the deployment takes."""
        return max(self.ep, self.tp * self.dp)


def expert_slots(deployment: Deployment, model: Model) -> tuple[int, ...]:
    """Slots of each of the ep ranks; by default the fewest of one number that hold every expert."""
    if model.experts is None:
        return ()
    return deployment.slots or (-(-model.experts.experts // deployment.ep),) * deployment.ep


# ---- text to deployment ------------------------------------------------------------------------

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
        return lambda ranks: spread(total, ranks)
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
    problem = _first(deployment, FORM_RULES)
    if problem is not None:
        offset = next((items[key].offset for key in problem.keys if key in items), 0)
        raise _error(problem.code, text, offset, **_told(problem, FORM_RULES))
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
    if value is None:
        told = {"expected": kind.expected, "hint": nearest(written.lower(), kind.known)}
        raise _error("deploy.value", text, match.start("value"), key=key, found=written, **told)
    return Item(value, match.start("value"))


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


# ---- deployment to text ------------------------------------------------------------------------


def deployment_text(deployment: Deployment) -> str:
    """The text that `parse_deployment` reads as this deployment: every key that has a value."""
    values = {field.name: getattr(deployment, field.name) for field in fields(Deployment)}
    given = {key: value for key, value in values.items() if value is not None}
    return " ".join(f"{key}={_value_text(value)}" for key, value in given.items())


def _value_text(value: object) -> str:
    if isinstance(value, tuple):
        runs = [(slots, len([*ranks])) for slots, ranks in itertools.groupby(value)]
        same = f"{value[0]}/rank" if value else ""
        return same if len(runs) < 2 else ",".join(f"{slots}x{ranks}" for slots, ranks in runs)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


# ---- what is impossible, and the nearest possible ----------------------------------------------


class Problem(NamedTuple):
    """Why a deployment is impossible."""

    code: str
    keys: tuple[str, ...]
    """Where the text says it: the first of these that is given."""
    values: dict[str, Any]
    """For the error's text."""
    repaired: Deployment
    """The nearest deployment without this problem; it may have others."""


Rule = Callable[[Deployment], Problem | None]


def check_deployment(deployment: Deployment, model: Model, machine: Machine) -> None:
    """Raise the first reason why the model cannot be deployed so on the machine."""
    rules: tuple[Rule, ...] = (
        *FORM_RULES,
        lambda one: _first(one, MODEL_RULES, model),
        lambda one: _first(one, MACHINE_RULES, machine),
    )
    problem = _first(deployment, rules)
    if problem is not None:
        raise UserError(problem.code, **_told(problem, rules))
    check_costed(machine, deployment.ranks, deployment.tp)


def _first(
    deployment: Deployment, rules: Sequence[Callable[..., Problem | None]], *about: object
) -> Problem | None:
    found = (rule(deployment, *about) for rule in rules)
    return next((problem for problem in found if problem is not None), None)


def _told(problem: Problem, rules: Sequence[Rule]) -> dict[str, Any]:
    """What the error's text needs. No repair brings back what another repaired, so this ends."""
    deployment = problem.repaired
    while (next_problem := _first(deployment, rules)) is not None:
        deployment = next_problem.repaired
    return {**problem.values, "nearest": deployment_text(deployment)}


# Rules that need the deployment alone.


def counts(one: Deployment) -> Problem | None:
    """Texts cannot say 0, but code can."""
    sizes = {key: getattr(one, key) for key in ("ep", "tp", "dp", "batch", "context", "chunk")}
    key = next((key for key, size in sizes.items() if size is not None and size < 1), None)
    if key is None:
        return None
    repaired: Deployment = replace(one, **{key: 1})  # type: ignore[arg-type]
    return Problem("deploy.count", (key,), {"key": key, "found": sizes[key]}, repaired)


def phases(one: Deployment) -> Problem | None:
    """A chunk is a part of a prompt; drafts are accepted while decoding."""
    key, phase = ("chunk", "prefill") if one.phase == "decode" else ("mtp", "decode")
    if getattr(one, key) is None:
        return None
    told = {"key": key, "phase": phase, "found": one.phase}
    return Problem("deploy.phase", (key,), told, replace(one, chunk=None, mtp=None))


def chunk(one: Deployment) -> Problem | None:
    if one.chunk is None or one.chunk <= one.context:
        return None
    told = {"context": one.context, "found": one.chunk}
    return Problem("deploy.chunk", ("chunk", "context"), told, replace(one, chunk=one.context))


def world(one: Deployment) -> Problem | None:
    """Attention and experts run on the same ranks."""
    if one.ep == 1 or one.tp * one.dp == one.ep:
        return None
    repaired = _with_tp(one, min(one.tp, one.ep), lambda tp: True)
    told = {"ep": one.ep, "tp": one.tp, "dp": one.dp, "found": one.tp * one.dp}
    return Problem("deploy.world", ("tp", "dp", "ep"), told, repaired)


def slot_ranks(one: Deployment) -> Problem | None:
    """Each of the ep ranks has its number of slots, and at least one."""
    if one.slots is None or (len(one.slots) == one.ep and min(one.slots) >= 1):
        return None
    told = {"ep": one.ep, "found": sum(slots > 0 for slots in one.slots)}
    repaired = replace(one, slots=_respread(one.slots, one.ep))
    return Problem("deploy.slot_ranks", ("slots",), told, repaired)


FORM_RULES: tuple[Rule, ...] = (counts, phases, chunk, world, slot_ranks)


# Rules about the model.


def dense(one: Deployment, model: Model) -> Problem | None:
    """A dense model has no experts to spread or to hold."""
    if model.experts is not None or (one.ep == 1 and one.slots is None):
        return None
    key = "ep" if one.ep > 1 else "slots"
    told = {"key": key, "model": model.family}
    return Problem("deploy.dense", (key,), told, replace(one, ep=1, slots=None))


def heads(one: Deployment, model: Model) -> Problem | None:
    """The ranks of a group share the heads, and what heads have in common, evenly."""
    unshared = _unshared(one.tp, model)
    if unshared is None:
        return None
    limit = min(one.tp, _value(model, "num_attention_heads"))
    repaired = _with_tp(one, limit, lambda tp: _unshared(tp, model) is None)
    told = {"tp": one.tp, "shared": unshared}
    return Problem("deploy.heads", ("tp", "dp", "ep"), told, repaired)


def slot_counts(one: Deployment, model: Model) -> Problem | None:
    """Every expert has a slot, and no rank holds an expert twice."""
    if one.slots is None:
        return None
    experts = 0 if model.experts is None else model.experts.experts
    if sum(one.slots) < experts:
        repaired = replace(one, slots=_respread(one.slots, one.ep, experts))
        told = {"experts": experts, "found": sum(one.slots)}
        return Problem("deploy.few_slots", ("slots",), told, repaired)
    if max(one.slots) > experts:
        repaired = replace(one, slots=tuple(min(slots, experts) for slots in one.slots))
        told = {"experts": experts, "found": max(one.slots)}
        return Problem("deploy.many_slots", ("slots",), told, repaired)
    return None


def context(one: Deployment, model: Model) -> Problem | None:
    limit = _value(model, "max_position_embeddings")
    if not limit or one.context <= limit:
        return None
    told = {"limit": limit, "model": model.family, "found": f"context={one.context}"}
    return Problem("deploy.context", ("context",), told, replace(one, context=limit))


def drafts(one: Deployment, model: Model) -> Problem | None:
    """A step drafts one token with each draft layer."""
    layers = _value(model, "num_nextn_predict_layers")
    if one.mtp is None or (layers and 0 <= one.mtp <= layers):
        return None
    nearest_mtp = float(min(max(0.0, one.mtp), layers)) if layers else None
    wanted = (
        f"mtp from 0 to {layers}, its draft layers" if layers else "no mtp: it has no draft layers"
    )
    told = {"wanted": wanted, "model": model.family, "found": _value_text(one.mtp)}
    return Problem("deploy.drafts", ("mtp",), told, replace(one, mtp=nearest_mtp))


MODEL_RULES: tuple[Callable[[Deployment, Model], Problem | None], ...] = (
    *(dense, heads, slot_counts, context, drafts),
)


# Rules about the machine.


def devices(one: Deployment, machine: Machine) -> Problem | None:
    """A machine whose network reaches beyond it has as many ranks as that network has devices."""
    beyond = machine.domain("scale_out")
    if one.ranks == 1 or (beyond is not None and beyond.devices.value is None):
        return None
    needed_by = f"a deployment on {one.ranks} ranks"
    limit = int(machine.need("domains.scale_out.devices" if beyond else "devices", needed_by))
    if one.ranks <= limit:
        return None
    told = {"limit": limit, "unit": machine.device_unit, "machine": machine.name}
    keys = ("ep", "dp", "tp")
    return Problem("deploy.devices", keys, {**told, "found": one.ranks}, _shrunk(one, limit))


def cache(one: Deployment, machine: Machine) -> Problem | None:
    if one.cache != "fp8" or CACHES["fp8"] in machine.stored_formats:
        return None
    told = {"machine": machine.name, "found": ", ".join(machine.stored_formats)}
    return Problem("deploy.cache", ("cache",), told, replace(one, cache="bf16"))


MACHINE_RULES: tuple[Callable[[Deployment, Machine], Problem | None], ...] = (devices, cache)


# ---- repairs -----------------------------------------------------------------------------------


def spread(total: int, ranks: int) -> tuple[int, ...]:
    """`total` as evenly as it goes; the first ranks have one more."""
    each, more = divmod(total, ranks)
    return (each + 1,) * more + (each,) * (ranks - more)


def _respread(slots: Sequence[int], ranks: int, least: int = 0) -> tuple[int, ...]:
    """About as many slots on so many ranks, one each at least; equal ones stay equal."""
    total = max(sum(slots), least, ranks)
    return (-(-total // ranks),) * ranks if len({*slots}) == 1 else spread(total, ranks)


def _with_tp(one: Deployment, limit: int, possible: Callable[[int], bool]) -> Deployment:
    """With the largest possible tp up to the limit, on the same ranks if ep > 1."""
    fits = (tp for tp in range(limit, 1, -1) if possible(tp))
    tp = next((tp for tp in fits if one.ep == 1 or one.ep % tp == 0), 1)
    return replace(one, tp=tp, dp=one.dp if one.ep == 1 else one.ep // tp)


def _shrunk(one: Deployment, limit: int) -> Deployment:
    """On `limit` ranks at most."""
    tp = min(one.tp, limit)
    dp = min(one.dp, limit // tp)
    ep = tp * dp if one.ep > 1 else 1
    slots = None if one.slots is None else _respread(one.slots, ep)
    return replace(one, ep=ep, tp=tp, dp=dp, slots=slots)


def _unshared(tp: int, model: Model) -> str | None:
    """What of the attention tp ranks cannot share evenly."""
    for key, name in (("num_attention_heads", "heads"), ("o_groups", "output groups")):
        whole = _value(model, key)
        if whole % tp:
            return f"{whole} {name}"
    pairs = _value(model, "num_key_value_heads")
    if pairs and pairs % tp and tp % pairs:  # more ranks than these hold copies
        return f"{pairs} key-value heads"
    return None


def _value(model: Model, key: str) -> int:
    """A size of the model; 0 if it has none."""
    value = model.values.get(key)
    return value if isinstance(value, int) else 0

"""What `supertile run` is given, checked: tokens, model, plan, pins, reference."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.cli.against import check_against
from supertile.cli.compile import build, select_passes
from supertile.cli.expert_plans import put_plan, read_plan
from supertile.cli.inputs import check_output_file, choose, positive
from supertile.cli.mpi import launched
from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.settle import ModelConfig
    from supertile.runtime.plan import ModulePlan
    from supertile.runtime.reference import Reference
    from supertile.runtime.trace import Recorder

LEVELS = ("graph", "placed", "fused", "tiled", "scheduled")
WITH_TILES = ("tiled", "scheduled")


@dataclass(frozen=True)
class Ready:
    """All that a run needs besides weights, checked."""

    plan: ModulePlan
    level: str
    entries: list[str]
    rows: list[Any]
    context: int
    recorder: Recorder | None
    inputs: dict[str, bytes | str]
    """What must be the same on all ranks of a job, by what users call it."""
    reference: Reference | None = None
    drafts: int = 0
    """Layers of a checkpoint that hold drafts which no entry of the model runs."""

    @property
    def batch(self) -> int:
        return len(self.rows)

    def without_onlookers(self) -> Ready:
        """The same run, nothing recorded, nothing taken over from a reference."""
        is_pinned = self.recorder is not None and self.recorder.pins
        again = self.again() if is_pinned else replace(self, recorder=None)
        return replace(again, reference=None)

    def again(self) -> Ready:
        """The same run, nothing recorded yet nor any more."""
        if self.recorder is None:
            return self
        recorder = type(self.recorder)((), self.recorder.pins, rules=self.recorder.rules)
        return replace(self, recorder=recorder)


def prepared(options: argparse.Namespace) -> Ready:
    from supertile.frontend.bind import check_drafts
    from supertile.ir.text import print_module
    from supertile.runtime.array_file import read_npz
    from supertile.runtime.pins import pin_rules
    from supertile.runtime.plan import plan_module
    from supertile.runtime.tokens import check_vocabulary, read_tokens
    from supertile.runtime.trace import Recorder

    choose(options.level, LEVELS, "command.level")
    if (_is_placed(options) or options.tp > 1) and options.level == "graph":
        options.level = "placed"
    if options.tiles is not None and options.level not in WITH_TILES:
        raise UserError("command.tiles_level", found=options.level)
    for name in ("waves", "microbatches"):
        if getattr(options, name) > 1 and options.level != "scheduled":
            raise UserError("command.overlap_level", option=f"--{name}", found=options.level)
    if options.level == "scheduled" and launched() is not None:
        raise UserError("mpi.level")
    if options.level == "scheduled" and (options.trace or options.pin):
        raise UserError("command.trace_level", option="--trace" if options.trace else "--pin")
    check_against(options)
    check_output_file(options.output)
    rows = read_tokens(Path(options.tokens))
    pins = read_npz(options.pin, "run.pin_broken") if options.pin else {}
    module, config = build(options)
    check_drafts(config, options.draft)
    graph = plan_module(module)
    vocabulary = _vocabulary(graph)
    check_vocabulary(rows, vocabulary)
    _check_prompt(rows, options.prompt)
    rules = pin_rules(graph, graph.entries) if pins else {}
    context = _context(rows, options, config)
    plan = _compiled(module, options, rows, context)
    entries = _entries(plan, options.draft)
    patterns = _patterns(options.trace, plan, entries)
    looks_on = patterns or pins or options.against
    recorder = Recorder(patterns, pins, rules=rules) if looks_on else None
    reference = _reference(options, plan, rows, vocabulary, pins)
    request = [options.prompt, options.chunk, options.teacher, options.decode, options.draft]
    inputs: dict[str, bytes | str] = {}
    if launched() is not None:
        inputs = {
            "tokens": repr([row.tolist() for row in rows]),
            "model, config, plan and passes": print_module(module, locations=False),
            "options": repr([*request, options.row_invariant, patterns]),
            "pinned values": b"".join(name.encode() + pins[name].tobytes() for name in pins),
        }
    return Ready(
        plan, options.level, entries, rows, context, recorder, inputs, reference,
        drafts=_unread_drafts(config),
    )  # fmt: skip


def _unread_drafts(config: ModelConfig) -> int:
    """Draft layers that the config tells of and the model file has no entry for."""
    count = config.values.get("num_nextn_predict_layers")
    return count if isinstance(count, int) and not config.draft_layers else 0


def _reference(
    options: argparse.Namespace,
    plan: ModulePlan,
    rows: list[Any],
    vocabulary: int,
    pins: Mapping[str, NDArray[Any]],
) -> Reference | None:
    """The file of --against, for the tokens that are fed."""
    from supertile.runtime.reference import read_reference
    from supertile.runtime.selections import selections

    if options.against is None:
        return None
    wanted = list(selections(plan, "logits"))
    for selection in wanted:
        if selection.name in pins:
            raise UserError("reference.pinned", name=selection.name)
    fed = rows if options.teacher else [row[: options.prompt] for row in rows]
    return read_reference(options.against, wanted, fed, vocabulary)


def slot_list(text: str) -> tuple[int, ...]:
    """The value of --slots."""
    return tuple(positive(part.strip()) for part in text.split(","))


def _compiled(
    module: ModuleOp, options: argparse.Namespace, rows: list[Any], context: int
) -> ModulePlan:
    """The plan of the level, the experts placed if that is asked for."""
    from supertile.cli.deploy import group_options, with_options
    from supertile.passes.driver import run_passes
    from supertile.runtime.plan import plan_module

    expert_plan = None if options.plan is None else read_plan(options)
    ranks = options.ep if expert_plan is None else expert_plan.ranks
    _check_groups(options, ranks)
    given: dict[str, dict[str, Any]] = {
        "shard-attention": group_options(options.tp, ranks),
        "plan-experts": {"ranks": options.ep, "slots": options.slots},
    }
    if options.level in WITH_TILES:
        given |= _tiling(rows, options, context)
        given["build-schedule"] = _longest_call(rows, options, ranks, context)
        given["overlap-comm"] = {"waves": options.waves, "microbatches": options.microbatches}
    passes = with_options(select_passes(None, options.level), given, options.tiles)
    if expert_plan is not None:
        put_plan(module, expert_plan)
    run_passes(module, passes)
    plan = plan_module(module, options.row_invariant)
    if _is_placed(options) and not plan.is_placed:
        raise UserError("placement.dense", model=options.model)
    return plan


def _tiling(
    rows: list[Any], options: argparse.Namespace, context: int
) -> dict[str, dict[str, Any]]:
    """Pass -> its options: tiles for the machine `numpy` and the longest call of the prefill."""
    from supertile.cli.deploy import OPEN_SIZES
    from supertile.targets.machine import load_machine
    from supertile.targets.tile_limits import memory_text, tile_options

    machine = load_machine("numpy")
    memory = {"memory": memory_text(machine)}
    sizes = len(rows) * _call_tokens(rows, options), len(rows), context
    if options.row_invariant:
        sizes = OPEN_SIZES  # sums are cut by tiles, which must not follow other rows
    return {
        "choose-tiles": tile_options(machine, *sizes),
        "pipeline-loops": memory,
        "assign-memory": memory,
    }


def _longest_call(
    rows: list[Any], options: argparse.Namespace, ranks: int, context: int
) -> dict[str, Any]:
    """What the arena of a rank is planned for, in bytes as NumPy holds values."""
    groups = max(1, ranks // options.tp)
    batch = -(-len(rows) // groups)
    tokens = batch * _call_tokens(rows, options)
    return {"tokens": tokens, "batch": batch, "context": context, "memory": "runtime"}


def _call_tokens(rows: list[Any], options: argparse.Namespace) -> int:
    """The most tokens of one sequence in one call."""
    longest = max(len(row) for row in rows)
    return min(longest, options.prompt or longest, options.chunk or longest)


def _is_placed(options: argparse.Namespace) -> bool:
    return options.ep > 1 or bool(options.slots) or options.plan is not None


def _check_groups(options: argparse.Namespace, ranks: int) -> None:
    """The ranks of the experts fall into groups; one rank alone leaves no slots to choose."""
    if ranks > 1 and ranks % options.tp:
        nearest_tp = max(n for n in range(1, options.tp) if ranks % n == 0)
        raise UserError("run.groups", ep=ranks, found=options.tp, nearest=nearest_tp)
    if ranks == 1 and options.tp > 1 and _is_placed(options):
        raise UserError("run.group_slots", tp=options.tp)


def _entries(plan: ModulePlan, draft: bool) -> list[str]:
    entries = ["logits", "draft"] if draft else ["logits"]
    for name in entries:
        if name not in plan.entries:
            raise UserError("run.no_entry", name=name, known=", ".join(plan.entries))
    return entries


def _patterns(text: str | None, plan: ModulePlan, entries: Sequence[str]) -> tuple[str, ...]:
    """The patterns of --trace, each of which names at least one value."""
    from supertile.runtime.trace import value_hint

    patterns = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    if text is not None and not patterns:
        raise UserError("run.trace_unmatched", name=text, hint="--trace '*' records everything")
    names = [name for entry in entries for name in plan.value_names(entry)] if patterns else []
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = value_hint(pattern, names, f"names are like {', '.join(names[:3])}")
            raise UserError("run.trace_unmatched", name=pattern, hint=hint)
    return patterns


def _vocabulary(plan: ModulePlan) -> int:
    """How many token ids there are: the width of the logits."""
    function = plan.functions["logits"]
    register = function.results[function.result_names.index("logits")]
    last = next(step for step in reversed(function.steps) if register in step.outputs)
    kind: Any = last.op.results[last.outputs.index(register)].type
    size: int = kind.get_shape()[-1]
    return size


def _check_prompt(rows: list[Any], prompt: int | None) -> None:
    """Some sequence has as many tokens as the prompt is long; of shorter ones users are told."""
    longest = max(len(row) for row in rows)
    if prompt is not None and prompt > longest:
        raise UserError("run.prompt", found=prompt, limit=longest)


def _context(rows: list[Any], options: argparse.Namespace, config: ModelConfig) -> int:
    """Tokens that the longest row will have."""
    longest: int = max(len(row) for row in rows)
    if options.prompt is not None and not options.teacher:
        longest = min(longest, options.prompt)
    longest += options.decode
    limit = config.values.get("max_position_embeddings")
    if isinstance(limit, int) and longest > limit:
        raise UserError("run.context", found=longest, limit=limit)
    return longest

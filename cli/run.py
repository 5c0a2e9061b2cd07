"""`supertile run`: a model on tokens with NumPy; logits, tokens and traces out."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.cli.against import check_against, report
from supertile.cli.compile import build, select_passes
from supertile.cli.expert_plans import add_other_plan_option, put_plan, read_plan
from supertile.cli.inputs import add_model_options, check_output_file, choose, natural, positive
from supertile.cli.mpi import Job, launched, run_job
from supertile.cli.progress import Bar
from supertile.ir.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.settle import ModelConfig
    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Generated, Generator
    from supertile.runtime.plan import ModulePlan
    from supertile.runtime.reference import Reference
    from supertile.runtime.trace import Recorder

LEVELS = ("graph", "placed", "fused", "tiled", "scheduled")
WITH_TILES = ("tiled", "scheduled")
SHOWN_ROWS = 8
SHOWN_NAMES = 8
OUTPUTS = ("logits", "lengths", "tokens", "draft_logits")


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument(
        "--weights", required=True, metavar="DIR", help="safetensors: a file, or a folder of shards"
    )
    command.add_argument(
        "--tokens",
        required=True,
        metavar="F",
        help=".npy or .npz (input_ids [B, S], lengths [B]), or text: a sequence a line",
    )
    command.add_argument("--prompt", type=positive, metavar="P", help="prefill the first P tokens")
    command.add_argument("--chunk", type=positive, metavar="N", help="prefill in chunks of N")
    command.add_argument(
        "--teacher", action="store_true", help="then feed the rest of the tokens one at a time"
    )
    command.add_argument(
        "--decode", type=natural, default=0, metavar="N", help="then decode N tokens greedily"
    )
    command.add_argument(
        "--draft", action="store_true", help="also run the entry `draft` (MTP): draft_logits"
    )
    command.add_argument(
        "--level",
        default="graph",
        metavar="L",
        help="graph (default), placed, fused, tiled or scheduled",
    )
    command.add_argument(
        "--tiles",
        choices=("machine", "test"),
        metavar="K",
        help="from the tiled level on: machine (default), or test: smaller than all sizes",
    )
    command.add_argument(
        "--waves",
        type=positive,
        default=1,
        metavar="N",
        help="at the level scheduled: dispatch, experts and combine in N waves",
    )
    command.add_argument(
        "--microbatches",
        type=int,
        choices=(1, 2),
        default=1,
        help="at the level scheduled: layers in so many halves of the sequences",
    )
    command.add_argument(
        "--ep",
        type=positive,
        default=1,
        metavar="N",
        help="place the experts on N ranks, which work in lock step on sequences of their own",
    )
    command.add_argument(
        "--tp",
        type=positive,
        default=1,
        metavar="N",
        help="split attention over groups of N ranks, which work on the same sequences",
    )
    command.add_argument(
        "--slots",
        type=slot_list,
        default=(),
        metavar="S",
        help="slots for experts on every rank, or of each: 3,1,2,2 (default: as few as will do)",
    )
    command.add_argument(
        "--plan",
        metavar="F",
        help="place the experts of every layer as this plan says, on as many ranks as it has",
    )
    add_other_plan_option(command)
    command.add_argument(
        "--row-invariant",
        action="store_true",
        help="exact arithmetic: the same bits on any machine and number of ranks, slower",
    )
    command.add_argument(
        "--pin", metavar="F", help=".npz of values by name that take the place of the computed ones"
    )
    command.add_argument(
        "--trace", metavar="PATTERNS", help="values to write, by name: 'layers.*.attn_out,..'"
    )
    command.add_argument(
        "--against",
        metavar="F",
        help="compare with logits and choices of a reference (.npz, .safetensors), ties told apart",
    )
    command.add_argument("-o", "--output", metavar="F", help="write logits, lengths, tokens (.npz)")


def run(options: argparse.Namespace) -> int:
    """On one rank of a job where a launcher has started several."""
    return run_job(options, _run)


def _run(options: argparse.Namespace, job: Job) -> int:
    ready = job.together(lambda: _prepared(options))
    job.check_ranks(ready.plan.ranks)
    job.check_same(ready.inputs)
    start = time.perf_counter()
    generated, follower = _generated(ready, options, job)
    seconds = time.perf_counter() - start
    arrays = _arrays(generated, ready.recorder)
    if options.output:
        job.together(lambda: _write(options.output, arrays) if job.rank == 0 else None)
    if job.rank == 0:
        _print_summary(options, generated, list(arrays), seconds, ready.plan.ranks)
    if follower is not None:
        free = generated.logits
        if follower.differences:
            free = _generated(ready.without_onlookers(), options, job)[0].logits
        report(follower, generated, free)
    return 0


def _generated(
    ready: _Ready, options: argparse.Namespace, job: Job
) -> tuple[Generated, Follower | None]:
    """What a run gives, and who compared it with the reference, if there is one."""
    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Request

    bar = Bar("tokens", ready.batch * ready.context) if job.rank == 0 else None
    generator = job.together(lambda: _generator(ready, options.weights, bar, job))
    request = Request(options.prompt, options.chunk, options.teacher, options.decode)
    try:
        generated = generator.run(ready.rows, request)
    finally:
        if bar is not None:
            bar.close()
    executor = generator.session.executor
    return generated, executor if isinstance(executor, Follower) else None


# ---- what is run -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Ready:
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

    @property
    def batch(self) -> int:
        return len(self.rows)

    def without_onlookers(self) -> _Ready:
        """The same run, nothing recorded, nothing taken over from a reference."""
        pins = self.recorder.pins if self.recorder is not None else {}
        recorder = Recorder((), pins) if pins else None
        return replace(self, recorder=recorder, reference=None)


def _prepared(options: argparse.Namespace) -> _Ready:
    from supertile.ir.text import print_module
    from supertile.runtime.array_file import read_npz
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
    vocabulary = _vocabulary(plan_module(module))
    check_vocabulary(rows, vocabulary)
    context = _context(rows, options, config)
    plan = _compiled(module, options, rows, context)
    entries = _entries(plan, options.draft)
    patterns = _patterns(options.trace, plan, entries)
    recorder = Recorder(patterns, pins) if patterns or pins or options.against else None
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
    return _Ready(plan, options.level, entries, rows, context, recorder, inputs, reference)


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
    patterns = tuple(part.strip() for part in (text or "").split(",") if part.strip())
    if text is not None and not patterns:
        raise UserError("run.trace_unmatched", name=text, hint="--trace '*' records everything")
    names = [name for entry in entries for name in plan.value_names(entry)] if patterns else []
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = nearest(pattern, names, f"names are like {', '.join(names[:3])}")
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


def _generator(ready: _Ready, weights: str, progress: Bar | None, job: Job) -> Generator:
    from supertile.runtime.checkpoint import Checkpoint
    from supertile.runtime.engine import Session
    from supertile.runtime.execute import Executor
    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Generator
    from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
    from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks
    from supertile.runtime.selections import selections
    from supertile.runtime.weights import Weights

    plan, recorder, communicator = ready.plan, ready.recorder, job.communicator
    ranks = None if communicator is None else communicator.ranks
    held = Weights(Checkpoint(Path(weights)), plan, ready.entries, ranks)
    executor: Executor
    if ready.reference is not None:
        assert recorder is not None, "it knows the tokens of each call"
        wanted = selections(plan, "logits")
        executor = Follower(
            plan, held.get, reference=ready.reference, recorder=recorder, selections=wanted
        )
    elif ready.level == "scheduled":
        executor = ScheduledExecutor(plan, held.get)
    else:
        executor = Executor(plan, held.get)
    if recorder is not None:
        executor.watch, executor.wanted = recorder.watch, recorder.wants
    lockstep: LockstepExecutor | None = None
    if plan.ranks is not None and isinstance(executor, ScheduledExecutor):
        lockstep = ScheduledRanks(executor, plan.ranks)
    elif plan.ranks is not None:
        lockstep = LockstepExecutor(executor, plan.ranks, communicator)

    def session(entry: str) -> Session:
        if lockstep is None:
            return Session(executor, entry, ready.batch, ready.context)
        return LockstepSession(lockstep, entry, ready.batch, ready.context)

    draft = session("draft") if "draft" in ready.entries else None
    return Generator(session("logits"), draft, recorder, progress)


# ---- what is written and printed ---------------------------------------------------------------


def _arrays(generated: Generated, recorder: Recorder | None) -> dict[str, NDArray[Any]]:
    """The output file: logits [B, S, V], lengths [B], tokens [B, S], traces by name."""
    arrays: dict[str, NDArray[Any]] = {
        "logits": generated.logits,
        "lengths": generated.lengths,
        "tokens": generated.tokens,
    }
    if generated.draft is not None:
        arrays["draft_logits"] = generated.draft
    traced = recorder.arrays() if recorder else {}
    # A traced value that bears one of these names is what is written under it anyway.
    return {**arrays, **{name: held for name, held in traced.items() if name not in arrays}}


def _write(path: str, arrays: dict[str, NDArray[Any]]) -> None:
    import numpy as np

    from supertile.ir.files import write_bytes

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _print_summary(
    options: argparse.Namespace,
    generated: Generated,
    names: list[str],
    seconds: float,
    number: int | None,
) -> None:
    batch, steps, vocabulary = generated.logits.shape
    fed = int(generated.lengths.sum())
    ranks = "" if number is None else f", {_count(number, 'rank')}"
    print(
        f"{_count(batch, 'sequence')}, {_count(fed, 'token')} fed in {seconds:.2f} s, "
        f"numerics {options.numerics}, level {options.level}{ranks}"
    )
    print(f"  logits [{batch}, {steps}, {vocabulary}]")
    if options.decode:
        _print_decoded(generated, options.decode)
    traced = [name for name in names if name not in OUTPUTS]
    if traced:
        rest = len(traced) - SHOWN_NAMES
        more = f" and {_count(rest, 'value')} more" if rest > 0 else ""
        print(f"  traced: {', '.join(traced[:SHOWN_NAMES])}{more}")
    if options.output:
        print(f"  written: {options.output}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def _print_decoded(generated: Generated, count: int) -> None:
    rows = list(zip(generated.tokens, generated.lengths, strict=True))
    for number, (tokens, length) in enumerate(rows[:SHOWN_ROWS]):
        # The last decoded token was not fed, so it is not in the length.
        end = int(length) + 1
        print(f"  sequence {number}: " + " ".join(map(str, tokens[end - count : end])))
    if len(rows) > SHOWN_ROWS:
        print(f"  and {_count(len(rows) - SHOWN_ROWS, 'sequence')} more")

"""`supertile run`: a model on tokens with NumPy; logits, tokens and traces out."""

from __future__ import annotations

import argparse
import io
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.cli.against import report
from supertile.cli.expert_plans import add_other_plan_option
from supertile.cli.inputs import add_model_options, natural, positive
from supertile.cli.mpi import Job, run_job
from supertile.cli.progress import Bar
from supertile.cli.run_inputs import Ready, prepared, slot_list
from supertile.ir.errors import UserError
from supertile.runtime.heartbeat import TIMEOUT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Generated, Generator, Request
    from supertile.runtime.nonfinite import Tracker, Verdict
    from supertile.runtime.trace import Recorder
    from supertile.runtime.weights import Weights

SHOWN_ROWS = 8
SHOWN_NAMES = 8
OUTPUTS = ("logits", "lengths", "tokens", "draft_logits")


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument(
        "--weights", required=True, metavar="DIR", help="safetensors: a file, or a folder of shards"
    )
    command.add_argument(
        "--allow-unused",
        action="store_true",
        help="run though the checkpoint has layers or experts beyond those of the config",
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
        "--rank-timeout",
        type=positive,
        default=TIMEOUT,
        metavar="SECONDS",
        help="ranks as processes: a rank that gives no sign of life for so long ends the job "
        f"(default: {TIMEOUT})",
    )
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
    ready = job.together(lambda: prepared(options))
    job.check_ranks(ready.plan.ranks)
    job.check_same(ready.inputs)
    start = time.perf_counter()
    generated, follower = _generated(ready, options, job)
    seconds = time.perf_counter() - start
    arrays = _arrays(generated, ready.recorder)
    if options.output:
        job.together(lambda: _write(options.output, arrays) if job.rank == 0 else None)
    if job.rank == 0:
        _print_summary(options, generated, list(arrays), seconds, ready)
    if follower is not None:
        free = generated.logits
        if follower.differences:
            free = _generated(ready.without_onlookers(), options, job)[0].logits
        report(follower, generated, free)
    return 0


def _generated(
    ready: Ready, options: argparse.Namespace, job: Job
) -> tuple[Generated, Follower | None]:
    """What a run gives, and who compared it with the reference, if there is one."""
    from supertile.runtime.execute import ExecutionError
    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Request
    from supertile.runtime.nonfinite import NonFiniteError

    bar = Bar("tokens", ready.batch * ready.context) if job.rank == 0 else None
    weights = job.together(lambda: _weights(ready, options, job))
    job.check_checkpoints(weights.checkpoint)
    generator = job.together(lambda: _generator(ready, weights, bar, job))
    request = Request(options.prompt, options.chunk, options.teacher, options.decode)
    try:
        generated = generator.run(ready.rows, request)
    except (NonFiniteError, ExecutionError) as error:
        if job.communicator is not None and isinstance(error, ExecutionError):
            raise  # other ranks know nothing of it
        wrong = _first_wrong(ready.again(), weights, job, request)
        job.together(partial(_refuse, error, wrong))
        raise
    finally:
        if bar is not None:
            bar.close()
    executor = generator.session.executor
    return generated, executor if isinstance(executor, Follower) else None


def _first_wrong(ready: Ready, weights: Weights, job: Job, request: Request) -> Verdict | None:
    """The first value of a run that is not finite, on the way to logits that are not; the run is
    repeated for that."""
    from supertile.runtime.execute import ExecutionError
    from supertile.runtime.nonfinite import NonFiniteError, Tracker

    tracker = Tracker(ready.plan, job.communicator)
    generator = job.together(lambda: _generator(ready, weights, None, job, tracker))
    try:
        generator.run(ready.rows, request)
    except (NonFiniteError, ExecutionError):
        return tracker.verdict()
    return None


def _refuse(error: Exception, wrong: Verdict | None) -> None:
    """Raise for logits that are not finite; of other failures only where that is why."""
    from supertile.runtime.nonfinite import NonFiniteError

    texts = {} if wrong is None else wrong._asdict()
    if isinstance(error, NonFiniteError):
        code = "run.not_finite_once" if wrong is None else "run.not_finite"
        raise UserError(code, **vars(error), **texts)
    if wrong is not None:
        raise UserError("run.not_finite_stop", reason=error, **texts) from error


def _weights(ready: Ready, options: argparse.Namespace, job: Job) -> Weights:
    from supertile.cli.inputs import model_path
    from supertile.runtime.checkpoint import Checkpoint
    from supertile.runtime.tensor_names import read_dialects
    from supertile.runtime.weights import Weights

    checkpoint = Checkpoint(Path(options.weights), read_dialects(model_path(options.model)))
    ranks = None if job.communicator is None else job.communicator.ranks
    unused = options.allow_unused
    return Weights(checkpoint, ready.plan, ready.entries, ranks, unused, ready.drafts)


def _generator(
    ready: Ready,
    weights: Weights,
    progress: Bar | None,
    job: Job,
    tracker: Tracker | None = None,
) -> Generator:
    from supertile.runtime.engine import Session
    from supertile.runtime.execute import Executor
    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Generator
    from supertile.runtime.lockstep import LockstepExecutor, LockstepSession
    from supertile.runtime.sched_execute import ScheduledExecutor, ScheduledRanks
    from supertile.runtime.selections import selections

    plan, recorder, communicator = ready.plan, ready.recorder, job.communicator
    executor: Executor
    if ready.reference is not None:
        assert recorder is not None, "it knows the tokens of each call"
        wanted = selections(plan, "logits")
        executor = Follower(
            plan, weights.get, reference=ready.reference, recorder=recorder, selections=wanted
        )
    elif ready.level == "scheduled":
        executor = ScheduledExecutor(plan, weights.get)
    else:
        executor = Executor(plan, weights.get)
    executor.tracker = tracker
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
    ready: Ready,
) -> None:
    number = ready.plan.ranks
    batch, steps, vocabulary = generated.logits.shape
    fed = int(generated.lengths.sum())
    ranks = "" if number is None else f", {_count(number, 'rank')}"
    print(
        f"{_count(batch, 'sequence')}, {_count(fed, 'token')} fed in {seconds:.2f} s, "
        f"numerics {options.numerics}, level {options.level}{ranks}"
    )
    print(f"  logits [{batch}, {steps}, {vocabulary}]")
    _print_short(ready.rows, options.prompt)
    if options.decode:
        _print_decoded(generated, options.decode)
    if ready.recorder is not None:
        _print_pins(ready.recorder)
    traced = [name for name in names if name not in OUTPUTS]
    if traced:
        rest = len(traced) - SHOWN_NAMES
        more = f" and {_count(rest, 'value')} more" if rest > 0 else ""
        print(f"  traced: {', '.join(traced[:SHOWN_NAMES])}{more}")
    if options.output:
        print(f"  written: {options.output}")


def _print_short(rows: list[Any], prompt: int | None) -> None:
    """Which sequences end before a prompt of so many tokens does."""
    short = [number for number, row in enumerate(rows) if prompt is not None and len(row) < prompt]
    if short:
        shown = ", ".join(
            f"sequence {number} ({_count(len(rows[number]), 'token')})"
            for number in short[:SHOWN_ROWS]
        )
        more = f" and {len(short) - SHOWN_ROWS} more" if len(short) > SHOWN_ROWS else ""
        print(f"  shorter than --prompt {prompt}, so all prompt: {shown}{more}")


def _print_pins(recorder: Recorder) -> None:
    """Of how many rows pins took the place: one line for all that cover as many."""
    names: dict[str, list[str]] = {}
    for name, covered in recorder.coverage.items():
        names.setdefault(covered.text(), []).append(name)
    for text, those in names.items():
        more = f" and {_count(len(those) - 2, 'value')} more" if len(those) > 2 else ""
        print(f"  pinned: {text} of {', '.join(those[:2])}{more}")


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

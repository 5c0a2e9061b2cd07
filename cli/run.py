"""`supertile run`: a model on tokens with NumPy; logits, tokens and traces out."""

from __future__ import annotations

import argparse
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supertile.cli.compile import build, select_passes
from supertile.cli.inputs import add_model_options, natural, positive
from supertile.ir.errors import UserError, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xdsl.dialects.builtin import ModuleOp

    from supertile.frontend.hf_config import Config
    from supertile.runtime.execute import Executor
    from supertile.runtime.generate import Generated
    from supertile.runtime.plan import ModulePlan
    from supertile.runtime.trace import Recorder

LEVELS = ("graph", "fused")


def add_options(command: argparse.ArgumentParser) -> None:
    add_model_options(command)
    command.add_argument(
        "--weights", required=True, metavar="DIR", help="safetensors: a file, or a folder of shards"
    )
    command.add_argument(
        "--tokens", required=True, metavar="F", help=".npy, .npz (input_ids) or text, a row a line"
    )
    command.add_argument("--prompt", type=positive, metavar="P", help="prefill the first P tokens")
    command.add_argument("--chunk", type=positive, metavar="N", help="prefill in chunks of N")
    command.add_argument(
        "--teacher", action="store_true", help="feed the rest of the tokens one at a time"
    )
    command.add_argument("--decode", type=natural, default=0, metavar="N", help="then N greedy tokens")
    command.add_argument("--draft", action="store_true", help="also run the entry `draft` (MTP)")
    command.add_argument("--level", default="graph", metavar="L", help="graph (default) or fused")
    command.add_argument("--pin", metavar="F", help=".npz of named values to use instead")
    command.add_argument("--trace", metavar="PATTERNS", help="names to record: 'layers.*.attn_out,..'")
    command.add_argument("-o", "--output", metavar="F", help="write logits, lengths, tokens (.npz)")


def run(options: argparse.Namespace) -> int:
    from supertile.runtime.generate import Generator, Request
    from supertile.runtime.tokens import check_vocabulary, read_tokens

    if options.level not in LEVELS:
        hint, known = nearest(options.level, LEVELS), ", ".join(LEVELS)
        raise UserError("command.level", name=options.level, known=known, hint=hint)
    rows = read_tokens(Path(options.tokens))
    module, config = build(options)
    plan = _compiled(module, options.level)
    entries = _entries(plan, options.draft)
    check_vocabulary(rows, _vocabulary(plan))
    context = _context(rows, options, config)
    recorder = _recorder(options, module)
    executor = _executor(plan, Path(options.weights), entries, recorder)
    sessions = _sessions(executor, entries, len(rows), context)
    start = time.perf_counter()
    request = Request(options.prompt, options.chunk, options.teacher, options.decode)
    generated = Generator(*sessions, recorder=recorder).run(rows, request)
    seconds = time.perf_counter() - start
    _check_pins(recorder)
    arrays = _arrays(generated, recorder)
    if options.output:
        _write(Path(options.output), arrays)
    _print_summary(options, generated, arrays, seconds)
    return 0


def _compiled(module: ModuleOp, level: str) -> ModulePlan:
    from supertile.passes.driver import run_passes
    from supertile.runtime.plan import plan_module

    run_passes(module, select_passes(None, level))
    return plan_module(module)


def _entries(plan: ModulePlan, draft: bool) -> list[str]:
    if "logits" not in plan.entries:
        raise UserError("run.no_entry", name="logits", known=", ".join(plan.entries))
    if draft and "draft" not in plan.entries:
        raise UserError("run.no_entry", name="draft", known=", ".join(plan.entries))
    return ["logits", "draft"] if draft else ["logits"]


def _vocabulary(plan: ModulePlan) -> int:
    """How many token ids there are: the width of the logits."""
    function = plan.functions["logits"]
    register = function.results[function.result_names.index("logits")]
    for step in reversed(function.steps):
        if register in step.outputs:
            kind: Any = step.op.results[step.outputs.index(register)].type
            return int(kind.get_shape()[-1])
    raise AssertionError("logits are computed")


def _context(rows: list[Any], options: argparse.Namespace, config: Config) -> int:
    """Tokens that the longest row will have."""
    longest = 0
    for row in rows:
        fed = len(row) if options.teacher or options.prompt is None else min(len(row), options.prompt)
        longest = max(longest, fed + options.decode)
    limit = config.values.get("max_position_embeddings")
    if isinstance(limit, int) and longest > limit:
        raise UserError("run.context", found=longest, limit=limit)
    return longest


def _recorder(options: argparse.Namespace, module: ModuleOp) -> Recorder:
    from supertile.runtime.trace import Recorder, leading_sizes

    patterns = tuple(part for part in (options.trace or "").split(",") if part)
    pins = _read_pins(Path(options.pin)) if options.pin else {}
    domains = leading_sizes(module) if patterns else {}
    return Recorder(patterns, pins, domains)


def _read_pins(path: Path) -> dict[str, NDArray[Any]]:
    import zipfile

    import numpy as np

    if not path.is_file():
        raise UserError("run.pin_broken", file=path, reason="there is no such file")
    try:
        held = np.load(path, allow_pickle=False)
        if isinstance(held, np.ndarray):
            raise UserError("run.pin_broken", file=path, reason="it holds one array, not .npz")
        with held:
            return {name: held[name] for name in held.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError("run.pin_broken", file=path, reason=reason) from None


def _check_pins(recorder: Recorder) -> None:
    """A pin that met no value is a misspelt one."""
    for name in recorder.pins:
        if name not in recorder.pinned:
            raise UserError("run.pin_unused", name=name, hint=nearest(name, recorder.seen))


def _executor(
    plan: ModulePlan, weights: Path, entries: list[str], recorder: Recorder
) -> Executor:
    from supertile.runtime.checkpoint import Checkpoint
    from supertile.runtime.execute import Executor
    from supertile.runtime.weights import Weights

    held = Weights(Checkpoint(weights), plan, entries)
    watching = recorder.patterns or recorder.pins
    return Executor(plan, held.get, recorder.watch if watching else None)


def _sessions(executor: Executor, entries: list[str], batch: int, context: int) -> list[Any]:
    from supertile.runtime.engine import Session

    return [Session(executor, entry, batch, context) for entry in entries]


def _arrays(generated: Generated, recorder: Recorder) -> dict[str, NDArray[Any]]:
    """The output file: logits [B, S, V], lengths [B], tokens [B, S], traces by name."""
    arrays: dict[str, NDArray[Any]] = {
        "logits": generated.logits,
        "lengths": generated.lengths,
        "tokens": generated.tokens,
    }
    if generated.draft is not None:
        arrays["draft_logits"] = generated.draft
    return {**arrays, **recorder.arrays()}


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    import numpy as np

    from supertile.ir.files import write_bytes

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def _print_summary(
    options: argparse.Namespace, generated: Generated, arrays: dict[str, Any], seconds: float
) -> None:
    batch, steps, vocabulary = generated.logits.shape
    print(
        f"{batch} rows, {int(generated.lengths.sum())} tokens in {seconds:.2f} s, "
        f"numerics {options.numerics}, level {options.level}"
    )
    print(f"  logits [{batch}, {steps}, {vocabulary}]")
    for row, (tokens, length) in enumerate(zip(generated.tokens, generated.lengths, strict=True)):
        if options.decode and row < 8:
            end = int(length) + 1
            decoded = " ".join(str(token) for token in tokens[end - options.decode : end])
            print(f"  row {row} decoded: {decoded}")
    traced = [name for name in arrays if name not in ("logits", "lengths", "tokens", "draft_logits")]
    if options.trace:
        print(f"  traced: {', '.join(traced) if traced else 'no name matches the patterns'}")
    if options.output:
        print(f"  written: {options.output}")

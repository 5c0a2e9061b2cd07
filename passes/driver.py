"""Runs passes and looks after everything that a pass author should not have to write.

Around each pass: time, op counts, what changed, locations of new ops, verification, the number of
rewrites and their limit, dumps, and on a failure a reproducer, from which

    supertile opt reproducer-cse.mlir

runs into the same failure.
"""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from xdsl.dialects.builtin import ModuleOp

from supertile.ir.errors import UserError
from supertile.ir.files import write_text
from supertile.ir.levels import later, level_of
from supertile.ir.output_folder import OutputFolder
from supertile.ir.text import HEADER, print_module
from supertile.ir.verify import Memory, VerifyError, verify_module
from supertile.passes.instruments import (
    Fingerprints,
    Texts,
    changed_functions,
    fill_locations,
    fingerprints,
    function_texts,
    op_counts,
)
from supertile.passes.pipeline import options_of, phase_of, pipeline_text
from supertile.passes.rewriting import BUDGET, Pass, PassContext, Rewrites

REPRODUCER = "// supertile opt reproducer: "
DUMP = re.compile(r"\d\d-[a-z0-9-]+\.mlir")
AfterPass = Callable[[str, ModuleOp, ModuleOp], None]
Behind = Callable[[ModuleOp], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Options:
    """How to run passes.

    `after_pass(name, module before, module after)` is called once a pass is verified; an exception
    of its is a failure of the pass. `behind[name](module)` is called behind the pass of that name,
    and returns options, by pass, for passes that are still to come. `notes` (configuration, seed)
    go into reproducers.
    """

    dump: Path | None = None
    reproducers: Path | None = None
    budget: int = BUDGET
    verify: bool = True
    notes: tuple[str, ...] = ()
    after_pass: AfterPass | None = None
    behind: Mapping[str, Behind] = field(default_factory=dict)

    @property
    def reproducer_folder(self) -> Path:
        return self.reproducers or self.dump or Path()


@dataclass
class PassRecord:
    """What one pass did. `texts` has the text before and after of every function that changed."""

    name: str
    options: dict[str, Any]
    phase: str
    equivalence: str
    file: str
    seconds: float = 0.0
    ops_before: dict[str, int] = field(default_factory=dict)
    ops_after: dict[str, int] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    patterns: dict[str, int] = field(default_factory=dict)
    texts: dict[str, tuple[str, str]] = field(default_factory=dict, repr=False)

    def summary(self) -> dict[str, Any]:
        """The record as JSON, without the texts: they are in the dumps."""
        return {key: value for key, value in asdict(self).items() if key != "texts"}


@dataclass
class Report:
    """What all passes did, and why they ended early if they did."""

    passes: list[PassRecord] = field(default_factory=list)
    failure: str | None = None

    def summary(self) -> dict[str, Any]:
        return {"passes": [record.summary() for record in self.passes], "failure": self.failure}


class InternalError(Exception):
    """A bug of Supertile, with the path of a file that shows it (None if none could be written)."""

    def __init__(self, message: str, reproducer: Path | None) -> None:
        self.message = message
        self.reproducer = reproducer
        where = f"reproducer: {reproducer}" if reproducer else "no reproducer could be written"
        super().__init__(f"{message}\n{where}")


DEFAULTS = Options()


def run_passes(module: ModuleOp, passes: Sequence[Pass], options: Options = DEFAULTS) -> Report:
    """Apply the passes to the module, in place. Raises `InternalError` if one of them fails."""
    return _Run(module, list(passes), options).run()


class _Run:
    """One run over a module, which changes from pass to pass."""

    def __init__(self, module: ModuleOp, passes: list[Pass], options: Options) -> None:
        self.module = module
        self.passes = passes
        self.options = options
        self.report = Report()
        self.level = ""
        self.texts: Texts = {}
        self.counts: dict[str, int] = {}
        self.verified: Memory = {}
        self.prints: Fingerprints = {}
        self.output: OutputFolder | None = None

    def run(self) -> Report:
        if self.options.dump is None:
            return self.run_passes()
        with OutputFolder(self.options.dump, is_dump) as self.output:
            try:
                return self.run_passes()
            except InternalError as error:
                failure = error  # what has been dumped until then is worth reading
        raise failure

    def run_passes(self) -> Report:
        original = self.module.clone()
        self.start()
        for number, one in enumerate(self.passes):
            before = self.module.clone() if self.options.after_pass is not None else None
            try:
                self.apply(one, number, before)
            except UserError:
                raise
            except Exception as error:
                shown = before or self.replay(original, number)
                raise self.failure(one.name, error, shown, self.passes[number:]) from error
        self.write_trace()
        return self.report

    def replay(self, original: ModuleOp, count: int) -> ModuleOp:
        """The module as it was before a pass: passes give the same again, and copies cost time."""
        for one in self.passes[:count]:
            one.apply(PassContext(Rewrites(self.options.budget)), original)
            fill_locations(original)
        return original

    def start(self) -> None:
        """Look at the module as it is handed over."""
        try:
            if self.options.verify:
                verify_module(self.module, None, memory=self.verified)
            self.level = level_of(self.module) or "graph"
            self.counts = op_counts(self.module)
            self.prints = fingerprints(self.module)
            self.texts = self.current_texts()
        except Exception as error:
            raise self.failure("frontend", error, self.module, self.passes) from error
        self.dump("00-frontend.mlir")

    def apply(self, one: Pass, number: int, before: ModuleOp | None) -> None:
        record = self.record(one, number)
        check_level(one, self.level)
        one.check_options()
        rewrites = Rewrites(self.options.budget)
        start = time.process_time()
        try:
            one.apply(PassContext(rewrites), self.module)
        finally:
            record.seconds = time.process_time() - start
            record.patterns = dict(sorted(rewrites.by_pattern.items()))
        self.level = later(self.level, one.leaves or record.phase)
        self.compare(record)
        fill_locations(self.module, record.changed)
        if self.options.verify:
            verify_module(self.module, self.level, set(record.changed), self.verified)
        if self.options.after_pass is not None and before is not None:
            self.options.after_pass(one.name, before, self.module)
        if one.name in self.options.behind:
            self.give(self.options.behind[one.name](self.module), number)
        self.dump(record.file)

    def give(self, options: Mapping[str, Mapping[str, Any]], number: int) -> None:
        """Options for passes behind pass `number`; a reproducer names them like all others."""
        for later_one in range(number + 1, len(self.passes)):
            one = self.passes[later_one]
            self.passes[later_one] = replace(one, **options.get(one.name, {}))

    def record(self, one: Pass, number: int) -> PassRecord:
        record = PassRecord(
            name=one.name,
            options=options_of(one),
            phase=phase_of(one.name) or self.level,
            equivalence=one.equivalence,
            file=f"{number + 1:02}-{one.name}.mlir",
            ops_before=self.counts,
        )
        self.report.passes.append(record)
        return record

    def compare(self, record: PassRecord) -> None:
        """Note what changed, and remember the module as it is now."""
        prints = fingerprints(self.module)
        record.changed = changed_functions(self.prints, prints)
        self.prints = prints
        texts = self.current_texts() if record.changed else self.texts
        record.texts = {
            name: (self.texts.get(name, ""), texts.get(name, "")) for name in record.changed
        }
        self.texts, self.counts = texts, op_counts(self.module) if record.changed else self.counts
        record.ops_after = self.counts

    def current_texts(self) -> Texts:
        """The texts that the page of diffs shows; without dumps nobody reads them."""
        return function_texts(self.module) if self.options.dump is not None else {}

    # ---- files ---------------------------------------------------------------------------------

    def dump(self, name: str) -> None:
        if self.output is not None:
            self.output.write(name, print_module(self.module))

    def write_trace(self) -> None:
        if self.output is None:
            return
        from supertile.passes.trace_html import trace_page

        summary = json.dumps(self.report.summary(), indent=2)
        self.output.write("trace.json", summary + "\n")
        self.output.write("trace.html", trace_page(self.report))

    def failure(
        self, name: str, error: Exception, before: ModuleOp, remaining: Sequence[Pass]
    ) -> InternalError:
        """Write what there is to look into the failure, and make the error of it."""
        message = f"the pass {name} failed: {_describe(error)}"
        if name == "frontend":
            message = f"the module is unsound before the first pass: {_describe(error)}"
        self.report.failure = message
        path: Path | None = None
        # The failure itself matters more than what cannot be written about it.
        with suppress(Exception):
            text = reproducer_text(before, remaining, message, self.options.notes)
            path = self.write_reproducer(f"reproducer-{name}.mlir", text)
            self.write_trace()
        return InternalError(message, path)

    def write_reproducer(self, name: str, text: str) -> Path:
        folder = self.options.reproducer_folder
        if self.output is not None and folder == self.options.dump:
            self.output.write(name, text)
        else:
            write_text(folder / name, text)
        return folder / name


def is_dump(name: str) -> bool:
    """Whether a file is a dump: one of an earlier pipeline would read as if it were of this one."""
    return DUMP.fullmatch(name) is not None


def check_level(step: Pass, level: str) -> None:
    """`pass.level` where the pass is not for modules of this level."""
    if level in step.takes:
        return
    hint = f"run the passes that leave {step.takes[0]} before it: `supertile list passes`"
    if level == later(level, step.takes[-1]):
        hint = f"run it on a dump from before the first pass that leaves {level}"
    levels = " or ".join(step.takes)
    raise UserError("pass.level", name=step.name, levels=levels, found=level, hint=hint)


# ---- reproducers -------------------------------------------------------------------------------


def reproducer_text(
    module: ModuleOp, passes: Sequence[Pass], message: str, notes: Sequence[str] = ()
) -> str:
    """The module, with the pipeline that fails on it and what is known about it as comments."""
    header, _, body = print_module(module).partition("\n")
    remarks = [*notes, *message.splitlines()]
    comments = [REPRODUCER + pipeline_text(passes), *(f"// {line}".rstrip() for line in remarks)]
    return "\n".join([header, *comments, body])


def reproducer_pipeline(text: str) -> str | None:
    """The pipeline that a reproducer names; None if the text is no reproducer."""
    head = text.split("\n", 2)[:2]
    if len(head) < 2 or head[0].rstrip() != HEADER or not head[1].startswith(REPRODUCER):
        return None
    return head[1].removeprefix(REPRODUCER).strip()


def _describe(error: Exception) -> str:
    """The error in a few lines: xDSL may have appended a module to its message."""
    if isinstance(error, VerifyError):
        return str(error)
    first = (str(error).strip().splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {re.sub(r'[^ -~]', '?', first)[:400]}{where}"

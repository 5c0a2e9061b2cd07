"""Comparing numbers around every pass: what `compile`, `opt` and `bisect` share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.inputs import read_model, reproducer_folder

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.passes.rewriting import Pass

# What a pass that fixes sizes may fix them to on a small config.
SMALL_SIZES = {"tokens": 8, "batch": 4, "context": 64, "ranks": 4}
# Ranks of a group: the small configs have two output groups.
SMALL_GROUP = 2
# Slots are for the experts of the whole model, of which a small config has few.
SMALL_DEFAULTS: dict[str, object] = {"slots": ()}


@dataclass
class Comparison:
    """Passes over a module, its numbers compared around each of them."""

    passes: Sequence[Pass]
    folder: Path
    notes: tuple[str, ...]
    fine: list[str] = field(default_factory=list)
    """The passes that kept the numbers, in order."""
    lines: list[str] = field(default_factory=list)

    def run(self, module: ModuleOp) -> None:
        """In place; an `InternalError` names the first pass that breaks the IR or its numbers."""
        from supertile.passes.driver import Options, run_passes
        from supertile.runtime.compare import NumericCheck

        check = NumericCheck(module)
        self.lines = check.lines
        # One pass may run twice, with other options: they are told apart by their order.
        remaining = iter(self.passes)

        def after_pass(name: str, before: ModuleOp, after: ModuleOp) -> None:
            check.compare(name, next(remaining).equivalence_on(before), before, after)
            self.fine.append(name)

        hint = "compare numbers with: supertile opt FILE --check-numerics"
        notes = (*self.notes, f"seed: {check.seed}", hint)
        options = Options(reproducers=self.folder, notes=notes, after_pass=after_pass)
        run_passes(module, self.passes, options)


def compare_small(options: argparse.Namespace, passes: Sequence[Pass]) -> Comparison:
    """A comparison for the small config of a model; nothing has been run yet."""
    folder = reproducer_folder(getattr(options, "dump_ir", None), options.output)
    notes = (f"model: {options.model}", f"small config of: {options.config}")
    group = _group(passes)
    return Comparison([small_pass(one, group) for one in passes], folder, notes)


def small_module(options: argparse.Namespace, passes: Sequence[Pass] = ()) -> ModuleOp:
    """The model under a config of tiny sizes, with a layer of each kind, for these passes."""
    from supertile.frontend.build import build_program
    from supertile.frontend.hf_config import shrink

    program, config = read_model(options)
    small = shrink(config.config, is_split=_group(passes) > 1)
    entries = [options.entry] if options.entry else None
    return build_program(program, small, options.numerics, entries)


def _group(passes: Sequence[Pass]) -> int:
    """Ranks of a group of the small config."""
    asked = [getattr(one, "ranks", 1) for one in passes if one.name == "shard-attention"]
    return min(SMALL_GROUP, max(asked, default=1))


def small_pass(one: Pass, group: int = 1) -> Pass:
    """The pass with sizes that a small config can be executed at; ranks are whole groups."""
    sizes = {
        name: min(limit, getattr(one, name))
        for name, limit in SMALL_SIZES.items()
        if isinstance(getattr(one, name, None), int)
    }
    if "ranks" in sizes:
        most = group if one.name == "shard-attention" else sizes["ranks"]
        sizes["ranks"] = max(1, most - most % group)
    defaults = {name: value for name, value in SMALL_DEFAULTS.items() if getattr(one, name, None)}
    return replace(one, **sizes, **defaults) if sizes or defaults else one

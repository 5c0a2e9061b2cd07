"""Draws of whole commands: options as argparse has them, with values good and bad."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import shlex
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random

from fuzzing.command_values import ValuePools
from fuzzing.outcome import FINE, Outcome, of_paragraph
from fuzzing.reading import empty

OPTION_SHARE = 0.12
"""Of the options that a command can do without, how many are given."""
LEFT_OUT = 0.01
"""How often an option is left out that a command needs."""


@dataclass(frozen=True)
class Commands:
    """The commands of a seed; the same number is always the same command on the same files."""

    seed: int

    def __call__(self, number: int, folder: Path) -> Outcome:
        random = Random(f"{self.seed} commands {number}")
        empty(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        pools = ValuePools.of(random, folder)
        arguments = command_line(random, pools)
        given = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        outcome = ran(arguments, pools.standard_input())
        if not outcome.is_finding:
            return outcome
        line = f"supertile {shlex.join(arguments)}\n".encode("utf-8", "backslashreplace")
        name = arguments[0] if arguments else "nothing"
        return Outcome(f"{name[:20]}: {outcome.kind}", outcome.text, {"command.txt": line, **given})


def command_line(random: Random, pools: ValuePools) -> list[str]:
    """Arguments of a command."""
    from supertile.cli.main import COMMANDS

    if random.random() < LEFT_OUT:
        return random.choice([[], ["--version"], ["--help"], ["x"], [""], ["run", "--help"]])
    name = random.choice([*COMMANDS])
    given = [name]
    for action in _actions(name):
        is_needed = action.required or not action.option_strings
        if random.random() < (LEFT_OUT if is_needed else 1 - OPTION_SHARE):
            continue
        if action.option_strings:
            given.append(random.choice(action.option_strings))
        if action.nargs != 0:
            given.append(_value(action, random, pools))
    if random.random() < LEFT_OUT:
        given.insert(random.randint(1, len(given)), random.choice(["--x", "x", "-o", "--", ""]))
    # The system hands over no text with zeros in it.
    return [text.replace("\0", "") for text in given]


@cache
def _actions(name: str) -> list[argparse.Action]:
    """What a command takes; the help is of argparse's own."""
    from supertile.cli.main import COMMANDS

    command = argparse.ArgumentParser(name)
    importlib.import_module(f"supertile.cli.{COMMANDS[name].module}").add_options(command)
    return [action for action in command._actions if action.dest != "help"]


def _value(action: argparse.Action, random: Random, pools: ValuePools) -> str:
    if action.choices is not None and random.random() < 0.95:
        return str(random.choice([*action.choices]))
    return pools.value(action.dest)


def ran(arguments: list[str], standard_input: str) -> Outcome:
    """The command in this process, what it prints held back."""
    from supertile.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    before, sys.stdin = sys.stdin, io.StringIO(standard_input)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
    finally:
        sys.stdin = before
    told = err.getvalue()
    if code == 0:
        return Outcome("a warning of Python", told) if "Warning" in told else Outcome(FINE)
    if code != 1:
        crash = Path("supertile-crash.txt")
        text = told + (crash.read_text(errors="replace") if crash.exists() else "")
        return Outcome(f"exit code {code}: {_first_line(told)}", text)
    if "not enough memory" in told:
        return Outcome("all memory is taken", told)
    return of_paragraph(told)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:100]

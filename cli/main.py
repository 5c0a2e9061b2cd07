"""The command `supertile`: options, exit codes, and what a user sees when something goes wrong.

Exit codes: 0 fine; 1 the input is wrong; 2 a bug in Supertile, with the path of a reproducer; 130
interrupted. Commands live in files of their own and are imported when they are run.
"""

from __future__ import annotations

import argparse
import errno
import gc
import importlib
import io
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from supertile.ir.errors import UserError, nearest


@dataclass(frozen=True)
class Command:
    """A command: the module with its `add_options` and `run`, and what --help says."""

    module: str
    text: str
    example: str
    is_mixed: bool = False
    """Whether an argument may be left out that stands behind options."""


# The order is that of the help.
COMMANDS: dict[str, Command] = {
    "compile": Command(
        "compile",
        "compile a model under a config to IR, pass by pass, and to a plan",
        "supertile compile deepseek_v4 --config deepseek_v4_pro --stats -o out",
    ),
    "explain": Command(
        "explain",
        "say why a figure of a deployment is what it is, and what else was possible",
        "supertile explain deepseek_v4 --config deepseek_v4_pro --target ascend-910c "
        "--deploy 'phase=decode ep=384 batch=96 context=4K' dispatch",
        is_mixed=True,
    ),
    "run": Command(
        "run",
        "execute a model on tokens: prefill, chunks, greedy decoding",
        "supertile run llama --config DIR --weights DIR --tokens ids.npy --decode 8 -o out.npz",
    ),
    "plan": Command(
        "plan",
        "place experts on ranks for their loads, and cost what travels",
        "supertile plan deepseek_v4 --config deepseek_v4_pro --target ascend-910c --deploy "
        '"phase=decode ep=384 batch=64 slots=768" --loads zipf:0.6 -o out',
    ),
    "opt": Command(
        "opt",
        "run passes on IR text, or what a reproducer says",
        "supertile opt module.mlir -p 'specialize{tokens=1 batch=8},cse' -o lowered.mlir",
    ),
    "bisect": Command(
        "bisect",
        "find the first pass that breaks the IR or its numbers, on a small config",
        "supertile bisect deepseek_v4 --config deepseek_v4_pro",
    ),
    "list": Command(
        "listing",
        "list passes, ops, models or targets, and show one of them",
        "supertile list ops --show top_k",
    ),
}
# IR is built of many small objects that live until the end: collecting garbage as often as Python
# does by default costs a fifth of a compilation and finds nothing. V4-Pro makes fewer than these.
GARBAGE_THRESHOLD = 500_000
STREAM_ENDED = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)


class Parser(argparse.ArgumentParser):
    """Wrong usage is a `UserError` like any other wrong input."""

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        wrong = re.search(r"(?:arguments: |choice: ')([^\s',=]+)", message)
        if listed := re.search(r"choose from (.*)\)", message):
            known = re.findall(r"[\w.-]+", listed[1])
        hint = nearest(wrong[1], known) if wrong else ""
        usage = f"see {self.prog} --help"
        raise UserError("command.usage", message=message[:400], hint=hint or usage)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _print_anything()
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        code = _dispatch(given)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except UserError as error:
        from supertile.cli.mpi import is_first_rank

        if is_first_rank():
            print(error.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; files written before are whole", file=sys.stderr)
        return 130
    except MemoryError:
        print(UserError("command.memory").render(), file=sys.stderr)
        return 1
    except Exception as error:
        # Files are written by `ir.files`, so an error without a file name is the terminal's.
        if isinstance(error, OSError) and error.filename is None and error.errno in STREAM_ENDED:
            return _output_ended(error)
        return _bug(given, error)


def console() -> int:
    """`main` of a process: what is left when it ends is freed with it, not object by object."""
    code = main()
    gc.freeze()
    return code


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        print(_help(), end="")
        return 0
    if given[0] == "--version":
        from importlib.metadata import version

        print(f"supertile {version('supertile')}")
        return 0
    name = given[0]
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS, "see supertile --help")
        known = ", ".join(COMMANDS)
        raise UserError("command.unknown", name=name[:100], known=known, hint=hint)
    module = importlib.import_module(f"supertile.cli.{COMMANDS[name].module}")
    command = _parser(name)
    module.add_options(command)
    try:
        mixed = COMMANDS[name].is_mixed
        parse = command.parse_intermixed_args if mixed else command.parse_args
        options = parse(given[1:])
    except SystemExit as stop:  # --help has been printed
        return int(stop.code or 0)
    code: int = module.run(options)
    return code


def _parser(name: str) -> Parser:
    command = COMMANDS[name]
    return Parser(
        prog=f"supertile {name}",
        description=f"{command.text[0].upper()}{command.text[1:]}.",
        epilog=f"example: {command.example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _help() -> str:
    rows = [f"  {name:<9} {command.text}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: supertile COMMAND ...",
            "",
            "Compiles mixture-of-experts language models for supernodes: numbers and costs from",
            "one IR.",
            "",
            *rows,
            "",
            "supertile COMMAND --help tells the options of a command; supertile --version the",
            "version. Exit codes: 0 fine, 1 the input is wrong, 2 a bug in Supertile.",
            "",
        ]
    )


# ---- when something goes wrong -----------------------------------------------------------------


def _print_anything() -> None:
    """File names may hold characters that a terminal cannot show: those are escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _output_ended(error: OSError) -> int:
    """Whoever read our output has seen enough, or it goes where nothing more can be written."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What is still in the buffer would fail again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if error.errno == errno.EPIPE:
        return 0
    failure = UserError("command.full", file="standard output", reason=error.strerror)
    print(failure.render(), file=sys.stderr)
    return 1


def _bug(given: list[str], error: Exception) -> int:
    print(bug_text(given, error), file=sys.stderr)
    return 2


def bug_text(given: list[str], error: BaseException) -> str:
    """Says that it is our fault, and leaves a file that shows it."""
    reproducer = getattr(error, "reproducer", None) or _write_crash(given, error)
    message = getattr(error, "message", None) or f"{type(error).__name__}: {str(error)[:300]}"
    place = reproducer or "none could be written"
    return f"bug in Supertile: {message}\n  reproducer: {place}"


def _write_crash(given: list[str], error: BaseException) -> str | None:
    """The command line and the traceback, in the current folder or else a temporary one."""
    import platform
    import shlex
    import tempfile
    import traceback

    from supertile.ir.files import write_text

    lines = [
        f"supertile {shlex.join(given)}",
        f"Python {platform.python_version()}",
        "".join(traceback.format_exception(error))[-20_000:],
    ]
    for folder in ("", tempfile.gettempdir()):
        path = os.path.join(folder, "supertile-crash.txt")
        try:
            write_text(path, "\n".join(lines))
        except UserError:
            continue
        return path
    return None


if __name__ == "__main__":
    sys.exit(console())

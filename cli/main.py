"""The command `supertile`: options, exit codes, and what a user sees when something goes wrong.

Exit codes: 0 fine; 1 the input is wrong; 2 a bug in Supertile, with the path of a reproducer; 130
interrupted. Commands live in files of their own and are imported when they are run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from supertile.ir.errors import UserError, nearest

# command -> (module, what it does); the order is that of the help.
COMMANDS: dict[str, tuple[str, str]] = {
    "compile": ("compile", "model file and config to IR, pass by pass, and a plan"),
    "run": ("run", "execute a model on tokens: prefill, chunks, greedy decoding"),
    "opt": ("opt", "run passes on IR text"),
    "bisect": ("bisect", "find the first pass that breaks the IR or its numbers"),
    "list": ("listing", "passes, ops, models"),
}


class Parser(argparse.ArgumentParser):
    """Wrong usage is a `UserError` like any other wrong input."""

    def error(self, message: str) -> NoReturn:
        known = [option for action in self._actions for option in action.option_strings]
        wrong = re.search(r"(?:arguments: |choice: ')([^\s',]+)", message)
        choices = known
        if "choice" in message and (listed := re.search(r"choose from (.*)\)", message)):
            choices = re.findall(r"[\w.-]+", listed[1])
        hint = nearest(wrong[1], choices) if wrong else ""
        usage = f"see {self.prog} --help"
        raise UserError("command.usage", message=message, hint=hint or usage)


def parser() -> Parser:
    top = Parser(
        prog="supertile",
        description="Compiles mixture-of-experts language models for supernodes: numbers and costs "
        "from one IR.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    from supertile.ir.errors import UserError as WrongInput

    try:
        return _dispatch(given)
    except WrongInput as error:
        print(error.render(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; files written before are whole", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as stop:
        return int(stop.code or 0)
    except MemoryError:
        print(UserError("command.memory").render(), file=sys.stderr)
        return 1
    except Exception as error:
        return _bug(given, error)


def _dispatch(given: list[str]) -> int:
    if not given or given[0] in ("-h", "--help"):
        parser().print_help()
        return 0
    if given[0] == "--version":
        from importlib.metadata import version

        print(f"supertile {version('supertile')}")
        return 0
    name = given[0]
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS, "see supertile --help")
        raise UserError("command.unknown", name=name, known=", ".join(COMMANDS), hint=hint)
    module = importlib.import_module(f"supertile.cli.{COMMANDS[name][0]}")
    command = Parser(prog=f"supertile {name}", description=COMMANDS[name][1], allow_abbrev=False)
    module.add_options(command)
    code: int = module.run(command.parse_args(given[1:]))
    sys.stdout.flush()
    return code


def _bug(given: list[str], error: Exception) -> int:
    """Say that it is our fault, and leave a file that shows it."""
    reproducer = getattr(error, "reproducer", None)
    if reproducer is None:
        reproducer = _write_crash(given, error)
    message = getattr(error, "message", None) or f"{type(error).__name__}: {str(error)[:300]}"
    print(f"bug in Supertile: {message}", file=sys.stderr)
    print(f"  reproducer: {reproducer or 'none could be written'}", file=sys.stderr)
    return 2


def _write_crash(given: list[str], error: Exception) -> str | None:
    import platform
    import shlex
    import traceback

    from supertile.ir.files import write_text

    lines = [
        f"supertile {shlex.join(given)}",
        f"Python {platform.python_version()}",
        "".join(traceback.format_exception(error))[-20_000:],
    ]
    path = "supertile-crash.txt"
    try:
        write_text(path, "\n".join(lines))
    except UserError:
        return None
    return path


if __name__ == "__main__":
    sys.exit(main())

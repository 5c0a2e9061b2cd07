"""`supertile opt`: passes on IR text; a reproducer names its own passes."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import takewhile
from pathlib import Path

from supertile.cli.inputs import check_output_file, check_output_folder, reproducer_folder
from supertile.ir.errors import UserError

LENGTH_LIMIT = 200_000_000  # bytes of IR text; V4-Pro has 1.5 million at most


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="IR text, or a reproducer; - reads the input")
    command.add_argument(
        "-p",
        "--pipeline",
        metavar="P",
        help="'pass{a=1},pass2'; a reproducer names its own",
    )
    command.add_argument("-o", "--output", metavar="F", help="write here instead of printing")
    command.add_argument(
        "--dump-ir", metavar="DIR", help="write the IR after every pass, trace.json, trace.html"
    )
    command.add_argument(
        "--check-numerics",
        action="store_true",
        help="execute the module on seeded weights before and after every pass, and compare",
    )
    command.add_argument("--no-locations", action="store_true", help="print without locations")


def run(options: argparse.Namespace) -> int:
    from supertile.ir.files import write_text
    from supertile.ir.text import parse_module, print_module
    from supertile.passes.driver import Options, reproducer_pipeline, run_passes
    from supertile.passes.pipeline import parse_pipeline

    check_output_file(options.output)
    check_output_folder(options.dump_ir)
    text = read_ir(options.file)
    module = parse_module(text, options.file)
    pipeline = reproducer_pipeline(text) if options.pipeline is None else options.pipeline
    if pipeline is None:
        raise UserError("command.no_pipeline", file=options.file)
    passes = parse_pipeline(pipeline)
    notes, folder = _notes(text, options.file), reproducer_folder(options.dump_ir)
    if options.check_numerics:
        from supertile.cli.numerics import Comparison

        comparison = Comparison(passes, folder, notes)
        comparison.run(module.clone())
        # Not to standard output, which may be the IR.
        print("\n".join(comparison.lines), file=sys.stderr)
    dump = Path(options.dump_ir) if options.dump_ir else None
    run_passes(module, passes, Options(dump=dump, reproducers=folder, notes=notes))
    result = print_module(module, locations=not options.no_locations)
    if options.output:
        write_text(options.output, result)
    else:
        sys.stdout.write(result)
    return 0


def _notes(text: str, file: str) -> tuple[str, ...]:
    """What a reproducer says of itself: it may be written over, and keeps these lines."""
    comments = takewhile(lambda line: line.startswith("// "), text.split("\n")[2:])
    lines = [line.removeprefix("// ") for line in comments]
    own = list(takewhile(lambda line: not line.startswith(("the pass ", "the module ")), lines))
    written = [line for line in own if not line.startswith(("seed: ", "compare numbers "))]
    return tuple(written) or (f"file: {file}",)


def read_ir(file: str) -> str:
    """The text of a file, or of standard input for `-`."""
    if file != "-" and not os.path.exists(file):
        raise UserError("command.unreadable", file=file[:300], reason="there is no such file")
    try:
        text = sys.stdin.read(LENGTH_LIMIT + 1) if file == "-" else _file_text(file)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError("command.unreadable", file=file, reason=reason) from None
    except UnicodeDecodeError:
        raise UserError("command.unreadable", file=file, reason="it is not text") from None
    if len(text) > LENGTH_LIMIT:
        reason = f"it has more than {LENGTH_LIMIT:,} bytes"
        raise UserError("command.unreadable", file=file, reason=reason)
    return text


def _file_text(file: str) -> str:
    from supertile.ir.files import open_regular

    with open_regular(file) as stream:
        return stream.read(LENGTH_LIMIT + 1).decode("utf-8").replace("\r\n", "\n")

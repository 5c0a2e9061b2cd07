"""`supertile opt`: passes on IR text; a reproducer names its own passes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from supertile.ir.errors import UserError


def add_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="IR text, or a reproducer; - reads the input")
    command.add_argument("-p", "--pipeline", metavar="P", help="pass{a=1},pass2")
    command.add_argument("-o", "--output", metavar="F", help="write here instead of printing")
    command.add_argument("--dump-ir", metavar="DIR", help="write the IR after every pass, and diffs")
    command.add_argument("--no-locations", action="store_true", help="print without locations")


def run(options: argparse.Namespace) -> int:
    from supertile.ir.files import write_text
    from supertile.ir.text import parse_module, print_module
    from supertile.passes.driver import Options, reproducer_pipeline, run_passes
    from supertile.passes.pipeline import parse_pipeline

    text = read_ir(options.file)
    pipeline = options.pipeline
    if pipeline is None:
        pipeline = reproducer_pipeline(text)
    if pipeline is None:
        raise UserError("command.no_pipeline", file=options.file)
    passes = parse_pipeline(pipeline)
    module = parse_module(text, options.file)
    folder = Path(options.dump_ir) if options.dump_ir else None
    run_passes(module, passes, Options(dump=folder, notes=(f"file: {options.file}",)))
    result = print_module(module, locations=not options.no_locations)
    if options.output:
        write_text(options.output, result)
    else:
        sys.stdout.write(result)
    return 0


def read_ir(file: str) -> str:
    """The text of a file, or of standard input for `-`."""
    try:
        return sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError("command.unreadable", file=file, reason=reason) from None
    except UnicodeDecodeError:
        raise UserError("command.unreadable", file=file, reason="it is not text") from None

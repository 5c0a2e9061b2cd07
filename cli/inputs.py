"""What commands take: models and configs by path or shipped name, numbers, places to write to."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.ir.errors import UserError, nearest

if TYPE_CHECKING:
    from supertile.frontend.program import Program
    from supertile.frontend.settle import ModelConfig

NUMERICS = ("reference", "deployed")


def shipped_models() -> dict[str, Path]:
    """Name -> path of the model files in the package."""
    folder = Path(str(files("supertile.models")))
    return {path.stem: path for path in sorted(folder.glob("*.st"))}


def shipped_configs() -> dict[str, Path]:
    """Name -> path of the config files in the package."""
    folder = Path(str(files("supertile.models"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def model_path(text: str) -> Path:
    """A model file: a path, or the name of a shipped one, with or without folder and suffix."""
    return _found(text, shipped_models(), ".st", "command.no_model")


def config_path(text: str) -> Path:
    """A config.json: a path (or its folder), or the name of a shipped one."""
    inside = os.path.join(text, "config.json")
    if os.path.isfile(inside):
        return Path(inside)
    return _found(text, shipped_configs(), ".json", "command.no_config")


def _found(text: str, shipped: Mapping[str, Path], suffix: str, code: str) -> Path:
    # os.path, unlike Path, takes names that no file can have.
    if text and os.path.exists(text):
        return Path(text)
    name = os.path.basename(text).removesuffix(suffix)
    if name in shipped:
        return shipped[name]
    hint = nearest(name, shipped, "give the path of a file")
    raise UserError(code, name=text, known=", ".join(shipped), hint=hint)


def choose(value: str, known: Iterable[str], code: str) -> str:
    """The value if it is known; else the error of that code, with the nearest that is."""
    names = list(known)
    if value not in names:
        raise UserError(code, name=value, known=", ".join(names), hint=nearest(value, names))
    return value


def add_model_options(command: argparse.ArgumentParser, numerics: str | None = "reference") -> None:
    """MODEL, --config, --numerics with this default; None where the command decides."""
    command.add_argument("model", metavar="MODEL", help="a model file, or a shipped name")
    command.add_argument(
        "--config", required=True, metavar="F", help="config.json, its folder, or a shipped name"
    )
    command.add_argument(
        "--numerics",
        choices=NUMERICS,
        default=numerics,
        metavar="M",
        help="reference: float32 (default); deployed: with every rounding of the release",
    )
    add_strict_option(command)


def add_strict_option(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--strict", action="store_true", help="refuse a config of which anything is not read"
    )
    command.set_defaults(remarked=[])


def read_model(
    options: argparse.Namespace, numerics: str | None = None
) -> tuple[Program, ModelConfig]:
    """The model file and the config of a command, which go together; `numerics` are the command's.

    What of the config is not followed is told once on standard error, or refused under --strict.
    """
    from supertile.cli.mpi import is_first_rank

    files = model_path(options.model), config_path(options.config)
    strict = getattr(options, "strict", False)
    program, config, lines = read_files(*files, numerics or options.numerics, strict)
    remarked: list[str] | None = getattr(options, "remarked", None)
    if remarked is None or not is_first_rank():  # another part of the command or job tells
        return program, config
    for line in [line for line in lines if line not in remarked]:
        remarked.append(line)
        print(line, file=sys.stderr)
    return program, config


def read_files(
    model: Path, config: Path, numerics: str, strict: bool
) -> tuple[Program, ModelConfig, list[str]]:
    """A model file, a config that it covers, and what there is to remark on the config."""
    from supertile.frontend.bind import check_config, remarks_on
    from supertile.frontend.check import check_program
    from supertile.frontend.hf_config import read_config
    from supertile.frontend.program import load_program
    from supertile.frontend.settle import settle

    program = load_program(model)
    check_program(program)
    read = settle(program, read_config(config))
    check_config(program, read)
    remarks = remarks_on(program, read, numerics)
    for remark in remarks if strict else ():
        raise UserError("config.strict", remark.where, line=remark.line)
    return program, read, [f"{read.config.file}: {remark.line}" for remark in remarks]


def positive(text: str) -> int:
    """An option's value of 1 or more."""
    return _number(text, 1)


def natural(text: str) -> int:
    """An option's value of 0 or more."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    # Twelve digits are enough to see that a number is too large.
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) < 2**31:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is no whole number from {least} to 2^31")
    return int(text)


# ---- places to write to ------------------------------------------------------------------------


def check_output_file(path: str | None) -> None:
    """Raise now what writing the file would raise at the end of a long run."""
    if path is not None and os.path.isdir(path):
        raise UserError("command.is_folder", file=path)
    if path is not None:
        _check_folder(os.path.dirname(os.path.abspath(path)), path)


def check_output_folder(path: str | None) -> None:
    if path is not None:
        _check_folder(os.path.abspath(path), path)


def _check_folder(folder: str, shown: str) -> None:
    """Whether files can be made in a folder, or the folder itself where it is missing."""
    held = folder
    while not os.path.lexists(held) and os.path.dirname(held) != held:
        held = os.path.dirname(held)
    if not os.path.isdir(held):
        reason = os.strerror(errno.ENOTDIR) + f": {held}"
        raise UserError("command.unwritable", file=shown, reason=reason)
    if not os.access(held, os.W_OK | os.X_OK):
        raise UserError("command.unwritable", file=shown, reason=os.strerror(errno.EACCES))


def reproducer_folder(*wanted: str | None) -> Path:
    """The first of the folders that can be written to; else the current one, else a temporary."""
    for folder in (*wanted, "."):
        if folder is None:
            continue
        try:
            check_output_folder(folder)
        except UserError:
            continue
        return Path(folder)
    return Path(tempfile.gettempdir())

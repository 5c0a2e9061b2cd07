"""What commands take: model files and configs by path or by the name of a shipped one."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

from supertile.ir.errors import UserError, nearest

NUMERICS = ("reference", "deployed")


def shipped_models() -> dict[str, Path]:
    """Name -> path of the model files in the package."""
    folder = Path(str(files("supertile.models")))
    return {path.stem: path for path in sorted(folder.glob("*.st"))}


def shipped_configs() -> dict[str, Path]:
    folder = Path(str(files("supertile.models"))) / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def model_path(text: str) -> Path:
    """A model file: a path, or the name of a shipped one, with or without folder and suffix."""
    return _found(text, shipped_models(), ".st", "command.no_model")


def config_path(text: str) -> Path:
    """A config.json: a path (or its folder), or the name of a shipped one."""
    path = Path(text)
    if path.is_dir() and (path / "config.json").exists():
        return path / "config.json"
    return _found(text, shipped_configs(), ".json", "command.no_config")


def _found(text: str, shipped: dict[str, Path], suffix: str, code: str) -> Path:
    path = Path(text)
    if path.exists():
        return path
    name = path.name.removesuffix(suffix)
    if name in shipped and path.suffix in ("", suffix):
        return shipped[name]
    hint = nearest(name, shipped, "give the path of a file")
    raise UserError(code, name=text, known=", ".join(shipped), hint=hint)


def add_model_options(command: argparse.ArgumentParser) -> None:
    """MODEL, --config, --numerics."""
    command.add_argument("model", metavar="MODEL", help="a model file, or the name of a shipped one")
    command.add_argument(
        "--config", required=True, metavar="F", help="config.json, its folder, or a shipped name"
    )
    command.add_argument(
        "--numerics",
        choices=NUMERICS,
        default="reference",
        help="reference: float32; deployed: every rounding point of the release (default: reference)",
    )


def positive(text: str) -> int:
    """An option's value of 1 or more."""
    return _number(text, 1)


def natural(text: str) -> int:
    """An option's value of 0 or more."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    if not text.isascii() or not text.isdigit() or not least <= int(text[:12]) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of {least} or more")
    return int(text)

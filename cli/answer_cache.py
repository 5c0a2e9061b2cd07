"""Answers to deployments that were asked before, kept in the user's cache folder.

An answer is kept under a digest of all that it follows from: the texts of model, config and
machine, the deployment, the options, and the files of Supertile itself. What cannot be read back
whole counts as not kept, and a folder that cannot be written to is done without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from supertile.cli.compile_output import Result

if TYPE_CHECKING:
    from supertile.cli.deploy import Goal

KEPT = 64
"""Answers that are kept; the oldest goes first."""
SIZE_LIMIT = 200_000_000
IMPORT = re.compile(r"^\s*import\b", re.MULTILINE)


def cache_key(options: argparse.Namespace, goal: Goal) -> str | None:
    """The key of what is asked; None where the command shows how the answer comes about."""
    shown = options.dump_ir or options.check_numerics or options.stats
    if goal.deployment is None or shown or options.no_cache:
        return None
    from supertile.cli.inputs import config_path, model_path
    from supertile.targets.deploy import deployment_text

    model = model_path(options.model)
    if IMPORT.search(model.read_text(encoding="utf-8", errors="replace")):
        return None  # the answer would follow from more files
    written = "written" if options.output else "printed"
    texts = [
        options.model, options.config, options.numerics, options.tiles, str(options.entry), written,
        deployment_text(goal.deployment), goal.overlap,
    ]  # fmt: skip
    files: list[str | Path] = [model, config_path(options.config), goal.machine.file]
    if goal.plan is not None:
        files.append(options.plan)
    loads = getattr(options, "loads", None)
    texts += [str(loads), "" if goal.engine is None else goal.engine.name]
    if loads is not None and os.path.isfile(loads):
        files.append(loads)
    return key_of(texts, files)


def cache_folder() -> Path:
    """Where answers are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "supertile" / "answers"


def key_of(texts: Iterable[str], files: Iterable[str | Path]) -> str:
    """A digest of the texts, of the contents of the files, and of Supertile's own files."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    for file in files:
        digest.update(Path(file).read_bytes() + b"\0")
    for path, size, changed in _own_files():
        digest.update(f"{path} {size} {changed}\0".encode())
    return digest.hexdigest()


def _own_files() -> list[tuple[str, int, int]]:
    """(path, size, time of the last change) of every source file of the package."""
    folders = [Path(__file__).parent, *_sibling_folders()]
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".lark", ".st", ".toml", ".css", ".js"):
                held = path.stat()
                found.append((str(path), held.st_size, held.st_mtime_ns))
    return found


def _sibling_folders() -> list[Path]:
    import supertile.frontend
    import supertile.ir
    import supertile.models
    import supertile.passes
    import supertile.runtime
    import supertile.targets

    packages = (
        supertile.frontend, supertile.ir, supertile.models, supertile.passes, supertile.runtime,
        supertile.targets,
    )  # fmt: skip
    return [Path(next(iter(package.__path__))) for package in packages]


def load(key: str) -> Result | None:
    """The answer kept under a key; None if there is none, or not a whole one."""
    from supertile.targets.timeline_json import timeline_of

    path = cache_folder() / f"{key}.json"
    try:
        if path.stat().st_size > SIZE_LIMIT:
            return None
        digest, _, body = path.read_text(encoding="utf-8").partition("\n")
        if digest != hashlib.sha256(body.encode()).hexdigest():
            return None
        held = json.loads(body)
        timeline = timeline_of(held.pop("timeline"))
        return Result(**held, timeline=timeline)
    except (OSError, ValueError, KeyError, TypeError):
        # Whatever is wrong with what is kept, the answer can be computed.
        return None


def save(key: str, kept: Result) -> None:
    """Keep an answer. A folder that cannot be written to costs time later, not the answer now."""
    from supertile.ir.errors import UserError
    from supertile.ir.files import write_text
    from supertile.targets.timeline_json import timeline_text

    assert kept.timeline is not None, "answers to deployments are kept"
    body = json.dumps(
        {
            "module": kept.module,
            "plan": kept.plan,
            "lines": kept.lines,
            "tables": kept.tables,
            "timeline": timeline_text(kept.timeline),
        }
    )
    try:
        write_text(
            cache_folder() / f"{key}.json", f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}"
        )
        _forget_oldest()
    except (OSError, UserError):
        return


def _forget_oldest() -> None:
    held = sorted(cache_folder().glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    for path in held[:-KEPT]:
        path.unlink(missing_ok=True)

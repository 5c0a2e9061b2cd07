"""Answers to deployments that were asked before, kept in the user's cache folder.

An answer is kept under a digest of the contents of all that it follows from: the files that the
command names, the options, the files of Supertile itself, and the versions of Python and of the
packages it needs. What cannot be read back whole counts as not kept, and a folder that cannot be
written to is done without.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
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
UNHEEDED = ("no_cache", "output", "what", "json")
"""Options that an answer does not follow from; whatever else a command is given is in the key."""
FILES_LIMIT = 10_000
"""Files of a folder that an option names; with more of them an answer is not kept."""


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
    asked = {name: value for name, value in vars(options).items() if name not in UNHEEDED}
    named = [text for value in asked.values() for text in _texts(value)]
    contents = [file for text in named for file in _files_of(text)]
    if len(contents) > FILES_LIMIT:
        return None
    written = "written" if options.output else "printed"
    texts = [
        *(f"{name}={value!r}" for name, value in sorted(asked.items())), written,
        deployment_text(goal.deployment), goal.overlap,
    ]  # fmt: skip
    return key_of(texts, [model, config_path(options.config), goal.machine.file, *contents])


def _texts(value: object) -> list[str]:
    """The texts that an option gives."""
    if isinstance(value, str):
        return [value]
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _files_of(text: str) -> list[Path]:
    """The file that an option names, or those of the folder; none where it names neither."""
    try:
        if os.path.isfile(text):
            return [Path(text)]
        paths = sorted(Path(text).iterdir()) if os.path.isdir(text) else []
        return [path for path in paths if path.is_file()]
    except (OSError, ValueError):  # a text that no file can have as its name
        return []


def cache_folder() -> Path:
    """Where answers are kept: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "supertile" / "answers"


def key_of(texts: Iterable[str], files: Iterable[str | Path]) -> str:
    """A digest of the texts, of the contents of the files, and of Supertile and what it runs on."""
    digest = hashlib.sha256()
    for text in (*texts, *_versions()):
        digest.update(text.encode("utf-8", "surrogateescape") + b"\0")
    for file in (*files, *_source_files()):
        # A digest each: no content can pass for the end of one file and the beginning of another.
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def _versions() -> list[str]:
    """`name version` of Python, of Supertile and of each package that it needs."""
    from importlib import metadata

    needed = [text for text in metadata.requires("supertile") or () if "extra ==" not in text]
    names = ["supertile", *(re.split(r"[^\w.-]", text, maxsplit=1)[0] for text in needed)]
    versions = [f"python {sys.version}"]
    for name in names:
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:  # one that only some commands import
            versions.append(f"{name} absent")
    return versions


def _source_files() -> list[Path]:
    """Every file of the package that an answer may follow from, in a fixed order."""
    folders = [Path(__file__).parent, *_sibling_folders()]
    files = (path for folder in folders for path in sorted(folder.rglob("*")))
    return [path for path in files if path.suffix != ".pyc" and path.is_file()]


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
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
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

"""Files of expert loads, opened by their suffix: .pt, .npz, .npy, .safetensors, .json, .csv.

    loads = read_loads(["expert_distribution_recorder_1.pt"], expert_layers(model))
    loads = read_loads(loads_files(["dump/"]), expert_layers(model))    # a file a rank: added up

Nothing in a file is believed before it is checked, and nothing in it is ever run.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from supertile.ir.errors import UserError, nearest
from supertile.ir.files import read_text, reason_of, refuse_special
from supertile.ir.json_text import JsonSource, parse_json
from supertile.runtime.numpy_file import read_npy, read_npz
from supertile.runtime.zip_file import broken_file
from supertile.targets.plan.load_csv import read_csv
from supertile.targets.plan.load_sums import loads_of
from supertile.targets.plan.load_tables import table_of
from supertile.targets.plan.loads import Loads, Table
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.safetensors_loads import read_safetensors
from supertile.targets.plan.torch_file import read_torch

TEXT_LIMIT = 2**26  # bytes of .json and .csv
ARCHIVE_LIMIT = 2**30  # bytes of .pt, .npz, .npy and .safetensors, unpacked
BROKEN = "loads.broken"
FILE_LIMIT = 4096  # files that are added up
ZIP_START, NPY_START = b"PK\x03\x04", b"\x93NUM"
PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))
ARCHIVES: Mapping[str, Callable[[str], object]] = {
    ".pt": lambda file: read_torch(file, ARCHIVE_LIMIT),
    ".npz": lambda file: read_npz(file, ARCHIVE_LIMIT, BROKEN),
    ".npy": lambda file: read_npy(file, ARCHIVE_LIMIT, BROKEN),
    ".safetensors": read_safetensors,
}
STARTS = {
    ".pt": (ZIP_START, "a zip archive, which torch.save writes"),
    ".npz": (ZIP_START, "a zip archive, which numpy.savez writes"),
    ".npy": (NPY_START, "an array, which numpy.save writes"),
}
SUFFIXES = (".pt", ".npz", ".npy", ".safetensors", ".json", ".csv")
PATTERN = re.compile(r"[*?\[]")
OTHER_FILES = re.compile(
    r"meta_info\.json|rank\d+_(raw\.safetensors|numtokens\.json)"
    r"|(cooccurrence|token_selected_experts)_rank\d+\.safetensors"
)
"""Of TensorRT-LLM's recorder, beside those that count the tokens of experts."""


# ---- which files


def loads_files(named: Sequence[str]) -> list[str]:
    """The files that texts name: themselves, patterns such as `dump/rank*.csv`, and folders.

    Errors: `loads.no_match`, `loads.folder_files`, `loads.file_twice`, `loads.many_files`.
    """
    files = [file for text in named for file in _named_files(text)]
    if len(files) > FILE_LIMIT:
        raise UserError("loads.many_files", found=len(files), limit=FILE_LIMIT)
    seen: dict[str, str] = {}
    for file in files:
        first = seen.setdefault(os.path.realpath(file), file)
        if first is not file:
            raise UserError("loads.file_twice", file=file)
    return files


def _named_files(text: str) -> Iterator[str]:
    if os.path.isdir(text):
        yield from _files_of(text)
    elif PATTERN.search(text) and not os.path.exists(text):
        found = sorted(glob.glob(text))
        if not found:
            raise UserError("loads.no_match", pattern=text)
        yield from found
    else:
        yield text


def _files_of(folder: str) -> list[str]:
    """The files of loads in a folder: all of one kind, or which are meant is not clear."""
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if _suffix(entry.name) in SUFFIXES and not OTHER_FILES.fullmatch(entry.name)
    )
    kinds = sorted({_suffix(name) for name in names})
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise UserError("loads.folder_files", file=folder, found=found, known=", ".join(SUFFIXES))
    return [os.path.join(folder, name) for name in names]


def _suffix(file: str) -> str:
    return os.path.splitext(file)[1].lower()


# ---- what they hold


def read_loads(paths: str | Path | Sequence[str | Path], model: ExpertLayers) -> Loads:
    """The loads in a file, or in several added up, checked against the model.

    Errors have `loads.` codes.
    """
    files = [paths] if isinstance(paths, str | Path) else paths
    return loads_of([_table(str(file), model) for file in files], model)


def _table(file: str, model: ExpertLayers) -> Table:
    refuse_special(file, "loads")
    suffix = _suffix(file)
    if suffix not in SUFFIXES:
        hint = nearest(suffix, SUFFIXES)
        known = ", ".join(SUFFIXES)
        raise UserError("loads.suffix", file=file, expected=known, found=suffix, hint=hint)
    if suffix == ".csv":
        return read_csv(file, read_text(file, "loads", TEXT_LIMIT), model)
    if suffix == ".json":
        text = read_text(file, "loads", TEXT_LIMIT)
        return table_of(JsonSource(file, text), parse_json(file, text, "loads"), model)
    _check_archive(file, suffix)
    return table_of(JsonSource(file), ARCHIVES[suffix](file), model)


def _check_archive(file: str, suffix: str) -> None:
    """That the file can be read, is not too large and begins as one of its kind does."""
    try:
        if os.path.isdir(file):
            raise UserError("loads.folder", file=file)
        size = os.path.getsize(file)
        with open(file, "rb") as stream:
            start = stream.read(4)
    except FileNotFoundError:
        raise UserError("loads.absent", file=file) from None
    except (OSError, ValueError) as error:
        raise UserError("loads.unreadable", file=file, reason=reason_of(error)) from None
    if size > ARCHIVE_LIMIT:
        raise UserError("loads.huge", file=file, limit=ARCHIVE_LIMIT)
    if not size:
        raise UserError("loads.empty", file=file)
    if start.startswith(PICKLE_STARTS) and suffix != ".safetensors":
        raise UserError("loads.torch_refused", file=file, found="a bare pickle")
    expected, text = STARTS.get(suffix, (b"", ""))
    if not start.startswith(expected):
        raise broken_file(file, f"it does not begin as {text}", BROKEN)

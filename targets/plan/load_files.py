"""Files of expert loads, opened by their suffix: .pt, .npz, .json, .csv.

    loads = read_loads("expert_distribution_recorder_1.pt", expert_layers(config))

Nothing in a file is believed before it is checked, and nothing in it is ever run.
"""

from __future__ import annotations

import os
from pathlib import Path

from supertile.ir.errors import UserError, nearest
from supertile.ir.files import open_regular, read_text
from supertile.ir.json_text import JsonSource, parse_json
from supertile.targets.plan.load_csv import read_csv
from supertile.targets.plan.load_tables import table_of
from supertile.targets.plan.loads import Loads, Table, loads_of
from supertile.targets.plan.model import ExpertLayers
from supertile.targets.plan.numpy_file import read_npz
from supertile.targets.plan.torch_file import read_torch

TEXT_LIMIT = 2**26  # bytes of .json and .csv
ARCHIVE_LIMIT = 2**30  # bytes of .pt and .npz, unpacked
SUFFIXES = (".pt", ".npz", ".json", ".csv")
ZIP_START = b"PK\x03\x04"
PICKLE_STARTS = tuple(bytes([0x80, protocol]) for protocol in range(2, 6))


def read_loads(path: str | Path, model: ExpertLayers) -> Loads:
    """The loads in a file, checked against the model. Errors have `loads.` codes."""
    return loads_of(_table(str(path), model), model)


def _table(file: str, model: ExpertLayers) -> Table:
    # os.path, unlike Path, answers for names that no file can have.
    if os.path.exists(file) and not (os.path.isfile(file) or os.path.isdir(file)):
        raise UserError("loads.special_file", file=file)
    suffix = os.path.splitext(file)[1].lower()
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
    read = read_torch if suffix == ".pt" else read_npz
    return table_of(JsonSource(file), read(file, ARCHIVE_LIMIT), model)


def _check_archive(file: str, suffix: str) -> None:
    """That the file can be read, is not too large and begins as an archive does."""
    try:
        if os.path.isdir(file):
            raise UserError("loads.folder", file=file)
        size = os.path.getsize(file)
        with open_regular(file) as stream:
            start = stream.read(4)
    except FileNotFoundError:
        raise UserError("loads.absent", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError("loads.unreadable", file=file, reason=reason) from None
    if size > ARCHIVE_LIMIT:
        raise UserError("loads.huge", file=file, limit=ARCHIVE_LIMIT)
    if not size:
        raise UserError("loads.empty", file=file)
    if start.startswith(PICKLE_STARTS):
        raise UserError("loads.torch_refused", file=file, found="a bare pickle")
    if start != ZIP_START:
        reason = "it does not begin as a zip archive, which torch.save and numpy.savez write"
        raise UserError("loads.broken", file=file, reason=reason)

"""Files that commands are given in tests: good ones from `tests/data`, and broken ones."""

import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[1] / "data"
LLAMA = DATA / "llama"
NAME = "model.layers.0.input_layernorm.weight"


def make_files(folder: Path) -> None:
    """Everything that the tables of bad input name."""
    _tokens(folder)
    _weights(folder)
    _pins(folder)
    _texts(folder)
    (folder / "folder").mkdir()


def _tokens(folder: Path) -> None:
    (folder / "tokens.txt").write_text("1 2 3 4 5 6\n\n7, 8, 9\n")
    (folder / "word.txt").write_text("1 2 3\n4 five 6\n")
    (folder / "negative.txt").write_text("1 -2 3\n")
    (folder / "range.txt").write_text("1 2 3\n4 128\n")
    (folder / "long.txt").write_text(" ".join(["1"] * 250))
    (folder / "bytes.txt").write_bytes(b"1 2 \xff\xfe")
    (folder / "empty").write_bytes(b"")
    (folder / "empty.npy").write_bytes(b"")
    (folder / "empty.npz").write_bytes(b"")
    np.save(folder / "float.npy", np.ones((2, 3)))
    np.save(folder / "three.npy", np.ones((2, 3, 4), np.int64))
    np.save(folder / "none.npy", np.ones((0, 3), np.int64))
    np.save(folder / "blank.npy", np.ones((2, 0), np.int64))
    np.save(folder / "huge.npy", np.array([[1, 2**64 - 1]], np.uint64))
    np.save(folder / "object.npy", np.array([[1], None], object))
    np.savez(folder / "key.npz", tokens=np.ones((1, 3), np.int64))
    np.savez(folder / "lengths.npz", input_ids=np.ones((2, 3), np.int64), lengths=np.array([3, 4]))
    whole = (LLAMA / "io.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    header = "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 900000000000), }"
    lie = header.ljust(117) + "\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(lie)) + lie.encode()
    (folder / "lie.npy").write_bytes(array)
    with zipfile.ZipFile(folder / "lie.npz", "w") as archive:
        archive.writestr("input_ids.npy", array)


def _weights(folder: Path) -> None:
    whole = (LLAMA / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8 : 8 + size]), whole[8 + size :]

    def write(name: str, change) -> None:
        changed = json.loads(json.dumps(header))
        change(changed)
        text = json.dumps(changed).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + data)

    write("renamed.safetensors", lambda held: held.update(other=held.pop(NAME)))
    write(
        "shape.safetensors", lambda held: held[NAME].update(shape=[4, held[NAME]["shape"][0] // 4])
    )
    write("lie.safetensors", lambda held: held[NAME].update(shape=[10**15]))
    write("offsets.safetensors", lambda held: held[NAME].update(data_offsets=[0, 10**15]))
    write("dtype.safetensors", lambda held: held[NAME].update(dtype="I32"))
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.safetensors").write_bytes(bytes(range(256)) * 8)
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**60) + whole[8:])
    (folder / "empty.safetensors").write_bytes(b"")


def _pins(folder: Path) -> None:
    pin = "layers.1.ffn.router.chosen"
    np.savez(
        folder / "pin_name.npz", **{"layers.1.ffn.router.chose": np.zeros((1, 1, 4), np.int32)}
    )
    np.savez(folder / "pin_shape.npz", **{pin: np.zeros((1, 1, 5), np.int32)})
    np.savez(folder / "pin_kind.npz", **{pin: np.zeros((1, 1, 4))})
    np.savez(folder / "pin_range.npz", **{pin: np.full((1, 1, 4), 10**6, np.int32)})
    np.save(folder / "pin.npy", np.zeros(3))


def _texts(folder: Path) -> None:
    (folder / "old.mlir").write_text("// supertile IR 0\nbuiltin.module {\n}\n")
    (folder / "module.mlir").write_text("// supertile IR 1\nbuiltin.module {\n}\n")
    (folder / "syntax.mlir").write_text("// supertile IR 1\nbuiltin.module {\n  graph.nothing\n}\n")
    (folder / "empty.mlir").write_text("")
    (folder / "bytes.mlir").write_bytes(b"// supertile IR 1\n\xff")
    (folder / "config.json.txt").write_text("{")
    (folder / "other.json").write_text('{"model_type": "mamba"}')


def damaged(case: Path, target: Path, name: str, factor: float) -> Path:
    """A copy of a checkpoint in which the tensors with this in their name are multiplied."""
    shutil.copytree(case, target)
    file = target / "model.safetensors"
    raw = bytearray(file.read_bytes())
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    for tensor, entry in json.loads(raw[8:start]).items():
        if name in tensor:
            first, end = entry["data_offsets"]
            held = np.frombuffer(raw, np.float32, (end - first) // 4, start + first)
            held *= np.float32(factor)
    file.write_bytes(raw)
    return target

"""Machines by example: what the shipped files say, what a file means, and each wrong file's error.

`EXAMPLE` is the file in docs/machines.md; the broken files below are one change away from it.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from supertile.ir.errors import MACHINE_TEXTS, UserError
from supertile.targets.machine import (
    EVIDENCE,
    Machine,
    is_shipped,
    load_machine,
    machine_names,
    shadowed_file,
)
from supertile.targets.machine_file import FILE_LIMIT, places
from supertile.targets.machine_notes import machine_notes
from supertile.targets.machine_schema import (
    DOMAIN,
    ENGINE,
    KINDS,
    MEMORY,
    PARAMETERS,
    PROTOCOL,
    PROTOCOLS,
)
from supertile.targets.machine_text import COLUMNS, show_text, target_rows
from supertile.targets.machine_units import FORMATS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "machines.md").read_text(encoding="utf-8")
EXAMPLE = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
MACHINES = {name: load_machine(name) for name in machine_names()}
SHIPPED = [(ROOT / "targets" / "machines" / f"{name}.toml").read_text() for name in MACHINES]


@pytest.fixture(params=MACHINES.values(), ids=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    found: Machine = request.param
    return found


def load(tmp_path: Path, text: str | bytes) -> Machine:
    file = tmp_path / "machine.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_machine(file)


def failure(tmp_path: Path, text: str | bytes) -> UserError:
    with pytest.raises(UserError) as caught:
        load(tmp_path, text)
    return caught.value


# ---- the shipped machines


def test_the_machines() -> None:
    assert machine_names() == (
        *("ascend-910c", "ascend-950dt", "gb200-nvl72", "gb300-nvl72", "h100", "h200", "numpy"),
    )


def test_a_file_is_named_as_its_machine(machine: Machine) -> None:
    assert MACHINES[machine.name] is machine


# Machine, figure, SI value, evidence.
PUBLISHED = [
    ("ascend-910c", "devices", 768, "vendor"),
    ("ascend-910c", "engines.cube.rate.bf16", 353.9e12, "vendor"),
    ("ascend-910c", "engines.cube.rate.i8", 752e12, "vendor"),
    ("ascend-910c", "engines.vector.rate.f32", 11e12, "vendor"),
    ("ascend-910c", "memories.hbm.read", 1.6e12, "vendor"),
    ("ascend-910c", "memories.l0c.capacity", 128 * 1024, "vendor"),
    ("ascend-910c", "memories.ub.capacity", 192 * 1024, "vendor"),
    ("ascend-910c", "memories.l2.capacity", 192 * 2**20, "vendor"),
    ("ascend-910c", "domains.node.protocols.load_store.write_latency", 1.3e-6, "measured"),
    ("ascend-910c", "domains.supernode.protocols.load_store.read_bandwidth", 164e9, "measured"),
    ("ascend-910c", "domains.supernode.protocols.dma.write_bandwidth", 129e9, "derived"),
    ("ascend-910c", "domains.scale_out.bandwidth", 25e9, "vendor"),
    ("ascend-950dt", "devices", 8192, "vendor"),
    ("ascend-950dt", "engines.cube.rate.f4e2m1", 1946e12, "vendor"),
    ("ascend-950dt", "engines.cube.rate.hif8", 973e12, "vendor"),
    ("ascend-950dt", "engines.vector.rate.f32", 30e12, "vendor"),
    ("ascend-950dt", "memories.hbm.capacity", 144e9, "vendor"),
    ("ascend-950dt", "memories.l0c.capacity", 256 * 1024, "vendor"),
    ("ascend-950dt", "memories.ub.capacity", 253_952, "vendor"),
    ("ascend-950dt", "domains.supernode.bandwidth", 1008e9, "vendor"),
    ("ascend-950dt", "domains.supernode.latency", 2.1e-6, "vendor"),
    ("h100", "engines.tensor.rate.bf16", 989e12, "vendor"),
    ("h100", "memories.hbm.read", 3.35e12, "vendor"),
    ("h100", "domains.node.protocols.dispatch.write_bandwidth", 285e9, "derived"),
    ("h100", "domains.scale_out.protocols.combine.write_latency", 25e-6, "derived"),
    ("h200", "memories.hbm.capacity", 141e9, "vendor"),
    ("h200", "memories.hbm.read", 4.8e12, "vendor"),
    ("h200", "domains.node.bandwidth", 450e9, "vendor"),
    ("gb200-nvl72", "engines.tensor.rate.f4e2m1", 10e15, "vendor"),
    ("gb200-nvl72", "domains.rack.bandwidth", 900e9, "vendor"),
    ("gb200-nvl72", "domains.rack.protocols.combine.write_latency", 17.1e-6, "derived"),
    ("gb300-nvl72", "engines.tensor.rate.f4e2m1", 15e15, "vendor"),
    ("gb300-nvl72", "engines.tensor.rate.i8", 165e12, "vendor"),
    ("gb300-nvl72", "memories.tmem.capacity", 256 * 1024, "vendor"),
    ("gb300-nvl72", "memories.l2.capacity", None, "unknown"),
    ("numpy", "engines.blas.rate.f32", 205e9, "measured"),
    ("numpy", "memories.dram.read", 37e9, "measured"),
    ("numpy", "parameters.launch_matrix", 1e-6, "measured"),
]


@pytest.mark.parametrize(("name", "figure", "value", "evidence"), PUBLISHED)
def test_published_figures(name: str, figure: str, value: float | None, evidence: str) -> None:
    found = MACHINES[name].figure(figure)
    assert found.evidence == evidence
    assert found.value == (None if value is None else pytest.approx(value, rel=1e-12))


# Machine, figure, what it was computed from.
DERIVED = [
    ("ascend-910c", "engines.cube.rate.bf16", 24 * 8192 * 1.8e9),
    ("ascend-910c", "memories.l2.read", 24 * 110 * 1.8e9),
    ("ascend-910c", "memories.l2.write", 24 * 86 * 1.8e9),
    ("ascend-910c", "memories.l2.fill", 24 * 32 * 1.8e9),
    ("ascend-910c", "memories.l1.fill", 110 * 1.8e9),
    ("ascend-910c", "memories.l0a.fill", 512 * 1.8e9),
    ("ascend-910c", "memories.l0b.fill", 256 * 1.8e9),
    ("ascend-910c", "memories.l0c.drain", 256 * 1.8e9),
    ("ascend-910c", "memories.ub.drain", 64 * 1.8e9),
    ("ascend-910c", "domains.node.bandwidth", 7 * 224e9 / 8),
    ("ascend-910c", "parameters.memory_fraction", 1.346 / 1.6),
    ("ascend-950dt", "engines.cube.rate.bf16", 36 * 8192 * 1.65e9),
    ("ascend-950dt", "memories.l2.read", 36 * 100 * 1.65e9),
    ("ascend-950dt", "memories.l0a.fill", 256 * 1.65e9),
    ("ascend-950dt", "memories.l0c.drain", 128 * 1.65e9),
    ("ascend-950dt", "domains.cabinet.devices", 8192 / 128),
    ("ascend-950dt", "domains.cabinet.bandwidth", 18 * 56e9),
    ("ascend-950dt", "domains.cabinet.protocols.dma.write_bandwidth", 9 * 47.6e9),
    ("ascend-950dt", "domains.supernode.protocols.dma.write_bandwidth", 9 * 41.7e9),
    ("h100", "engines.tensor.clock", 989e12 / (132 * 4096)),
    ("h100", "engines.cuda.rate.f32", 132 * 128 * 2 * 1.83e9),
    ("h100", "engines.mufu.rate.f32", 132 * 16 * 1.83e9),
    ("h100", "memories.smem.read", 128 * 1.83e9),
    ("h100", "parameters.matrix_fraction", 865 / 989),
    ("gb200-nvl72", "engines.tensor.clock", 2500e12 / (148 * 8192)),
    ("gb200-nvl72", "engines.mufu.rate.f32", 148 * 16 * 2.06e9),
    ("gb200-nvl72", "memories.smem.read", 128 * 2.06e9),
    ("gb300-nvl72", "engines.mufu.rate.f32", 2 * 4.88e12),
]


@pytest.mark.parametrize(("name", "figure", "value"), DERIVED)
def test_derived_figures_follow_from_what_they_were_derived_from(
    name: str, figure: str, value: float
) -> None:
    assert MACHINES[name].need(figure, "the test") == pytest.approx(value, rel=0.005)


def test_formats() -> None:
    ascend, hopper, next_ascend = (
        MACHINES["ascend-910c"],
        MACHINES["h200"],
        MACHINES["ascend-950dt"],
    )
    assert ascend.stored_formats == ("f32", "bf16", "f16", "i8")
    assert ascend.computed_formats == ("bf16", "f16", "i8", "f32")
    assert "f4e2m1" in hopper.stored_formats and "f4e2m1" not in hopper.computed_formats
    assert next_ascend.formats.scaled == ("f8e4m3", "f4e2m1")


def test_domains_go_from_the_inside_outwards() -> None:
    shapes = {
        name: [(domain.name, domain.devices.value) for domain in machine.domains]
        for name, machine in MACHINES.items()
    }
    nodes = [("node", 8), ("scale_out", None)]
    rack = [("rack", 72), ("scale_out", None)]
    assert shapes == {
        "ascend-910c": [("package", 2), ("node", 16), ("supernode", 768), ("scale_out", None)],
        "ascend-950dt": [("cabinet", 64), ("supernode", 8192), ("scale_out", None)],
        "h100": nodes,
        "h200": nodes,
        "gb200-nvl72": rack,
        "gb300-nvl72": rack,
        "numpy": [],
    }


def test_a_roofline_finds_what_it_needs(machine: Machine) -> None:
    matrix, vector = machine.engine("matrix"), machine.engine("vector")
    assert matrix is not None and vector is not None
    rates = [f"engines.{matrix.name}.rate.{key}" for key in matrix.rate]
    main = f"memories.{machine.main_memory.name}"
    for name in (*rates, f"engines.{vector.name}.rate.f32", f"{main}.capacity", f"{main}.read"):
        assert machine.need(name, "a roofline") > 0
    links = ("link_fraction", "launch_collective") if machine.domains else ()
    for key in ("launch_matrix", "launch_vector", "matrix_fraction", "memory_fraction", *links):
        assert machine.need(f"parameters.{key}", "a roofline") > 0


def test_every_figure_stands_on_a_word(machine: Machine) -> None:
    for name, figure in machine.figures():
        known = figure.value is not None
        assert figure.evidence in EVIDENCE if known else figure.evidence == "unknown", name
        assert figure.source if known else figure.note, name


def test_every_figure_has_its_place_in_the_file(machine: Machine) -> None:
    for name, _ in machine.figures():
        spot = machine.spots[name]
        assert spot.text[spot.column - 1 :].startswith(name.rpartition(".")[2]), name


# ---- what a file means


def test_the_example_of_the_page(tmp_path: Path) -> None:
    example = load(tmp_path, EXAMPLE)
    assert example.need("memories.scratch.capacity", "tiles") == 262_144
    assert example.need("domains.board.bandwidth", "transfers") == pytest.approx(400e9)
    assert example.need("domains.pod.bandwidth", "transfers") == pytest.approx(50e9)  # 400 Gbit/s
    assert example.need("domains.board.protocols.dma.write_latency", "transfers") == pytest.approx(
        2.5e-6
    )
    assert example.computed_formats == ("bf16", "f8e4m3")
    assert example.main_memory.name == "hbm"
    assert example.figure("memories.hbm.read").written == pytest.approx(3.2)
    pod = example.domain("pod")
    assert pod is not None and pod.latency.value == pytest.approx(3.2e-6)
    assert example.figure("memories.scratch.read").note == "the sheet gives no rate"


def test_the_page_names_every_key() -> None:
    keys = [*ENGINE, *MEMORY, *DOMAIN, *PROTOCOL, *PARAMETERS, *PROTOCOLS, *KINDS, *FORMATS]
    assert [key for key in keys if not re.search(rf"\b{key}\b", PAGE)] == []


def test_what_is_unknown_is_never_a_number() -> None:
    with pytest.raises(UserError) as caught:
        MACHINES["gb300-nvl72"].need("engines.tensor.cores", "the choice of tiles")
    error = caught.value
    assert error.code == "machine.unknown_figure"
    assert "the choice of tiles needs `engines.tensor.cores` of gb300-nvl72" in error.message
    assert error.found.startswith("160 SMs on the full die")
    assert error.spot is not None and error.spot.text.startswith("cores = ")


def test_a_figure_that_the_file_leaves_out_is_unknown() -> None:
    with pytest.raises(UserError) as caught:
        MACHINES["h200"].need("engines.tensor.rate.f4e2m1", "FP4 products")
    assert caught.value.found == "the machine file does not give it"


def test_a_shipped_name_is_the_shipped_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "h100").write_text(EXAMPLE)
    (tmp_path / "h200").mkdir()
    (tmp_path / "mine").write_text(EXAMPLE)
    assert (load_machine("h100").name, shadowed_file("h100")) == ("h100", True)
    assert (load_machine("h200").name, shadowed_file("h200")) == ("h200", False)
    assert load_machine("./h100").name == load_machine("mine").name == "example-npu"


def test_a_file_with_a_shipped_name_is_named_with_its_path(tmp_path: Path) -> None:
    file = tmp_path / "m.toml"
    file.write_text(EXAMPLE.replace('"example-npu"', '"h200"'))
    assert load_machine(file).name == f"h200 (file {file})"
    odd = tmp_path / "a\nb.toml"
    odd.write_text(file.read_text())
    assert load_machine(odd).name == f"h200 (file '{tmp_path}/a\\nb.toml')"
    assert not is_shipped(load_machine(file)) and is_shipped(load_machine("h200"))


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    text = EXAMPLE.replace('title = "Example NPU, pod of 64"\n', "")
    text = text.replace('kind = "vector"\n', "").replace(', reason = "the sheet gives no rate"', "")
    error = failure(tmp_path, text)
    assert error.message == (
        "`title`, `engines.simd.kind`, `memories.scratch.read.reason` are missing"
    )


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeff" + EXAMPLE.replace("\n", "\r\n")
    assert load(tmp_path, text).spots == load(tmp_path, EXAMPLE).spots
    error = failure(tmp_path, text.replace("3.2, unit", "-3.2, unit"))
    assert error.spot is not None and error.spot.text.startswith("read = { value = -3.2")


def test_places_of_keys_and_values() -> None:
    text = """\
a = 1.5  # a = 2
"b c" = "x = 1" # [no]
[t.u]
k = { v = [1, { w = 2 }, "s"], z = '' }
l = [
  "one", # two
  "three"]
d.e = 1
[t]
m = \"\"\"
k = 9
\"\"\"
n = 1
"""
    found = places("f", text)
    at = {name: (spot.line, spot.column) for name, spot in found.items()}
    assert at == {
        "a": (1, 1),
        "a=": (1, 5),
        "b c": (2, 1),
        "b c=": (2, 9),
        "t": (3, 2),
        "t.u": (3, 4),
        "t.u.k": (4, 1),
        "t.u.k=": (4, 5),
        "t.u.k.v": (4, 7),
        "t.u.k.v=": (4, 11),
        "t.u.k.v.0": (4, 12),
        "t.u.k.v.1": (4, 15),
        "t.u.k.v.2": (4, 26),
        "t.u.k.v.1.w": (4, 17),
        "t.u.k.v.1.w=": (4, 21),
        "t.u.k.z": (4, 32),
        "t.u.k.z=": (4, 36),
        "t.u.l": (5, 1),
        "t.u.l=": (5, 5),
        "t.u.l.0": (6, 3),
        "t.u.l.1": (7, 3),
        "t.u.d": (8, 1),
        "t.u.d.e": (8, 3),
        "t.u.d.e=": (8, 7),
        "t.m": (10, 1),
        "t.m=": (10, 5),
        "t.n": (13, 1),
        "t.n=": (13, 5),
    }


# ---- what is wrong with a file

HBM_READ = 'read = { value = 3.2, unit = "TB/s", source = "SHEET p. 1", evidence = "vendor" }'
SIMD = "[engines.simd]"
# What happens in `EXAMPLE`: text -> other text; the code of the error; where the caret stands.
BROKEN: list[tuple[str, str, str, str]] = [
    # Keys
    ("title =", "titel =", "machine.unknown_key", "titel"),
    ('unit = "us"', 'units = "us"', "machine.unknown_key", "units"),
    ('unit = "us", ', "", "machine.missing", "{ value = 1.1"),
    ('"SHEET p. 2", evidence', '"SHEET p. 2", evidense', "machine.unknown_key", "evidense"),
    ("rate.bf16", "rate.b16", "machine.unknown_key", "b16"),
    ("board.protocols.dma]", "board.protocols.dmaa]", "machine.unknown_key", "dmaa]"),
    ("launch_matrix", "launch_matrx", "machine.unknown_key", "launch_matrx"),
    ('reason = "the', 'note = "the', "machine.unknown_key", "note"),
    ('title = "Example NPU, pod of 64"\n', "", "machine.missing", ""),
    (f"\n{SIMD}\n", "\n[more]\n", "machine.unknown_key", "more]"),
    ('kind = "matrix"\n', "", "machine.missing", "tensor]"),
    ("[formats]", "[[formats]]", "machine.table", "formats]]"),
    ("[memories.scratch]", '[memories."two.words"]', "machine.name", '"two.words"]'),
    ('name = "example-npu"', 'name = "Example NPU"', "machine.name", '"Example NPU"'),
    ('title = "Example NPU, pod of 64"', "title = 64", "machine.text", "64"),
    ('title = "Example NPU, pod of 64"', 'title = " "', "machine.text", '" "'),
    ('["f32", "bf16", "f8e4m3"]', '"bf16"', "machine.list", '"bf16"'),
    ('["f32", "bf16", "f8e4m3"]', "[]", "machine.list", "[]"),
    ('"bf16", "f8e4m3"]', '"bf16", "fp8"]', "machine.choice", '"fp8"]'),
    ('"bf16", "f8e4m3"]', '"bf16", "tf32"]', "machine.choice", '"tf32"]'),
    ('"bf16", "f8e4m3"]', '"bf16", "bf16"]', "machine.repeated", '"bf16"]'),
    ('kind = "vector"', 'kind = "vectr"', "machine.choice", '"vectr"'),
    ('per = "tensor"', 'per = "core"', "machine.choice", '"core"'),
    ('outer = "hbm"', 'outer = "scratch"', "machine.choice", '"scratch"'),
    # One figure
    (HBM_READ, "read = 3.2", "machine.figure", "3.2"),
    (HBM_READ, 'read = "unknown"', "machine.figure", '"unknown"'),
    ("value = 3.2", 'value = "3.2"', "machine.number", '"3.2"'),
    ("value = 3.2", "value = -3.2", "machine.number", "-3.2"),
    ("value = 3.2", "value = 0", "machine.number", "0"),
    ("value = 3.2", "value = nan", "machine.number", "nan"),
    ("value = 3.2", "value = inf", "machine.number", "inf"),
    ("value = 3.2", "value = 1e300", "machine.range", "1e300"),
    ("value = 3.2", "value = 1e-320", "machine.range", "1e-320"),
    ("value = 3.2", "value = 1" + "0" * 400, "machine.range", "1000"),
    ("value = 1.1", "value = 1e-300", "machine.range", "1e-300"),
    ("value = 64,", "value = 1e15,", "machine.range", "1e15"),
    ("value = 3.2", "value = true", "machine.number", "true"),
    ("value = 32,", "value = 32.5,", "machine.whole", "32.5"),
    ("value = 0.85", "value = 85", "machine.fraction", "85"),
    ('unit = "TB/s"', 'unit = "Tb/s"', "machine.unit", '"Tb/s"'),
    ('unit = "TB/s"', 'unit = "TB"', "machine.dimension", '"TB"'),
    ('unit = "us"', 'unit = "ms/s"', "machine.unit", '"ms/s"'),
    ('"BENCH", evidence', '"BENHC", evidence', "machine.source", '"BENHC"'),
    ('"SHEET p. 3"', '"SHEET p. 3; LAB"', "machine.source", '"SHEET p. 3; LAB"'),
    ('evidence = "measured"', 'evidence = "tested"', "machine.choice", '"tested"'),
    ('evidence = "measured"', 'evidence = "derived"', "machine.note", "{ value = 1.1"),
    ('evidence = "measured"', 'evidence = "assumed"', "machine.note", "{ value = 1.1"),
    # Facts against each other
    ('kind = "vector"', 'kind = "matrix"', "machine.repeated", "kind"),
    ('kind = "vector"', 'kind = "special"', "machine.no_engine", "engines.tensor]"),
    ("rate.bf16", "rate.f16", "machine.not_stored", "f16"),
    ('["f32", "bf16", "f8e4m3"]', '["bf16", "f8e4m3"]', "machine.not_stored", "f32"),
    ("[formats]", '[formats]\nscaled = ["f4e2m1"]', "machine.not_computed", '"f4e2m1"]'),
    ('outer = "hbm"\n', "", "machine.main_memory", "scratch]"),
    ('per = "device"', 'per = "device"\nouter = "scratch"', "machine.main_memory", "memories.hbm]"),
    ("value = 96, unit = \"GB\"", "value = 96, unit = \"KB\"", "machine.smaller", "capacity"),
    ("value = 8,", "value = 7,", "machine.nest", "devices"),
    ("value = 8,", "value = 64,", "machine.nest", "devices"),
    ("value = 8,", "value = 1,", "machine.nest", "devices"),
    ("value = 64,", "value = 32,", "machine.size", "devices"),
    ("value = 340", "value = 410", "machine.faster", "write_bandwidth"),
    # The text
    ("[formats]", "[formats", "machine.syntax", ""),
    ('name = "example-npu"', "name = example-npu", "machine.syntax", "example-npu"),
    ("[engines.simd]", "[engines.tensor]", "machine.syntax", ""),
    ("value = 3.2", "value = " + "9" * 5000, "machine.syntax", ""),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "code", "caret"), BROKEN)
def test_a_broken_file(tmp_path: Path, old: str, new: str, code: str, caret: str) -> None:
    assert old in EXAMPLE
    error = failure(tmp_path, EXAMPLE.replace(old, new, 1))
    assert error.code == code, str(error)
    spot = error.spot
    assert spot is not None
    assert spot.text[spot.column - 1 :].startswith(caret), str(error)


def test_an_error_in_full(tmp_path: Path) -> None:
    error = failure(tmp_path, EXAMPLE.replace('unit = "TB/s"', 'unit = "TBs"', 1))
    line = 1 + EXAMPLE.partition(HBM_READ)[0].count("\n")
    assert (
        error.render()
        == f"""\
{tmp_path}/machine.toml:{line}:30: error: `memories.hbm.read.unit` is no unit that is known here
{line:>5} | {HBM_READ.replace("TB/s", "TBs")}
{" " * 37}^
  expected: one of B/s, KB/s, MB/s, GB/s, TB/s, PB/s, KiB/s, MiB/s, GiB/s, TiB/s, bit/s, Kbit/s, \
Mbit/s, Gbit/s, Tbit/s, Pbit/s
  found: TBs
  try: did you mean TB/s?"""
    )


CIRCLE = """
[memories.a]
per = "device"
outer = "b"
capacity = { value = "unknown", reason = "none" }
[memories.b]
per = "device"
outer = "a"
capacity = { value = "unknown", reason = "none" }
"""


def test_memories_in_a_circle(tmp_path: Path) -> None:
    error = failure(tmp_path, EXAMPLE + CIRCLE)
    assert (error.code, error.found) == ("machine.circle", "a -> b")


FILES: list[tuple[bytes, str]] = [
    (b"", "machine.empty"),
    (b" \n\t", "machine.empty"),
    (b"\x89PNG\xff\x00", "machine.encoding"),
    (b"PK\x03\x04", "machine.syntax"),
    (b"a = " + b"[" * 100_000, "machine.nested"),
    (b"# " + b"x" * FILE_LIMIT, "machine.huge"),
]


@pytest.mark.parametrize(("content", "code"), FILES, ids=[code for _, code in FILES])
def test_a_file_that_is_no_machine_file(tmp_path: Path, content: bytes, code: str) -> None:
    assert failure(tmp_path, content).code == code


WRITE = "write a file for it: docs/machines.md"
PATHS = [
    ("gb200", "machine.unknown", "did you mean gb200-nvl72?"),
    ("h20", "machine.unknown", WRITE),
    ("", "machine.unknown", WRITE),
    ("x" * 5000, "machine.unknown", WRITE),
    ("machines/h20.toml", "machine.absent", ""),
    (str(ROOT), "machine.folder", "name the .toml file inside it"),
    ("/dev/null", "machine.special_file", ""),
    ("a\0b/c", "machine.unreadable", ""),
    ("x" * 5000 + "/y.toml", "machine.unreadable", ""),
]


@pytest.mark.parametrize(("name", "code", "hint"), PATHS, ids=range(len(PATHS)))
def test_a_wrong_name_or_path(name: str, code: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        load_machine(name)
    assert (caught.value.code, caught.value.suggestion) == (code, hint)


def test_every_text_has_an_example() -> None:
    tested = {code for _, _, code, _ in BROKEN} | {code for _, code in FILES}
    tested |= {code for _, code, _ in PATHS} | {"machine.unknown_figure", "machine.circle"}
    tested |= {"machine.no_tile_memory"}  # in test_tile_limits.py
    tested |= {"machine.uncosted"}  # in test_machine_needs.py
    assert tested == set(MACHINE_TEXTS)


@settings(max_examples=150, deadline=None)
@given(text=st.sampled_from([EXAMPLE, *SHIPPED]), seed=st.integers(), changes=st.integers(1, 4))
def test_no_change_of_a_file_raises_anything_but_a_user_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, seed: int, changes: int
) -> None:
    source = random.Random(seed)
    for _ in range(changes):
        text = source.choice(MUTATIONS)(text, source)
    file = tmp_path_factory.getbasetemp() / "mutated.toml"
    file.write_text(text, encoding="utf-8")
    try:
        machine = load_machine(file)
        assert show_text(machine)
        assert all(note.isprintable() for note in machine_notes(machine))
    except UserError as error:
        assert error.code in MACHINE_TEXTS
        assert error.spot is None or error.spot.text in [*text.split("\n"), ""]


def _drop_line(text: str, source: random.Random) -> str:
    lines = text.split("\n")
    del lines[source.randrange(len(lines))]
    return "\n".join(lines)


def _swap_lines(text: str, source: random.Random) -> str:
    lines = text.split("\n")
    first, second = source.randrange(len(lines)), source.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]
    return "\n".join(lines)


def _change_characters(text: str, source: random.Random) -> str:
    at, count = source.randrange(len(text)), source.randrange(4)
    pieces = (
        '"',
        "'",
        "{",
        "}",
        "[",
        "]",
        ",",
        "=",
        ".",
        "\n",
        "#",
        "0",
        "-",
        "é",
        "\\",
        "'''",
        "1e9",
    )
    return text[:at] + source.choice(("", *pieces)) + text[at + count :]


def _change_word(text: str, source: random.Random) -> str:
    words = [*re.finditer(r"[\w.]+", text)]
    target, other = source.choice(words), source.choice(words)
    return text[: target.start()] + other[0] + text[target.end() :]


MUTATIONS = (_drop_line, _swap_lines, _change_characters, _change_word)


# ---- as text


def test_rows_of_all_machines() -> None:
    rows = target_rows()
    assert {len(row) for row in rows} == {len(COLUMNS)}
    assert [row[0] for row in rows] == list(machine_names())
    assert rows[0][2:6] == ("die", "768", "752 TOP/s i8", "64 GB, 1.6 TB/s")
    assert rows[0][6].endswith("unknown")


def test_the_text_of_a_machine(tmp_path: Path) -> None:
    text = show_text(load(tmp_path, EXAMPLE))
    head, table, notes, sources = text.rstrip("\n").split("\n\n")
    assert head.startswith(
        "example-npu: Example NPU, pod of 64\n  a device, and so a rank, is one chip"
    )
    lines = table.split("\n")
    assert len({line.index("vendor") for line in lines if "vendor" in line}) == 1
    assert lines[0].split() == ["figure", "value", "evidence", "source", "note"]
    assert lines[8].split() == [
        *("memories.hbm.read", "3.2", "TB/s", "vendor", "SHEET", "p.", "1"),
    ]
    assert "  [1]      half the rate of its predecessor's 64 cores" in notes.split("\n")
    assert sources == (
        "sources\n"
        "  SHEET    Example Corp., NPU data sheet, 2026\n"
        "  BENCH    our microbenchmarks, June 2026"
    )


def test_the_text_holds_every_figure_and_note(machine: Machine) -> None:
    words = " ".join(show_text(machine).split())
    for name, figure in machine.figures():
        assert f" {name} " in words
        assert " ".join(figure.note.split()) in words

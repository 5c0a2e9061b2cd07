"""What `--deploy` is told when it cannot be answered: one paragraph, and nothing is written over.

The models are small; the folder of the output holds an earlier answer, which must survive.
"""

import errno
from pathlib import Path

import pytest
from command_files import DATA

from supertile.cli.main import main
from supertile.ir import files
from supertile.targets.machine import load_machine

SMALL = ["compile", "deepseek_v4", "--config", str(DATA / "deepseek_v4_deployed")]
ANSWERED = "phase=decode ep=4 batch=2 context=64"
ON_CHIP = (512, 64, 64, 128, 192)
"""KiB of L1, L0A, L0B, L0C and UB, in the order of the machine file."""

# (machine, deployment, more options) -> the whole paragraph
TOLD = {
    ("ascend-910c", "phase=decode epp=4", ""): """\
--deploy:1:14: error: a deployment has no key 'epp'
    1 | phase=decode epp=4
                     ^
  expected: one of phase, ep, tp, dp, batch, context, chunk, slots, mtp, cache
  try: did you mean ep?
""",
    ("ascend-910c", "phase=decode ep=4 context=64 context=8", ""): """\
--deploy:1:30: error: `context` is given twice
    1 | phase=decode ep=4 context=64 context=8
                                     ^
  expected: every key once at most
""",
    ("ascend-910c", "phase=decode ep=4 batch=0", ""): """\
--deploy:1:25: error: `batch` has a wrong value
    1 | phase=decode ep=4 batch=0
                                ^
  expected: a whole number from 1 to 2147483648; 4K is 4096, 1M is 1048576
  found: '0'
""",
    ("ascend-910c", "phase=decode ep=4 mtp", ""): """\
--deploy:1:19: error: `mtp` has no value
    1 | phase=decode ep=4 mtp
                          ^
  expected: mtp=VALUE: the draft tokens accepted a step, such as 0.7
""",
    ("ascend-910c", "phase=decode ep=4 mtp=2", ""): """\
error: a step of this deepseek_v4 drafts one token with each of its draft layers, and cannot \
accept more: a draft layer that runs several times a step is not costed
  expected: mtp from 0 to 1
  found: mtp=2
""",
    ("ascend-910c", "phase=decode ep=4 chunk=8", ""): """\
--deploy:1:25: error: `chunk` is for prefill only
    1 | phase=decode ep=4 chunk=8
                                ^
  expected: `chunk` with phase=prefill
  found: phase=decode
  try: --deploy "phase=decode ep=4 tp=1 dp=4 batch=1 context=4096 cache=bf16"
""",
    ("ascend-910c", "phase=decode ep=4 tp=2", ""): """\
error: graph.quantize at deepseek_v4.st:161:10 cannot be cut into 2 equal slices of whole blocks \
that have one scale each
  expected: a number of ranks that cuts 128 evenly, between blocks
  found: 2 ranks
  try: tp=1, the most that works for the layer
""",
    ("ascend-910c", "phase=decode ep=4 slots=1/rank", ""): """\
error: there are more experts than slots
  expected: at least 6 slots in all, one for each expert of a layer
  found: 4
  try: --deploy "phase=decode ep=4 tp=1 dp=4 batch=1 context=4096 slots=2/rank cache=bf16"
""",
    ("ascend-910c", "phase=decode ep=4 context=2M", ""): """\
error: this deepseek_v4 has fewer positions than the context has tokens
  expected: at most context=1048576 (max_position_embeddings)
  found: context=2097152
  try: --deploy "phase=decode ep=4 tp=1 dp=4 batch=1 context=1048576 cache=bf16"
""",
    ("ascend-910c", "phase=decode ep=4 cache=fp8", ""): """\
error: ascend-910c cannot store the FP8 part of cached entries
  expected: cache=bf16
  found: cache=fp8; it stores f32, bf16, f16, i8
  try: --deploy "phase=decode ep=4 tp=1 dp=4 batch=1 context=4096 cache=bf16"
""",
    ("numpy", "phase=decode ep=4", ""): """\
error: numpy has fewer devices than the deployment has ranks
  expected: at most 1; a rank is one cpu
  found: 4 ranks
  try: --deploy "phase=decode ep=1 tp=1 dp=1 batch=1 context=4096 cache=bf16"
""",
    ("h200", ANSWERED, "--pipeline cse"): """\
error: a deployment needs all passes
  expected: --deploy without --pipeline and --stop-after
  try: leave out --deploy to look at the IR of some passes
""",
    ("h200", ANSWERED, "--entry draft"): """\
error: a step of a deployment calls the entries that it needs
  expected: --deploy without --entry
  found: --entry draft
  try: leave out --entry; `mtp` in the deployment runs the draft layers too
""",
    ("contradictory.toml", ANSWERED, ""): """\
contradictory.toml:64:1: error: `memories.l1.capacity` is smaller than `memories.l0a.capacity`
   64 | capacity = { value = 4, unit = "KiB", source = "INI", evidence = "vendor" }
        ^
  expected: at least 64 KiB
  found: 4 KiB
""",
    ("scratch.toml", ANSWERED, ""): """\
error: not even the smallest tile of attention fits: deepseek_v4.st:156:7 (attn.o)
  expected: the memory of operands to hold 8192 bytes
  found: 4096 bytes
  try: choose a machine with more on-chip memory, or a model with narrower layers
""",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    """A folder with the cache of two answers, and with the files of the first in `out`."""
    folder = tmp_path_factory.mktemp("answers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        for machine, output in (("h100", "out"), ("h200", "other")):
            assert main(quick(machine, folder / output)) == 0
    return folder


@pytest.fixture
def answers(computed, monkeypatch):
    """The same folder, whose answers are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(computed))
    return computed


def line(machine: str, deployment: str, output: object) -> list[str]:
    return [*SMALL, "--target", machine, "--deploy", deployment, "-o", str(output)]


def quick(machine: str, output: object) -> list[str]:
    """A question that takes little time."""
    model = ["compile", "llama", "--config", str(DATA / "llama")]
    return [*model, "--target", machine, "--deploy", "phase=decode context=64", "-o", str(output)]


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """A folder with machine files that are wrong."""
    folder = tmp_path_factory.mktemp("machines")
    text = Path(load_machine("ascend-910c").file).read_text()

    def write(name: str, sizes: tuple[int, ...]) -> None:
        changed = text
        for size in sizes:
            changed = changed.replace(f'value = {size}, unit = "KiB"', 'value = 4, unit = "KIB"', 1)
        (folder / name).write_text(changed.replace("KIB", "KiB"))

    write("contradictory.toml", ON_CHIP[:1])
    write("scratch.toml", ON_CHIP)
    return folder


@pytest.mark.parametrize("asked", TOLD, ids=lambda asked: " ".join(asked))
def test_one_paragraph_and_no_file(asked, answers, machines, monkeypatch, capsys):
    monkeypatch.chdir(machines)
    machine, deployment, more = asked
    before = contents(answers / "out")
    capsys.readouterr()
    assert main([*line(machine, deployment, answers / "out"), *more.split()]) == 1
    output, told = capsys.readouterr()
    # Of a machine file's figures that look wrong there are notes before the error.
    errors = [text for text in told.splitlines(keepends=True) if " note: " not in f" {text}"]
    assert "".join(errors) == TOLD[asked]
    assert output == ""
    assert contents(answers / "out") == before


def test_a_missing_figure_of_the_machine_is_named_with_its_place(answers, capsys):
    """Beyond 8,192 chips exchanges need the latency of a network that nobody has published."""
    before = contents(answers / "out")
    asked = "phase=decode ep=8193 batch=1 context=64"
    assert main(line("ascend-950dt", asked, answers / "out")) == 1
    errors = capsys.readouterr().err
    assert (
        "a step on ascend-950dt cannot be costed without `domains.scale_out.latency`: unknown"
        in errors
    )
    assert "found: `domains.scale_out.latency`: no measurement is published\n" in errors
    assert contents(answers / "out") == before


# ---- files that cannot be written ---------------------------------------------------------------


def test_an_output_folder_that_is_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("out").write_text("mine")
    assert main(line("h200", ANSWERED, "out")) == 1
    assert capsys.readouterr().err == (
        f"error: out cannot be written: Not a directory: {tmp_path}/out\n"
        "  try: name a place that you may write to\n"
    )
    assert Path("out").read_text() == "mine"


def test_a_folder_that_has_the_name_of_a_file(answers, tmp_path, capsys):
    (tmp_path / "summary.json").mkdir()
    assert main(quick("h200", tmp_path)) == 1
    assert "summary.json is a folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


# The end of a write -> (exit code, what is told)
ENDS = {
    "full disk": (OSError(errno.ENOSPC, "No space left on device"), 1, "No space left on device"),
    "interrupt": (KeyboardInterrupt(), 130, "interrupted; files written before are whole"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("written", range(5))
def test_a_write_that_ends_early_changes_no_file(end, written, answers, monkeypatch, capsys):
    error, code, told = ENDS[end]
    before = contents(answers / "out")
    write, calls = files._write, iter(range(written))

    def fails(target: Path, data: bytes) -> None:
        if next(calls, None) is None:
            raise error
        write(target, data)

    monkeypatch.setattr(files, "_write", fails)
    assert main(quick("h200", answers / "out")) == code
    assert told in capsys.readouterr().err
    assert contents(answers / "out") == before
    assert before != contents(answers / "other"), "the answer would have been another"


def test_drafts_need_the_entry_that_drafts(tmp_path, capsys):
    """The config of R1 has a draft layer, the model file none: both are right by themselves."""
    model = ["compile", "deepseek_v3", "--config", "deepseek_v3", "--target", "h200"]
    deployment = "phase=decode ep=32 batch=64 mtp=0.7"
    assert main([*model, "--deploy", deployment, "-o", str(tmp_path / "out")]) == 1
    assert (
        capsys.readouterr().err
        == """\
error: the model file has no entry `draft`, which `mtp` calls
  expected: no mtp for deepseek_v3
  found: mtp=0.7
  try: --deploy "phase=decode ep=32 tp=1 dp=32 batch=64 context=4096 cache=bf16"
"""
    )

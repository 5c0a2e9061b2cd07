"""Bugs of Supertile, broken passes, interruption, terminals that go away."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from command_files import DATA
from xdsl.dialects.builtin import FloatAttr, f64

from supertile.cli.bisect import find_culprit
from supertile.cli.inputs import reproducer_folder
from supertile.cli.main import main
from supertile.cli.numerics import compare_small, small_module
from supertile.ir import graph
from supertile.passes import pipeline
from supertile.passes.rewriting import Equivalence, Pass

CASE = DATA / "deepseek_v4"
COMMAND = Path(sys.executable).with_name("supertile")


@dataclass(frozen=True)
class Broken(Pass):
    """A pass that does wrong in one op."""

    equivalence: ClassVar[Equivalence] = "exact"


class LargerEps(Broken):
    name = "larger-eps"

    def apply(self, ctx, op):
        norm = next(inner for inner in op.walk() if isinstance(inner, graph.RmsNorm))
        norm.properties["eps"] = FloatAttr(0.5, f64)


class NegativeScale(Broken):
    name = "negative-scale"

    def apply(self, ctx, op):
        inner = next(inner for inner in op.walk() if isinstance(inner, graph.Attend))
        inner.properties["scale"] = FloatAttr(-1.0, f64)


class InvalidIR(Broken):
    name = "invalid-ir"

    def apply(self, ctx, op):
        norm = next(inner for inner in op.walk() if isinstance(inner, graph.RmsNorm))
        norm.operands[0] = norm.next_op.results[0]


class Raises(Broken):
    name = "raises"

    def apply(self, ctx, op):
        raise KeyError("nothing")


EXTRA = {kind.name: kind for kind in (LargerEps, NegativeScale, InvalidIR, Raises)}
# pass -> what is told
TOLD = {
    "larger-eps": r"llama\.st:\d+: graph\.rms_norm.* is the first op that .*its eps is 0\.5",
    "negative-scale": r"llama\.st:\d+: graph\.attend \(attn\.o\) of layer 0 is .*scale is -1",
    "invalid-ir": r"invalid-ir failed: graph\.rms_norm in @logits, from llama\.st:\d+:\d+:",
    "raises": r"KeyError: 'nothing'",
}


@pytest.fixture
def broken(monkeypatch):
    """Lets pipeline texts name the broken passes."""
    plain = pipeline.parse_pipeline
    monkeypatch.setattr(pipeline, "parse_pipeline", lambda text: plain(text, EXTRA))
    return pipeline.parse_pipeline


def bisected(passes, folder):
    options = Namespace(
        model="llama", config="llama_3_1_8b", numerics="reference", entry=None, output=str(folder)
    )
    return find_culprit(small_module(options), compare_small(options, passes))


@pytest.mark.parametrize("name", EXTRA)
def test_bisect_names_the_pass(name, broken, tmp_path):
    culprit = bisected(broken(f"canonicalize,cse,{name},fuse-norm"), tmp_path)
    assert (culprit.number, culprit.name) == (3, name)
    assert re.search(TOLD[name], culprit.message)
    assert culprit.reproducer == tmp_path / f"reproducer-{name}.mlir"


def test_bisect_finds_nothing_wrong(broken, tmp_path):
    assert bisected(broken("canonicalize,cse,fuse-norm"), tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_pass_that_stands_twice_is_told_apart(broken, tmp_path):
    culprit = bisected(broken("cse,canonicalize,cse,larger-eps"), tmp_path)
    assert (culprit.number, culprit.name) == (4, "larger-eps")


@pytest.mark.parametrize("name", EXTRA)
def test_a_reproducer_is_enough(name, broken, tmp_path, capsys, monkeypatch):
    """bisect -> reproducer -> opt, and opt again on what it wrote."""
    monkeypatch.chdir(tmp_path)
    line = ["bisect", "llama", "--config", "llama_3_1_8b", "-p", f"cse,{name},canonicalize"]
    assert main(line) == 2
    output = capsys.readouterr().out
    assert f"{name} (pass 2 of 3): the pass {name} failed" in output
    assert f"reproducer: reproducer-{name}.mlir" in output
    path = tmp_path / f"reproducer-{name}.mlir"
    first = path.read_text()
    assert first.splitlines()[1] == f"// supertile opt reproducer: {name},canonicalize"
    assert "// small config of: llama_3_1_8b\n// seed: 0\n" in first
    for _ in range(2):
        assert main(["opt", path.name, "--check-numerics"]) == 2
        errors = capsys.readouterr().err
        assert re.search(TOLD[name], errors)
        assert f"  reproducer: reproducer-{name}.mlir\n" in errors
        assert path.read_text() == first


def test_compile_stops_at_a_wrong_pass(broken, tmp_path, capsys):
    line = ["compile", "llama", "--config", "llama_3_1_8b", "--check-numerics", "-o", str(tmp_path)]
    assert main([*line, "-p", "cse,larger-eps"]) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert re.search(TOLD["larger-eps"], errors)
    assert [path.name for path in tmp_path.iterdir()] == ["reproducer-larger-eps.mlir"]
    # Nobody notices without the comparison.
    assert main([*line[:4], "-p", "cse,larger-eps"]) == 0


# ---- bugs outside of passes --------------------------------------------------------------------


def fail(*_):
    raise RuntimeError("a mistake of ours")


def test_a_bug_leaves_a_file(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("supertile.cli.listing._models", fail)
    assert main(["list", "models"]) == 2
    errors = capsys.readouterr().err
    assert errors == (
        "bug in Supertile: RuntimeError: a mistake of ours\n  reproducer: supertile-crash.txt\n"
    )
    text = (tmp_path / "supertile-crash.txt").read_text()
    assert text.startswith("supertile list models\nPython 3.")
    assert "in fail" in text


def test_a_bug_where_nothing_can_be_written(monkeypatch, tmp_path, capsys):
    """The current folder takes no files; then not even the temporary one does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "supertile-crash.txt").mkdir()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("supertile.cli.listing._models", fail)
    assert main(["list", "models"]) == 2
    assert f"reproducer: {temporary / 'supertile-crash.txt'}" in capsys.readouterr().err
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file" / "below"))
    assert main(["list", "models"]) == 2
    assert "reproducer: none could be written" in capsys.readouterr().err


def test_where_reproducers_go(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert reproducer_folder(None, "new") == Path("new")
    assert reproducer_folder("file/below", "new") == Path("new")
    assert reproducer_folder("file/below") == Path()
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr("tempfile.tempdir", "elsewhere")
    assert reproducer_folder("new") == Path("elsewhere")


def test_too_little_memory_is_the_users_to_repair(monkeypatch, capsys):
    def full(*_):
        raise MemoryError

    monkeypatch.setattr("supertile.cli.listing._models", full)
    assert main(["list", "models"]) == 1
    assert "not enough memory" in capsys.readouterr().err


# ---- the installed command ---------------------------------------------------------------------


def shell(line: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COMMAND": str(COMMAND), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


# line -> (exit code, output begins with, errors)
LINES = {
    "$COMMAND --version": (0, "supertile 0.", ""),
    "$COMMAND list ops | head -1": (0, "graph.constant", ""),
    "$COMMAND --help | true": (0, "", ""),
    "$COMMAND list ops --help | true": (0, "", ""),
    "$COMMAND list ops >&-": (0, "", ""),
    "$COMMAND list ops > /dev/full": (1, "", "standard output cannot be written: No space left"),
    "$COMMAND lsit ops": (1, "", "did you mean list?"),
    "$COMMAND compile llama --config llama_3_1_8b --stats": (0, "llama: ", ""),
}


@pytest.mark.parametrize("line", LINES)
def test_the_installed_command(line, tmp_path):
    code, output, errors = LINES[line]
    done = shell(line, tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == code, done.stderr
    assert done.stdout.startswith(output)
    assert errors in done.stderr if errors else done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick(tmp_path):
    def seconds() -> float:
        start = time.perf_counter()
        shell("$COMMAND --help", tmp_path)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.3


def test_interruption_leaves_the_old_output(tmp_path):
    target = tmp_path / "out.npz"
    target.write_text("old")
    options = f"--tokens {CASE / 'io.npz'} --decode 100000 -o {target}"
    line = f"{COMMAND} run deepseek_v4 --config {CASE} --weights {CASE} {options}"
    # A new session, so that the signal is not ignored as it is for background jobs of a shell.
    running = subprocess.Popen(
        shlex.split(line), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert (running.returncode, errors) == (130, "interrupted; files written before are whole\n")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]

"""`supertile compile`, `opt` and `list`: what they write and print."""

import io
import json
import re
import sys

import pytest

from supertile.cli.compile import select_passes
from supertile.cli.main import COMMANDS, main
from supertile.cli.stats import BUDGET
from supertile.ir import graph
from supertile.ir.text import parse_module, print_module
from supertile.passes.pipeline import PIPELINE, pass_names

LLAMA = ["compile", "llama", "--config", "llama_3_1_8b"]
# What runs where no machine is named: NumPy needs no tiles.
UNTILED = pass_names()[: pass_names().index("fuse-moe") + 1]
DUMPS = [
    "00-frontend.mlir",
    "01-specialize.mlir",
    "02-canonicalize.mlir",
    "03-cse.mlir",
    "trace.html",
    "trace.json",
]


def test_output(tmp_path, capsys):
    assert main([*LLAMA, "-o", str(tmp_path / "a" / "b")]) == 0
    names = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert names == ["module.mlir", "plan.txt"]
    text = (tmp_path / "a" / "b" / "module.mlir").read_text()
    module = parse_module(text)
    assert print_module(module) == text
    output = capsys.readouterr().out
    counted = re.match(r"llama: (\d+) ops in 2 functions\n", output)
    ops = [op for op in module.walk() if op.name.startswith("graph.")]
    groups = [op for op in ops if isinstance(op, graph.Fused | graph.Yield)]
    returns = 2
    assert int(counted[1]) == len(ops) - len(groups) + returns


def test_dumps_parse_back(tmp_path):
    folder = tmp_path / "dump"
    assert main([*LLAMA, "--stop-after", "graph", "--dump-ir", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == DUMPS
    for path in folder.glob("*.mlir"):
        assert print_module(parse_module(path.read_text(), str(path))) == path.read_text()
    trace = json.loads((folder / "trace.json").read_text())
    assert [one["name"] for one in trace["passes"]] == ["specialize", "canonicalize", "cse"]
    page = (folder / "trace.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page), "the page is self-contained"


def test_a_dump_folder_shows_one_pipeline(tmp_path):
    assert main([*LLAMA, "--dump-ir", str(tmp_path)]) == 0
    (tmp_path / "notes.mlir").write_text("mine")
    assert main([*LLAMA, "-p", "cse", "--dump-ir", str(tmp_path)]) == 0
    held = sorted(path.name for path in tmp_path.iterdir())
    assert held == ["00-frontend.mlir", "01-cse.mlir", "notes.mlir", "trace.html", "trace.json"]


def test_files_are_reproducible(tmp_path):
    contents = []
    for name in ("a", "b"):
        folder = tmp_path / name
        line = ["compile", "deepseek_v3", "--config", "deepseek_v3"]
        assert main([*line, "--dump-ir", str(folder), "-o", str(folder)]) == 0
        paths = [*folder.glob("*.mlir"), folder / "plan.txt"]
        contents.append({path.name: path.read_bytes() for path in paths})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 3 + len(UNTILED)


def test_stats(capsys):
    assert main([*LLAMA, "--stats"]) == 0
    output = capsys.readouterr().out
    for name in UNTILED:
        assert f"│ {name} " in output
    assert "choose-tiles" not in output
    phases = "start", "front end", "graph passes", "fused passes", "checks of passes", "texts"
    for name in phases:
        assert re.search(rf"│ {name} +│ \d+ +│ {BUDGET[name]} ", output)
    assert re.search(rf"│ in all +│ \d+ +│ {sum(BUDGET.values())} ", output)


@pytest.mark.parametrize("numerics", ["reference", "deployed"])
def test_check_numerics(numerics, capsys):
    line = ["compile", "deepseek_v3", "--config", "deepseek_v3", "--numerics", numerics]
    assert main([*line, "--check-numerics"]) == 0
    output = capsys.readouterr().out
    for name in UNTILED:
        assert re.search(f"^{name}: (changes nothing|exact, bit-equal)", output, re.MULTILINE)


def test_sizes_are_made_small_for_the_check(capsys):
    line = [*LLAMA, "--check-numerics", "-p"]
    assert main([*line, "specialize{tokens=4096 batch=64 context=1048576}"]) == 0
    assert "specialize: exact, bit-equal in 4 calls of 32 tokens" in capsys.readouterr().out


# (pipeline, --stop-after) -> the passes
SELECTIONS = {
    (None, None): pass_names(),
    (None, "graph"): ["specialize", "canonicalize", "cse"],
    (None, "canonicalize"): ["specialize", "canonicalize"],
    ("cse,canonicalize,cse", "cse"): ["cse", "canonicalize", "cse"],
    ("cse,fuse-norm,fuse-moe", "graph"): ["cse"],
    ("fuse-norm", "graph"): [],
    ("", None): [],
}


@pytest.mark.parametrize("given, names", SELECTIONS.items(), ids=map(str, SELECTIONS))
def test_select_passes(given, names):
    assert [one.name for one in select_passes(*given)] == names


# ---- opt ---------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    """IR text of a small model, as the front end makes it."""
    from supertile.cli.inputs import config_path, model_path
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config, shrink

    config = shrink(read_config(config_path("llama_3_1_8b")))
    path = tmp_path / "small.mlir"
    path.write_text(print_module(build_model(model_path("llama"), config)))
    return path


def test_opt(small, tmp_path, capsys):
    assert main(["opt", str(small), "-p", ""]) == 0
    assert capsys.readouterr().out == small.read_text()
    target = tmp_path / "out.mlir"
    assert main(["opt", str(small), "-p", "cse,fuse-moe", "-o", str(target)]) == 0
    assert capsys.readouterr().out == ""
    assert "graph.fused" in target.read_text()
    assert main(["opt", str(target), "-p", "", "--no-locations"]) == 0
    assert " loc(" not in capsys.readouterr().out


def test_opt_reads_the_input(small, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(small.read_text()))
    assert main(["opt", "-", "-p", "canonicalize"]) == 0
    assert capsys.readouterr().out.startswith("// supertile IR 1\n")


def test_opt_compares_numbers(small, capsys):
    pipeline = "specialize{tokens=2 batch=2},canonicalize,fuse-norm"
    assert main(["opt", str(small), "-p", pipeline, "--check-numerics"]) == 0
    output, told = capsys.readouterr()
    assert "specialize: exact, bit-equal in 4 calls of 8 tokens\n" in told
    assert "fuse-norm: exact, bit-equal" in told
    parse_module(output)


# ---- list, help --------------------------------------------------------------------------------


def test_list(capsys):
    assert main(["list", "passes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [list(pair) for pair in PIPELINE]
    assert main(["list", "ops"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [op.name for op in graph.OPS]
    assert main(["list", "models"]) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in ("deepseek_v4 ", "deepseek_v4_pro", "llama "))


@pytest.mark.parametrize("what", ["passes", "ops", "models"])
def test_everything_listed_can_be_shown(what, capsys):
    column = 1 if what == "passes" else 0
    main(["list", what])
    lines = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    for line in lines:
        assert main(["list", what, "--show", line.split()[column]]) == 0
        assert capsys.readouterr().out.strip()


def test_an_op_is_shown_with_its_functions(capsys):
    assert main(["list", "ops", "--show", "top_k"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("graph.top_k\n\nIndices of the k largest")
    assert re.search(r"operands +scores, count\n +properties +k", output)
    assert "runtime/graph_ops.py top_k" in output


def test_a_pass_is_shown_with_its_options(capsys):
    assert main(["list", "passes", "--show", "specialize"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("specialize: equivalence exact\n")
    assert "tokens: an integer or none" in output


def test_help(capsys):
    assert main([]) == 0
    assert main(["--help"]) == 0
    output = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"  {name:<9} {command.text}" in output
    assert max(map(len, output.splitlines())) <= 88
    assert main(["--version"]) == 0
    assert re.match(r"supertile \d+\.\d+", capsys.readouterr().out)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command(name, capsys):
    assert main([name, "--help"]) == 0
    output, errors = capsys.readouterr()
    assert output.startswith(f"usage: supertile {name} ")
    assert f"example: supertile {name} " in output
    assert errors == ""
    # Every option is explained.
    options = re.findall(r"^  (-[^\n]*?)(?:  +|\n +)(\S.*)$", output, re.MULTILINE)
    assert len(options) == len(re.findall(r"^  -", output, re.MULTILINE))

"""Bad input by example: a command line, and a part of the paragraph that answers it.

Each ends with exit code 1, one paragraph on standard error and nothing else: no output file, no
traceback. {f} is a folder with broken files, {d} is `tests/data`.
"""

import os
import shlex
from pathlib import Path

import pytest
from command_files import DATA, make_files

from supertile.cli.main import COMMANDS, main

# What command lines begin with.
COMMON = {
    "compile": "compile llama --config {d}/llama",
    "explain": "explain llama --config {d}/llama --target h200 --deploy",
    "tokens": "--tokens {f}/tokens.txt",
    "llama": "run llama --config {d}/llama --weights {d}/llama",
    "weights": "run llama --config {d}/llama --tokens {f}/tokens.txt --weights",
    "v3": "run deepseek_v3 --config {d}/deepseek_v3 --weights {d}/deepseek_v3 --tokens {f}/tokens.txt",  # noqa: E501
}

CASES = {
    # The command line
    "complie": "there is no command complie|did you mean compile?",
    "x": "there is no command x|supertile --help",
    "--vresion": "there is no command --vresion",
    "compile": "required: MODEL, --config|see supertile compile --help",
    "compile llama": "required: --config",
    "compile llama --config": "--config: expected one argument",
    "{compile} --stat": "unrecognized arguments: --stat|did you mean --stats?",
    "{compile} --numerics exact": "invalid choice: 'exact'",
    "{compile} --numerics deploy": "did you mean deployed?",
    "{compile} extra": "unrecognized arguments: extra",
    "list pases": "invalid choice: 'pases'|did you mean passes?",
    "list": "required: WHAT",
    "list ops --show topk": "there is no op graph.topk|did you mean graph.top_k?",
    "list passes --show canonicalise": "did you mean canonicalize?",
    "list models --show deepseek_v5": "no model or config deepseek_v5|one of deepseek_v3",
    # Models, configs
    "compile deepseek_v5 --config deepseek_v4_pro": "no model file deepseek_v5|give the path",
    "compile '' --config llama_3_1_8b": "there is no model file",
    "compile llama --config llama_3_2_8b": "no config llama_3_2_8b|give the path",
    "compile llama --config ''": "there is no config",
    "compile llama --config {long}": "there is no config",
    "compile {f}/folder --config llama_3_1_8b": "folder",
    "compile {f}/empty --config llama_3_1_8b": "empty",
    "compile {f}/bytes.txt --config llama_3_1_8b": "bytes.txt",
    "compile {f}/tokens.txt --config llama_3_1_8b": "tokens.txt:1:1",
    "compile llama --config {f}/folder": "folder",
    "compile llama --config {f}/empty": "empty is empty",
    "compile llama --config {f}/config.json.txt": "this is not JSON",
    "compile llama --config {f}/other.json": "mamba",
    "compile llama --config deepseek_v4_pro": "another model than",
    "compile deepseek_v4 --config deepseek_v3": "another model than",
    # Entries, targets, passes
    "{compile} --entry draft": "draft",
    "{compile} --target nunpy": "there is no machine 'nunpy'|did you mean numpy?",
    "{compile} --target h200 --deploy 'phase=decode tp=3 batch=8 context=128'": "tp=3|tp=2",
    "{compile} -p canonicalise": "there is no pass canonicalise|did you mean canonicalize?",
    "{compile} -p 'specialize{{token=1}}'": "has no option token|tokens",
    "{compile} -p 'specialize{{tokens=many}}'": "an integer",
    "{compile} -p 'specialize{{tokens=-1}}'": "at least 1",
    "{compile} -p cse,": "the name of a pass",
    "{compile} --stop-after grap": "no pass or phase grap|did you mean graph?",
    "{compile} -p cse --stop-after canonicalize": "no pass or phase canonicalize",
    "{compile} --stop-after ''": "no pass or phase",
    # Explanations
    "explain": "required: --config, --target, --deploy",
    "{explain} 'phase=decode batch=8 context=64' linear": "is called linear|linear_1",
    "{explain} 'phase=decode batch=8 context=64' step": "is called step|one of",
    "{explain} 'phase=decod batch=8'": "did you mean decode?",
    # Plans; test_plan_command.py has more
    "plan": "required: MODEL, --config, --target",
    "plan llama --config {d}/llama --target h200 --deploy 'phase=decode context=64'": "no experts",
    # Places to write to
    "{compile} -o {f}/empty": "Not a directory",
    "{compile} -o {f}/empty/below/it": "Not a directory",
    "{compile} --dump-ir {f}/empty": "Not a directory",
    "{llama} {tokens} -o {f}/folder": "is a folder",
    "{llama} {tokens} -o {f}/empty/below": "Not a directory",
    "{llama} {tokens} -o /dev/full": "No space left|free space",
    "opt {f}/module.mlir -p cse -o /dev/full": "No space left",
    "opt {f}/module.mlir -p cse -o {f}/folder": "is a folder",
    # Tokens
    "{llama}": "required: --tokens",
    "{llama} --tokens {f}/nothing.npy": "nothing.npy does not exist",
    "{llama} --tokens {f}/folder": "is a folder",
    "{llama} --tokens {long}": "does not exist",
    "{llama} --tokens {f}/empty": "holds no tokens",
    "{llama} --tokens {f}/empty.npy": "empty.npy cannot be read",
    "{llama} --tokens {f}/empty.npz": "empty.npz cannot be read",
    "{llama} --tokens {f}/cut.npz": "cut.npz cannot be read",
    "{llama} --tokens {f}/lie.npy": "lie.npy cannot be read",
    "{llama} --tokens {f}/lie.npz": "lie.npz cannot be read",
    "{llama} --tokens {f}/object.npy": "object.npy cannot be read",
    "{llama} --tokens {f}/bytes.txt": "it is not text",
    "{llama} --tokens {f}/word.txt": "word.txt:2:3|this is no token id|found: five",
    "{llama} --tokens {f}/negative.txt": "token 1 of sequence 0 is not|found: -2",
    "{llama} --tokens {f}/range.txt": "token 1 of sequence 1|0 to one less than 128|found: 128",
    "{llama} --tokens {f}/huge.npy": "found: 9223372036854775807",
    "{llama} --tokens {f}/float.npy": "does not hold token ids|float64 [2, 3]",
    "{llama} --tokens {f}/three.npy": "int64 [2, 3, 4]",
    "{llama} --tokens {f}/none.npy": "holds no tokens",
    "{llama} --tokens {f}/blank.npy": "sequence 0 of",
    "{llama} --tokens {f}/key.npz": "has no input_ids|found: tokens",
    "{llama} --tokens {f}/lengths.npz": "lengths",
    # Numbers
    "{llama} {tokens} --prompt 0": "--prompt: '0' is no whole number from 1",
    "{llama} {tokens} --prompt 7": "no sequence has as many tokens|at most 6|--prompt 7",
    "{llama} {tokens} --chunk -3": "--chunk: '-3' is no whole number from 1",
    "{llama} {tokens} --decode -1": "--decode: '-1' is no whole number from 0",
    "{llama} {tokens} --decode 1.5": "'1.5' is no whole number",
    "{llama} {tokens} --decode 99999999999999999999": "is no whole number from 0 to 2^31",
    "{llama} {tokens} --decode 2000000000": "max_position_embeddings",
    "{llama} {tokens} --decode 251": "at most 256 tokens|found: 257",
    "{llama} --tokens {f}/long.txt --decode 7": "at most 256 tokens",
    "{llama} {tokens} --prompt": "--prompt: expected one argument",
    # Levels, entries, traces, pins
    "{llama} {tokens} --tiles test": "--tiles is for the levels with tiles|found: --level graph",
    "{llama} {tokens} --level tiled --tiles tset": "invalid choice: 'tset'|did you mean test?",
    "{llama} {tokens} --level scheduled --trace '*'": "--trace goes by tokens",
    "{llama} {tokens} --level tild": "there is no level tild|did you mean tiled?",
    "{llama} {tokens} --level fusd": "there is no level fusd|did you mean fused?",
    "{llama} {tokens} --draft": "no entry draft|logits",
    "{llama} {tokens} --trace 'layers.*.attn_ot'": "no value has a name like layers.*.attn_ot",
    "{llama} {tokens} --trace 'layers.0.mdi'": "did you mean layers.0.mid?",
    "{llama} {tokens} --trace 'layers.*.mid,nothing'": "no value has a name like nothing",
    "{llama} {tokens} --trace ''": "no value has a name like",
    "{v3} --pin {f}/nothing.npz": "there is no such file",
    "{v3} --pin {f}/folder": "it is a folder",
    "{v3} --pin {f}/cut.npz": "cannot be used to pin values",
    "{v3} --pin {f}/pin.npy": "one array without a name",
    "{v3} --pin {f}/pin_name.npz": "did you mean layers.1.ffn.router.chosen?",
    "{v3} --pin {f}/pin_shape.npz": "another shape",
    "{v3} --pin {f}/pin_kind.npz": "another dtype",
    "{v3} --pin {f}/pin_range.npz": "chooses what is not there|0 to 15|found: 1000000",
    # Weights
    "{weights} {f}/nothing": "nothing",
    "{weights} {long}": "File name too long",
    "{weights} {f}/folder": "folder",
    "{weights} {f}/cut.safetensors": "cut.safetensors",
    "{weights} {f}/noise.safetensors": "noise.safetensors",
    "{weights} {f}/header.safetensors": "header.safetensors",
    "{weights} {f}/empty.safetensors": "empty.safetensors",
    "{weights} {f}/renamed.safetensors": "model.layers.0.input_layernorm.weight",
    "{weights} {f}/shape.safetensors": "model.layers.0.input_layernorm.weight",
    "{weights} {f}/lie.safetensors": "lie.safetensors",
    "{weights} {f}/offsets.safetensors": "offsets.safetensors",
    "{weights} {f}/dtype.safetensors": "model.layers.0.input_layernorm.weight",
    "{weights} {d}/deepseek_v3": "self_attn",
    # IR text
    "opt {f}/nothing.mlir -p cse": "there is no such file",
    "opt {f}/folder -p cse": "Is a directory",
    "opt {long} -p cse": "there is no such file",
    "opt {f}/empty.mlir -p cse": "no IR text of this version",
    "opt {f}/old.mlir -p cse": "no IR text of this version",
    "opt {f}/bytes.mlir -p cse": "it is not text",
    "opt {f}/syntax.mlir -p cse": "there is no op graph.nothing",
    "opt {f}/tokens.txt -p cse": "no IR text of this version",
    "opt {f}/module.mlir": "is no reproducer and no passes are given",
    "opt {f}/module.mlir -p cse --check-numerics": "names no entries",
    "bisect llama --config llama_3_1_8b -p nothing": "there is no pass nothing",
    "bisect llama --config llama_3_1_8b -o {f}/empty": "Not a directory",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("files")
    make_files(made)
    return made


def arguments(line: str, folder: Path) -> list[str]:
    places = {"f": folder, "d": DATA, "long": folder / ("x" * 300)}
    common = {name: text.format(**places) for name, text in COMMON.items()}
    return shlex.split(line.format(**places, **common))


@pytest.mark.parametrize("line", CASES)
def test_bad_input(line, folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments(line, folder)) == 1
    output, errors = capsys.readouterr()
    for phrase in CASES[line].split("|"):
        assert phrase in errors
    assert "Traceback" not in errors
    assert errors.count("error: ") == 1
    assert "\n\n" not in errors
    assert len(errors) < 1500
    assert output == ""
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_bad_input(name):
    lines = (line.format_map({**COMMON, "f": "", "d": "", "long": ""}) for line in CASES)
    assert any(line.split()[:1] == [name] for line in lines)


def test_a_full_disk_leaves_the_old_file(folder, tmp_path, monkeypatch, capsys):
    """What cannot be written replaces nothing."""
    target = tmp_path / "out.npz"
    target.write_text("old")

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("supertile.ir.files.Path.replace", full)
    line = f"{{llama}} {{tokens}} -o {target}"
    assert main(arguments(line, folder)) == 1
    assert "No space left" in capsys.readouterr().err
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]

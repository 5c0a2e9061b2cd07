"""`supertile run --against`: ties told from differences, and what goes with it.

`deepseek_v4_ties` was made by transformers (`tests/data/tie_case.py`): at 20 choices of blocks
several have the score 0.0 at the edge of the top-k, and PyTorch took another one than the first.
"""

import re
import shlex
from argparse import Namespace

import ml_dtypes
import numpy as np
import pytest
from command_files import DATA
from safetensors.numpy import save_file

from supertile.cli.against import check_against
from supertile.cli.main import main
from supertile.ir.errors import UserError

CASE = DATA / "deepseek_v4_ties"
LIMIT = 1e-4
INDEX = "layers.3.attn.far.index"
CHOSEN = "layers.2.ffn.router.chosen"
TIES = 20

Arrays = dict[str, np.ndarray]


def reference() -> Arrays:
    with np.load(CASE / "reference.npz") as file:
        return dict(file)


@pytest.fixture
def against(tmp_path, capsys):
    """Exit code and what is printed of a run against these arrays."""

    def run(arrays: Arrays, options: str = "", file: str = "reference.npz") -> tuple[int, str]:
        path = tmp_path / file
        if path.suffix == ".safetensors":
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
        else:
            np.savez(path, **arrays)
        line = f"run deepseek_v4 --config {CASE} --weights {CASE} --tokens {CASE}/reference.npz"
        code = main(shlex.split(f"{line} --against {path} {options}"))
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return run


def errors(output: str) -> dict[str, float]:
    """With whose choices -> the largest difference of logits."""
    shown = re.findall(r"logits with (.*): at most (\S+) apart", output)
    return {how: float(error) for how, error in shown}


# Ways of running that all end with the same choices to compare.
WAYS = (
    *("", "--level fused --chunk 5", "--prompt 64 --teacher"),
    *("--ep 4 --tp 2", "--level fused --ep 2 --row-invariant"),
)


@pytest.mark.parametrize("options", WAYS)
def test_ties_are_told_and_what_is_left_is_small(against, options):
    code, output = against(reference(), options)
    assert code == 0
    assert "576 routes compared, 0 differ" in output
    assert f"288 selections compared, {TIES} differ" in output
    lines = [line for line in output.splitlines() if line.endswith(" tie")]
    assert len(lines) == TIES
    assert not any(line.endswith("no tie") for line in lines)
    assert all(re.search(r" 0, 0 +0, 0 +0 +0 +tie$", line) for line in lines), "scores and margin"
    far = errors(output)
    assert far["our choices"] > 1
    assert far["the reference's choices"] <= LIMIT


def test_a_file_of_safetensors_is_the_same(against):
    assert against(reference(), file="reference.safetensors")[0] == 0


def test_the_logits_written_are_those_with_the_choices_of_the_reference(against, tmp_path):
    target = tmp_path / "out.npz"
    arrays = reference()
    assert against(arrays, f"-o {target} --trace '{INDEX}'")[0] == 0
    with np.load(target) as written:
        assert np.abs(written["logits"] - arrays["logits"]).max() <= LIMIT
        assert np.array_equal(np.sort(written[INDEX]), np.sort(arrays[INDEX]))


def test_an_own_run_is_equal_and_needs_no_second_one(against, tmp_path):
    path = tmp_path / "own.npz"
    line = f"run deepseek_v4 --config {CASE} --weights {CASE} --tokens {CASE}/reference.npz"
    assert main(shlex.split(f"{line} -o {path} --trace '*.chosen,*.far.index'")) == 0
    with np.load(path) as file:
        code, output = against(
            {name: file[name] for name in file.files if "layers.2.attn" not in name}
        )
    assert code == 0
    assert errors(output) == {"equal choices": 0.0}


def swapped(arrays: Arrays, name: str, place: tuple[int, int]) -> Arrays:
    """The reference prefers the best that it left to the last that it chose, scores and all."""
    chosen, scores = arrays[name].copy(), arrays[f"{name}.scores"].copy()
    row = scores[place].copy()
    if name.endswith("index"):
        row[(place[1] + 1) // 4 :] = -np.inf
    last = int(np.argmin(np.where(np.isin(np.arange(len(row)), chosen[place]), row, np.inf)))
    best = int(np.argmax(np.where(np.isin(np.arange(len(row)), chosen[place]), -np.inf, row)))
    assert row[last] > row[best], "no tie"
    chosen[place][chosen[place] == last] = best
    scores[(*place, [last, best])] = scores[(*place, [best, last])]
    return {**arrays, name: chosen, f"{name}.scores": scores}


def place_without_tie(arrays: Arrays, name: str) -> tuple[int, int]:
    """A late token whose choice leaves something that is clearly worse."""
    chosen, scores = arrays[name], arrays[f"{name}.scores"]
    for token in range(60, 40, -1):
        row = scores[1, token][: (token + 1) // 4]
        ordered = np.sort(row)[::-1]
        if ordered[chosen.shape[-1] - 1] - ordered[chosen.shape[-1]] > 0.01:
            return 1, token
    raise AssertionError("every token has a tie")


def test_a_difference_that_is_no_tie_is_said(against):
    arrays = reference()
    place = place_without_tie(arrays, INDEX)
    code, output = against(swapped(arrays, INDEX, place))
    assert code == 1
    assert output.count("no tie\n") == 1
    assert "1 choice differs from" in output and "by more than a tie" in output
    assert f"{INDEX} at token {place[1]} of sequence {place[0]}, margin" in output


def test_a_route_that_is_no_tie_is_said(against):
    code, output = against(swapped(reference(), CHOSEN, (0, 30)))
    assert code == 1
    assert "576 routes compared, 1 differ" in output
    assert f"{CHOSEN} at token 30 of sequence 0, margin" in output


def test_without_scores_nothing_is_a_tie(against):
    arrays = reference()
    del arrays[f"{INDEX}.scores"]
    code, output = against(arrays)
    assert code == 1
    assert f"add {INDEX}.scores to the file" in output
    assert errors(output)["the reference's choices"] <= LIMIT, "they are pinned all the same"


def test_an_error_that_no_choice_explains_is_said(against):
    arrays = reference()
    arrays["logits"] = arrays["logits"].copy()
    arrays["logits"][1, 12, 3] += 2e-4
    code, output = against(arrays)
    assert code == 1
    assert "logits still differ" in output
    assert "at token 12 of sequence 1; 1 of 144 positions above 1e-04" in output


# ---- what cannot be compared -----------------------------------------------------------------

OPTIONS = {
    "reference.alone, decode": ("--decode 2", "--decode 2|--teacher"),
    "reference.alone, draft": ("--draft", "--draft"),
    "reference.level": ("--level tiled", "--level tiled"),
    "reference.level, programs": ("--level scheduled", "--level scheduled"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_go_together(against, case):
    options, parts = OPTIONS[case]
    code, output = against(reference(), options)
    assert code == 1
    for part in ("--against", *parts.split("|")):
        assert part in output


def test_a_selection_is_not_pinned_twice(against, tmp_path):
    pins = tmp_path / "pins.npz"
    np.savez(pins, **{INDEX: reference()[INDEX]})
    code, output = against(reference(), f"--pin {pins}")
    assert code == 1
    assert f"{INDEX} is pinned to the reference" in output


@pytest.mark.parametrize("name", ["nothing.npz", "nothing.safetensors", "text.npz", "one.npy"])
def test_what_is_no_such_file(tmp_path, capsys, name):
    if name == "text.npz":
        (tmp_path / name).write_text("text")
    if name == "one.npy":
        np.save(tmp_path / name, np.zeros(3))
    line = f"run deepseek_v4 --config {CASE} --weights {CASE} --tokens {CASE}/reference.npz"
    assert main(shlex.split(f"{line} --against {tmp_path / name}")) == 1
    assert "cannot be compared with" in capsys.readouterr().err


def test_bits_of_bfloat16_are_no_numbers(tmp_path, capsys):
    path = tmp_path / "half.safetensors"
    save_file({"logits": np.zeros((2, 72, 48), ml_dtypes.bfloat16)}, path)
    line = f"run deepseek_v4 --config {CASE} --weights {CASE} --tokens {CASE}/reference.npz"
    assert main(shlex.split(f"{line} --against {path}")) == 1
    assert "logits is BF16, not one of F32, I64, I32" in capsys.readouterr().err


def test_one_process_runs_all_ranks(monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    options = Namespace(against="reference.npz", level="graph", decode=0, draft=False)
    with pytest.raises(UserError) as caught:
        check_against(options)
    assert caught.value.code == "reference.ranks"

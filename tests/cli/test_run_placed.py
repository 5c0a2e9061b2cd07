"""`supertile run --ep`: the same files as from one rank, and what is refused."""

import shlex

import numpy as np
import pytest
from command_files import DATA
from placement_plans import plan_for
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.main import main
from supertile.ir.expert_plan import PLAN, PlanAttr
from supertile.ir.text import print_module

TOLERANCE = 1e-4


def command(options: str, case: str = "deepseek_v3") -> list[str]:
    place = DATA / case
    tokens = f"--tokens {place / 'io.npz'} --prompt 9"
    return shlex.split(f"run {case} --config {place} --weights {place} {tokens} {options}")


def arrays(folder, options: str) -> dict[str, np.ndarray]:
    assert main(command(f"{options} -o {folder / 'out.npz'}")) == 0
    with np.load(folder / "out.npz") as held:
        return dict(held)


@pytest.mark.parametrize(
    "options",
    [
        "--ep 2",
        "--ep 4 --slots 7,1,3,5 --level fused",
        "--ep 2 --level tiled",
        "--ep 4 --tp 2",
        "--tp 4 --level fused",
        "--ep 4 --tp 4 --level tiled",
    ],
)
def test_what_is_written_is_as_from_one_rank(options, tmp_path, capsys):
    more = " --decode 2 --trace layers.*.chosen,layers.3.out"
    found, wanted = arrays(tmp_path, options + more), arrays(tmp_path, more)
    assert list(found) == list(wanted)
    for name, held in wanted.items():
        assert np.abs(found[name] - held).max() < TOLERANCE, name
    level = next((name for name in ("fused", "tiled") if name in options), "placed")
    assert f"level {level}, {options.split()[1]} ranks" in capsys.readouterr().out


@pytest.mark.parametrize("options", ["--ep 2 --chunk 5", "--ep 2 --tp 2"])
def test_programs_on_ranks_are_as_one_rank(options, tmp_path, capsys):
    wanted = arrays(tmp_path, "--decode 2")
    found = arrays(tmp_path, f"{options} --decode 2 --level scheduled")
    assert np.abs(found["logits"] - wanted["logits"]).max() < TOLERANCE
    assert "level scheduled, 2 ranks" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, others",
    [
        ("", "--ep 3 --level fused"),
        ("--ep 2 --tp 2", "--ep 4 --tp 2"),
        ("--level tiled --tiles test", "--ep 3 --level scheduled --tiles test"),
    ],
)
def test_row_invariant_runs_are_bit_equal(options, others, tmp_path):
    first = arrays(tmp_path, f"{options} --row-invariant --decode 2")
    second = arrays(tmp_path, f"{others} --row-invariant --decode 2")
    assert all(second[name].tobytes() == array.tobytes() for name, array in first.items())


@pytest.mark.parametrize(
    "overlap", ["--ep 2 --waves 3 --microbatches 2", "--ep 2 --slots 3,13 --waves 5"]
)
def test_row_invariant_schedules_are_bit_equal(overlap, tmp_path):
    """On ranks, in waves and in halves: tiles are the same, and so are all bits. A rank with few
    slots has nothing to do in the last waves."""
    wanted = arrays(tmp_path, "--row-invariant --level tiled --decode 1")
    found = arrays(tmp_path, f"--row-invariant --level scheduled {overlap} --decode 1")
    assert all(found[name].tobytes() == held.tobytes() for name, held in wanted.items())


def test_one_rank_with_slots_is_bit_equal(tmp_path):
    found, wanted = arrays(tmp_path, "--slots 16"), arrays(tmp_path, "")
    assert found["logits"].tobytes() == wanted["logits"].tobytes()


def plan_file(folder, layers=(1, 2, 3), experts=16, ranks=4):
    plan = plan_for([*layers], experts, ranks, (experts,) * ranks)
    module = ModuleOp([], {PLAN: PlanAttr(plan)})
    (folder / "plan.mlir").write_text(print_module(module))
    return f"--plan {folder / 'plan.mlir'}"


@pytest.mark.parametrize("more", ["", " --ep 4 --level fused"])
def test_a_plan_says_how_many_ranks_there_are(more, tmp_path, capsys):
    found, wanted = arrays(tmp_path, plan_file(tmp_path) + more), arrays(tmp_path, "")
    assert np.abs(found["logits"] - wanted["logits"]).max() < TOLERANCE
    assert "4 ranks" in capsys.readouterr().out


@pytest.mark.parametrize(
    "plan, options, told",
    [
        ({}, "--ep 3", "the plan places experts on another number of ranks"),
        ({}, "--slots 9", "a plan says already which rank has how many slots"),
        ({"experts": 8}, "", "the plan places another number of experts"),
        ({"layers": (1, 2)}, "", "a plan that lacks layer 3"),
        ({"layers": (0, 1, 2, 3)}, "", "a plan that has layer 0"),
    ],
)
def test_a_plan_that_does_not_fit(plan, options, told, tmp_path, capsys):
    assert main(command(f"{plan_file(tmp_path, **plan)} {options}")) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "text, told",
    [("// supertile IR 1\nbuiltin.module {\n}\n", "holds no plan"), ("{}", "error")],
)
def test_a_file_without_a_plan(text, told, tmp_path, capsys):
    (tmp_path / "plan.mlir").write_text(text)
    assert main(command(f"--plan {tmp_path / 'plan.mlir'}")) == 1
    assert told in capsys.readouterr().err


def test_pins_hold_on_the_rank_of_their_sequence(tmp_path):
    name = "layers.2.ffn.router.chosen"
    chosen = np.zeros((2, 9, 4), np.int32) + np.array([5, 6, 7, 12], np.int32)
    np.savez(tmp_path / "pin.npz", **{name: chosen})
    options = f"--pin {tmp_path / 'pin.npz'} --trace {name}"
    found, wanted = arrays(tmp_path, f"--ep 2 {options}"), arrays(tmp_path, options)
    assert found[name].tolist() == chosen.tolist()
    assert np.abs(found["logits"] - wanted["logits"]).max() < TOLERANCE


@pytest.mark.parametrize(
    "case, options, told",
    [
        ("deepseek_v3", "--ep 2 --waves 2", "--waves with --level scheduled"),
        ("deepseek_v3", "--microbatches 2 --level tiled", "--microbatches with --level scheduled"),
        ("deepseek_v3", "--ep 4 --slots 1", "there are more experts than slots"),
        ("deepseek_v3", "--ep 4 --slots 4,4,8", "not every rank gets its slots"),
        ("deepseek_v3", "--ep 4 --slots 2,two", "argument --slots: 'two' is no whole number"),
        ("deepseek_v3", "--ep 0", "argument --ep: '0' is no whole number"),
        ("deepseek_v3", "--ep 2000000000", "at most 1,048,576"),
        ("llama", "--ep 2", "it has no experts to place"),
        ("llama", "--ep 2 --tp 2", "it has no experts to place"),
        ("deepseek_v3", "--ep 4 --tp 3", "--tp 2"),
        ("deepseek_v3", "--tp 2 --slots 16", "leave --slots out"),
        ("deepseek_v3", "--tp 8", "cannot be cut into 8 equal slices"),
        ("llama", "--tp 6", "tp=4"),
    ],
)
def test_what_is_refused(case, options, told, capsys):
    assert main(command(options, case)) == 1
    assert told in capsys.readouterr().err

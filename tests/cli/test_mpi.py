"""`mpiexec -n N supertile run`: what one process computes, and every failure told once."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_files import DATA, damaged
from placement_plans import plan_for
from safetensors.numpy import load_file, save_file
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.main import main
from supertile.cli.mpi import launched
from supertile.ir.expert_plan import PLAN, PlanAttr
from supertile.ir.text import print_module

CASE = DATA / "deepseek_v4"
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
LIMIT = 60  # seconds until a job counts as hanging


def command(options: str = "", weights: Path = CASE, tokens: Path = CASE / "io.npz") -> list[str]:
    files = f"--config {CASE} --weights {weights} --tokens {tokens} --prompt 7"
    return f"run deepseek_v4 {files} {options}".split()


# ---- without MPI -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment, place",
    [
        ({}, None),
        ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
        ({"PMI_RANK": "2", "PMI_SIZE": "4"}, (2, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "x", "PMI_SIZE": "4"}, None),
    ],
)
def test_the_launcher_tells_which_rank_this_is(environment, place):
    assert launched(environment) == place


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_without_mpi4py_say_what_to_install_once(rank, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "4")
    assert main(command("--ep 4")) == 1
    told = capsys.readouterr().err
    assert ("pip install 'supertile[mpi]'" in told) == (rank == 0)
    assert main([*command(), "--no-such-option"]) == 1
    assert bool(capsys.readouterr().err) == (rank == 0)


# ---- with it -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mpi() -> None:
    pytest.importorskip("mpi4py", reason="the optional group supertile[mpi] is not installed")
    if MPIEXEC is None:
        pytest.skip("there is no mpiexec")


RANK = """
import os, signal, sys
from supertile.cli.main import main
from supertile.ir import comm, errors
from supertile.runtime import comm_ops, mpi_communicator
from supertile.runtime.mpi_communicator import MpiCommunicator
{setup}
sys.exit(main({arguments!r}))
"""
AT_THE_FIFTH = """
inner, calls = MpiCommunicator._all_to_all, []
def exchange(self, sent):
    calls.append(1)
    if len(calls) == 5:
        {action}
    return inner(self, sent)
MpiCommunicator._all_to_all = exchange
"""


def rank(arguments: list[str], setup: str = "") -> list[str]:
    """What a rank runs."""
    return [sys.executable, "-c", RANK.format(setup=setup, arguments=arguments)]


def job(*ranks: tuple[int, list[str]], folder: Path) -> subprocess.CompletedProcess[str]:
    """A job of so many processes with each command line."""
    line = [str(MPIEXEC)]
    for number, (count, program) in enumerate(ranks):
        line += [*([":"] if number else []), "-n", str(count), *program]
    hidden = {name: held for name, held in os.environ.items() if not name.startswith("PMI")}
    return subprocess.run(
        line, capture_output=True, text=True, timeout=LIMIT, cwd=folder, env=hidden
    )


def arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file) as held:
        return dict(held)


def test_four_ranks_under_a_plan_have_the_bits_of_one(mpi, tmp_path):
    """Another placement with replicas, shares and uneven slots in every layer; two ranks idle.

    Traces come from all ranks, and pins go to the rank of their sequence: the second one here.
    """
    plan = plan_for(list(range(6)), 8, 4, (3, 5, 1, 4))
    (tmp_path / "plan.mlir").write_text(print_module(ModuleOp([], {PLAN: PlanAttr(plan)})))
    pins = np.random.default_rng(0).standard_normal((2, 7, 4, 64), np.float32)
    np.savez(tmp_path / "pin.npz", **{"layers.1.out": pins})
    given = f"--row-invariant --decode 3 --trace layers.*.chosen --pin {tmp_path / 'pin.npz'} -o"
    found = job((4, rank(command(f"--plan plan.mlir {given} out.npz"))), folder=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout.count("4 ranks") == 1
    assert main(command(f"{given} {tmp_path / 'one.npz'}")) == 0
    written, wanted = arrays(tmp_path / "out.npz"), arrays(tmp_path / "one.npz")
    assert list(written) == list(wanted)
    assert all(written[name].tobytes() == held.tobytes() for name, held in wanted.items())


COMBINED = """
import numpy as np
from mpi4py import MPI
from supertile.ir import comm
from supertile.runtime import comm_ops, mpi_communicator
communicator = mpi_communicator.MpiCommunicator(MPI.COMM_WORLD)
mpi_communicator.EXCHANGES = {}
rows = [np.float32([[1, 2], [3, 4], [5, 6]]), np.float32([[7, 8]])]
origin = [np.int32([[0, 0], [1, 0], [0, 2]]), np.int32([[0, 1]])]
chosen = [np.int32([[0], [3], [2]]), np.int32([[1]])]
columns = [[held[communicator.rank]] for held in (rows, origin, chosen)]
(found,) = communicator.run(comm.Combine, columns, {})
wanted = comm_ops.combine(rows, origin, chosen)[communicator.rank]
assert found[0].tolist() == wanted[0].tolist(), (found, wanted)
print("equal", flush=True)
"""


def test_ops_without_an_exchange_gather_all_values(mpi, tmp_path):
    found = job((2, [sys.executable, "-c", COMBINED]), folder=tmp_path)
    assert (found.returncode, found.stderr, found.stdout.count("equal")) == (0, "", 2)


def check_failure(
    found: subprocess.CompletedProcess[str], text: str, codes: tuple[int, ...] = (1,)
) -> None:
    assert found.returncode in codes
    assert found.stderr.count(text) == 1, found.stderr
    assert "Traceback" not in found.stderr
    assert not found.stdout


def test_another_number_of_processes_than_ranks(mpi, tmp_path):
    found = job((2, rank(command("--ep 4"))), folder=tmp_path)
    check_failure(found, "the job has another number of processes than the program has ranks")


def test_ranks_with_other_tokens(mpi, tmp_path):
    (tmp_path / "other.txt").write_text("1 2 3 4 5 6 7 8\n")
    ranks = rank(command("--ep 2")), rank(command("--ep 2", tokens=tmp_path / "other.txt"))
    found = job((1, ranks[0]), (1, ranks[1]), folder=tmp_path)
    check_failure(found, "other tokens on rank 1 than on rank 0")


def test_a_checkpoint_that_one_rank_cannot_read(mpi, tmp_path):
    ranks = rank(command("--ep 2")), rank(command("--ep 2", weights=tmp_path / "none"))
    found = job((1, ranks[0]), (1, ranks[1]), folder=tmp_path)
    check_failure(found, "error: ")
    assert str(tmp_path / "none") in found.stderr


def test_a_rank_that_fails_while_others_wait_for_it(mpi, tmp_path):
    action = "raise errors.UserError('run.prompt', found=9, limit=8)"
    broken = rank(command("--ep 2"), AT_THE_FIFTH.format(action=action))
    found = job((1, rank(command("--ep 2"))), (1, broken), folder=tmp_path)
    check_failure(found, "no sequence has as many tokens as the prompt")


def test_numbers_that_are_not_finite_are_told_once(mpi, tmp_path):
    """Of an expert of one rank; all ranks run again to find where they come from."""
    weights = damaged(CASE, tmp_path / "weights", "layers.3.ffn.experts.7.w2", 1e38)
    found = job((2, rank(command("--ep 2", weights=weights))), folder=tmp_path)
    check_failure(found, "error: the logits of token")
    assert "the first value on the way to them that is not: " in found.stderr
    assert "in layer 3\n" in found.stderr


STOPPED = "os.kill(os.getpid(), signal.SIGSTOP)"


@pytest.mark.parametrize("stopped", [2])
def test_a_rank_that_is_stopped_is_named(mpi, stopped, tmp_path):
    """In the middle of the run; the ranks that wait for it say at which op."""
    line = command("--ep 3 --slots 3 --decode 9 --rank-timeout 3")
    broken = rank(line, AT_THE_FIFTH.format(action=STOPPED))
    ranks = [(1, broken if number == stopped else rank(line)) for number in range(3)]
    found = job(*ranks, folder=tmp_path)
    # mpiexec may end with the code of the stopped process, which it kills.
    said = f"rank {stopped} of 3 has given no sign of life for 3 seconds"
    check_failure(found, said, (1, signal.SIGKILL))
    assert "wait for it at deepseek_v4.st:" in found.stderr and "of layer " in found.stderr


SLOW = """
inner_wait = MpiCommunicator.gather
def gather(self, values):
    calls = gather.calls = getattr(gather, "calls", 0) + 1
    end = time.monotonic() + (6 if calls == 2 else 0)
    while time.monotonic() < end:
        sum(range(1000))
    return inner_wait(self, values)
import time
MpiCommunicator.gather = gather
"""


def test_a_rank_that_is_slow_is_waited_for(mpi, tmp_path):
    """It computes for longer than a rank may be silent."""
    line = command("--ep 2 --decode 3 --rank-timeout 4")
    found = job((1, rank(line)), (1, rank(line, SLOW)), folder=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_rank_that_is_killed_ends_the_job(mpi, tmp_path):
    action = "os.kill(os.getpid(), signal.SIGKILL)"
    start = time.monotonic()
    broken = rank(command("--ep 2 --decode 9"), AT_THE_FIFTH.format(action=action))
    found = job((1, rank(command("--ep 2 --decode 9"))), (1, broken), folder=tmp_path)
    assert found.returncode != 0 and not found.stdout.startswith("2 sequences")
    assert time.monotonic() - start < LIMIT


def test_ranks_with_different_checkpoints_end_before_they_run(mpi, tmp_path):
    tensors = load_file(CASE / "model.safetensors")
    tensors["layers.2.attn.wkv.weight"] = tensors["layers.2.attn.wkv.weight"] + np.float32(0.5)
    save_file(tensors, tmp_path / "model.safetensors")
    given = "--ep 2"
    found = job(
        (1, rank(command(given))), (1, rank(command(given, weights=tmp_path))), folder=tmp_path
    )
    assert found.returncode == 1
    assert found.stderr.count("different checkpoints") == 1
    assert "layers.2.attn.wkv.weight" in found.stderr and "on rank 1 than on rank 0" in found.stderr


def test_ranks_whose_checkpoints_lack_the_experts_of_others_run(mpi, tmp_path):
    plan = f"--ep 2 -o {tmp_path / 'out.npz'}"
    ranks = []
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        tensors = load_file(CASE / "model.safetensors")
        other = range(1 - number, 8, 2)  # experts are dealt to the ranks in turn
        kept = {
            name: tensor
            for name, tensor in tensors.items()
            if not any(f".experts.{expert}." in name for expert in other)
        }
        save_file(kept, folder / "model.safetensors")
        ranks.append((1, rank(command(plan, weights=folder))))
    assert job(*ranks, folder=tmp_path).returncode == 0

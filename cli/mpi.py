"""`mpiexec -n N supertile run ..`: one process a rank, one error for all of them."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from supertile.runtime.checkpoint import Checkpoint
    from supertile.runtime.mpi_communicator import MpiCommunicator

T = TypeVar("T")
# What launchers tell their processes: MPICH and those like it, Open MPI.
LAUNCHERS = (("PMI_RANK", "PMI_SIZE"), ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"))
THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int] | None:
    """(rank, ranks), if a launcher has started this process as one of several."""
    for rank, size in LAUNCHERS:
        told = environment.get(rank, ""), environment.get(size, "")
        if all(text.isdigit() for text in told) and int(told[1]) > 1:
            return int(told[0]), int(told[1])
    return None


def is_first_rank() -> bool:
    """Whether this process tells what all ranks of a job would tell: the first one, or alone."""
    place = launched()
    return place is None or place[0] == 0


class JobEndedError(Exception):
    """All ranks know that the job ends, and rank 0 has said why."""

    def __init__(self, code: int) -> None:
        self.code = code


class Job:
    """The ranks of a job, as the command sees them; one process without MPI is a job too."""

    rank = 0
    communicator: MpiCommunicator | None = None

    def together(self, action: Callable[[], T]) -> T:
        """The result of what may fail on any rank: if it does, it fails on all."""
        return action()

    def check_ranks(self, ranks: int | None) -> None:
        """Ends the job where the program is for another number of ranks."""

    def check_same(self, held: Mapping[str, bytes | str]) -> None:
        """Ends the job where ranks hold different values under a name."""

    def check_checkpoints(self, checkpoint: Checkpoint) -> None:
        """Ends the job where ranks have different tensors under a name."""


class MpiJob(Job):
    def __init__(self, communicator: MpiCommunicator) -> None:
        self.communicator: MpiCommunicator = communicator
        self.rank = communicator.rank

    def together(self, action: Callable[[], T]) -> T:
        result, told = None, ""
        try:
            result = action()
        except Exception as error:
            code, text = _told(error)
            told = f"{code}\n{text}"
        failed = [text for text in self.communicator.gather_texts(told) if text]
        if failed:
            code_text, _, message = failed[0].partition("\n")
            self._end(int(code_text), message)
        return cast(T, result)

    def _end(self, code: int, text: str) -> NoReturn:
        """The end that all ranks come to alike."""
        if self.rank == 0:
            print(text, file=sys.stderr, flush=True)
        raise JobEndedError(code)

    def check_ranks(self, ranks: int | None) -> None:
        size = self.communicator.size
        if ranks != size:
            found = "experts that are not placed" if ranks is None else f"experts on {ranks} ranks"
            self._end(1, UserError("mpi.ranks", size=size, found=found).render())

    def check_same(self, held: Mapping[str, bytes | str]) -> None:
        for name, value in held.items():
            data = value if isinstance(value, bytes) else value.encode()
            digests = self.communicator.gather_texts(hashlib.sha256(data).hexdigest())
            other = next((n for n, digest in enumerate(digests) if digest != digests[0]), None)
            if other is not None:
                self._end(1, UserError("mpi.differ", what=name, rank=other).render())

    def check_checkpoints(self, checkpoint: Checkpoint) -> None:
        digests = self.together(checkpoint.digests)
        text = "\n".join(f"{name}\t{digest}" for name, digest in sorted(digests.items()))
        whole = hashlib.sha256(text.encode()).hexdigest()
        if len(set(self.communicator.gather_texts(whole))) == 1:
            return
        # A rank may lack the experts of others, so that only names which two have count.
        first: dict[str, tuple[int, str]] = {}
        for rank, lines in enumerate(self.communicator.gather_texts(text)):
            for name, _, digest in (line.partition("\t") for line in lines.splitlines()):
                other, expected = first.setdefault(name, (rank, digest))
                if digest != expected:
                    error = UserError("mpi.checkpoints", name=name, first=other, second=rank)
                    self._end(1, error.render())


def run_job(options: argparse.Namespace, body: Callable[[argparse.Namespace, Job], int]) -> int:
    """The command on this rank, or in this process if it is the only one."""
    place = launched()
    if place is None:
        return body(options, Job())
    for name in THREADS:  # before NumPy loads: ranks share the cores
        os.environ.setdefault(name, "1")
    try:
        from mpi4py import MPI
    except ImportError:
        if place[0] == 0:
            raise UserError("mpi.missing", size=place[1]) from None
        return 1
    from supertile.runtime.mpi_communicator import MpiCommunicator

    communicator = MpiCommunicator(MPI.COMM_WORLD, options.rank_timeout)
    try:
        code = _code(body, options, MpiJob(communicator))
        communicator.close()
        return code
    except KeyboardInterrupt:
        communicator.fail(130, "interrupted; files written before are whole")
    except BaseException as error:
        communicator.fail(*_told(error))


def _code(
    body: Callable[[argparse.Namespace, Job], int], options: argparse.Namespace, job: Job
) -> int:
    try:
        return body(options, job)
    except JobEndedError as ended:
        return ended.code


def _told(error: BaseException) -> tuple[int, str]:
    """The exit code and what is printed."""
    if isinstance(error, UserError):
        return 1, error.render()
    if isinstance(error, MemoryError):
        return 1, UserError("command.memory").render()
    from supertile.cli.main import bug_text

    return 2, bug_text(sys.argv[1:], error)

"""What users are told about jobs of several processes."""

from supertile.ir.error_texts.text import Text

MPI_TEXTS: dict[str, Text] = {
    "mpi.missing": Text(
        "{size} processes were launched as ranks of a job, but mpi4py is not installed",
        expected="the optional group mpi",
        suggestion="pip install 'supertile[mpi]', or one process: --ep {size} runs all ranks in it",
    ),
    "mpi.ranks": Text(
        "the job has another number of processes than the program has ranks",
        expected="--ep {size}, or a --plan for {size} ranks: one process for each rank",
        found="{size} processes, {found}",
    ),
    "mpi.level": Text(
        "programs of the level scheduled run all ranks in one process",
        expected="--level placed, fused or tiled under mpiexec",
        found="--level scheduled",
        suggestion="run it without mpiexec: --ep runs all ranks in lock step",
    ),
    "mpi.silent": Text(
        "rank {rank} of {size} has given no sign of life for {seconds} seconds, and the others "
        "wait for it at {place}",
        expected="ranks that are alive, however long they compute",
        suggestion="see whether its process was stopped or its machine is gone; --rank-timeout "
        "sets the seconds",
    ),
    "mpi.differ": Text(
        "ranks were started with different inputs",
        expected="the same {what} on every rank",
        found="other {what} on rank {rank} than on rank 0",
    ),
    "mpi.checkpoints": Text(
        "ranks were started with different checkpoints",
        expected="one tensor {name:.200} on every rank",
        found="another one on rank {second} than on rank {first}",
        suggestion="give every rank the same files",
    ),
}

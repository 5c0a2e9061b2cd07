"""Ranks that are processes of an MPI job, one each.

A rank that waits gives its processor away, so that more ranks than cores run well, and rank 0
listens for ranks that have failed: it tells the error once and ends the job, which no other rank
could tell from one that is slow. A process that is killed is noticed by the launcher, and one that
is stopped by the ranks that wait for it: see `heartbeat.py`.

Rows travel with all that belongs to them as one record of bytes a row; how many come from whom is
exchanged first. Nothing that arrives is unpickled.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from xdsl.ir import Operation

from supertile.ir.errors import UserError
from supertile.runtime.comm_ops import EXCHANGES, FUNCTIONS, Parcel
from supertile.runtime.communicator import Column
from supertile.runtime.heartbeat import TIMEOUT, Heartbeat
from supertile.runtime.numerics import Scaled

if TYPE_CHECKING:
    from mpi4py import MPI

Bytes = NDArray[np.uint8]
SPINS = 3
"""Looks at a transfer, each with an offer of the processor to others, before a rank sleeps."""
SLEEP = 20e-6, 500e-6
"""Seconds between looks: at first, and at last."""
PATIENCE = 60.0
"""Seconds that a failed rank waits for rank 0 to end the job before it does so itself."""
FAILED = 1
SHOWN = 8
"""Ranks that are named at most."""


class MpiCommunicator:
    """One rank of many, for `LockstepExecutor`."""

    place = "the start of the job"

    def __init__(self, world: MPI.Comm, timeout: float = TIMEOUT) -> None:
        """`timeout`: seconds without a sign of life after which a rank counts as stopped."""
        self.lock = threading.Lock()
        """MPI is called by one thread at a time."""
        self.world = world.Dup()
        self.control = world.Dup()
        self.size = world.size
        self.rank = world.rank
        self.ranks = (world.rank,)
        self.heartbeat = Heartbeat(world.Dup(), self.lock, timeout)

    # ---- what ranks exchange -------------------------------------------------------------------

    def run(
        self, kind: type[Operation], columns: Sequence[Column], properties: dict[str, Any]
    ) -> list[tuple[Any, ...]]:
        if kind not in EXCHANGES:
            every = list(zip(*self.gather([tuple(held[0] for held in columns)]), strict=True))
            return [FUNCTIONS[kind](*map(list, every), **properties)[self.rank]]
        own = [held[0] for held in columns]
        sent = EXCHANGES[kind].send(self.rank, self.size, *own, **properties)
        arrived = self._all_to_all(sent)
        return [EXCHANGES[kind].receive(self.rank, arrived, *own, **properties)]

    def _all_to_all(self, sent: list[Parcel]) -> list[Parcel]:
        """The parcel from each rank, of those for each rank."""
        records = [_records(parcel) for parcel in sent]
        width = records[0].shape[1]
        counts = np.array([len(held) for held in records], np.int64)
        coming = np.empty_like(counts)
        self._wait(lambda: self.world.Ialltoall(counts, coming))
        out, back = np.concatenate(records), np.empty((int(coming.sum()), width), np.uint8)
        # Counts are of whole records, so that they fit in 32 bits for any number of bytes.
        with self.lock:
            record = self._record(width)
        self._wait(
            lambda: self.world.Ialltoallv(
                [out, counts, _starts(counts), record], [back, coming, _starts(coming), record]
            )
        )
        with self.lock:
            record.Free()
        parts = np.split(back, np.cumsum(coming)[:-1])
        return [_parcel(part, sent[0]) for part in parts]

    def _record(self, width: int) -> MPI.Datatype:
        from mpi4py import MPI

        return MPI.BYTE.Create_contiguous(width).Commit()

    def gather(self, values: Column) -> Column:
        """The values of all ranks: their arrays have the same types, and shapes of their own."""
        (own,) = values
        parts = self._gather_bytes(_written(own))
        return [_read(part, own) for part in parts]

    def gather_texts(self, text: str) -> list[str]:
        return [part.decode() for part in self._gather_bytes(text.encode())]

    def _gather_bytes(self, own: bytes) -> list[bytes]:
        counts = np.empty(self.size, np.int64)
        length = np.array([len(own)], np.int64)
        self._wait(lambda: self.world.Iallgather(length, counts))
        every = np.empty(int(counts.sum()), np.uint8)
        starts = _starts(counts)
        from mpi4py import MPI

        sent = np.frombuffer(own, np.uint8)
        received = [every, counts, starts, MPI.BYTE]
        self._wait(lambda: self.world.Iallgatherv([sent, MPI.BYTE], received))
        return [every[at : at + n].tobytes() for at, n in zip(starts, counts, strict=True)]

    # ---- waiting and failing -------------------------------------------------------------------

    def _wait(self, begin: Callable[[], MPI.Request]) -> None:
        """Until all ranks have come to this exchange; a rank that stopped ends the job."""
        looks, pause, since = 0, SLEEP[0], time.monotonic()
        with self.lock:
            request = begin()
        while not self._is_done(request):
            looks += 1
            if looks <= SPINS:
                os.sched_yield() if hasattr(os, "sched_yield") else time.sleep(0)
                continue
            self._listen()
            self._check_alive(since)
            time.sleep(pause)
            pause = min(2 * pause, SLEEP[1])

    def _is_done(self, request: MPI.Request) -> bool:
        with self.lock:
            return bool(request.Test())

    def _check_alive(self, since: float) -> None:
        """End the job if a rank has given no sign of life for too long while this one waited."""
        with self.lock:
            self.heartbeat.listen()
        silent = self.heartbeat.silent(since)
        if silent:
            error = UserError(
                "mpi.silent",
                rank=", ".join(map(str, silent[:SHOWN])),
                size=self.size,
                seconds=f"{self.heartbeat.timeout:g}",
                place=self.place,
            )
            self._end(1, error.render())

    def close(self) -> None:
        """The end that all ranks come to: no message is left on its way."""
        self.heartbeat.end()
        sent = [int(text) for text in self.gather_texts(str(self.heartbeat.sent))]
        since = time.monotonic()
        while any(self.heartbeat.received[rank] < sent[rank] for rank in self.heartbeat.watched):
            self._check_alive(since)
            time.sleep(SLEEP[1])

    def _listen(self) -> None:
        """On rank 0: end the job if another rank says that it cannot go on."""
        from mpi4py import MPI

        status = MPI.Status()
        with self.lock:
            if self.rank or not self.control.Iprobe(MPI.ANY_SOURCE, MPI.ANY_TAG, status):
                return
            told = np.empty(status.Get_count(MPI.BYTE), np.uint8)
            self.control.Recv([told, MPI.BYTE], status.Get_source(), status.Get_tag())
        code, _, text = told.tobytes().decode().partition("\n")
        self._end(int(code), text)

    def fail(self, code: int, text: str) -> NoReturn:
        """End the job on all ranks, whatever they wait for; the text is printed once."""
        from mpi4py import MPI

        if self.rank == 0:
            self._end(code, text)
        told = np.frombuffer(f"{code}\n{text}".encode(), np.uint8)
        with self.lock:
            self.control.Isend([told, MPI.BYTE], 0, FAILED)
        time.sleep(PATIENCE)
        self._end(code, text)

    def _end(self, code: int, text: str) -> NoReturn:
        print(text, file=sys.stderr, flush=True)
        sys.stdout.flush()
        self.world.Abort(code)
        os._exit(code)


def _starts(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.cumsum(counts) - counts


# ---- parcels as bytes --------------------------------------------------------------------------


def _arrays(fields: Sequence[Any]) -> list[NDArray[Any]]:
    """The arrays of the fields: of a block-scaled tensor its codes and its scales."""
    found = []
    for held in fields:
        found += [held.codes, held.scales] if isinstance(held, Scaled) else [np.asarray(held)]
    return found


def _like(fields: Sequence[Any], arrays: Sequence[NDArray[Any]]) -> Parcel:
    """The arrays as fields like these."""
    rest = iter(arrays)
    return tuple(
        replace(held, codes=next(rest), scales=next(rest))
        if isinstance(held, Scaled)
        else next(rest)
        for held in fields
    )


def _records(parcel: Parcel) -> Bytes:
    """[rows, bytes]: what belongs to a row lies together."""
    rows = []
    for held in _arrays(parcel):
        flat = np.ascontiguousarray(held).reshape(len(held), int(np.prod(held.shape[1:])))
        rows.append(flat.view(np.uint8))
    return np.concatenate(rows, axis=1)


def _parcel(records: Bytes, like: Parcel) -> Parcel:
    found, start = [], 0
    for held in _arrays(like):
        stop = start + held.itemsize * int(np.prod(held.shape[1:]))
        part = np.ascontiguousarray(records[:, start:stop]).view(held.dtype)
        found.append(part.reshape(len(records), *held.shape[1:]))
        start = stop
    return _like(like, found)


def _written(value: Any) -> bytes:
    fields = value if isinstance(value, tuple) else (value,)
    buffer = io.BytesIO()
    for held in _arrays(fields):
        np.save(buffer, held, allow_pickle=False)
    return buffer.getvalue()


def _read(data: bytes, like: Any) -> Any:
    fields = like if isinstance(like, tuple) else (like,)
    buffer = io.BytesIO(data)
    found = _like(fields, [np.load(buffer, allow_pickle=False) for _ in _arrays(fields)])
    return found if isinstance(like, tuple) else found[0]

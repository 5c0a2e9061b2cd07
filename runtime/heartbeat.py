"""Ranks that say that they are alive, so that one that stopped is told from one that is slow.

A thread of each process sends a message of one byte every few seconds, also while the process
computes: to rank 0, and rank 0 to all. Whoever waits for the others looks at what has arrived. A
process that was stopped, or whose machine is gone, sends nothing; one that computes for an hour
does.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpi4py import MPI

TIMEOUT = 60
"""Seconds without a message after which a rank counts as stopped, unless users say otherwise."""
BEATS, LONGEST = 5, 5.0
"""Messages in that time at least, and seconds between two at most."""
LATER = 2.0
"""Seconds by which each further rank is later to speak of rank 0, so that one does."""


class Heartbeat:
    """The messages of one rank, and when those of others came; `lock` is for all calls of MPI."""

    def __init__(self, world: MPI.Comm, lock: threading.Lock, timeout: float) -> None:
        self.world = world
        self.lock = lock
        self.timeout = timeout
        self.every = min(LONGEST, timeout / BEATS)
        others = [rank for rank in range(world.size) if rank != world.rank]
        self.watched = others if world.rank == 0 else [0]
        """Those whose messages come here, and where those from here go."""
        now = time.monotonic()
        self.seen = dict.fromkeys(self.watched, now)
        self.received = dict.fromkeys(self.watched, 0)
        self.sent = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        beat = bytearray(1)
        while not self._ended.wait(self.every):
            with self.lock:
                requests = [self.world.Isend(beat, rank) for rank in self.watched]
                self.sent += 1
            for request in requests:
                self._finish(request)

    def _finish(self, request: MPI.Request) -> None:
        """Messages so short leave at once; a rank that takes none is found silent by others."""
        for _ in range(BEATS):
            with self.lock:
                if request.Test():
                    return
            time.sleep(0.01)
        with self.lock:
            request.Free()

    def listen(self) -> None:
        """Take the messages that have come; under the lock."""
        beat = bytearray(1)
        for rank in self.watched:
            while self.world.Iprobe(rank):
                self.world.Recv(beat, rank)
                self.received[rank] += 1
                self.seen[rank] = time.monotonic()

    def silent(self, since: float) -> Sequence[int]:
        """Ranks of which nothing came for too long, of which this one is to speak, when it has
        waited and listened from `since` on."""
        patience = self.timeout + LATER * max(0, self.world.rank - 1)
        now = time.monotonic()
        return [rank for rank, at in self.seen.items() if now - max(at, since) > patience]

    def end(self) -> None:
        """Send no more."""
        self._ended.set()
        self._thread.join()

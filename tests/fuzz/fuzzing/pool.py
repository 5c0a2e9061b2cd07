"""Worker processes in which one draw may hang, take all memory or die without harm to the others.

    for number, outcome in attempts(work, range(100), Limits()): ...

Time is that of the processor, so that no machine is too slow or too busy; a draw that waits for
something for ever is ended by the clock.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzzing.outcome import Outcome

Work = Callable[[int, Path], Outcome]
"""The draw with this number, made in an empty folder."""
CONTEXT = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Limits:
    """Of one draw, and of all processes."""

    seconds: int = 20
    """Of the processor."""
    waiting: float = 300.0
    """Seconds of the clock."""
    memory: int = 6 << 30
    """Bytes of addresses of a process."""
    jobs: int = 2


class _Worker:
    def __init__(self, work: Work, limits: Limits, folder: Path) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.folder = folder
        self.process = CONTEXT.Process(target=_serve, args=(theirs, work, limits, folder))
        self.process.start()
        theirs.close()
        self.number: int | None = None
        self.since = 0.0

    def begin(self, number: int) -> None:
        self.number, self.since = number, time.monotonic()
        self.pipe.send(number)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()

    @property
    def last_words(self) -> Outcome:
        """Of a worker that died of its draw."""
        self.process.join()
        files = {path.name: path.read_bytes() for path in self.folder.glob("*") if path.is_file()}
        if self.process.exitcode == -signal.SIGXCPU:
            return Outcome("it takes too long", files=files)
        return Outcome(f"the process ended with {self.process.exitcode}", files=files)


def attempts(work: Work, numbers: Iterable[int], limits: Limits) -> Iterator[tuple[int, Outcome]]:
    """Each draw and how it ended, in any order."""
    waiting = deque(numbers)
    with TemporaryDirectory(prefix="supertile-fuzz-") as place:
        workers = [_new(work, limits, place, n) for n in range(min(limits.jobs, len(waiting)))]
        try:
            for worker in workers:
                worker.begin(waiting.popleft())
            while any(worker.number is not None for worker in workers):
                wait([worker.pipe for worker in workers if worker.number is not None], 1.0)
                for place_of, worker in enumerate(workers):
                    outcome = _ended(worker, limits)
                    if outcome is None:
                        continue
                    number, worker.number = worker.number, None
                    assert number is not None
                    if not worker.process.is_alive():
                        worker.end()
                        worker = workers[place_of] = _new(work, limits, place, place_of)
                    yield number, outcome
                    if waiting:
                        worker.begin(waiting.popleft())
        finally:
            for worker in workers:
                worker.end()


def _new(work: Work, limits: Limits, place: str, number: int) -> _Worker:
    folder = Path(place) / str(number)
    folder.mkdir(exist_ok=True)
    return _Worker(work, limits, folder)


def _ended(worker: _Worker, limits: Limits) -> Outcome | None:
    """How the draw of a worker ended; None if it has not, or if there is none."""
    if worker.number is None:
        return None
    if worker.pipe.poll():
        try:
            outcome: Outcome = worker.pipe.recv()
        except EOFError:
            return worker.last_words
        return outcome
    if time.monotonic() - worker.since > limits.waiting:
        worker.process.kill()
        worker.process.join()
        return Outcome("it waits for ever", files=worker.last_words.files)
    return None


def _serve(pipe: Connection, work: Work, limits: Limits, folder: Path) -> None:
    """A worker: draws until it is ended."""
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Floating point that goes wrong in silence would be told on a user's terminal.
    warnings.simplefilter("error", RuntimeWarning)
    os.chdir(folder)
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        end = int(used.ru_utime + used.ru_stime) + 1 + limits.seconds
        resource.setrlimit(resource.RLIMIT_CPU, (end, resource.RLIM_INFINITY))
        pipe.send(work(number, folder))

"""A progress bar for work of more than a second, on a terminal only, gone when the work is done."""

from __future__ import annotations

import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PATIENCE = 1.0  # seconds before a bar appears


class Bar:
    """Call it with how much was done; `close` removes the bar.

    It appears by itself, however long the first part of the work takes; without a total it only
    shows that work goes on, and for how long.
    """

    def __init__(self, title: str, total: int | None) -> None:
        self.title = title
        self.total = total
        self.done = 0
        self.start = time.monotonic()
        self.shown: tuple[Progress, TaskID] | None = None
        self.closed = False
        self.lock = threading.Lock()
        self.timer = threading.Timer(max(0.0, PATIENCE), self._show)
        self.timer.daemon = True
        if sys.stderr is not None and sys.stderr.isatty():
            self.timer.start()

    def __call__(self, amount: int) -> None:
        self.done += amount
        if self.shown is None and time.monotonic() - self.start > PATIENCE:
            self._show()
        if self.shown is not None:
            progress, task = self.shown
            progress.update(task, completed=self.done)

    def reach(self, done: int) -> None:
        """So much of the total is done in all."""
        self(done - self.done)

    def _show(self) -> None:
        """rich costs 0.1 s to load, so only long work pays for it."""
        if sys.stderr is None or not sys.stderr.isatty():
            self.start = float("inf")
            return
        from rich.console import Console
        from rich.progress import Progress

        with self.lock:
            if self.shown is not None or self.closed:
                return
            # What the command prints goes where it would without a bar.
            progress = Progress(
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self.shown = progress, progress.add_task(self.title, total=self.total)
            progress.start()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.timer.cancel()
        with self.lock:
            self.closed = True
            if self.shown is not None:
                self.shown[0].stop()

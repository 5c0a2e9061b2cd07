"""Runs the tests of a file against each of its mutants."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fuzzing.mutants import overlay
from fuzzing.mutants.sites import Mutant
from fuzzing.mutants.table import FOLDER, ROOT, Source

MEMORY_LIMIT = 8 << 30  # bytes of a process of tests
PASSED, FAILED, BROKEN = 0, 1, 2  # what pytest returns; BROKEN: the tests cannot be imported
SECONDS = 60.0  # that tests may take beyond
SLOWER = 6.0  # times what they take without a fault
KILLED, SURVIVED = "killed", "survived"


class Baseline:
    """How long the tests of each file take without a fault, measured once."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, ...], float] = {}

    def limit(self, tests: Sequence[str]) -> float:
        """Seconds after which tests that run against a mutant have noticed it."""
        key = tuple(tests)
        if key not in self.seconds:
            start = time.monotonic()
            code, output = _tests(key, {}, None)
            if code != PASSED:
                raise SystemExit(f"{' '.join(key)} fail without a fault:\n{output[-2000:]}")
            self.seconds[key] = time.monotonic() - start
        return SECONDS + SLOWER * self.seconds[key]


def verdict(source: Source, mutant: Mutant, limit: float) -> tuple[str, str]:
    """(KILLED or SURVIVED, by what)."""
    with tempfile.TemporaryDirectory() as folder:
        changed = Path(folder) / "changed.py"
        changed.write_text(mutant.text)
        names = {overlay.MODULE: source.module, overlay.TEXT: str(changed)}
        code, output = _tests(source.tests, names, limit)
    if code is None:
        return KILLED, f"the tests took more than {limit:.0f} s"
    if code == PASSED:
        return SURVIVED, ""
    if code in (FAILED, BROKEN) or code < 0:
        return KILLED, _first_failure(output)
    raise SystemExit(f"pytest returned {code}:\n{output[-2000:]}")


def _first_failure(output: str) -> str:
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return (failed or output.splitlines()[-1:] or [""])[0][:200]


def _tests(
    tests: Sequence[str], names: dict[str, str], limit: float | None
) -> tuple[int | None, str]:
    """(what pytest returned, what it printed); None: it took longer."""
    path = os.pathsep.join([str(FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, **names, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
    command = [
        *(sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--tb=no", "-rfE"),
        *("-p", "fuzzing.mutants.overlay", *tests),
    ]
    running = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=_bound,
    )
    try:
        output, _ = running.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, 9)
        running.communicate()
        return None, ""
    return running.returncode, output


def _bound() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


Tell = Callable[[str], None]

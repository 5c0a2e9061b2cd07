"""Draws that go on where an earlier call ended, until a budget is spent or all are made.

A folder holds the state, and of each kind of finding the first few with the files that show it:

    state.json          what has been drawn, and how it ended
    findings/KIND-N/    finding.txt, and the files of draw N
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzing.mutants.run import SURVIVED, Baseline, verdict
from fuzzing.mutants.table import draw, equivalent, sources
from fuzzing.outcome import Outcome
from fuzzing.pool import Limits, Work, attempts

STEP = 500  # draws between two writes of the state
SHOWN = 3  # findings of a kind that are written


@dataclass
class Budget:
    """Seconds until the end; None: no end."""

    seconds: float | None
    start: float = field(default_factory=time.monotonic)

    @property
    def is_spent(self) -> bool:
        return self.seconds is not None and time.monotonic() - self.start > self.seconds


class State:
    """What a folder remembers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "state.json"
        held: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.done: dict[str, int] = held.get("done", {})
        self.ends: dict[str, Counter[str]] = {
            name: Counter(ends) for name, ends in held.get("ends", {}).items()
        }
        self.verdicts: dict[str, list[str]] = held.get("verdicts", {})
        self.seconds: Counter[str] = Counter(held.get("seconds", {}))

    def save(self) -> None:
        """Written aside and renamed, so that it is whole whenever the process ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        held = {
            "done": self.done,
            "ends": self.ends,
            "verdicts": self.verdicts,
            "seconds": self.seconds,
        }
        aside = self.file.with_suffix(".tmp")
        aside.write_text(json.dumps(held, indent=1))
        aside.replace(self.file)

    def count(self, name: str, number: int, outcome: Outcome) -> None:
        """Count how a draw ended, and write what shows a finding again."""
        ends = self.ends.setdefault(name, Counter())
        ends[outcome.kind] += 1
        if not outcome.is_finding or ends[outcome.kind] > SHOWN:
            return
        kind = re.sub(r"\W+", "-", outcome.kind)[:80]
        place = self.folder / "findings" / f"{kind}-{number}"
        place.mkdir(parents=True, exist_ok=True)
        text = f"{outcome.kind}\n{name} {number}\n\n{outcome.text}\n"
        (place / "finding.txt").write_text(text, errors="backslashreplace")
        for file, data in outcome.files.items():
            (place / file).write_bytes(data)


def draws(state: State, name: str, work: Work, count: int, limits: Limits, budget: Budget) -> None:
    """Draws from where the state is, up to a count in all."""
    while state.done.get(name, 0) < count and not budget.is_spent:
        first = state.done.get(name, 0)
        numbers = range(first, min(first + STEP, count))
        start = time.monotonic()
        for number, outcome in attempts(work, numbers, limits):
            state.count(name, number, outcome)
        state.seconds[name] += round(time.monotonic() - start)
        state.done[name] = numbers.stop
        state.save()
        print(f"{name}: {numbers.stop:,} of {count:,}, {_findings(state, name)}", flush=True)


def _findings(state: State, name: str) -> str:
    found = sum(number for kind, number in state.ends[name].items() if Outcome(kind).is_finding)
    return f"{found} findings"


def mutants(state: State, seed: int, count: int, budget: Budget) -> None:
    """Tests against each mutant whose verdict is not known, or follows from other texts by now."""
    baseline = Baseline()
    for source in sources(count):
        digest = source.digest
        for mutant in draw(source, seed):
            key = f"{mutant.file}: {mutant.name}"
            if state.verdicts.get(key, [""])[0] == digest:
                continue
            if budget.is_spent:
                return
            start = time.monotonic()
            found, by = verdict(source, mutant, baseline.limit(source.tests))
            state.seconds["mutants"] += round(time.monotonic() - start)
            state.verdicts[key] = [digest, found, by]
            state.save()
            print(f"{key}: {found}", flush=True)


# ---- what came of it ---------------------------------------------------------------------------


def report(state: State, seed: int, counts: dict[str, int]) -> Iterator[str]:
    """How the draws ended, findings and survivors by name."""
    for name in ("inputs", "commands"):
        ends = state.ends.get(name, Counter())
        total = sum(ends.values())
        if not total:
            continue
        fine, refused = ends["fine"], ends["refused"]
        seconds = state.seconds[name]
        yield f"{name}: {total:,} of {counts[name]:,} drawn in {seconds} s"
        yield f"  {fine:,} succeed, {refused:,} are refused, {total - fine - refused} are findings"
        for kind, number in ends.most_common():
            if Outcome(kind).is_finding:
                yield f"  {number} x {kind}"
    yield from _mutant_lines(state, seed, counts["mutants"])


def _mutant_lines(state: State, seed: int, count: int) -> Iterator[str]:
    known, left = known_verdicts(state, seed, count), survivors(state, seed, count)
    if not known:
        return
    argued = sum(found == SURVIVED for found in known.values()) - len(left)
    killed = len(known) - argued - len(left)
    yield f"mutants: {len(known)} of {count} tried in {state.seconds['mutants']} s"
    yield f"  {killed} are noticed, {argued} are equivalent, {len(left)} survive"
    yield from (f"  {name}" for name in left)


def known_verdicts(state: State, seed: int, count: int) -> dict[tuple[str, str], str]:
    """(file, name) -> verdict, of the mutants that are drawn now."""
    found = {}
    for source in sources(count):
        for mutant in draw(source, seed):
            held = state.verdicts.get(f"{mutant.file}: {mutant.name}")
            if held is not None:
                found[mutant.file, mutant.name] = held[1]
    return found


def survivors(state: State, seed: int, count: int) -> list[str]:
    """Mutants that no test notices, though nobody says that none can."""
    known = equivalent()
    return [
        f"{file}: {name}"
        for (file, name), found in known_verdicts(state, seed, count).items()
        if found == SURVIVED and (file, name) not in known
    ]


def is_clean(state: State, seed: int, counts: dict[str, int]) -> bool:
    """Whether nothing was found."""
    ends = [kind for found in state.ends.values() for kind in found]
    found = any(Outcome(kind).is_finding for kind in ends)
    return not found and not survivors(state, seed, counts["mutants"])

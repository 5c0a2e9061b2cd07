"""Prefill, teacher-forced steps and greedy decoding of a ragged batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supertile.runtime.engine import Session
from supertile.runtime.trace import Recorder


@dataclass(frozen=True)
class Request:
    """How a batch is fed: `prompt` tokens in chunks, the rest one by one if `teacher`, then greedy.

    `prompt` None: all tokens; `chunk` None: in one call.
    """

    prompt: int | None = None
    chunk: int | None = None
    teacher: bool = False
    decode: int = 0


@dataclass(frozen=True)
class Generated:
    """`logits[b, i]` predicts token i + 1 of row b, NaN past its end; `draft` token i + 2."""

    logits: NDArray[np.float32]
    lengths: NDArray[np.int64]
    tokens: NDArray[np.int64]
    draft: NDArray[np.float32] | None


class Generator:
    """Feeds one batch through a session, and its streams through a draft session if there is one."""

    def __init__(
        self, session: Session, draft: Session | None = None, recorder: Recorder | None = None
    ) -> None:
        self.session = session
        self.draft = draft
        self.recorder = recorder
        self.logits: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        self.draft_logits: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        batch = len(session.length)
        self.rows: list[list[int]] = [[] for _ in range(batch)]  # tokens fed so far
        self.streams: list[list[NDArray[Any]]] = [[] for _ in range(batch)]  # not yet drafted

    def run(self, tokens: Sequence[NDArray[Any]], request: Request) -> Generated:
        fed = [row if request.prompt is None else row[: request.prompt] for row in tokens]
        chunk = request.chunk or max(len(row) for row in fed)
        for start in range(0, max(len(row) for row in fed), chunk):
            self._feed([row[start : start + chunk] for row in fed])
        if request.teacher:
            longest = max(len(row) for row in tokens)
            for at in range(min(len(row) for row in fed), longest):
                waiting = [max(at, len(held)) == at for held in fed]
                self._feed(
                    [
                        row[at : at + 1] if wait else row[:0]
                        for row, wait in zip(tokens, waiting, strict=True)
                    ]
                )
        return self._decode(request.decode)

    def _feed(self, rows: list[NDArray[Any]]) -> None:
        counts = [len(row) for row in rows]
        if not sum(counts):
            return
        ids = np.concatenate([np.asarray(row, np.int64) for row in rows])
        sequence = np.repeat(np.arange(len(rows)), counts)
        position = self._begin(self.session, sequence)
        outputs = self.session.call({"ids": ids}, counts)
        self.logits.append((sequence, position, outputs["logits"]))
        for held, row in zip(self.rows, rows, strict=True):
            held.extend(int(token) for token in row)
        if self.draft is not None:
            self._feed_draft(sequence, outputs["streams"])

    def _begin(self, session: Session, sequence: NDArray[Any]) -> NDArray[Any]:
        recorder = self.recorder or Recorder()
        recorder.begin(sequence, session.length)
        return recorder.position

    def _feed_draft(self, sequence: NDArray[Any], streams: NDArray[Any]) -> None:
        """Draft every position whose next token is known; the last stream of a row waits."""
        assert self.draft is not None
        for b in range(len(self.rows)):
            self.streams[b].extend(streams[sequence == b])
        counts = [
            min(len(held), len(row) - 1 - int(done))
            for held, row, done in zip(self.streams, self.rows, self.draft.length, strict=True)
        ]
        if sum(counts) <= 0:
            return
        ready = [held[:count] for held, count in zip(self.streams, counts, strict=True)]
        self.streams = [held[count:] for held, count in zip(self.streams, counts, strict=True)]
        spans = zip(self.rows, self.draft.length, counts, strict=True)
        ids = np.array(
            [token for row, done, count in spans for token in row[done + 1 : done + 1 + count]],
            np.int64,
        )
        at = np.repeat(np.arange(len(counts)), counts)
        position = self._begin(self.draft, at)
        held_streams = np.stack([stream for row in ready for stream in row])
        outputs = self.draft.call({"streams": held_streams, "ids": ids}, counts)
        self.draft_logits.append((at, position, outputs["logits"]))

    def _decode(self, count: int) -> Generated:
        """Append the most likely token `count` times; ties: the smaller id."""
        chosen: list[NDArray[Any]] = []
        for step in range(count):
            last = np.stack([self._last_logits(b) for b in range(len(self.rows))])
            chosen.append(last.argmax(-1))
            if step < count - 1:
                self._feed([np.array([token]) for token in chosen[-1]])
        lengths = np.array([len(row) for row in self.rows], np.int64)
        tokens = [[*row, *(held[b] for held in chosen[-1:])] for b, row in enumerate(self.rows)]
        draft = _table(self.draft_logits, len(self.rows)) if self.draft is not None else None
        return Generated(_table(self.logits, len(self.rows)), lengths, _padded(tokens), draft)

    def _last_logits(self, row: int) -> NDArray[Any]:
        for sequence, _, logits in reversed(self.logits):
            at = np.flatnonzero(sequence == row)
            if len(at):
                return np.asarray(logits[at[-1]])
        raise AssertionError("every row has at least one token")


def _table(
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], batch: int
) -> NDArray[np.float32]:
    longest = max((int(position.max()) + 1 for _, position, _ in parts), default=0)
    width = parts[0][2].shape[1] if parts else 0
    table = np.full((batch, longest, width), np.nan, np.float32)
    for sequence, position, logits in parts:
        table[sequence, position] = logits
    return table


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    """[B, longest], -1 past the end of a row."""
    table = np.full((len(rows), max(len(row) for row in rows)), -1, np.int64)
    for b, row in enumerate(rows):
        table[b, : len(row)] = row
    return table

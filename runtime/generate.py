"""Prefill, teacher-forced steps and greedy decoding of a ragged batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from supertile.ir.errors import UserError
from supertile.runtime.engine import Session
from supertile.runtime.execute import ExecutionError
from supertile.runtime.nonfinite import NonFiniteError, first_not_finite
from supertile.runtime.trace import Recorder

Row = NDArray[np.integer[Any]]


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
    """Tokens fed of each row: the last decoded token is not."""
    tokens: NDArray[np.int64]
    """Fed and decoded tokens, -1 past the end of a row."""
    draft: NDArray[np.float32] | None


class _Part(NamedTuple):
    """The logits of one call."""

    sequence: NDArray[Any]
    position: NDArray[Any]
    logits: NDArray[Any]


class Generator:
    """Feeds one batch through new sessions: of the model, and of its draft head if there is one."""

    def __init__(
        self,
        session: Session,
        draft: Session | None = None,
        recorder: Recorder | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """`progress` is told, after every call, how many tokens it fed."""
        self.progress = progress
        self.session = session
        self.draft = draft
        self.recorder = recorder
        self.logits: list[_Part] = []
        self.draft_logits: list[_Part] = []
        batch = len(session.length)
        self.rows: list[list[int]] = [[] for _ in range(batch)]  # tokens fed so far
        self.streams: list[list[NDArray[Any]]] = [[] for _ in range(batch)]  # not yet drafted
        if recorder is not None:
            recorder.check(held.executor.plan.value_names(held.entry) for held in self._sessions)

    def run(self, tokens: Sequence[Row], request: Request) -> Generated:
        """`tokens` holds one row a sequence, each with at least one token.

        `NonFiniteError` where logits are not finite.
        """
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # judged by the logits
            return self._run(tokens, request)

    def _run(self, tokens: Sequence[Row], request: Request) -> Generated:
        assert all(len(row) for row in tokens), "rows have tokens"
        fed = [row[: request.prompt] for row in tokens]
        longest = max(len(row) for row in fed)
        chunk = request.chunk or longest
        for start in range(0, longest, chunk):
            self._feed([row[start : start + chunk] for row in fed])
        if request.teacher:
            for at in range(longest, max(len(row) for row in tokens)):
                self._feed([row[at : at + 1] for row in tokens])
        last = self._decode(request.decode)
        return self._generated(last)

    @property
    def _sessions(self) -> list[Session]:
        return [held for held in (self.session, self.draft) if held is not None]

    def _feed(self, rows: Sequence[Row]) -> None:
        counts = [len(row) for row in rows]
        ids = np.concatenate([np.asarray(row, np.int64) for row in rows])
        sequence, position, outputs = self._call(self.session, {"ids": ids}, counts)
        self.logits.append(_Part(sequence, position, outputs["logits"]))
        for held, row in zip(self.rows, rows, strict=True):
            held.extend(int(token) for token in row)
        if self.draft is not None:
            for b, waiting in enumerate(self.streams):
                waiting.extend(outputs["streams"][sequence == b])
            self._feed_draft(self.draft)
        if self.progress is not None:
            self.progress(sum(counts))

    def _feed_draft(self, draft: Session) -> None:
        """Draft every position whose next token is known; the last stream of a row waits."""
        done = draft.length.tolist()
        known = [row[at + 1 :] for row, at in zip(self.rows, done, strict=True)]
        counts = [len(tokens) for tokens in known]
        if not sum(counts):
            return
        pairs = list(zip(self.streams, counts, strict=True))
        self.streams = [held[count:] for held, count in pairs]
        streams = np.stack([stream for held, count in pairs for stream in held[:count]])
        ids = np.array([token for tokens in known for token in tokens], np.int64)
        inputs = {"streams": streams, "ids": ids}
        sequence, position, outputs = self._call(draft, inputs, counts)
        self.draft_logits.append(_Part(sequence, position, outputs["logits"]))

    def _call(
        self, session: Session, inputs: dict[str, Any], counts: list[int]
    ) -> tuple[NDArray[Any], NDArray[Any], dict[str, NDArray[Any]]]:
        vectors = session.vectors(counts)
        if self.recorder is not None:
            self.recorder.begin(*vectors)
        if session.executor.tracker is not None:
            session.executor.tracker.begin(session.entry)
        try:
            outputs = session.call(inputs, counts)
        except ExecutionError as error:
            if self.recorder is None or not self.recorder.coverage:
                raise
            # Nothing says what a pinned value means: an expert that does not exist shows here.
            names = ", ".join(sorted(self.recorder.coverage))
            raise UserError("run.pin_effect", names=names, reason=error) from error
        row = first_not_finite(outputs["logits"])
        if row is not None:
            what = "draft logits" if session is self.draft else "logits"
            raise NonFiniteError(what, int(vectors.sequence[row]), int(vectors.position[row]))
        return vectors.sequence, vectors.position, outputs

    def _decode(self, count: int) -> list[int]:
        """The last of `count` most likely tokens, the others fed; in ties the smallest id."""
        chosen: list[int] = []
        for step in range(count):
            chosen = [self._most_likely(b) for b in range(len(self.rows))]
            if step < count - 1:
                self._feed([np.array([token]) for token in chosen])
        return chosen

    def _most_likely(self, row: int) -> int:
        last = next(
            part.logits[part.sequence == row][-1]
            for part in reversed(self.logits)
            if row in part.sequence
        )
        return int(last.argmax())

    def _generated(self, last: list[int]) -> Generated:
        lengths = np.array([len(row) for row in self.rows], np.int64)
        tokens = [[*row, *last[b : b + 1]] for b, row in enumerate(self.rows)]
        vocabulary = self.logits[0].logits.shape[1]
        shape = len(self.rows), int(lengths.max()), vocabulary
        logits, draft = _table(self.logits, shape), None
        if self.draft is not None:
            draft = _table(self.draft_logits, (shape[0], shape[1] - 1, vocabulary))
        return Generated(logits, lengths, _padded(tokens), draft)


def _table(parts: list[_Part], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    """Logits by row and position."""
    table = np.full(shape, np.nan, np.float32)
    for part in parts:
        table[part.sequence, part.position] = part.logits
    return table


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    """[B, longest], -1 past the end of a row."""
    table = np.full((len(rows), max(len(row) for row in rows)), -1, np.int64)
    for b, row in enumerate(rows):
        table[b, : len(row)] = row
    return table

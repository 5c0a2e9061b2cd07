"""The form of an error text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One error: what is wrong, what was expected, what was found, what to try. Each a template."""

    message: str
    expected: str = ""
    found: str = ""
    suggestion: str = ""

"""A number in parts as equal as they can be: the rule by which slots and batches are cut."""

from __future__ import annotations


def even_parts(total: int, parts: int) -> tuple[int, ...]:
    """`total` in so many parts, the first ones with one more."""
    size, more = divmod(total, parts)
    return (size + 1,) * more + (size,) * (parts - more)

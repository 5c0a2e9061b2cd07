"""`supertile run --against`: what is left between a run and a reference, and why."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from supertile.cli.mpi import launched
from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from supertile.runtime.follow import Follower
    from supertile.runtime.generate import Generated
    from supertile.runtime.selections import Difference

LEVELS = ("graph", "placed", "fused")
LIMIT = 1e-4
"""Of logits, float32: how far those of a position may be apart at most."""
LISTED = 20  # differences that are printed; those that are no ties come first
HEADER = (
    *("choice", "sequence", "token", "ours", "reference's"),
    *("our scores of the two", "reference's scores", "margin", "ulp", ""),
)


def check_against(options: argparse.Namespace) -> None:
    """Raise where --against stands with an option that it cannot be used with."""
    if options.against is None:
        return
    if options.level not in LEVELS:
        raise UserError("reference.level", found=options.level)
    if launched() is not None:
        raise UserError("reference.ranks")
    if options.decode:
        hint = "put the reference's tokens into --tokens, and feed them with --teacher"
        raise UserError("reference.alone", option=f"--decode {options.decode}", hint=hint)
    if options.draft:
        hint = "leave --draft out: the entry logits is compared"
        raise UserError("reference.alone", option="--draft", hint=hint)


def report(follower: Follower, pinned: Generated, free: NDArray[Any]) -> None:
    """Print differences and errors; `UserError` where more than ties is between the two.

    `pinned` went on with the reference's choices, `free` [B, S, V] are logits without them.
    """
    reference, differences = follower.reference, follower.differences
    print(f"against {reference.file}")
    for is_route, what in ((True, "route"), (False, "selection")):
        number = sum(difference.is_route is is_route for difference in differences)
        differ = "1 differs" if number == 1 else f"{number} differ"
        print(f"  {_count(follower.compared[is_route], what)} compared, {differ}")
    if follower.scores_apart:
        name, apart = max(follower.scores_apart.items(), key=lambda pair: pair[1])
        print(f"  scores at most {apart:.1e} apart, of {name}")
    _print_differences(differences)
    lengths = pinned.lengths.tolist()
    if differences:
        _print_errors("with our choices", logits_apart(free, reference.logits, lengths))
    errors = logits_apart(pinned.logits, reference.logits, lengths)
    _print_errors("with the reference's choices" if differences else "with equal choices", errors)
    _refuse(follower, errors)


def logits_apart(ours: NDArray[Any], theirs: NDArray[Any], lengths: list[int]) -> NDArray[Any]:
    """[B, S]: how far logits [B, S, V] of each position are apart at most; NaN past the end.

    Where ours are no numbers that is infinitely far.
    """
    import numpy as np

    apart = np.full(ours.shape[:2], np.nan)
    for row, length in enumerate(lengths):
        far = np.abs(ours[row, :length] - theirs[row, :length]).max(axis=-1)
        apart[row, :length] = np.where(np.isnan(far), np.inf, far)
    return apart


def _print_errors(how: str, errors: NDArray[Any]) -> None:
    print(f"  logits {how}: {_error_text(errors)}")


def _error_text(errors: NDArray[Any]) -> str:
    """`at most 2.3e-02 apart, at token 507 of sequence 0; 2 of 512 positions above 1e-4`."""
    import numpy as np

    sequence, token = np.unravel_index(int(np.nanargmax(errors)), errors.shape)
    count, number = np.count_nonzero(errors > LIMIT), np.count_nonzero(~np.isnan(errors))
    return (
        f"at most {errors[sequence, token]:.1e} apart, at token {token} of sequence {sequence}; "
        f"{count} of {number} positions above {LIMIT:.0e}"
    )


def _print_differences(differences: Sequence[Difference]) -> None:
    """One line each, those that are no ties first."""
    if not differences:
        return
    ordered = sorted(differences, key=lambda item: (item.is_tie, item.sequence, item.token))
    rows = [HEADER, *(_row(difference) for difference in ordered[:LISTED])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print(f"  {name.ljust(widths[0])}  {'  '.join(numbers)}".rstrip())
    if len(ordered) > LISTED:
        ties = sum(difference.is_tie for difference in ordered[LISTED:])
        print(f"  and {len(ordered) - LISTED} more, {ties} of them ties")


def _row(difference: Difference) -> tuple[str, ...]:
    """Of several that are swapped the pair that decides: see `Difference`."""
    more = f" (+{difference.swapped - 1})" if difference.swapped > 1 else ""
    return (
        *(difference.name, str(difference.sequence), str(difference.token)),
        *(f"{difference.ours}{more}", f"{difference.theirs}{more}"),
        *(_pair(difference.our_scores), _pair(difference.their_scores)),
        *(_number(difference.margin, ".2g"), _number(difference.ulps, ".0f")),
        "tie" if difference.is_tie else "no tie",
    )


def _pair(scores: tuple[float, float] | None) -> str:
    return "unknown" if scores is None else f"{scores[0]:.8g}, {scores[1]:.8g}"


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _refuse(follower: Follower, errors: NDArray[Any]) -> None:
    """Raise where a difference is no tie, or an error is left that no choice explains."""
    file = follower.reference.file
    real = [item for item in follower.differences if not item.is_tie]
    if real:
        raise _no_tie(follower, real)
    if (errors > LIMIT).any():
        raise UserError("reference.error", file=file, limit=LIMIT, found=_error_text(errors))


def _no_tie(follower: Follower, real: Sequence[Difference]) -> UserError:
    """Tells the difference with the largest margin, or one without scores."""
    from supertile.runtime.selections import TIE_ULPS

    worst = max(real, key=lambda item: float("inf") if item.ulps is None else item.ulps)
    where = f"{worst.name} at token {worst.token} of sequence {worst.sequence}"
    hint = "compare what comes before it, which --trace writes"
    apart = follower.scores_apart.get(worst.name, 0.0)
    if worst.margin is None:
        hint = f"add {worst.name}.scores to the file: without scores no tie can be told"
    else:
        where += f", margin {worst.margin:.2g} ({worst.ulps:.0f} ulp)"
        where += f", where scores of the two sides are up to {apart:.1e} apart"
        if worst.margin <= apart:
            hint = "rounding before it may explain so small a margin: compare that, by --trace"
    return UserError(
        "reference.differs",
        count=_count(len(real), "choice") + (" differs" if len(real) == 1 else " differ"),
        file=follower.reference.file,
        ulps=TIE_ULPS,
        found=where,
        hint=hint,
    )


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")

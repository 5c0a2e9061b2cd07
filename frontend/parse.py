"""From the text of a model file to its tree; what is no text of the language becomes a `UserError`.

The lexer knows no context, so that a reserved word is reserved everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import lark.lexer
from lark import Lark, Token, UnexpectedCharacters, UnexpectedInput, UnexpectedToken
from lark.exceptions import VisitError
from lark.indenter import DedentError, Indenter

from supertile.frontend.syntax import ModelFile
from supertile.frontend.tree import TreeBuilder
from supertile.ir.errors import Spot, UserError
from supertile.ir.files import open_regular, reason_of

GRAMMAR = Path(__file__).with_name("grammar.lark")

LENGTH_LIMIT = 1_000_000  # characters of a model file
BRACKET_LIMIT = 40  # brackets inside brackets
OPERATION_LIMIT = 200  # signs of arithmetic in a line
TAB = 8  # columns of indentation


def read_model_file(path: Path) -> ModelFile:
    """Parse a model file."""
    try:
        with open_regular(path) as stream:
            data = stream.read(4 * LENGTH_LIMIT + 1)  # a character has at most four bytes
    except (OSError, ValueError) as error:
        raise UserError("language.unreadable", file=str(path), reason=reason_of(error)) from None
    if len(data) > 4 * LENGTH_LIMIT:
        size = path.stat().st_size
        raise UserError("language.too_long", file=str(path), size=size, limit=LENGTH_LIMIT)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("language.encoding", file=str(path), byte=error.start) from None
    return parse_model(text, str(path))


@lru_cache(maxsize=16)  # a command reads a file for its config and again for its module
def parse_model(text: str, path: str) -> ModelFile:
    """Parse the text of a model file."""
    if len(text) > LENGTH_LIMIT:
        raise UserError("language.too_long", file=path, size=len(text), limit=LENGTH_LIMIT)
    text = text.replace("\r\n", "\n").rstrip() + "\n"
    if not text.strip():
        raise UserError("language.empty", file=path)
    _check_nesting(text, path)
    try:
        tree = parser().parse(text)
        return TreeBuilder(path, text).transform(tree)
    except UnexpectedInput as error:
        raise _syntax_error(error, text, path) from None
    except DedentError:
        raise _indentation_error(text, path) from None
    except RecursionError:  # within the limits of a line, but over many lines
        raise too_deep(Spot(path, 1, 1)) from None
    except VisitError as error:
        if isinstance(error.orig_exc, RecursionError):
            raise too_deep(Spot(path, 1, 1)) from None
        raise error.orig_exc from None


@lru_cache(maxsize=1)
def parser() -> Lark:
    with _no_collision_check():
        return make_parser(strict=False)


def make_parser(strict: bool) -> Lark:
    """`strict` makes Lark refuse conflicts of rules and of terminals; a test does."""
    return Lark(
        GRAMMAR.read_text(encoding="utf-8"),
        parser="lalr",
        lexer="basic",
        strict=strict,
        propagate_positions=True,
        maybe_placeholders=True,
        postlex=_Lines(),
    )


@contextmanager
def _no_collision_check() -> Iterator[None]:
    """Lark without its check of terminals, which costs more than all else in making a parser."""
    held = lark.lexer.has_interegular
    lark.lexer.has_interegular = False
    try:
        yield
    finally:
        lark.lexer.has_interegular = held


class _Lines(Indenter):
    NL_type = "_NL"
    OPEN_PAREN_types = ["LPAR", "LSQB", "LBRACE"]  # noqa: RUF012 (Lark's interface)
    CLOSE_PAREN_types = ["RPAR", "RSQB", "RBRACE"]  # noqa: RUF012
    INDENT_type = "_INDENT"
    DEDENT_type = "_DEDENT"
    tab_len = TAB


# ---- errors ------------------------------------------------------------------------------------

# Terminal -> what a user calls it.
SPOKEN = {
    "_NL": "the end of the line",
    "_INDENT": "an indented body",
    "_DEDENT": "the end of the body",
    "$END": "the end of the file",
    "NAME": "a name",
    "NUMBER": "a number",
    "STRING": 'a text in "quotes"',
}
LINE_ENDS = ("_NL", "_DEDENT", "$END")


def reserved_words() -> list[str]:
    """The words of the grammar that cannot be names."""
    held = [terminal.pattern.value for terminal in parser().terminals]
    return sorted(word for word in held if word.isidentifier())


def _check_nesting(text: str, path: str) -> None:
    """Refuse what would exhaust the stack of whatever walks the tree."""
    depth = 0
    for number, line in enumerate(text.split("\n"), start=1):
        operations = 0
        for column, character in enumerate(line.split("#")[0], start=1):
            depth = max(0, depth + (character in "([{") - (character in ")]}"))
            operations += character in "+-*/%^"
            if depth > BRACKET_LIMIT or operations > OPERATION_LIMIT:
                raise too_deep(Spot(path, number, column, line))


def too_deep(spot: Spot) -> UserError:
    return UserError("language.too_deep", spot, brackets=BRACKET_LIMIT, operations=OPERATION_LIMIT)


def _syntax_error(error: UnexpectedInput, text: str, path: str) -> UserError:
    lines = text.split("\n")
    if isinstance(error, UnexpectedCharacters):
        spot = Spot(path, error.line, error.column, lines[error.line - 1])
        return UserError("language.character", spot, character=repr(error.char))
    assert isinstance(error, UnexpectedToken)
    token = error.token
    line = min(token.line or len(lines), len(lines))
    if token.type in LINE_ENDS and line > 1 and not lines[line - 1].strip():
        line -= 1
    column = len(lines[line - 1]) + 1 if token.type in LINE_ENDS else token.column or 1
    wanted = sorted(_spoken(name) for name in (error.accepts or error.expected))
    return UserError(
        "language.syntax",
        Spot(path, line, column, lines[line - 1]),
        expected=" or ".join(wanted[:8]) + (" ..." if len(wanted) > 8 else ""),
        found=SPOKEN.get(token.type, f"`{token}`"),
        hint=_syntax_hint(token, wanted),
    )


def _spoken(terminal: str) -> str:
    return SPOKEN.get(terminal) or f"`{parser().get_terminal(terminal).pattern.value}`"


def _syntax_hint(token: Token, wanted: list[str]) -> str:
    if str(token) in reserved_words() and "a name" in wanted:
        return f"`{token}` is a reserved word; use another name"
    if token.type == "_INDENT":
        return "indent only the body of config, table, block, entry and for"
    if "an indented body" in wanted:
        return "indent the body by two spaces"
    if token.type == "EQUAL":
        return "one assignment a line: name = expression"
    return "see docs/language.md"


def _indentation_error(text: str, path: str) -> UserError:
    """Find the line that returns to a column at which no body began."""
    columns = [0]
    for number, line in enumerate(text.split("\n"), start=1):
        expanded = line.expandtabs(TAB)
        stripped = expanded.lstrip()
        if not stripped or stripped.startswith("#"):
            continue
        column = len(expanded) - len(stripped)
        if column > columns[-1]:
            columns.append(column)
        while column < columns[-1]:
            columns.pop()
        if column != columns[-1]:
            return UserError("language.indentation", Spot(path, number, column + 1, line))
    return UserError("language.indentation", Spot(path, 1, 1))

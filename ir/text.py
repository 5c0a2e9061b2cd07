"""The text form of a module: printing, and parsing with errors that point at the text.

The first line is the version. With locations the text round-trips exactly: printing what was
parsed gives the same text. An op without a location in the text is at its own place in it, so
that IR written by hand is sound too.
"""

from __future__ import annotations

import bisect
import re
from functools import cached_property
from io import StringIO

from xdsl.context import Context
from xdsl.dialects.builtin import Builtin, LocationAttr, ModuleOp
from xdsl.dialects.func import Func
from xdsl.ir import Attribute, Operation, Region
from xdsl.parser import Parser
from xdsl.parser.generic_parser import ParserState
from xdsl.printer import Printer
from xdsl.utils.exceptions import ParseError
from xdsl.utils.lexer import Input
from xdsl.utils.mlir_lexer import MLIRLexer

from supertile.ir import comm, graph, sched, tile
from supertile.ir.errors import Spot, UserError, nearest
from supertile.ir.levels import LEVELS
from supertile.ir.locations import at
from supertile.ir.verify import VerifyError, verify_module

VERSION = 1
HEADER = f"// supertile IR {VERSION}"
SIZE_LIMIT = 200_000_000
NESTING_LIMIT = 32
PLAIN = re.compile(rb"[ !#-\[\]-~]*")
"""What stands in quotes as it is."""

# What xDSL's parser says -> what it means to a reader of the text.
REWORDED = {
    "Could not parse entire input!": "an op is expected here",
    "End of file reached before closing string literal.": "the text in quotes does not end here",
}


def context() -> Context:
    """A context that knows our dialects and nothing else, so that it is made in no time."""
    result = Context()
    for dialect in (Builtin, Func, graph.GRAPH, comm.COMM, tile.TILE, sched.SCHED):
        result.load_dialect(dialect)
    return result


def print_module(module: ModuleOp, locations: bool = True) -> str:
    """The text of a module, version line first; the same module always gives the same text."""
    return f"{HEADER}\n{print_op(module, locations)}\n"


def print_op(op: Operation, locations: bool = True) -> str:
    """The text of one op with its regions."""
    stream = StringIO()
    _Printer(stream=stream, print_debuginfo=locations).print_op(op)
    return stream.getvalue()


class _AttributePrinter(Printer):
    """Prints as xDSL does, but text in quotes at once, not letter by letter; and columns are not
    counted, since there are no messages to print below them."""

    def print_string(self, text: str, *, indent: int | None = None) -> None:
        if "\n" in text or self.stream is None:
            super().print_string(text, indent=indent)
        else:
            self.stream.write(text)

    def print_bytes_literal(self, bytestring: bytes) -> None:
        if PLAIN.fullmatch(bytestring):
            self.print_string(f'"{bytestring.decode()}"')
        else:
            super().print_bytes_literal(bytestring)


class _Printer(_AttributePrinter):
    """Makes the text of equal attributes once: types and files repeat."""

    @cached_property
    def texts(self) -> dict[Attribute, str]:
        return {}

    def print_attribute(self, attribute: Attribute) -> None:
        text = self.texts.get(attribute)
        if text is None:
            stream = StringIO()
            _AttributePrinter(stream=stream).print_attribute(attribute)
            text = self.texts[attribute] = stream.getvalue()
        self.print_string(text)


def parse_module(text: str, file: str = "<text>", verify: bool = True) -> ModuleOp:
    """The module that a text describes; anything wrong with the text is a `UserError`.

    `verify` checks it as after a pass; switch it off only to look at broken IR.
    """
    if len(text) > SIZE_LIMIT:
        raise UserError("ir.too_large", file=file, limit=SIZE_LIMIT, size=len(text))
    _check_version(text, file)
    lines = _Lines(text, file)
    module, places = _parse(text, lines)
    try:
        if verify:
            verify_module(module, None)
    except VerifyError as error:
        spot = lines.spot(places.get(error.operation, 0))
        raise UserError("ir.invalid", spot, op=error.op, message=error.message) from None
    return module


def _parse(text: str, lines: _Lines) -> tuple[ModuleOp, dict[Operation, int]]:
    """The module, and where in the text each op stands."""
    parser: _Parser | None = None
    try:
        parser = _Parser(text, lines)
        return parser.parse_module(), parser.places
    except UserError:
        raise
    except RecursionError:
        raise UserError("ir.too_deep", file=lines.file, limit=NESTING_LIMIT) from None
    except ParseError as error:
        raise _syntax_error(error, lines, parser) from None
    except Exception as error:
        # The parser meets some malformed texts with errors of Python's own. Their cause is the
        # text all the same, and it is found where the parser stands.
        spot = lines.spot(0 if parser is None else min(parser.pos, len(text)))
        raise UserError("ir.syntax", spot, message=_first_line(error), suggestion="") from None


def _check_version(text: str, file: str) -> None:
    first = text[:200].partition("\n")[0].rstrip()
    if first != HEADER:
        raise UserError(
            "ir.version", Spot(file, 1, 1, first), file=file, expected=HEADER, found=first
        )


def _syntax_error(error: ParseError, lines: _Lines, parser: _Parser | None) -> UserError:
    if parser is not None and error.msg.startswith("values used but not defined"):
        return _undefined(parser, lines)
    message, suggestion = _first_line(error.msg), ""
    if match := re.fullmatch(r"Operation (.*) is not registered", message):
        message = f"there is no op {match[1]:.60}"
        known = frozenset[str]().union(*LEVELS.values())
        suggestion = nearest(match[1], sorted(known))
    spot = lines.spot(error.span.start)
    return UserError("ir.syntax", spot, message=message, suggestion=suggestion)


def _undefined(parser: _Parser, lines: _Lines) -> UserError:
    """xDSL reports these at the end of the text; the first use is where the user looks."""
    name = next(iter(parser.forward_ssa_references))
    suggestion = nearest(f"%{name}", [f"%{known}" for known in parser.known_names])
    spot = lines.spot(parser.uses.get(name, 0))
    return UserError("ir.undefined", spot, name=f"%{name}", suggestion=suggestion)


def _first_line(error: Exception | str) -> str:
    """One line of a message: xDSL appends carets, and whole modules, on lines of their own."""
    text = str(error).strip() or type(error).__name__
    message = text.splitlines()[0]
    message = message.removeprefix("Operation does not verify: ")
    for theirs, ours in REWORDED.items():
        message = message.replace(theirs, ours)
    return message


class _Lines:
    """Where the lines of a text start, for places without a scan each."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def place(self, position: int) -> tuple[int, int]:
        """Line and column, from 1."""
        line = bisect.bisect_right(self._starts, position)
        return line, position - self._starts[line - 1] + 1

    def spot(self, position: int) -> Spot:
        line, column = self.place(position)
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        return Spot(self.file, line, column, self.text[start:end].rstrip("\r"))


class _Lexer(MLIRLexer):
    """xDSL's lexer takes time exponential in the line where a string literal does not end."""

    # As xDSL's but with a possessive quantifier, `++`, so that nothing is tried twice.
    _unescaped_characters_regex = re.compile(r'"(?:[^"\\\n\v\f]++|\\(?:["nt\\]|[0-9A-Fa-f]{2}))*"')


class _Parser(Parser):
    """Remembers where ops stand and values are first used; gives ops without location theirs."""

    def __init__(self, text: str, lines: _Lines) -> None:
        self.lines = lines
        self.places: dict[Operation, int] = {}
        self.uses: dict[str, int] = {}
        self.known_names: dict[str, None] = {}
        self._has_location = False
        self._depth = 0
        super().__init__(context(), "")
        self._parser_state = ParserState(_Lexer(Input(text, lines.file)))

    def parse_operation(self) -> Operation:
        start = self.pos
        op = super().parse_operation()
        self.places[op] = start
        # The location of an op is the last that its text can hold.
        if not self._has_location:
            op.location = at(self.lines.file, *self.lines.place(start))
        self._has_location = False
        return op

    def parse_optional_location(self) -> LocationAttr | None:
        location = super().parse_optional_location()
        self._has_location = location is not None
        return location

    def parse_optional_unresolved_operand(self) -> Parser.UnresolvedOperand | None:  # type: ignore[name-defined]
        start = self.pos
        operand = super().parse_optional_unresolved_operand()
        if operand is not None:
            self.uses.setdefault(operand.operand_name, start)
        return operand

    def parse_optional_region(self, arguments=None) -> Region | None:  # type: ignore[no-untyped-def]
        if self._depth > NESTING_LIMIT:
            raise UserError(
                "ir.too_deep",
                self.lines.spot(self.pos),
                file=self.lines.file,
                limit=NESTING_LIMIT,
            )
        self._depth += 1
        region = super().parse_optional_region(arguments)
        self._depth -= 1
        self.known_names.update(dict.fromkeys(self.ssa_values))
        return region

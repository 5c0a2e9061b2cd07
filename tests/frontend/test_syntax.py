"""Text to tree: what lines, indentation, comments and signs mean, and where nodes are."""

from __future__ import annotations

import pytest
from snippets import BASE, put

from supertile.frontend import syntax
from supertile.frontend.parse import parse_model, reserved_words
from supertile.ir.errors import UserError


def parse(text: str) -> syntax.ModelFile:
    return parse_model(text, "model.st")


def expression(text: str) -> str:
    """An expression with all its brackets: (a + (b * c))."""
    (block,) = parse(f"block f(x) -> y\n  y = {text}\n  return y\n").items
    assert isinstance(block, syntax.Block)
    statement = block.statements[0]
    assert isinstance(statement, syntax.Assign)
    return shown(statement.value)


def shown(node: syntax.Expression | syntax.Keyword) -> str:
    match node:
        case syntax.Operation(symbol="neg", operands=(inner,)):
            return f"(-{shown(inner)})"
        case syntax.Operation():
            return f"({f' {node.symbol} '.join(map(shown, node.operands))})"
        case syntax.Call():
            return f"{shown(node.callee)}({', '.join(map(shown, node.arguments))})"
        case syntax.Item():
            return f"{shown(node.value)}[{', '.join(map(shown, node.indices))}]"
        case syntax.Sum():
            return f"sum({', '.join(index.name for index in node.indices)}: {shown(node.body)})"
        case syntax.Sequence():
            return f"[{', '.join(map(shown, node.items))}]"
        case syntax.Keyword():
            return f"{node.name} = {shown(node.value)}"
        case syntax.Field():
            return f"{node.name}.{node.field}"
        case syntax.Name():
            return node.name
        case syntax.Nothing():
            return "none"
        case _:
            return repr(node.value)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a + b * c - d", "((a + (b * c)) - d)"),
        ("a / b / c", "((a / b) / c)"),
        ("-a ^ b ^ c", "(-(a ^ (b ^ c)))"),
        ("a ^ -b", "(a ^ (-b))"),
        ("-a * b", "((-a) * b)"),
        ("f(a)[t, 0](b, c = d)", "f(a)[t, 0](b, c = d)"),
        ("sum(n, m: a[n] * b[m])", "sum(n, m: (a[n] * b[m]))"),
        ("[(a, none), (b, layer.c)]", "[[a, none], [b, layer.c]]"),
        ("(a)", "a"),
        ("1.5e-3 + 2. + 007", "((0.0015 + 2.0) + 7)"),
        ("(a\n +    # goes on\n b)", "(a + b)"),
    ],
)
def test_expression(text: str, meaning: str) -> None:
    assert expression(text) == meaning


def test_lines_comments_and_blank_lines() -> None:
    text = "\n# c\nblock f(x) -> y # c\n  # c\n\n  y = x  # c\n# c\n  return y\n\n\n# end"
    (block,) = parse(text).items
    assert isinstance(block, syntax.Block)
    assert [statement.where.line for statement in block.statements] == [6, 8]


@pytest.mark.parametrize("change", ["\n", "\r\n", "tabs", "no last line end"])
def test_forms_of_white_space(change: str) -> None:
    text = put(BASE)
    if change == "tabs":
        text = text.replace("  ", "\t")
    elif change == "no last line end":
        text = text.rstrip()
    else:
        text = text.replace("\n", change)
    assert len(parse(text).items) == len(parse(put(BASE)).items)


def test_nodes_know_their_places() -> None:
    (block,) = parse("block f(x) -> y\n  y = norm(x) * other\n  return y\n").items
    assert isinstance(block, syntax.Block)
    assign = block.statements[0]
    assert isinstance(assign, syntax.Assign) and isinstance(assign.value, syntax.Operation)
    other = assign.value.operands[1].where
    assert (other.file, other.line, other.column) == ("model.st", 2, 17)
    assert other.text == "  y = norm(x) * other"


@pytest.mark.parametrize("word", reserved_words())
def test_reserved_words_are_no_names(word: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(f"block f({word}) -> y\n  return y\n")
    assert caught.value.code == "language.syntax"
    assert "reserved word" in caught.value.render()


def test_reserved_words_are_few() -> None:
    assert len(reserved_words()) <= 24


def test_operations_in_many_lines_do_not_exhaust_the_stack() -> None:
    lines = "\n".join(" + x" * 150 for _ in range(40))
    with pytest.raises(UserError) as caught:
        expression(f"(x{lines})")
    assert caught.value.code == "language.too_deep"

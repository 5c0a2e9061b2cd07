"""Each wrong model of the two tables gives its error, at its place, as one paragraph.

Together the examples cover every text of the language.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import definition_errors
import pytest
import value_errors
from snippets import BASE, Case, build, build_v4, config, put

from supertile.frontend.build import build_model
from supertile.frontend.parse import LENGTH_LIMIT, parse_model, read_model_file
from supertile.frontend.program import IMPORT_LIMIT, load_program, program_of
from supertile.ir.errors import LANGUAGE_TEXTS, UserError

CASES = definition_errors.CASES | value_errors.CASES


def error_of(run: Callable[[], Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        run()
    return caught.value


def check_rendering(error: UserError) -> None:
    """One paragraph: place and message, the line with a caret, expected, found, one suggestion."""
    first, *rest = error.render().split("\n")
    assert "Traceback" not in error.render() and "" not in rest
    assert len([line for line in rest if line.startswith("  try: ")]) <= 1
    if error.spot is None:
        assert first == f"error: {error.message}"
        return
    place = f"{error.spot.file}:{error.spot.line}:{error.spot.column}"
    assert first == f"{place}: error: {error.message}"
    if error.spot.text:
        assert rest[0].endswith(error.spot.text.strip()[-20:]) or len(error.spot.text) > 100
        assert rest[1].strip() == "^"


@pytest.mark.parametrize(
    ("code", "example"),
    [
        pytest.param(code, example, id=f"{code}-{number}")
        for code, examples in CASES.items()
        for number, example in enumerate(examples)
    ],
)
def test_example(code: str, example: Case) -> None:
    marked = put(**{key: text.replace(" | ", "\n") for key, text in example.snippets.items()})
    error = error_of(lambda: build(marked.replace("@", "")))
    assert error.code == code
    assert error.message.startswith(example.message)
    assert error.spot is not None
    if not example.elsewhere:
        before = marked[: marked.index("@")]
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        assert (error.spot.line, error.spot.column) == place
        assert error.spot.text == marked.replace("@", "").split("\n")[place[0] - 1]
    check_rendering(error)


# ---- what a snippet cannot show ----------------------------------------------------------------

V4_BASE = BASE.replace('"llama"', '"deepseek_v4"').replace("config\n", "config deepseek_v4\n")
V4_CASE = put(V4_BASE, table="attention: block { sliding: norm }", body="y = layer.attention")
V4_CELL = put(V4_BASE, table="attention: int", body="y = layer.attention + z")
V4_KIND = put(V4_BASE, config="F = num_hash_layers: text", body="y = F")
V4_ROPE = put(V4_BASE, config="other: rope", body="y = rope(heads, position, other)")
DRAFT = """\
entry draft(ids: i64[T]) -> y
  weight embed: bf16[V, D] "embed"
  part more: decoder[draft_layers] "more.{l}."
  x = gather(embed, ids)
  for l in draft_layers
    x = more[l](x)
  return x"""


def read_bytes(folder: Path, data: bytes) -> Any:
    (folder / "model.st").write_bytes(data)
    return read_model_file(folder / "model.st")


def import_circle(folder: Path) -> Any:
    (folder / "a.st").write_text('import "b.st"\n')
    (folder / "b.st").write_text('import "a.st"\n')
    return load_program(folder / "a.st")


def many_imports(folder: Path) -> Any:
    names = [f"{i}.st" for i in range(IMPORT_LIMIT + 1)]
    for name in names:
        (folder / name).write_text("format f = f32\n".replace("f ", f"f{name[:-3]} "))
    (folder / "all.st").write_text("".join(f'import "{name}"\n' for name in names))
    return load_program(folder / "all.st")


def draft_without_layers(folder: Path) -> Any:
    (folder / "model.st").write_text(put(item=DRAFT))
    return build_model(folder / "model.st", config(), entries=["draft"])


def doubling_blocks() -> str:
    """Blocks of which each calls the one before it twice."""
    blocks = ["block twice0(x) -> y\n  return x"]
    blocks += [f"block twice{i + 1}(x) -> y\n  return twice{i}(twice{i}(x))" for i in range(20)]
    return put(item="\n".join(blocks), body="y = twice20(z)")


OTHERS: dict[str, Callable[[Path], Any]] = {
    "language.unreadable": lambda folder: read_model_file(folder / "absent.st"),
    "language.encoding": lambda folder: read_bytes(folder, b"model \xff"),
    "language.too_long": lambda folder: parse_model("#" * (LENGTH_LIMIT + 1), "model.st"),
    "language.empty": lambda folder: parse_model(" \n\n", "model.st"),
    "language.no_model": lambda folder: program_of(parse_model("format f = f32", "model.st")),
    "language.no_entry": lambda folder: program_of(parse_model('model M for "m"', "model.st")),
    "language.import_cycle": import_circle,
    "language.imports": many_imports,
    "language.unknown_entry": lambda folder: build_entries(folder, ["logit"]),
    "language.no_layers": draft_without_layers,
    "language.family": lambda folder: build(put(V4_BASE), config()),
    "language.calls": lambda folder: build(doubling_blocks()),
    "language.case": lambda folder: build_v4(V4_CASE),
    "language.config_kind": lambda folder: build_v4(V4_KIND),
    "language.no_rope": lambda folder: build_v4(V4_ROPE),
    "language.cell": lambda folder: build_v4(V4_CELL),
}


def build_entries(folder: Path, entries: list[str]) -> Any:
    (folder / "model.st").write_text(put())
    return build_model(folder / "model.st", config(), entries=entries)


@pytest.mark.parametrize("code", OTHERS)
def test_other_error(code: str, tmp_path: Path) -> None:
    error = error_of(lambda: OTHERS[code](tmp_path))
    assert error.code == code
    check_rendering(error)


def test_every_text_has_an_example() -> None:
    assert {*CASES, *OTHERS} == {*LANGUAGE_TEXTS}
    assert sum(len(held) for held in CASES.values()) >= 60


def test_a_suggestion_names_the_nearest() -> None:
    error = error_of(lambda: build(put(body="y = sofmax(z)")))
    assert "try: did you mean softmax?" in error.render()

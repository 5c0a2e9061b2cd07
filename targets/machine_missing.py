"""All the keys that a machine file lacks, so that they are told together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from supertile.targets import machine_schema as schema
from supertile.targets.machine_types import UNKNOWN

Tree = Mapping[str, object]

REQUIRED_TOP = (
    *("name", "title", "device_unit", "devices"),
    *("formats", "engines", "memories", "sources"),
)


def missing_names(tree: Tree) -> Iterator[str]:
    """Dotted names, in the order of the schema; tables of another type are left to the reader."""
    yield from _lacking("", tree, REQUIRED_TOP)
    yield from _of_figure("devices", tree.get("devices"))
    if isinstance(tree.get("formats"), Mapping):
        yield from _lacking("formats", _table(tree, "formats"), ("stored", "source", "evidence"))
    for name, engine in _parts(tree, "engines"):
        yield from _lacking(name, engine, ("kind", "rate", *schema.REQUIRED["engine"]))
        yield from _of_figures(name, engine, schema.ENGINE)
        rates = _table(engine, "rate")
        yield from _of_figures(f"{name}.rate", rates, rates)
    for name, memory in _parts(tree, "memories"):
        yield from _lacking(name, memory, ("per", *schema.REQUIRED["memory"]))
        yield from _of_figures(name, memory, schema.MEMORY)
    for name, domain in _parts(tree, "domains"):
        yield from _lacking(name, domain, schema.REQUIRED["domain"])
        yield from _of_figures(name, domain, schema.DOMAIN)
        for protocol, figures in _parts(domain, "protocols"):
            yield from _of_figures(f"{name}.{protocol}", figures, schema.PROTOCOL)
    yield from _of_figures("parameters", _table(tree, "parameters"), schema.PARAMETERS)


def _lacking(name: str, table: Tree, required: tuple[str, ...]) -> Iterator[str]:
    for key in required:
        if key not in table:
            yield f"{name}.{key}" if name else key


def _of_figures(name: str, table: Tree, known: Mapping[str, object]) -> Iterator[str]:
    for key in known:
        yield from _of_figure(f"{name}.{key}", table.get(key))


def _of_figure(name: str, figure: object) -> Iterator[str]:
    """What a figure lacks: its reason where it is unknown, else unit, source and evidence."""
    if isinstance(figure, Mapping) and "value" in figure:
        is_unknown = figure["value"] == UNKNOWN
        yield from _lacking(
            name, figure, ("reason",) if is_unknown else ("unit", "source", "evidence")
        )


def _table(tree: Tree, name: str) -> Tree:
    table = tree.get(name)
    return table if isinstance(table, Mapping) else {}


def _parts(tree: Tree, name: str) -> Iterator[tuple[str, Tree]]:
    for part, table in _table(tree, name).items():
        if isinstance(table, Mapping):
            yield f"{name}.{part}", table

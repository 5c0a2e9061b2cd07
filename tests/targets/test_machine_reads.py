"""Figures that no formula reads, against what costing is seen to read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from supertile.cli.main import main
from supertile.targets import machine as machine_module
from supertile.targets.machine import load_machine
from supertile.targets.machine_reads import unread_figures
from supertile.targets.machine_types import Figure, Machine

DATA = Path(__file__).parents[1] / "data"
READ: set[str] = set()
"""Keys of figures whose value was asked for."""


class Watched(Figure):
    """A figure that says when its value is asked for."""

    def __getattribute__(self, name: str) -> Any:
        if name == "value":
            READ.add(object.__getattribute__(self, "path"))
        return super().__getattribute__(name)


def watched(value: Any, path: str = "") -> Any:
    """The machine with each figure watched under its dotted name."""
    if isinstance(value, Figure):
        figure = Watched(*(getattr(value, field.name) for field in fields(value)))
        object.__setattr__(figure, "path", path)
        return figure
    if isinstance(value, dict):
        return {key: watched(part, f"{path}.{key}".strip(".")) for key, part in value.items()}
    if isinstance(value, tuple) and value and is_dataclass(value[0]):
        return tuple(watched(part, f"{path}.{part.name}") for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        names = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if field.name not in ("spots", "sources")
        }
        parts = {key: watched(part, f"{path}.{key}".strip(".")) for key, part in names.items()}
        return replace(value, **parts)
    return value


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Commands read watched machines; what costing alone reads, not the checks of loading."""
    load = load_machine

    def load_watched(name: str) -> Machine:
        machine: Machine = watched(load(name))
        return machine

    monkeypatch.setattr(machine_module, "load_machine", load_watched)
    READ.clear()
    yield READ


MODEL = f"qwen3_moe --config {DATA / 'qwen3_moe' / 'config.json'} --target"
ELSEWHERE = ("devices", "latency", "bandwidth", "launch_collective", "link_fraction")
"""What only other deployments than the one below read: those that reach further."""
WITHOUT_EFFECT = ("engine_cores", "rate.hif8")
"""Asked for and not used: cores share the time of an issue that is unknown, and of rates that no
op has only the first is taken."""


@pytest.mark.parametrize("name", ["ascend-910c", "ascend-950dt", "gb300-nvl72", "numpy"])
def test_what_costing_reads_is_not_told_as_unread(name: str, reads: set[str]) -> None:
    unread = {*unread_figures(load_machine(name))}
    ranks = "batch=4" if name == "numpy" else "ep=32 tp=2 batch=4"
    deploy = f"phase=decode {ranks} context=64"
    assert main(["compile", *MODEL.split(), name, "--deploy", deploy, "--no-cache"]) == 0
    assert "parameters.memory_fraction" in reads
    assert {path for path in reads & unread if not path.endswith(WITHOUT_EFFECT)} == set()
    given = {path for path, figure in load_machine(name).figures() if figure.value is not None}
    assert {path for path in given - reads - unread if not path.endswith(ELSEWHERE)} == set()


def test_figures_without_a_reader() -> None:
    unread = unread_figures(load_machine("ascend-950dt"))
    assert "domains.cabinet.ports" in unread and "engines.cube.rate.hif8" in unread
    assert "domains.cabinet.protocols.collective.rank_limit" not in unread
    assert "engines.mufu.cores" in unread_figures(load_machine("h200"))

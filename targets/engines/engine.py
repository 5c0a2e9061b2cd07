"""Serving engines by name: their split rules, starts and balancers, and what they need of a file.

    engine = engine_named("sglang")
    engine.split(expert_map, setting).loads(load)       # [L, G]: of each rank, as the engine splits
    engine.start(384, slots, layers=61)                 # what it starts with
    engine.eplb(load, slots=288, ranks=32, setting)     # the placement that it would choose itself

The facts lie in TOML files beside this module, each with its source.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from supertile.ir.errors import UserError, nearest
from supertile.targets.engines.reader import EngineFile, Fact, read_engine
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.engines.splits import EXPECTED, SPLITS
from supertile.targets.engines.starts import STARTS
from supertile.targets.placement.eplb import eplb_map, heap_packing
from supertile.targets.placement.expert_map import ExpertMap, Floats, Integers

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Engine:
    """A serving engine."""

    file: EngineFile

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.file.title} {self.file.version}"

    def fact(self, name: str) -> Fact:
        """One of `reader.FACTS`, with its source."""
        return self.file.facts[name]

    @property
    def suffixes(self) -> tuple[str, ...]:
        value = self.fact("file.suffixes").value
        assert isinstance(value, tuple)
        return value

    @property
    def full_slots(self) -> bool:
        """Whether each slot must hold an expert."""
        return self.fact("file.full_slots").value is True

    @property
    def draft_rows(self) -> bool:
        """Whether a placement file must have rows for draft layers."""
        return self.fact("file.drafts").value == "rows"

    @property
    def redundant_limit(self) -> int | None:
        """The most slots beyond one an expert, where there is a limit."""
        value = self.fact("file.redundant_limit").value
        return round(value) if isinstance(value, float) else None

    def split(self, placement: ExpertMap, setting: EngineSetting) -> ExpertMap:
        """The placement with the share of tokens that each slot gets under the engine's rule.

        Tokens are spread evenly over the ranks. The shares of the placement itself do not matter.
        """
        rule = SPLITS[str(self.fact("split.rule").value)]
        share = rule(placement, setting)
        return ExpertMap(placement.experts, placement.slots, placement.expert, share)

    def expected_split(self, placement: ExpertMap, setting: EngineSetting) -> ExpertMap:
        """As `split`, the shares averaged over what the engine draws."""
        name = str(self.fact("split.rule").value)
        share = EXPECTED.get(name, SPLITS[name])(placement, setting)
        return ExpertMap(placement.experts, placement.slots, placement.expert, share)

    def start(self, experts: int, slots: Integers, layers: int) -> ExpertMap:
        """What the engine starts with on ranks of `slots` [G], alike in all layers.

        ValueError where the ranks have different numbers of slots, or too few.
        """
        if len(set(slots.tolist())) > 1 or slots.sum() < experts:
            raise ValueError(f"{experts} experts in {slots.tolist()} slots")
        row = STARTS[str(self.fact("start.rule").value)](experts, len(slots), int(slots[0]))
        return ExpertMap.equal(experts, slots, np.tile(row, (layers, 1)))

    def eplb(self, load: Floats, slots: int, ranks: int, setting: EngineSetting) -> ExpertMap:
        """The placement of loads [L, E] in so many slots that the engine's own balancer chooses.

        Its shares are even; `split` has those of the engine. ValueError where the ranks do not
        divide the slots, or the groups the experts.
        """
        groups, nodes = setting.groups or 1, setting.nodes
        if self.fact("eplb.rule").value == "global":
            groups, nodes = 1, 1
        return own_balance(load, slots, ranks, groups, nodes)


def own_balance(load: Floats, slots: int, ranks: int, groups: int = 1, nodes: int = 1) -> ExpertMap:
    """DeepSeek's EPLB of loads [L, E]: hierarchical where the nodes divide the groups, else global.

    ValueError as of `Engine.eplb`.
    """
    return eplb_map(load, slots, ranks, groups, nodes, heap_packing)


def split_by(engine: Engine | None, placement: ExpertMap, setting: EngineSetting) -> ExpertMap:
    """The placement with the shares that its slots get: by the engine's rule, or its own."""
    return placement if engine is None else engine.split(placement, setting)


def engine_names() -> tuple[str, ...]:
    """The shipped engines, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def engine_named(name: str) -> Engine:
    """The engine of a name or alias; `engine.unknown` where there is none."""
    engines = {alias: engine for engine in _engines() for alias in _aliases(engine)}
    if name not in engines:
        known, hint = ", ".join(engine_names()), nearest(name, engines)
        raise UserError("engine.unknown", found=name, known=known, hint=hint)
    return engines[name]


def _aliases(engine: Engine) -> tuple[str, ...]:
    return (engine.name, *engine.file.aliases)


@cache
def _engines() -> tuple[Engine, ...]:
    return tuple(Engine(read_engine(FOLDER / f"{name}.toml")) for name in engine_names())

"""From the JSON of a plan file to a `PlanFile`: every key known, every value of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_args

import numpy as np

from supertile.ir.errors import UserError, nearest
from supertile.ir.json_text import JsonSource, Steps, show_json
from supertile.ir.placement import RANK_LIMIT
from supertile.targets.deploy import parse_deployment
from supertile.targets.engines.engine import engine_names
from supertile.targets.engines.setting import EngineSetting
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.plan.plan_figures import contradiction
from supertile.targets.plan.plan_types import (
    BALANCE_LIMIT,
    SHARE_PARTS,
    Floats,
    Integers,
    LayerPlan,
    PlanFile,
    Scalar,
    Shares,
    first_problem,
    slot_problem,
)

FORMAT = "supertile-plan"
VERSION = 1
COUNT_LIMIT = 2**31
SLOT_LIMIT = 2**24  # of all layers together
NUMBER_LIMIT = 1e300
LOAD_LIMIT = 1e30  # of all windows together: many times `loads.COUNT_LIMIT`
TEXTS = ("model", "config", "machine", "deployment", "loads")
REQUIRED = (
    *("format", "version", *TEXTS, "seed", "model_layers", "experts", "ranks", "slots"),
    *("shares", "layers"),
)
OPTIONAL = (
    *("share_parts", "domains", "engine", "engine_setting", "bounds", "comparison"),
    *("communication", "evidence", "notes"),
)
UNREAD = ("seconds",)
"""Keys of older plans: how long planning took, which is no property of a plan."""
LAYER_REQUIRED = ("layer", "balancedness", "bound", "ratio", "max_load", "slots")
LAYER_OPTIONAL = ("expected", "bounds", "loads", "shares")


def plan_of(source: JsonSource, value: object) -> PlanFile:
    """The plan that parsed JSON holds. Errors have `plan.` codes and the place of the value."""
    return _Reader(source).plan(value)


@dataclass(frozen=True)
class _Reader:
    source: JsonSource

    def plan(self, value: object) -> PlanFile:
        table = self.table((), value)
        self._check_version(table)
        self.known((), table, REQUIRED, OPTIONAL + UNREAD)
        shares = self.choice(("shares",), table["shares"], get_args(Shares))
        parts = table.get("share_parts")
        if (shares == "weighted") != (parts is not None) or parts not in (None, SHARE_PARTS):
            expected = SHARE_PARTS if shares == "weighted" else "no share_parts with equal shares"
            raise self.wrong(("share_parts",), expected, parts)
        rows = self.list(("layers",), table["layers"])
        if not rows:
            raise self.wrong(("layers",), "one layer or more", 0)
        total = self.whole(("model_layers",), table["model_layers"], 1, COUNT_LIMIT)
        placement = self._placement(table, rows, shares)
        layers: list[LayerPlan] = []
        for index, row in enumerate(rows):
            low = layers[-1].layer + 1 if layers else 0
            layers.append(self._layer(("layers", index), row, low, total - 1))
        problem = first_problem(placement, shares)
        if problem is not None:
            raise self.source.fail(problem.code, problem.steps, **problem.values)
        texts = {key: self.text((key,), table[key]) for key in TEXTS}
        self._check_deployment(texts["deployment"], placement)
        plan = PlanFile(
            **texts,
            seed=self.whole(("seed",), table["seed"], 0, 2**63),
            model_layers=total,
            shares=shares,
            placement=placement,
            layers=tuple(layers),
            load=self._loads(rows, placement.experts),
            bounds=self._numbers(("bounds",), table.get("bounds", {})),
            comparison=self._comparison(table.get("comparison", {})),
            communication=self._communication(table.get("communication", {})),
            evidence=self._evidence(table.get("evidence", {})),
            notes=self._notes(table.get("notes", [])),
            engine=self._engine(table),
            setting=self._setting(table),
            domains=self._domains(table),
        )
        wrong = contradiction(plan)
        if wrong is not None:
            found = f"{wrong.found:.10g}"
            raise self.source.fail("plan.figure", wrong.steps, expected=wrong.expected, found=found)
        return plan

    def _check_version(self, table: Mapping[str, Any]) -> None:
        if table.get("format") != FORMAT:
            found = show_json(table["format"]) if "format" in table else "no format"
            raise self.source.fail("plan.format", ("format",), expected=FORMAT, found=found)
        version = table.get("version")
        if type(version) is not int or version != VERSION:
            found = show_json(version)
            raise self.source.fail("plan.version", ("version",), expected=VERSION, found=found)

    # ---- what was planned for

    def _check_deployment(self, text: str, placement: ExpertMap) -> None:
        """That the deployment is one, on the ranks and slots of the placement."""
        steps: Steps = ("deployment",)
        try:
            deployment = parse_deployment(text)
        except UserError as error:
            raise self.wrong(steps, f"a deployment: {error.message}", text) from None
        slots = tuple(placement.slots.tolist())
        if deployment.ep != placement.ranks:
            raise self.wrong(steps, f"ep={placement.ranks}, the ranks of the plan", text)
        if deployment.slots not in (None, slots):
            raise self.wrong(steps, f"{sum(slots)} slots, those of the plan", text)

    def _engine(self, table: Mapping[str, Any]) -> str:
        if "engine" not in table:
            return ""
        name = self.text(("engine",), table["engine"])
        if name not in engine_names():
            raise self.wrong(("engine",), f"one of {', '.join(engine_names())}", name)
        return name

    def _setting(self, table: Mapping[str, Any]) -> EngineSetting | None:
        if "engine_setting" not in table:
            return None
        steps: Steps = ("engine_setting",)
        if "engine" not in table:
            raise self.wrong(steps, "no setting without an engine", table["engine_setting"])
        names = [one.name for one in fields(EngineSetting)]
        setting = self.table(steps, table["engine_setting"])
        self.known(steps, setting, names, ())
        values = {
            name: self.whole((*steps, name), setting[name], 1, COUNT_LIMIT)
            for name in names
            if name != "groups" or setting[name] is not None
        }
        ranks, nodes = table["ranks"], values["nodes"]
        if ranks % nodes:
            raise self.wrong((*steps, "nodes"), f"a number that divides {ranks} ranks", nodes)
        return EngineSetting(**values)

    def _domains(self, table: Mapping[str, Any]) -> dict[str, int] | None:
        if "domains" not in table:
            return None
        steps: Steps = ("domains",)
        most = table["ranks"] - 1
        domains = self.table(steps, table["domains"])
        return {name: self.whole((*steps, name), size, 2, most) for name, size in domains.items()}

    # ---- slots and shares

    def _placement(
        self, table: Mapping[str, Any], rows: Sequence[object], shares: str
    ) -> ExpertMap:
        experts = self.whole(("experts",), table["experts"], 1, COUNT_LIMIT)
        slots = self._slots(table)
        total = int(slots.sum())
        if total * len(rows) > SLOT_LIMIT or experts > total:
            expected = f"{experts} to {SLOT_LIMIT // len(rows)} slots in all"
            raise self.wrong(("slots",), expected, total)
        held = np.zeros((len(rows), total), np.int64)
        parts = np.zeros((len(rows), total), np.int64)
        for index, row in enumerate(rows):
            where: Steps = ("layers", index)
            keys = (*LAYER_REQUIRED, "shares") if shares == "weighted" else LAYER_REQUIRED
            layer = self.table(where, row)
            self.known(where, layer, keys, [key for key in LAYER_OPTIONAL if key != "shares"])
            held[index] = self._integers((*where, "slots"), layer["slots"], total)
            if shares == "weighted":
                parts[index] = self._integers((*where, "shares"), layer["shares"], total)
        if shares == "weighted":
            share: Floats = parts / SHARE_PARTS
            return ExpertMap(experts, slots, held, share)
        problem = slot_problem(ExpertMap(experts, slots, held, np.zeros(held.shape)))
        if problem is not None:
            raise self.source.fail(problem.code, problem.steps, **problem.values)
        return ExpertMap.equal(experts, slots, held)

    def _slots(self, table: Mapping[str, Any]) -> Integers:
        """How many each rank has: one number for all of them, or a list."""
        ranks = self.whole(("ranks",), table["ranks"], 1, RANK_LIMIT)
        value = table["slots"]
        if not isinstance(value, list):
            one = self.whole(("slots",), value, 1, SLOT_LIMIT)
            return np.full(ranks, one, np.int64)
        counts = self._integers(("slots",), value, ranks)
        wrong = (counts < 1) | (counts > SLOT_LIMIT)
        if wrong.any():
            at = int(wrong.argmax())
            raise self.wrong(("slots", at), f"1 to {SLOT_LIMIT}", int(counts[at]))
        return counts

    def _integers(self, steps: Steps, value: object, length: int) -> Integers:
        """A list of so many whole numbers of 64 bits."""
        items = self.list(steps, value)
        if len(items) != length:
            raise self.wrong(steps, f"{length} whole numbers", len(items))
        if not set(map(type, items)) <= {int}:
            at = next(at for at, item in enumerate(items) if type(item) is not int)
            raise self.wrong((*steps, at), "a whole number", items[at])
        try:
            return np.array(items, np.int64)
        except OverflowError:
            at = next(at for at, item in enumerate(items) if abs(item) >= 2**63)
            raise self.wrong((*steps, at), "a whole number of 64 bits", items[at]) from None

    # ---- a layer and the tables

    def _layer(self, steps: Steps, row: object, low: int, high: int) -> LayerPlan:
        table = self.table(steps, row)
        expected = table.get("expected")
        where = (*steps, "expected")
        return LayerPlan(
            layer=self.whole((*steps, "layer"), table["layer"], low, high),
            balancedness=self.number(
                (*steps, "balancedness"), table["balancedness"], BALANCE_LIMIT
            ),
            bound=self.number((*steps, "bound"), table["bound"]),
            ratio=self.number((*steps, "ratio"), table["ratio"]),
            max_load=self.number((*steps, "max_load"), table["max_load"]),
            expected=None if expected is None else self.number(where, expected, BALANCE_LIMIT),
            bounds=self._numbers((*steps, "bounds"), table.get("bounds", {})),
        )

    def _numbers(self, steps: Steps, value: object) -> dict[str, float]:
        table = self.table(steps, value)
        return {key: self.number((*steps, key), number) for key, number in table.items()}

    def _loads(self, rows: Sequence[Any], experts: int) -> Floats | None:
        """The loads of all layers, or None where no layer has any."""
        if not any("loads" in row for row in rows):
            return None
        found = np.zeros((len(rows), experts))
        for index, row in enumerate(rows):
            steps: Steps = ("layers", index)
            if "loads" not in row:
                raise self.source.fail("plan.missing", steps, name="loads")
            values = self.list((*steps, "loads"), row["loads"])
            if len(values) != experts:
                raise self.wrong((*steps, "loads"), f"{experts} numbers", len(values))
            found[index] = [
                self.number((*steps, "loads", at), value, LOAD_LIMIT)
                for at, value in enumerate(values)
            ]
        return found

    def _comparison(self, value: object) -> dict[str, dict[str, float]]:
        steps: Steps = ("comparison",)
        table = self.table(steps, value)
        return {name: self._numbers((*steps, name), figures) for name, figures in table.items()}

    def _communication(self, value: object) -> dict[str, dict[str, Scalar]]:
        steps: Steps = ("communication",)
        found: dict[str, dict[str, Scalar]] = {}
        for direction, choices in self.table(steps, value).items():
            table = self.table((*steps, direction), choices)
            for key, choice in table.items():
                if isinstance(choice, dict | list):
                    raise self.wrong((*steps, direction, key), "a word, a number or a flag", choice)
            found[direction] = dict(table)
        return found

    def _evidence(self, value: object) -> dict[str, str]:
        table = self.table(("evidence",), value)
        return {key: self.text(("evidence", key), text) for key, text in table.items()}

    def _notes(self, value: object) -> tuple[str, ...]:
        notes = self.list(("notes",), value)
        return tuple(self.text(("notes", at), note) for at, note in enumerate(notes))

    # ---- values of one kind

    def wrong(self, steps: Steps, expected: object, found: object) -> UserError:
        return self.source.fail("plan.value", steps, expected=expected, found=show_json(found))

    def table(self, steps: Steps, value: object) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.wrong(steps, "an object", value)
        return value

    def list(self, steps: Steps, value: object) -> list[Any]:
        if not isinstance(value, list):
            raise self.wrong(steps, "a list", value)
        return value

    def text(self, steps: Steps, value: object) -> str:
        if not isinstance(value, str):
            raise self.wrong(steps, "a text", value)
        return value

    def choice(self, steps: Steps, value: object, known: Sequence[Shares]) -> Shares:
        for word in known:
            if value == word:
                return word
        raise self.wrong(steps, " or ".join(map(show_json, known)), value)

    def whole(self, steps: Steps, value: object, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(steps, f"a whole number from {low} to {high}", value)
        return value

    def number(self, steps: Steps, value: object, high: float = NUMBER_LIMIT) -> float:
        if type(value) not in (int, float) or not 0 <= value <= high:  # type: ignore[operator]
            raise self.wrong(steps, f"a number from 0 to {high:g}", value)
        return float(value)  # type: ignore[arg-type]

    def known(
        self,
        steps: Steps,
        table: Mapping[str, Any],
        required: Iterable[str],
        optional: Iterable[str],
    ) -> None:
        """That the object has all required keys and no other than the optional ones."""
        names = [*required, *optional]
        for key in table:
            if key not in names:
                hint = nearest(key, names)
                known = ", ".join(names)
                raise self.source.fail("plan.unknown_key", (*steps, key), known=known, hint=hint)
        for key in required:
            if key not in table:
                raise self.source.fail("plan.missing", steps, name=key)

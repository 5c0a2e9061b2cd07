"""The placement in use, read from a plan or from the file that an engine has loaded.

    in_use = read_current("location.json", expert_layers(model), ranks=32)

The form is told by the content: plan.json, SGLang's `physical_to_logical_map`, vllm-ascend's
`layer_list`, TensorRT-LLM's `initial_global_assignments`, a map or a policy module of vLLM.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from supertile.ir.errors import UserError
from supertile.ir.files import read_text
from supertile.ir.json_text import JsonSource, parse_json, show_json
from supertile.targets.placement.expert_map import ExpertMap
from supertile.targets.plan.model import ExpertLayers, layers_text
from supertile.targets.plan.plan_file import FILE_LIMIT, read_plan
from supertile.targets.plan.plan_fit import check_layers
from supertile.targets.plan.plan_types import PlanFile

Rows = dict[int, object]
"""The list of experts in the slots, by the number of a layer in the model."""


@dataclass(frozen=True)
class InUse:
    """A placement that is in use."""

    placement: ExpertMap
    """A rank of an engine may hold an expert twice."""
    numbers: tuple[int, ...]
    """Of its layers in the model."""
    form: str
    """What kind of file it was read from."""
    plan: PlanFile | None = None
    """The plan that it was read from, where it was one."""


def read_current(path: str | Path, model: ExpertLayers, ranks: int) -> InUse:
    """What is in use on so many ranks. UserErrors: those of `read_plan`, and `current.` codes."""
    file = str(path)
    text = read_text(file, "plan", FILE_LIMIT)
    if text.lstrip()[:1] in ("{", "["):
        value = parse_json(file, text, "plan")
        if isinstance(value, Mapping) and "format" in value:
            plan = read_plan(path)
            check_layers(plan, model, file)
            return InUse(plan.placement, plan.numbers, "a plan", plan)
        return _Reader(file, text, model, ranks).of_json(value)
    reader = _Reader(file, "", model, ranks)
    if "initial_global_assignments" in text:
        return reader.of_yaml(text)
    if "SLOTS = [" in text:
        return reader.of_module(text)
    raise reader.unknown("neither JSON, nor YAML of TensorRT-LLM, nor a policy of vLLM")


@dataclass(frozen=True)
class _Reader:
    file: str
    text: str
    """To point at values; empty where the file is no JSON."""
    model: ExpertLayers
    ranks: int

    # ---- forms

    def of_json(self, value: object) -> InUse:
        if isinstance(value, list):
            return self._vllm_map(value)
        assert isinstance(value, Mapping)
        if "physical_to_logical_map" in value:
            return self._sglang(value)
        if "layer_list" in value:
            return self._ascend(value)
        if "initial_global_assignments" in value:
            return self._tensorrt(value)
        raise self.unknown(", ".join(str(key)[:40] for key in list(value)[:8]) or "no keys")

    def of_yaml(self, text: str) -> InUse:
        from yaml import YAMLError, load

        from supertile.targets.plan.yaml_keys import UniqueKeyLoader

        try:
            value = load(text, UniqueKeyLoader)
        except (YAMLError, RecursionError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError("current.yaml", file=self.file, reason=reason) from None
        if not isinstance(value, Mapping) or "initial_global_assignments" not in value:
            raise self.unknown("YAML without initial_global_assignments")
        return self._tensorrt(value)

    def of_module(self, text: str) -> InUse:
        """The tables of a policy module, which is parsed and never run."""
        try:
            body = ast.parse(text).body
            found = {
                node.targets[0].id: ast.literal_eval(node.value)
                for node in body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
            }
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise self.unknown("a Python module that is no policy of Supertile's") from None
        if not {"EXPERTS", "RANKS", "SLOTS"} <= set(found):
            raise self.unknown("a Python module without EXPERTS, RANKS and SLOTS")
        self._expect(("RANKS",), f"{self.ranks} ranks", found["RANKS"], self.ranks)
        experts = self.model.experts
        self._expect(("EXPERTS",), f"{experts} experts", found["EXPERTS"], experts)
        rows = self._list(("SLOTS",), found["SLOTS"])
        return self._in_use(self._by_position(("SLOTS",), rows), "vLLM's policy")

    def _sglang(self, table: Mapping[str, Any]) -> InUse:
        """Rows of all main layers; SGLang refuses any other key."""
        others = [str(key) for key in table if key != "physical_to_logical_map"]
        if others:
            self.wrong((others[0],), "no key but physical_to_logical_map", others[0])
        steps = ("physical_to_logical_map",)
        rows = self._list(steps, table[steps[0]])
        self._expect(steps, f"rows of all {self.model.total} layers", len(rows), self.model.total)
        return self._in_use({layer: rows[layer] for layer in self.model.moe}, "SGLang's map")

    def _ascend(self, table: Mapping[str, Any]) -> InUse:
        """Layers by position among those with experts; the slots of a device are its list."""
        layers = self._list(("layer_list",), table["layer_list"])
        self._told(table, (), "moe_layer_count", len(layers))
        rows = []
        for position, layer in enumerate(layers):
            steps = ("layer_list", position, "device_list")
            devices = self._list(steps, self._entry(steps[:2], layer, "device_list"))
            self._told(layer, steps[:2], "layer_id", position)
            self._told(layer, steps[:2], "device_count", len(devices))
            for at, device in enumerate(devices):
                if isinstance(device, Mapping):
                    self._told(device, (*steps, at), "device_id", at)
            self._expect(steps, f"{self.ranks} devices", len(devices), self.ranks)
            lists = [
                self._list((*steps, at), self._entry((*steps, at), device, "device_expert"))
                for at, device in enumerate(devices)
            ]
            if len({len(one) for one in lists}) > 1:
                self.wrong(steps, "as many experts on each device", "lists of different lengths")
            rows.append(list(chain(*lists)))
        return self._in_use(self._by_position(("layer_list",), rows), "vllm-ascend's map")

    def _tensorrt(self, table: Mapping[Any, Any]) -> InUse:
        """Layers by number; those of drafts, behind the last, are not looked at."""
        steps = ("initial_global_assignments",)
        assignments = table[steps[0]]
        if not isinstance(assignments, Mapping):
            self.wrong(steps, "an object of lists by layer", show_json(assignments))
        rows: Rows = {}
        for key, row in assignments.items():
            if not str(key).isdecimal() or len(str(key)) > 9:
                self.wrong((*steps, str(key)), "the number of a layer", show_json(key))
            rows[int(key)] = row
        for row in rows.values():
            if isinstance(row, list):
                self._told(table, (), "num_slots", len(row))
        main = {layer: row for layer, row in rows.items() if layer < self.model.total}
        missing = sorted(set(self.model.moe) ^ set(main))
        if missing:
            expected = f"rows of {layers_text(self.model.moe)}"
            told = "no row of" if missing[0] in self.model.moe else "a row of"
            self.wrong(steps, expected, f"{told} {layers_text(missing[:1])}")
        return self._in_use(main, "TensorRT-LLM's assignments")

    def _vllm_map(self, rows: Sequence[Any]) -> InUse:
        """One row for all layers, rows of those with experts, or of all layers and the drafts."""
        moe = self.model.moe
        if rows and not isinstance(rows[0], list):
            return self._in_use({layer: list(rows) for layer in moe}, "vLLM's map")
        if len(rows) == len(moe):
            return self._in_use(dict(zip(moe, rows, strict=True)), "vLLM's map")
        if len(moe) < self.model.total or len(rows) < len(moe):
            self.wrong((), f"{len(moe)} rows: layers with experts", f"{len(rows)} rows")
        return self._in_use({layer: rows[layer] for layer in moe}, "vLLM's map")

    # ---- checks

    def _by_position(self, steps: tuple[str | int, ...], rows: Sequence[Any]) -> Rows:
        moe = self.model.moe
        self._expect(steps, f"{len(moe)} layers with experts", len(rows), len(moe))
        return dict(zip(moe, rows, strict=True))

    def _in_use(self, rows: Rows, form: str) -> InUse:
        """The map; every row has as many slots, on ranks of as many, and every expert."""
        experts = self.model.experts
        lists = {layer: self._list((f"layer {layer}",), row) for layer, row in rows.items()}
        total = len(lists[self.model.moe[0]])
        for layer, row in lists.items():
            steps = (f"layer {layer}",)
            self._expect(steps, f"{total} slots, as in the first layer", len(row), total)
            known = [type(one) is int and 0 <= one < experts for one in row]
            if not all(known):
                self.wrong(steps, f"experts from 0 to {experts - 1}", row[known.index(False)])
            missing = experts - len(set(row))
            if missing:
                self.wrong(steps, "a slot of every expert", f"none of {missing} experts")
        if total % self.ranks:
            self.wrong((), f"as many slots on each of {self.ranks} ranks", f"{total} slots")
        slots = np.full(self.ranks, total // self.ranks)
        placement = ExpertMap.equal(experts, slots, np.array(list(lists.values())))
        return InUse(placement, tuple(lists), form)

    def _told(
        self, table: Mapping[Any, Any], steps: tuple[str | int, ...], key: str, wanted: int
    ) -> None:
        """A number that a file says beside its lists must be theirs, where it is there."""
        if key in table:
            self._expect((*steps, key), f"{wanted}, as its lists have it", table[key], wanted)

    def _entry(self, steps: tuple[str | int, ...], value: object, key: str) -> object:
        if not isinstance(value, Mapping) or key not in value:
            self.wrong(steps, f"an object with {key}", show_json(value))
        return value[key]

    def _list(self, steps: tuple[str | int, ...], value: object) -> list[Any]:
        if not isinstance(value, list) or not value:
            self.wrong(steps, "a list", "an empty list" if value == [] else show_json(value))
        return value

    def _expect(
        self, steps: tuple[str | int, ...], expected: str, found: object, wanted: int
    ) -> None:
        if found != wanted:
            self.wrong(steps, expected, found)

    def wrong(self, steps: tuple[str | int, ...], expected: str, found: object) -> NoReturn:
        source, told = JsonSource(self.file, self.text), str(found)[:80]
        raise source.fail("current.value", steps, expected=expected, found=told)

    def unknown(self, found: str) -> UserError:
        return UserError("current.unknown", file=self.file, found=found)

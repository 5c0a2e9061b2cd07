"""The kernels of a model's experts for any deployment, tiled as `supertile compile` tiles them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp
    from xdsl.dialects.func import FuncOp

    from supertile.targets.comm.expert_kernels import Works
    from supertile.targets.deploy import Deployment, Model
    from supertile.targets.machine_types import Machine


def tiles_of(machine: Machine, model: Model, deployment: Deployment) -> dict[str, Any]:
    """The options of choose-tiles for a deployment."""
    from supertile.ir.comm_work import ARRIVED
    from supertile.targets.cost.sizes import sizes_of
    from supertile.targets.tile_limits import tile_options

    values = sizes_of(deployment, model)
    options = tile_options(machine, int(values["T"]), deployment.batch, deployment.context)
    return options | {"arrived": int(values[ARRIVED])}


class ExpertKernels:
    """From a deployment to the work of its expert kernels; equal ones are tiled once.

    Only the experts of one layer go through the passes: some 20 ms for a deployment.
    """

    def __init__(self, module: ModuleOp, machine: Machine, model: Model) -> None:
        from supertile.passes.expert_slice import expert_slice
        from supertile.targets.formats import legalize_options

        self.machine, self.model = machine, model
        self.module = expert_slice(module)
        options = {"legalize-formats": legalize_options(machine)}
        _apply(self.module, ("canonicalize", "cse", "legalize-formats"), options)
        self.fused = cache(self._fused)
        self.works: dict[tuple[int, str], Works] = {}

    def __call__(self, deployment: Deployment) -> Works:
        """The kernels of the rank with most slots."""
        from supertile.passes.tile_sizes import SIZES
        from supertile.targets.deploy import expert_slots

        slots = max(expert_slots(deployment, self.model))
        module = self.fused(slots)
        options = {"choose-tiles": tiles_of(self.machine, self.model, deployment)}
        _apply(module, ("choose-tiles",), options)
        key = (slots, str(_function(module).attributes[SIZES]))
        if key not in self.works:
            self.works[key] = self._tiled(module.clone())
        return self.works[key]

    def _fused(self, slots: int) -> ModuleOp:
        """The experts on a rank with so many slots, on as many ranks as hold all of them."""
        from supertile.passes.pipeline import PIPELINE

        module, ranks = self.module.clone(), -(-self.model.expert_layer.experts // slots)
        fusions = [name for phase, name in PIPELINE if phase == "fused"]
        options = {"plan-experts": {"ranks": ranks, "slots": (slots,) * ranks}}
        _apply(module, ("plan-experts", *fusions), options)
        return module

    def _tiled(self, module: ModuleOp) -> Works:
        from supertile.targets.comm.expert_kernels import expert_works
        from supertile.targets.tile_limits import memory_text

        # Tiles are chosen; where `assign-memory` puts them changes no time.
        options = {"pipeline-loops": {"memory": memory_text(self.machine)}}
        _apply(module, ("lower-to-tile", "pipeline-loops"), options)
        return expert_works(_function(module))


def _apply(
    module: ModuleOp, names: Iterable[str], options: Mapping[str, Mapping[str, Any]]
) -> None:
    """Passes by name over a module, in place."""
    from supertile.ir.text import context
    from supertile.passes.pipeline import load_pass

    for name in names:
        load_pass(name)(**options.get(name, {})).apply(context(), module)


def _function(module: ModuleOp) -> FuncOp:
    from xdsl.dialects.func import FuncOp

    return next(op for op in module.ops if isinstance(op, FuncOp))

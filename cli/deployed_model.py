"""What a model is on a machine, read from its module as the passes leave it there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from supertile.targets.deploy import Config, Model
    from supertile.targets.machine_types import Machine


def deployed_model(module: ModuleOp, config: Config, machine: Machine) -> Model:
    """The model on the machine: its experts are those that `legalize-formats` leaves in the module.

    The module, of the graph level, stays as it is.
    """
    from supertile.cli.op_support import check_ops
    from supertile.ir.expert_layer import expert_layer
    from supertile.ir.text import context
    from supertile.passes.legalize_formats import LegalizeFormats
    from supertile.targets.deploy import Model
    from supertile.targets.formats import legalize_options

    check_ops(module, machine)
    legal = module.clone()
    LegalizeFormats(**legalize_options(machine)).apply(context(), legal)
    return Model.of(config, expert_layer(legal))

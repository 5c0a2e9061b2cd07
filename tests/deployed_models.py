"""Shipped models and those of `tests/data` as they are on a machine, each module built once."""

from functools import cache
from pathlib import Path

from model_files import model_for
from xdsl.dialects.builtin import ModuleOp

from supertile.cli.deployed_model import deployed_model
from supertile.cli.expert_kernels import ExpertKernels
from supertile.cli.inputs import config_path
from supertile.frontend.build import build_model
from supertile.frontend.hf_config import Config, read_config
from supertile.targets.deploy import Model
from supertile.targets.machine import load_machine

TESTS = Path(__file__).parent


def config_of(name: str) -> Config:
    """The shipped config of a name, or that of a folder of `tests/data`: data/deepseek_v4."""
    return read_config(config_path(str(TESTS / name) if "/" in name else name))


@cache
def graph_module(config: str, numerics: str = "deployed") -> ModuleOp:
    """The main model under a config, at the graph level; not to be changed."""
    values = config_of(config)
    return build_model(model_for(values), values, numerics, ["logits"])


@cache
def kernels_on(config: str, machine: str = "ascend-910c") -> ExpertKernels:
    """The expert kernels of a model on a machine, by deployment."""
    model = model_on(config, machine)
    return ExpertKernels(graph_module(config), load_machine(machine), model)


@cache
def model_on(config: str, machine: str = "ascend-910c", numerics: str = "deployed") -> Model:
    """The model under a config on a machine."""
    return deployed_model(graph_module(config, numerics), config_of(config), load_machine(machine))

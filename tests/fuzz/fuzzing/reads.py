"""Ways to have Supertile read a file: each takes its path, and chance for what else there is.

What comes back does not matter; a `UserError` is an answer, and any other exception is a finding.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

from fuzzing import inputs


def _text(path: Path) -> str:
    """What a command line can hold: any text, as Python has it."""
    return path.read_bytes().decode("utf-8", "surrogateescape")


# ---- models, configs, IR -------------------------------------------------------------------------


def config(path: Path, random: Random) -> object:
    from supertile.frontend.hf_config import read_config
    from supertile.frontend.program import load_program
    from supertile.frontend.settle import settle
    from supertile.frontend.shipped import shipped_model

    config = read_config(path)
    file = shipped_model(config.family)
    return config if file is None else settle(load_program(file), config)


def config_and_model(path: Path, random: Random) -> object:
    """A config that can be read is built with the model of its family."""
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config
    from supertile.frontend.shipped import shipped_model
    from supertile.ir.expert_layer import expert_layer
    from supertile.targets.deploy import Model

    config = read_config(path)
    file = shipped_model(config.family)
    if file is None:
        return None
    module = build_model(file, config, random.choice(["reference", "deployed"]))
    module.verify()
    return Model.of(config, expert_layer(module))


def model(path: Path, random: Random) -> object:
    from supertile.frontend.build import build_model
    from supertile.frontend.hf_config import read_config

    text = path.read_bytes()
    family = next((name for name in inputs.FAMILIES if f'"{name}"'.encode() in text), "llama")
    config = read_config(inputs.DATA / family / "config.json")
    module = build_model(path, config, random.choice(["reference", "deployed"]))
    module.verify()
    return module


def with_import(path: Path, random: Random) -> object:
    return model(path.with_name("main.st"), random)


def ir(path: Path, random: Random) -> object:
    """IR text that can be read goes through a pass or two, of any level."""
    from supertile.cli.opt import read_ir
    from supertile.ir.text import parse_module
    from supertile.passes.driver import Options, run_passes
    from supertile.passes.pipeline import load_pass, pass_names

    module = parse_module(read_ir(str(path)), str(path))
    names = random.choices(pass_names(), k=random.choice([1, 1, 2]))
    passes = [load_pass(name)() for name in names]
    return run_passes(module, passes, Options(reproducers=path.parent))


def pipeline(path: Path, random: Random) -> object:
    from supertile.passes.pipeline import parse_pipeline, pipeline_text

    passes = parse_pipeline(_text(path))
    assert parse_pipeline(pipeline_text(passes)) == passes, "passes read as they are written"
    return passes


def pipeline_run(path: Path, random: Random) -> object:
    """Options of passes that can be read are tried on a small module."""
    from supertile.ir.text import parse_module
    from supertile.passes.driver import Options, run_passes
    from supertile.passes.pipeline import parse_pipeline

    passes = parse_pipeline(_text(path))
    name = random.choice(["llama fused", "qwen3_moe graph", "llama tiled"])
    module = parse_module(inputs.ir_texts()[name].decode())
    return run_passes(module, passes, Options(reproducers=path.parent))


# ---- machines, engines, deployments --------------------------------------------------------------


def machine(path: Path, random: Random) -> object:
    from supertile.targets.machine import load_machine
    from supertile.targets.machine_text import show_text, target_row

    machine = load_machine(path)
    return show_text(machine), target_row(machine)


def engine(path: Path, random: Random) -> object:
    from supertile.targets.engines.reader import read_engine

    return read_engine(path)


def deployment(path: Path, random: Random) -> object:
    from supertile.targets.deploy import check_deployment, deployment_text, parse_deployment
    from supertile.targets.machine import load_machine

    deployment = parse_deployment(_text(path))
    assert parse_deployment(deployment_text(deployment)) == deployment, "it reads as it is written"
    model, _ = inputs.expert_model()
    check_deployment(deployment, model, load_machine(random.choice(["h200", "ascend-910c"])))
    return deployment


# ---- loads and plans -----------------------------------------------------------------------------


def law(path: Path, random: Random) -> object:
    from supertile.targets.plan.load_text import parse_loads_text
    from supertile.targets.plan.parametric import parametric_loads

    _, layers = inputs.expert_model()
    return parametric_loads(parse_loads_text(_text(path)), layers)


def loads(path: Path, random: Random) -> object:
    from supertile.targets.plan.load_files import read_loads

    _, layers = inputs.expert_model()
    return read_loads(path, layers).total


def plan(path: Path, random: Random) -> object:
    """A plan that can be read is held against its use, and put into a module's form."""
    from supertile.cli.expert_plans import expert_plan
    from supertile.targets.plan.plan_file import plan_text, read_plan
    from supertile.targets.plan.plan_fit import Use, check_use

    held = read_plan(path)
    check_use(held, Use(inputs.EXPERT_FAMILY, inputs.EXPERT_FAMILY, None, None), str(path), False)
    return expert_plan(held), plan_text(held)


def current(path: Path, random: Random) -> object:
    from supertile.targets.plan.current import read_current

    _, layers = inputs.expert_model()
    return read_current(path, layers, inputs.RANKS)


# ---- weights, tokens, values ---------------------------------------------------------------------


def checkpoint(path: Path, random: Random) -> object:
    """What is stored in the good file, checked and read; sometimes declared as it is not."""
    from supertile.runtime.checkpoint import Checkpoint, Format

    held = Checkpoint(path.parent if path.suffix == ".json" else path)
    forms = {"F32": "f32", "I64": "i64"}
    wanted = [
        (name, tuple(entry["shape"]), Format(forms[entry["dtype"]]))
        for name, entry in inputs.stored_tensors().items()
        if entry["dtype"] in forms
    ]
    if random.random() > 0.8:
        name, shape, _ = random.choice(wanted)
        wanted.append((name, (*shape, 1), Format("f8e4m3", (128, 128))))
    held.check(wanted)
    return [held.tensor(*one) for one in wanted]


def tokens(path: Path, random: Random) -> object:
    from supertile.runtime.tokens import check_vocabulary, read_tokens

    rows = read_tokens(path)
    check_vocabulary(rows, 64)
    return rows


def pins(path: Path, random: Random) -> object:
    from supertile.runtime.array_file import read_npz

    return read_npz(str(path), "run.pin_broken")


def reference(path: Path, random: Random) -> object:
    from supertile.runtime.reference import read_reference

    rows = [row[:3] for row in inputs.pins()["layers.0.router.chosen"].reshape(2, -1)]
    return read_reference(str(path), [], rows, 8)


def answer(path: Path, random: Random) -> object:
    """A kept answer whose digest is right, whatever it says."""
    import hashlib

    from supertile.cli.answer_cache import cache_folder, load

    body = path.read_bytes()
    os.environ["XDG_CACHE_HOME"] = str(path.parent)
    digest = hashlib.sha256(body).hexdigest().encode()
    target = cache_folder() / "key.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(random.choice([digest + b"\n" + body, body]))
    return load("key")

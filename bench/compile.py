"""Time and memory of compiling V4-Pro, and how they grow with layers and experts: they do not.

    python bench/compile.py

Each row is a fresh interpreter, best of three, so that imports count as a user feels them. Ops are
those of the level that has most. What ranks and contexts cost is in deploy.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from measure import HEADER, measure

LAYERS = (10, 61, 250, 1000)
EXPERTS = (8, 384, 1024, 4096)
REPEATS = 3


def pro_config(layers: int, experts: int) -> dict[str, object]:
    """V4-Pro with another number of layers (the pattern goes on) and experts."""
    path = files("supertile.models").joinpath("configs/deepseek_v4_pro.json")
    config: dict[str, object] = json.loads(path.read_text())
    ratios = [128, 128] + [4 if i % 2 == 0 else 128 for i in range(layers - 2)]
    config.update(num_hidden_layers=layers, n_routed_experts=experts)
    config["compress_ratios"] = [*ratios[:layers], 0]
    return config


def graph_ir_seconds() -> float:
    """Interpreter start to the graph IR of V4-Pro, without passes."""
    program = (
        "from pathlib import Path; from importlib.resources import files\n"
        "from supertile.frontend.build import build_model\n"
        "from supertile.frontend.hf_config import read_config\n"
        "models = Path(str(files('supertile.models')))\n"
        "config = read_config(models / 'configs/deepseek_v4_pro.json')\n"
        "build_model(models / 'deepseek_v4.st', config)\n"
    )
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    help_ = measure(["--help"], REPEATS, {})
    print(f"supertile --help                       {help_.seconds:6.2f} s")
    print(f"interpreter start to V4-Pro graph IR   {graph_ir_seconds():6.2f} s")
    print(f"\nsupertile compile deepseek_v4 -o DIR   layers  experts{HEADER}")
    with tempfile.TemporaryDirectory() as folder:
        shapes = [(layers, 384) for layers in LAYERS] + [(61, experts) for experts in EXPERTS]
        for layers, experts in shapes:
            path = Path(folder) / "config.json"
            path.write_text(json.dumps(pro_config(layers, experts)))
            options = ["compile", "deepseek_v4", "--config", str(path), "-o", f"{folder}/out"]
            found = measure([*options, "--stats"], REPEATS, {})
            print(f"{'':38} {layers:6} {experts:8}{found}", flush=True)


if __name__ == "__main__":
    main()

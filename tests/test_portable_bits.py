"""Figures follow from no processor: what a library computes as it likes is called in one place.

`runtime/` executes models with NumPy and a BLAS, and says what is promised of their bits; all other
code takes elementary functions and matrix products from `ir/portable_math.py`. A product of whole
numbers, which is exact in any order, says so on its line.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("cli", "frontend", "ir", "passes", "targets")
FUNCTIONS = {"exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh"}
FUNCTIONS |= {"power", "pow", "float_power", "erf", "erfc", "lgamma", "gamma", "logaddexp"}
PRODUCTS = {"dot", "matmul", "vecdot", "inner", "einsum", "tensordot"}
EXACT = "# exact"


def library_calls(text: str) -> list[tuple[int, str]]:
    """(line, what) of calls whose last bits a library or a processor decides."""
    lines, calls = text.splitlines(), []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Attribute(ast.Name("np" | "math" as module), name):
                known = FUNCTIONS if module == "math" else FUNCTIONS | PRODUCTS
                calls += [(node.lineno, f"{module}.{name}")] * (name in known)
            case ast.BinOp(op=ast.MatMult()):
                calls.append((node.lineno, "@"))
            case ast.ImportFrom("math" | "numpy" as module):
                names = {alias.name for alias in node.names} & (FUNCTIONS | PRODUCTS)
                calls += [(node.lineno, f"{module}.{name}") for name in sorted(names)]
    return [(line, what) for line, what in calls if EXACT not in lines[line - 1]]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_figure_takes_its_last_bits_from_a_library(folder):
    calls = {
        str(file.relative_to(ROOT)): library_calls(file.read_text("utf-8"))
        for file in sorted((ROOT / folder).rglob("*.py"))
        if file.name != "portable_math.py"
    }
    assert {file: found for file, found in calls.items() if found} == {}


@pytest.mark.parametrize(
    "line, what",
    [
        *(("np.exp(x)", "np.exp"), ("math.lgamma(x)", "math.lgamma"), ("a @ b", "@")),
        *(("from math import log, pi", "math.log"), ("np.einsum('i,i', a, b)", "np.einsum")),
    ],
)
def test_such_calls_are_found(line, what):
    assert library_calls(f"import math\n{line}") == [(2, what)]
    assert library_calls(f"{line}  # exact: whole numbers") == []

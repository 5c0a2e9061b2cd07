"""Helpers for tests of passes: a case is one IR snippet, a pipeline, and one more snippet."""

from supertile.ir.text import HEADER, parse_module, print_module
from supertile.passes.driver import DEFAULTS, Options, Report, run_passes
from supertile.passes.pipeline import parse_pipeline


def module_text(snippet: str) -> str:
    """A module: of whole functions, or of one function @f whose signature and body are given."""
    body = snippet.strip()
    if not body.startswith("func.func"):
        body = f"func.func @f{_braced(body)}"
    return f"{HEADER}\nbuiltin.module {{\n{body}\n}}\n"


def _braced(body: str) -> str:
    signature, _, rest = body.partition("\n")
    return f"{signature} {{\n{rest}\n}}"


def module_of(snippet: str):
    return parse_module(module_text(snippet), "test.mlir")


def text_of(module) -> str:
    return print_module(module, locations=False)


def run(before: str, pipeline: str, options: Options = DEFAULTS) -> tuple[str, Report]:
    """The text after the passes, without locations, and the report."""
    module = module_of(before)
    report = run_passes(module, parse_pipeline(pipeline), options)
    return text_of(module), report


def check(before: str, pipeline: str, after: str) -> Report:
    """The passes turn one snippet into the other; names of values and order of ops count."""
    found, report = run(before, pipeline)
    assert found == text_of(module_of(after))
    return report


def check_kept(before: str, pipeline: str) -> None:
    """The passes change nothing."""
    assert check(before, pipeline, before).passes[-1].changed == []

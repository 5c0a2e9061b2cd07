"""The table of the language's functions; `docs/language.md` lists them as they stand here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supertile.frontend import functions as f, sequence_functions as s, syntax
from supertile.frontend.values import Value
from supertile.ir.errors import UserError

if TYPE_CHECKING:
    from supertile.frontend.evaluate import Evaluator


@dataclass(frozen=True)
class Builtin:
    """`signature` names the positional arguments; those after `least` may be left out."""

    function: f.Function
    signature: tuple[str, ...]
    meaning: str
    least: int | None = None
    keywords: tuple[str, ...] = ()
    many: bool = False  # the last positional argument may repeat

    @property
    def minimum(self) -> int:
        return len(self.signature) if self.least is None else self.least

    @property
    def usage(self) -> str:
        """`scores, k, visible?`."""
        names = list(self.signature)
        shown = names[: self.minimum] + [f"{name}?" for name in names[self.minimum :]]
        shown += ["..."] if self.many else []
        return ", ".join(shown + [f"{keyword} =" for keyword in self.keywords])


def call(e: Evaluator, callee: syntax.Name, expression: syntax.Call) -> Value:
    """Call a builtin by name, whose arguments `check_usage` has seen."""
    arguments, keywords = [], {}
    for argument in expression.arguments:
        if isinstance(argument, syntax.Keyword):
            keywords[argument.name] = e.evaluate(argument.value)
        else:
            arguments.append(e.evaluate(argument))
    return BUILTINS[callee.name].function(e, arguments, keywords, expression.where)


def check_usage(
    callee: syntax.Name, builtin: Builtin, count: int, keywords: Sequence[syntax.Keyword]
) -> None:
    """Number of arguments and names of keywords."""
    most = count if builtin.many else len(builtin.signature)
    if not builtin.minimum <= count <= most:
        raise UserError(
            "language.argument_count",
            callee.where,
            name=callee.name,
            wanted=builtin.usage,
            count=count,
        )
    free = list(builtin.keywords)
    for keyword in keywords:
        if keyword.name not in free:
            raise UserError(
                "language.keyword",
                keyword.where,
                name=callee.name,
                keyword=keyword.name,
                wanted=", ".join(builtin.keywords) + ", each once"
                if builtin.keywords
                else "none here",
            )
        free.remove(keyword.name)


X = ("x",)
TURNED = ("x", "position", "rope")
SPARE = "the reference numerics do not"
BUILTINS: Mapping[str, Builtin] = {
    "exp": Builtin(f.elementwise("exp"), X, "e^x"),
    "sqrt": Builtin(f.elementwise("sqrt"), X, "x^(1/2)"),
    "rsqrt": Builtin(f.elementwise("rsqrt"), X, "x^(-1/2)"),
    "sigmoid": Builtin(f.elementwise("sigmoid"), X, "1 / (1 + e^-x)"),
    "softplus": Builtin(f.elementwise("softplus"), X, "ln(1 + e^x)"),
    "silu": Builtin(f.elementwise("silu"), X, "x sigmoid(x)"),
    "relu": Builtin(f.elementwise("relu"), X, "max(x, 0)"),
    "gelu": Builtin(f.elementwise("gelu"), X, "x (1 + erf(x / 2^(1/2))) / 2"),
    "tanh": Builtin(f.elementwise("tanh"), X, "(e^x - e^-x) / (e^x + e^-x)"),
    "min": Builtin(f.two("min"), ("a", "b"), "the smaller of two, one of them a tensor"),
    "max": Builtin(f.two("max"), ("a", "b"), "the larger of two, one of them a tensor"),
    "clamp": Builtin(f.clamp, ("x", "low", "high"), "x, no less than low, no more than high"),
    "bf16": Builtin(f.to_format("bf16"), X, f"x rounded to bfloat16; {SPARE}"),
    "f16": Builtin(f.to_format("f16"), X, f"x rounded to float16; {SPARE}"),
    "where": Builtin(f.where_, ("mask", "a", "b"), "a where the mask holds, else b"),
    "reshape": Builtin(f.reshape, ("x", "sizes"), "the same elements under other axes"),
    "split": Builtin(
        f.split, ("x", "sizes"), "parts of the last axis, or of `axis`", keywords=("axis",)
    ),
    "concat": Builtin(f.concat, ("x", "y"), "joined along the last axis", many=True),
    "repeat": Builtin(f.repeat, ("x", "N"), "a new second axis of N copies"),
    "gather": Builtin(f.gather, ("table", "ids"), "rows of the table, one for each id"),
    "take": Builtin(f.take, ("x", "chosen"), "the chosen elements of the last axis of each row"),
    "member": Builtin(f.member, ("chosen", "N"), "a mask over N: which were chosen"),
    "linear": Builtin(f.linear, ("x", "w"), "x w^T; scaled w multiplies as its format says"),
    "rms_norm": Builtin(f.rms_norm, ("x", "gain", "eps"), "gain x / sqrt(mean(x^2) + eps)"),
    "rms_scale": Builtin(f.rms_scale, ("x", "eps"), "x / sqrt(mean(x^2) + eps)"),
    "softmax": Builtin(f.softmax, X, "e^x / sum(e^x) over the last axis"),
    "sinkhorn": Builtin(
        f.sinkhorn, ("x", "iterations", "eps"), "a doubly stochastic matrix from x"
    ),
    "rope": Builtin(f.turn(False), TURNED, "the last channels turned by their position"),
    "rope_back": Builtin(f.turn(True), TURNED, "the last channels turned back"),
    "round_trip": Builtin(
        f.round_trip, ("x", "format"), f"x as it comes back from a scaled format; {SPARE}"
    ),
    "append": Builtin(s.append, ("state", "rows"), "what the state held, then the new rows"),
    "pool_windows": Builtin(
        s.pool_windows,
        ("state", "values", "scores", "bias"),
        "gated sums of the windows that this call completes",
    ),
    "first_position": Builtin(s.first_position, ("rows",), "the first position each row covers"),
    "window": Builtin(s.window, ("seen",), "the slots of a ring that each token sees"),
    "visible": Builtin(s.visible, ("seen",), "how many entries of blocks each token sees"),
    "top": Builtin(
        s.top,
        ("scores", "k", "visible"),
        "indices of the k largest, of the first `visible`; ties: the smaller index",
        least=2,
    ),
    "attend": Builtin(
        s.attend,
        ("q", "sources"),
        "one softmax over the keys of all sources, weighing their values",
        keywords=("scale", "sink", "values", "round", "span"),
    ),
    "route": Builtin(
        s.route,
        ("experts", "x", "weight", "chosen"),
        "each row by its chosen experts, summed for its token",
    ),
}

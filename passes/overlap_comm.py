"""Communication under computation: waves within expert kernels, layers in two micro-batches.

    %rows, .. = comm.dispatch .. {placement = ..}
    %y, ..    = graph.layers .. {functions = [@layer], ..}
->
    %rows, .. = comm.dispatch .. {placement = .., waves = 4}
    %y, ..    = graph.layers .. {functions = [@layer], .., microbatches = 2}

In waves the slots of a rank run in contiguous runs: the rows of the next wave arrive, and the
results of the one before leave, while a wave computes. Results are the same, as each expert's rows
are a product of their own. In two micro-batches one half of the sequences computes while the other
half's rows travel; sums over rows of an expert may then have another order. Which of the two pays
is for a cost model to say: this pass writes down what it is told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from xdsl.context import Context
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, ModuleOp
from xdsl.dialects.func import FuncOp

from supertile.ir import comm, graph
from supertile.ir.errors import UserError
from supertile.ir.levels import WHOLE_TENSORS
from supertile.ir.microbatches import split_problem
from supertile.ir.op import attribute_of, python_value
from supertile.passes.rewriting import Equivalence, Pass, count, rewrites_of


@dataclass(frozen=True)
class OverlapComm(Pass):
    """comm.dispatch, graph.layers -> the same with `waves`, one a slot at most, `microbatches`."""

    name = "overlap-comm"
    equivalence: ClassVar[Equivalence] = "reassociate"
    takes: ClassVar[tuple[str, ...]] = (*WHOLE_TENSORS, "tiled")
    leaves: ClassVar[str | None] = "graph"  # a module of any level keeps its level

    microbatches: Literal[1, 2] = 1
    waves: int = count(1)

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        functions = {held.sym_name.data: held for held in op.ops if isinstance(held, FuncOp)}
        for held in op.walk():
            match held:
                case comm.Dispatch():
                    waves = min(self.waves, held.placement.width)
                    if waves > 1:
                        held.properties["waves"] = attribute_of(waves)
                        rewrites_of(ctx).count("split into waves")
                case graph.Layers() if self.microbatches > 1:
                    for symbol in held.functions:
                        self._check(held, functions[python_value(symbol)])
                    held.properties["microbatches"] = attribute_of(self.microbatches)
                    rewrites_of(ctx).count("split into micro-batches")

    def _check(self, op: graph.Layers, layer: FuncOp) -> None:
        types = layer.function_type.inputs.data
        attributes = layer.arg_attrs or ArrayAttr([DictionaryAttr({})] * len(types))
        problem = split_problem(self.microbatches, len(op.carried), types, [*attributes])
        if problem is not None:
            raise UserError("pass.microbatches", name=layer.sym_name.data, reason=problem)

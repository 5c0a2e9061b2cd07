"""Errors by example: what is put into a small model, and the error that it gives.

A case has the beginning of the message and what goes where in `snippets.BASE`; ` | ` parts lines and
`@` marks the place that the error names (`elsewhere`: it names one outside of what was put in).
Together the cases cover every text of the language.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from snippets import BASE, build, config, put, v4_config

from supertile.frontend.build import build_model
from supertile.frontend.parse import LENGTH_LIMIT, parse_model, read_model_file
from supertile.frontend.program import IMPORT_LIMIT, load_program, program_of
from supertile.ir.errors import LANGUAGE_TEXTS, UserError


@dataclasses.dataclass(frozen=True)
class Case:
    message: str
    snippets: dict[str, str]
    elsewhere: bool = False


def case(message: str, elsewhere: bool = False, **snippets: str) -> Case:
    return Case(message, snippets, elsewhere)


# fmt: off
CASES: dict[str, list[Case]] = {
    "language.too_deep": [
        case("this nests too deeply", body="y = ((((((((((((((((((((((((((((((((((((((((@(1)))))))))))))))))))))))))))))))))))))))))"),
        case("this nests too deeply", body="y = z + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 + 1 @+ 1"),
    ],
    "language.character": [
        case("the character '%' has no meaning here", body="y = z @% 2"),
        case("the character ';' has no meaning here", body="y = z@; q = z"),
    ],
    "language.syntax": [
        case("this does not follow the grammar", body="y = (z", elsewhere=True),
        case("this does not follow the grammar", body="y = z@)"),
        case("this does not follow the grammar", body="y = z @z"),
        case("this does not follow the grammar", body='weight @state: bf16[D] "s"'),
        case("this does not follow the grammar", body="y@"),
        case("this does not follow the grammar", body="y = z @= z"),
        case("this does not follow the grammar", item="block a(x) -> y | @return x"),
        case("this does not follow the grammar", item="  format f = f32", elsewhere=True),
        case("this does not follow the grammar", item="block @table(x) -> y |   return x"),
        case("this does not follow the grammar", body="part p: norm(D)@"),
        case("this does not follow the grammar", config="F = intermediate_size@"),
        case("this does not follow the grammar", body="y = @true"),
    ],
    "language.indentation": [
        case("the indentation returns to a column at which no body began", item="block a(x) -> y |     z = 2 * x |   @return z"),
    ],
    "language.model_twice": [
        case("a second model line", item='@model Other for "llama"'),
    ],
    "language.defined_twice": [
        case("the name row8 is taken", item="@format row8 = f32"),
        case("the name z is taken", body="@z = 2 * z"),
        case("the name D is taken", config="@D = vocab_size: int"),
        case("the name Z is taken", item="block a(x: [T, Z]) -> y |   @Z = 2 * x |   return Z"),
        case("the name y is taken", item="block a(x) -> y, @y |   return x, x"),
        case("the name rope is taken", table="@rope: rope"),
        case("the name a is taken", body="a, @a = split(z, [C, C * (H - 1)])"),
    ],
    "language.builtin_name": [
        case("position is a word of the language", body="@position = z"),
        case("softmax is a word of the language", item="@block softmax(x) -> y |   return x"),
        case("T is a word of the language", config="@T = hidden_size: int"),
    ],
    "language.import_missing": [
        case("nowhere.st does not exist", item='import @"nowhere.st"'),
    ],
    "language.kind": [
        case("number is no kind here", config="F = intermediate_size: @number"),
        case("words is no kind here", table="kind: @words"),
        case("integer is no kind here", item="block a(x: @integer) -> y |   return x"),
        case("queue is no kind here", body="state s: @queue[4] bf16[D]"),
        case("fourier is no kind here", item="format f = scaled(f8e4m3, f8e8m0, [4], after = @fourier)"),
        case("rows is no kind here", entry="for l in @rows |   x = layers[l](x)"),
    ],
    "language.format_kind": [
        case("a format and sizes belong here", body='weight u: @bf16 "u"'),
        case("a format and sizes belong here", item="block a(x: @layer.rope) -> y |   return x"),
        case("a format and sizes belong here", item="block a(x) -> y: @int |   return x"),
        case("a format and sizes belong here", body='weight u: @[D] "u"'),
    ],
    "language.cases": [
        case("column kind: cases belong to the kinds block and format, and only to t", table="@kind: block"),
        case("column ratio: cases belong to the kinds block and format, and only to ", table="@ratio: int { one: norm }"),
    ],
    "language.format": [
        case("this is no format", item="format f = @f32 * 2"),
        case("this is no format", item="format f = @scaled(f8e4m3, f8e8m0)"),
        case("this is no format", item="format f = @scaled(f8e4m3, [4], inputs = row8)"),
    ],
    "language.format_block": [
        case("block sizes are whole numbers above 0", item="format f = scaled(f8e4m3, f8e8m0, @[0])"),
        case("block sizes are whole numbers above 0", item="format f = scaled(f8e4m3, f8e8m0, @[1, 2, 4])"),
    ],
    "language.format_scale": [
        case("bf16 cannot hold scales", item="format f = scaled(f8e4m3, @bf16, [4])"),
    ],
    "language.format_keyword": [
        case("inputs takes another format", item="format f = scaled(f8e4m3, f8e8m0, [4], inputs = @bf16)"),
        case("result takes another format", item="format f = scaled(f8e4m3, f8e8m0, [4], result = @4)"),
        case("result takes another format", item="format f = scaled(f8e4m3, f8e8m0, [4], result = @row8)"),
    ],
    "language.format_axes": [
        case("the blocks of row8 have more axes than this weight", body='@weight u: row8[D] "u" | y = z * u'),
    ],
    "language.plain_format": [
        case("f8e4m3 does not stand alone", body='@weight u: f8e4m3[D] "u" | y = z * u'),
    ],
    "language.format_element": [
        case("bf16 has no scales", item="format f = scaled(@bf16, f8e8m0, [4])"),
    ],
    "language.unknown_format": [
        case("no format bf17", body='weight u: @bf17[D] "u"'),
        case("no format row9", item="format f = @row9"),
        case("no format f8e4m4", item="format f = scaled(@f8e4m4, f8e8m0, [4])"),
        case("no format g", item='block a(x, f: int) -> y |   weight u: @g[D] "u" |   return x', body="y = z"),
    ],
    "language.state_kind": [
        case("ring takes window", body="state s: @ring[4, 4] bf16[D]"),
    ],
    "language.entry_parameter": [
        case("an entry takes tensors; ids is none", item="entry other(@ids) -> y |   return ids"),
    ],
    "language.no_results": [
        case("block a states no results", item="@block a(x) |   return x"),
    ],
    "language.no_return": [
        case("block a does not end with return", item="@block a(x) -> y |   z = 2 * x"),
    ],
    "language.after_return": [
        case("lines after return are never reached", item="block a(x) -> y |   @return x |   z = x"),
    ],
    "language.unused": [
        case("the weight u is never used", body='weight @u: bf16[D] "u"'),
        case("the config name F is never used", config="@F = intermediate_size: int"),
        case("the part p is never used", body='part @p: norm(D) "p."'),
        case("the state s is never used", body="state @s: ring[4] bf16[D]"),
    ],
    "language.unknown_name": [
        case("no value named zz", body="y = @zz + 1"),
        case("no value named row", body="y = @row.rope"),
        case("no value named nrm", table="kind: block { one: @nrm }"),
        case("no value named layer", body="y = @layer"),
        case("no value named t", body="y = z[@t]"),
    ],
    "language.unknown_function": [
        case("no function, part or block named sofmax", body="y = @sofmax(z)"),
    ],
    "language.unknown_column": [
        case("the table has no column ropes", body="y = @layer.ropes"),
        case("the table has no column ration", table="ratio: int", item='block a(x) -> y |   weight u: @layer.ration[D] "u" |   return x'),
    ],
    "language.needs_part": [
        case("block decoder has weights, state or settings and cannot be called by i", body="y = @decoder(z)"),
        case("block a has weights, state or settings and cannot be called by itself", item='block a(x) -> y |   part n: norm(D) "n." |   return n(x) | block c(x, f: block) -> y |   return @f(x)', body='part c: c(a) "" | y = c(x)'),
    ],
    "language.not_callable": [
        case("this cannot be called", body="y = @z(2)"),
    ],
    "language.no_keywords": [
        case("a part of block norm is called with values only", body="y = norm(@x = z)"),
        case("a part over layers is called with values only", entry="for l in layers |   x = layers[l](x, @ids = ids)"),
    ],
    "language.many": [
        case("this part stands for many instances of norm", body='part e: norm[4](D) "e{e}." | y = @e(x)'),
    ],
    "language.argument_count": [
        case("softmax takes (x)", body="y = @softmax(z, z)"),
        case("norm takes (x)", body="y = @norm(z, z)"),
        case("concat takes (x, y, ...)", body="y = @concat(z)"),
        case("decoder takes (x)", entry="for l in layers |   x = @layers[l](x, ids)"),
    ],
    "language.keyword": [
        case("split has no argument axes", body="y = split(z, [C, C], @axes = 1)"),
        case("softmax has no argument axis", body="y = softmax(z, @axis = 1)"),
        case("split has no argument axis", body="y = split(z, [C, C], axis = 1, @axis = 1)"),
        case("scaled has no argument input", item="format f = scaled(f8e4m3, f8e8m0, [4], @input = row8)"),
    ],
    "language.settings": [
        case("the settings of norm do not fit", body='part p: norm(D, @D) "p." | y = p(x)'),
        case("the settings of norm do not fit", body='@part p: norm "p." | y = p(x)'),
        case("the settings of norm do not fit", body='part p: norm(@size = D) "p." | y = p(x)'),
    ],
    "language.target_count": [
        case("as many names as values", body="@a, b = z"),
        case("as many names as values", body="@a = split(z, [C, H * C - C])"),
    ],
    "language.result_count": [
        case("as many values as the block states results", item="block a(x) -> y, w |   @return x"),
    ],
    "language.state_twice": [
        case("the state s is used twice", body="state s: ring[4] bf16[H, C] | a = append(s, heads) | b = append(@s, heads)"),
    ],
    "language.value_kind": [
        case("wrong kind of value", body="y = @softmax(2)"),
        case("wrong kind of value", body="y = @min(1, 2)"),
        case("wrong kind of value", body='part p: @layer.rope "" | y = p(x)'),
        case("wrong kind of value", body="y = @rope(heads, position, eps)"),
        case("wrong kind of value", body='part p: norm(@eps) "p." | y = p(x)'),
        case("wrong kind of value", body="y = @where(z, z, z)"),
        case("wrong kind of value", body='weight u: @layer.rope[D] "u" | y = z * u'),
        case("wrong kind of value", body="weight u: bf16[D] @D | y = z * u"),
        case("wrong kind of value", body="y = @take(heads, heads)"),
        case("wrong kind of value", body="y = @split(z, [C, C], axis = eps)"),
        case("wrong kind of value", body="y = @round_trip(z, bf16)"),
        case("wrong kind of value", body="y = @sinkhorn(heads, 4, eps)"),
        case("wrong kind of value", body="y = @sinkhorn(reshape(z, [T, H, C, 1, 1]), 0, eps)"),
        case("wrong kind of value", body="y = @linear(z, heads)"),
        case("wrong kind of value", body="y = @append(z, z)"),
        case("wrong kind of value", body="state s: ring[4] bf16[H, C] | y = @pool_windows(s, z, z, z)"),
        case("wrong kind of value", body="y = @route(norm, x, z, z)"),
        case("wrong kind of value", item="block a(x: i32[T, D]) -> y |   return x", body="y = @a(x)"),
        case("wrong kind of value", item="block a(x: [T, D]) -> y |   return x", body="y = @a(layer.rope)"),
        case("wrong kind of value", item="block a(x) -> y: [T] |   return @none", body="y = a(x)"),
        case("wrong kind of value", item="block a(x) -> y |   return @split(x, [C, H * C - C])", body="y = a(z)"),
        case("wrong kind of value", body="y = @reshape(z, [T, eps])"),
        case("wrong kind of value", body="y = @concat(z, where(member(top(z, 1), H * C), 1, 0), norm)"),
        case("wrong kind of value", body="y = @concat(top(z, 1), z)"),
        case("wrong kind of value", body="y = concat(z, gather(w, reshape(top(z, 1), [T]))) | q = @concat(top(x, 1), x)"),
        case("wrong kind of value", item="block a(x, g) -> y |   return none", body='part e: a[4] "e{e}." | y = @route(e, x, take(x, top(x, 2)), top(x, 2))'),
        case("wrong kind of value", body="y = @softmax(w[0, 0])"),
        case("wrong kind of value", body="y = @attend(z, [(z, z)], scale = 1)"),
        case("wrong kind of value", body="y = @attend(heads, [(heads, position)], scale = 1)"),
        case("wrong kind of value", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, top(w, 1))], scale = 1)"),
        case("wrong kind of value", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, visible(k))], scale = 1, round = f16)"),
        case("wrong kind of value", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, visible(k))], scale = 1, span = 0)"),
    ],
    "language.arithmetic": [
        case("arithmetic takes float tensors and numbers", body="y = @z + norm"),
        case("arithmetic takes float tensors and numbers", body="y = @2 * position"),
        case("arithmetic takes float tensors and numbers", body='weight u: row8[D, D] "u" | y = @u + 1'),
    ],
    "language.stacked": [
        case("a weight with one copy for each expert enters linear only", item='block a(x, g) -> y |   weight u: bf16[D] "u" |   return @x * u', body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
        case("a weight with one copy for each expert enters linear only", item='block a(x, g) -> y |   weight u: bf16[D] "u" |   q[d] = @u[d] |   return x', body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
    ],
    "language.whole_tensor": [
        case("this function takes whole tensors, not indexed ones", body="y[t, d] = @softmax(z[t, d])"),
        case("this function takes whole tensors, not indexed ones", body="y[t, d] = @norm(x[t, d])"),
        case("this function takes whole tensors, not indexed ones", body="y[t] = @rms_scale(x[t, 0], eps)"),
    ],
    "language.power": [
        case("^ takes numbers", body="y = @z ^ 2"),
    ],
    "language.number": [
        case("this is no number that can be held", body="y = z * @10 ^ 60"),
        case("this is no number that can be held", body="y = z * (@1 / 0)"),
        case("this is no number that can be held", body="y = z * @99999999999999999999"),
        case("this is no number that can be held", body="y = z * @1e999"),
        case("this is no number that can be held", body="y = z * (@infinity - infinity)"),
        case("this is no number that can be held", body="y = z * @(-1) ^ 0.5"),
        case("this is no number that can be held", body="y = z * @2 ^ 65"),
        case("this is no number that can be held", body='weight u: bf16[@D * 4611686018427387904] "u" | y = u + 1'),
        case("this is no number that can be held", body="y = reshape(z, [@D / (D - D)])"),
        case("this is no number that can be held", config="F = width: int or 0", body='weight u: bf16[@D / F] "u" | y = u + 1'),
        case("this is no number that can be held", config="F = width: int or 4611686018427387904", body='weight u: bf16[@F * F] "u" | y = u + 1'),
    ],
    "language.rank": [
        case("x has another number of axes", item="block a(x: [T]) -> y |   return x", body="y = @a(z)"),
    ],
    "language.size": [
        case("a size of x differs", item="block a(x: [T, D]) -> y |   return x", body="y = @a(z)"),
        case("a size of y differs", item="block a(x) -> y: [T, D] |   return @x", body="y = a(z)"),
        case("a size of x differs", item="block a(x: [M, M]) -> y |   return x", body="y = @a(z)"),
    ],
    "language.size_kind": [
        case("a size belongs here", body='weight u: bf16[@eps] "u" | y = z * u'),
    ],
    "language.size_operation": [
        case("^ makes no size", body="y = reshape(z, [@T ^ 2])"),
    ],
    "language.fraction": [
        case("the size 1/3 * D is no whole number under this config", body='@weight u: bf16[D / 3] "u" | y = u + 1'),
        case("the size 5/2 is no whole number under this config", body='state s: partial[4, 1] f32[5] | a, b = split(x, [5, D - 5]) | weight p: f32[4, 5] "p" | y = @pool_windows(s, a, a, p)'),
    ],
    "language.size_range": [
        case("the size D + -9 is out of range under this config", body='@weight u: bf16[D - 9] "u" | y = u + 1'),
        case("the size D + -8 is out of range under this config", body='@weight u: bf16[D - 8] "u" | y = u + 1'),
    ],
    "language.run_time_size": [
        case("the size T is known only when the model runs", body='@weight u: bf16[T] "u" | y = u + 1'),
        case("the size T is known only when the model runs", body="y = @member(top(z, 1), T)"),
    ],
    "language.axes": [
        case("a tensor of too many axes", body='weight u: @bf16[1, 1, 1, 1, 1, 1, 1, 1, 1] "u" | y = u + 1'),
    ],
    "language.state_sizes": [
        case("the numbers of this state make no sense", body="@state s: ring[0] bf16[D] | y = append(s, x)"),
        case("the numbers of this state make no sense", body="@state s: partial[4, 2] f32[D] | y = pool_windows(s, x, x, x)"),
    ],
    "language.state_format": [
        case("state holds plain floats", body="state s: ring[4] @row8[D] | y = append(s, x)"),
    ],
    "language.linear": [
        case("the last axes differ", body="y = @linear(x, v)"),
        case("the last axes differ", body="y = @rms_norm(heads, z, eps)"),
        case("the last axes differ", body="state s: blocks[1] bf16[D] | k = append(s, x) | y = @attend(heads, [(k, visible(k))], scale = 1)"),
    ],
    "language.broadcast": [
        case("these axes do not line up", body="y = @x + z"),
        case("these axes do not line up", body="y = @x * reshape(z, [T, C, H])"),
        case("these axes do not line up", body="y = @concat(heads, x)"),
        case("these axes do not line up", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, visible(k))], scale = 1, sink = z)"),
    ],
    "language.reshape": [
        case("reshape keeps the number of elements", body="y = @reshape(z, [T, C])"),
        case("reshape keeps the number of elements", body="y = @reshape(z, [D, D])"),
    ],
    "language.reshape_run_time": [
        case("reshape keeps the axes that only a run determines, in their order", item="block a(k: [B, S, D]) -> y |   return @reshape(k, [S, B, D])", body="state s: blocks[1] bf16[D] | y = a(append(s, x))"),
    ],
    "language.hadamard": [
        case("a Hadamard transform needs a power of two", item="format h = scaled(f8e4m3, f8e8m0, [1, 4], after = hadamard)", body="a, b = split(x, [3, D - 3]) | y = @round_trip(a, h)"),
    ],
    "language.heads": [
        case("the heads of the keys do not divide those of the queries", body="state s: blocks[1] bf16[3, C] | k = append(s, repeat(reshape(take(z, top(z, C)), [T, C]), 3)) | y = @attend(heads, [(k, visible(k))], scale = 1)"),
    ],
    "language.values": [
        case("the values have fewer channels than asked for", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, visible(k))], scale = 1, values = D)"),
    ],
    "language.op": [
        case("graph.gather cannot be made", body="y = @gather(w, top(z, 1))"),
    ],
    "language.split": [
        case("the parts do not add up", body="a, b = @split(z, [C, C])"),
    ],
    "language.top": [
        case("more choices than scores", body="y = @top(z, 9)"),
    ],
    "language.rope": [
        case("the rope turns more channels than there are", body="y = @rope(reshape(z, [T, H * C / 2, 2]), position, layer.rope)"),
    ],
    "language.equation": [
        case("both sides have the same indices", body="@y[t, d] = sum(d2: x[t, d2])"),
        case("both sides have the same indices", body="@y[t] = 2"),
        case("both sides have the same indices", item="", body="state s: blocks[1] bf16[D] | keys = append(s, x) | @y[t, s2, d] = keys[t, s2, d]"),
    ],
    "language.equation_targets": [
        case("an index equation defines one value", body="@a[t], b = x"),
    ],
    "language.mixed_indices": [
        case("an indexed tensor meets one without indices", body="y[t, d] = @x[t, d] + x"),
    ],
    "language.index_name": [
        case("z is the name of a value", body="y[@z, d] = x[z, d]"),
        case("D is the name of a value", body="y[@D, d] = x[D, d]"),
        case("x is the name of a value", entry="for @x in layers |   x = layers[x](x)"),
    ],
    "language.index_repeated": [
        case("an index stands twice", body="y[t, @t] = x[t, t]"),
        case("an index stands twice", body="y[t, d] = @sum(d: x[t, d])"),
    ],
    "language.index_count": [
        case("as many indices as axes", body="y[t] = @x[t]"),
    ],
    "language.index_kind": [
        case("an index is a name or a whole number", body="y[t] = x[t, @eps]"),
    ],
    "language.index_size": [
        case("the index d runs over two sizes", body="y[t, d] = x[t, d] + z[t, @d]"),
    ],
    "language.index_range": [
        case("no element 8", body="y[t] = x[t, @8]"),
        case("no element 0", body="y[d] = x[@0, d]"),
        case("no element 2", body="y = @split(z, [C, C], axis = 2)"),
    ],
    "language.index_limit": [
        case("too many indices in one sum", body='weight u: f32[1, 1, 1, 1, 1, 1, 1, 1] "u" | y[a1, a2, a3, a4, a5, a6, a7, a8, b1, b2, b3, b4, b5, b6, b7, b8, c1, c2, c3, c4, c5, c6, c7, c8, d1, d2, d3, d4, d5, d6, d7] = @sum(d8: u[a1, a2, a3, a4, a5, a6, a7, a8] * u[b1, b2, b3, b4, b5, b6, b7, b8] * u[c1, c2, c3, c4, c5, c6, c7, c8] * u[d1, d2, d3, d4, d5, d6, d7, d8])'),
    ],
    "language.not_indexable": [
        case("this cannot be indexed", body="y[t] = @eps[t]"),
        case("this cannot be indexed", body="y[t, d] = @x[t, d][t, d]"),
    ],
    "language.sum_index": [
        case("the sum runs over j, which indexes nothing in it", body="y[t] = @sum(j: x[t, 0])"),
    ],
    "language.sum_body": [
        case("a sum takes indexed tensors", body="y[t] = sum(j: @x)"),
    ],
    "language.per_sequence": [
        case("a tensor kept for each sequence is read in sums of products only", body="state s: blocks[1] bf16[D] | keys = append(s, x) | y[t, s2, d] = @keys[t, s2, d] * x[t, d]"),
    ],
    "language.sequence_index": [
        case("a tensor kept for each sequence is read by a token of the result", body="state s: blocks[1] bf16[D] | keys = append(s, x) | y[s2] = @sum(t, d: keys[t, s2, d] * x[t, d])"),
    ],
    "language.append": [
        case("the rows do not fit the state", body="state s: ring[4] bf16[D] | y = @append(s, z)"),
        case("the rows do not fit the state", body='state s: partial[4, 1] f32[D] | weight b: f32[3, D] "b" | y = @pool_windows(s, x, x, b)'),
        case("the rows do not fit the state", body='state s: partial[4, 1] f32[D] | weight b: f32[4, D] "b" | y = @pool_windows(s, z, x, b)'),
    ],
    "language.pace": [
        case("the rows come at another pace than the state keeps them", body="state s: blocks[4] bf16[D] | y = @append(s, x)"),
    ],
    "language.rows": [
        case("rows of tokens or of windows belong here", body='state s: ring[4] bf16[D] | weight u: bf16[4, D] "u" | y = @append(s, u)'),
    ],
    "language.window": [
        case("window takes what append gives for a ring", body="y = @window(z)"),
    ],
    "language.visible": [
        case("visible takes what append gives for blocks", body="y = @visible(z)"),
    ],
    "language.sources": [
        case("attend takes a list of sources", body="y = @attend(heads, [z], scale = 1)"),
        case("attend takes a list of sources", body="y = @attend(heads, [(none, none)], scale = 1)"),
        case("attend takes a list of sources", body="state s: blocks[1] bf16[C] | state r: blocks[1] bf16[C] | a, b = split(z, [C, H * C - C]) | k = append(s, a) | held = append(r, a) | y = @attend(heads, [(k, held, visible(k)), (k, visible(k))], scale = 1)"),
    ],
    "language.scale": [
        case("attend needs its scale", body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | y = @attend(heads, [(k, visible(k))])"),
    ],
    "language.expert_prefix": [
        case("a part for each expert has {e} in its prefix, and no other part has", body='part e: norm[4](D) @"e." | y = e(x)'),
        case("a part for each expert has {e} in its prefix, and no other part has", body='part e: norm(D) @"e{e}." | y = e(x)'),
        case("a part for each expert has {e} in its prefix, and no other part has", body='@weight u: bf16[D] "u{e}" | y = u + 1'),
        case("a part for each expert has {e} in its prefix, and no other part has", item="block a(x, g) -> y |   @weight u: bf16[D, D] head |   return linear(x, u)", body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))', config="head = head_weight: text"),
    ],
    "language.nested_experts": [
        case("experts inside experts", item='block a(x, g) -> y |   @part e: c[2] "i{e}." |   return route(e, x, take(x, top(x, 2)), top(x, 2)) | block c(x, g) -> y |   return x', body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
    ],
    "language.rows_prefix": [
        case("a part over layers has {l} in its prefix, the number of the layer", entry='part more: decoder[layers] @"layers." | for l in layers |   x = more[l](x)'),
    ],
    "language.weight_twice": [
        case("the weight layers.{l}.u is declared with two shapes or formats", body='weight u: bf16[D] "u" | @weight u2: bf16[D, D] "u" | y = u + 1 | q = u2 + 1'),
        case("the weight layers.1.w is declared with two shapes or formats", entry='@weight u: bf16[D] "layers.1.w" | y = x * u'),
    ],
    "language.recursion": [
        case("block a is put to use inside itself", item='block a(x) -> y |   part b: a "" |   return @b(x)', body='part a: a "" | y = a(z)'),
        case("block a is put to use inside itself", item="block a(x) -> y |   return c(x) | block c(x) -> y |   return @a(x)", body="y = a(z)"),
    ],
    "language.layer_prefix": [
        case("{l} stands for the number of a layer; there is none here", entry='@weight u: bf16[D, D] "u{l}" | y = linear(x, u)'),
    ],
    "language.no_row": [
        case("layer is the row of a layer; this block is in none", entry="y = rope(x, position, @layer.rope)"),
    ],
    "language.row_column": [
        case("the config gives no column ratio", table="@ratio: int", body="y = layer.ratio"),
    ],
    "language.loop": [
        case("a for body is one call of its layers", entry="@for l in layers |   x = 2 * x"),
        case("a for body is one call of its layers", entry="for l in layers |   x = @layers[0](x)"),
        case("a for body is one call of its layers", entry="@for l in layers |   x = layers[l](x) |   x = layers[l](x)"),
    ],
    "language.loop_place": [
        case("for stands in entries only", body="@for l in layers |   z = norm(z)"),
    ],
    "language.loop_target": [
        case("a for carries values defined before it; y is not", entry="for l in layers |   @y = layers[l](x)"),
    ],
    "language.loop_part": [
        case("this is no part over layers", entry="for l in layers |   x = @x[l](x)"),
    ],
    "language.loop_rows": [
        case("the part runs over layers", entry="for l in @draft_layers |   x = layers[l](x)"),
    ],
    "language.carried": [
        case("the carried values are the first arguments", entry="for l in layers |   x = @layers[l](2 * x)"),
    ],
    "language.carried_kind": [
        case("a layer gives other values than it was called with", item='block thin(x: [T, D]) -> y |   a, b = split(x, [H, D - H]) |   return a | entry other(ids: i64[T]) -> y |   weight embed: bf16[V, D] "embed" |   part more: thin[layers] "t.{l}." |   x = gather(embed, ids) |   for l in layers |     x = @more[l](x) |   return x'),
    ],
    "language.require": [
        case("Base does not cover this config", config="require tie_word_embeddings is true", elsewhere=True),
        case("Base does not cover this config", config="require head_dim is @8"),
    ],
    "language.config_missing": [
        case("config.json has no key width", config="@F = width: int", body="y = F"),
    ],
    "language.config_kind": [
        case("the config key rms_norm_eps has another kind", config="F = rms_norm_eps: int", body="y = F", elsewhere=True),
        case("the config key width has another kind", config='@F = width: int or "wide"', body="y = F"),
    ],
    "language.no_rope": [
        case("the config gives no rope other", config="@other: rope", body="y = rope(heads, position, other)"),
    ],
}
# fmt: on


def error_of(run: Callable[[], Any]) -> UserError:
    with pytest.raises(UserError) as caught:
        run()
    return caught.value


def check_rendering(error: UserError) -> None:
    """One paragraph: place and message, the line with a caret, expected, found, one suggestion."""
    first, *rest = error.render().split("\n")
    assert "Traceback" not in error.render() and "" not in rest
    assert len([line for line in rest if line.startswith("  try: ")]) <= 1
    if error.spot is None:
        assert first == f"error: {error.message}"
        return
    place = f"{error.spot.file}:{error.spot.line}:{error.spot.column}"
    assert first == f"{place}: error: {error.message}"
    if error.spot.text:
        assert rest[0].endswith(error.spot.text.strip()[-20:]) or len(error.spot.text) > 100
        assert rest[1].strip() == "^"


@pytest.mark.parametrize(
    ("code", "example"),
    [
        pytest.param(code, one, id=f"{code}-{i}")
        for code in CASES
        for i, one in enumerate(CASES[code])
    ],
)
def test_example(code: str, example: Case) -> None:
    marked = put(**{key: text.replace(" | ", "\n") for key, text in example.snippets.items()})
    error = error_of(lambda: build(marked.replace("@", "")))
    assert error.code == code
    assert error.message.startswith(example.message)
    assert error.spot is not None
    if not example.elsewhere:
        before = marked[: marked.index("@")]
        place = before.count("\n") + 1, len(before) - before.rfind("\n")
        assert (error.spot.line, error.spot.column) == place
        assert error.spot.text == marked.replace("@", "").split("\n")[place[0] - 1]
    check_rendering(error)


# ---- what a snippet cannot show ----------------------------------------------------------------

V4_BASE = BASE.replace('"llama"', '"deepseek_v4"')
V4_CASE = put(V4_BASE, table="attention: block { sliding: norm }", body="y = layer.attention")
V4_CELL = put(V4_BASE, table="attention: int", body="y = layer.attention + z")
DRAFT = """\
entry draft(ids: i64[T]) -> y
  weight embed: bf16[V, D] "embed"
  part more: decoder[draft_layers] "more.{l}."
  x = gather(embed, ids)
  for l in draft_layers
    x = more[l](x)
  return x"""


def read_bytes(folder: Path, data: bytes) -> Any:
    (folder / "model.st").write_bytes(data)
    return read_model_file(folder / "model.st")


def import_circle(folder: Path) -> Any:
    (folder / "a.st").write_text('import "b.st"\n')
    (folder / "b.st").write_text('import "a.st"\n')
    return load_program(folder / "a.st")


def many_imports(folder: Path) -> Any:
    names = [f"{i}.st" for i in range(IMPORT_LIMIT + 1)]
    for name in names:
        (folder / name).write_text("format f = f32\n".replace("f ", f"f{name[:-3]} "))
    (folder / "all.st").write_text("".join(f'import "{name}"\n' for name in names))
    return load_program(folder / "all.st")


def draft_without_layers(folder: Path) -> Any:
    (folder / "model.st").write_text(put(item=DRAFT))
    return build_model(folder / "model.st", config(), entries=["draft"])


OTHERS: dict[str, Callable[[Path], Any]] = {
    "language.unreadable": lambda folder: read_model_file(folder / "absent.st"),
    "language.encoding": lambda folder: read_bytes(folder, b"model \xff"),
    "language.too_long": lambda folder: parse_model("#" * (LENGTH_LIMIT + 1), "model.st"),
    "language.empty": lambda folder: parse_model(" \n\n", "model.st"),
    "language.no_model": lambda folder: program_of(parse_model("format f = f32", "model.st")),
    "language.no_entry": lambda folder: program_of(parse_model('model M for "m"', "model.st")),
    "language.import_cycle": import_circle,
    "language.imports": many_imports,
    "language.unknown_entry": lambda folder: build_entries(folder, ["logit"]),
    "language.no_layers": draft_without_layers,
    "language.family": lambda folder: build(V4_BASE, config()),
    "language.case": lambda folder: build(V4_CASE, v4_config()),
    "language.cell": lambda folder: build(V4_CELL, v4_config()),
}


def build_entries(folder: Path, entries: list[str]) -> Any:
    (folder / "model.st").write_text(put())
    return build_model(folder / "model.st", config(), entries=entries)


@pytest.mark.parametrize("code", OTHERS)
def test_other_error(code: str, tmp_path: Path) -> None:
    error = error_of(lambda: OTHERS[code](tmp_path))
    assert error.code == code
    check_rendering(error)


def test_every_text_has_an_example() -> None:
    assert {*CASES, *OTHERS} == {*LANGUAGE_TEXTS}
    assert sum(len(held) for held in CASES.values()) >= 60


def test_a_suggestion_names_the_nearest() -> None:
    error = error_of(lambda: build(put(body="y = sofmax(z)")))
    assert "try: did you mean softmax?" in error.render()

"""Wrong models by example: kinds and sizes of values, index equations, state, attention.

A case has the beginning of the message and what goes where in `snippets.BASE`; ` | ` parts lines,
`@` marks the place that the error names (`elsewhere`: it names one outside of what was put in).
"""

from __future__ import annotations

from snippets import Case, case

# fmt: off
CASES: dict[str, list[Case]] = {
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
        case("wrong kind of value",
             body="state s: ring[4] bf16[H, C] | y = @pool_windows(s, z, z, z)"),
        case("wrong kind of value", body="y = @route(norm, x, z, z)"),
        case("wrong kind of value",
             item="block a(x: i32[T, D]) -> y |   return x",
             body="y = @a(x)"),
        case("wrong kind of value",
             item="block a(x: [T, D]) -> y |   return x",
             body="y = @a(layer.rope)"),
        case("wrong kind of value", item="block a(x) -> y: [T] |   return @none", body="y = a(x)"),
        case("wrong kind of value",
             item="block a(x) -> y |   return @split(x, [C, H * C - C])",
             body="y = a(z)"),
        case("wrong kind of value", body="y = @reshape(z, [T, eps])"),
        case("wrong kind of value",
             body="y = @concat(z, where(member(top(z, 1), H * C), 1, 0), norm)"),
        case("wrong kind of value", body="y = @concat(top(z, 1), z)"),
        case("wrong kind of value",
             body="y = concat(z, gather(w, reshape(top(z, 1), [T]))) | q = @concat(top(x, 1), x)"),
        case("wrong kind of value",
             item="block a(x, g) -> y |   return none",
             body='part e: a[4] "e{e}." | y = @route(e, x, take(x, top(x, 2)), top(x, 2))'),
        case("wrong kind of value", body="y = @softmax(w[0, 0])"),
        case("wrong kind of value", body="y = @attend(z, [(z, z)], scale = 1)"),
        case("wrong kind of value", body="y = @attend(heads, [(heads, position)], scale = 1)"),
        case("wrong kind of value",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, top(w, 1))], scale = 1)"),
        case("wrong kind of value",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1, round = f16)"),
        case("wrong kind of value",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1, span = 0)"),
    ],
    "language.arithmetic": [
        case("arithmetic takes float tensors and numbers", body="y = @z + norm"),
        case("arithmetic takes float tensors and numbers", body="y = @2 * position"),
        case("arithmetic takes float tensors and numbers",
             body='weight u: row8[D, D] "u" | y = @u + 1'),
    ],
    "language.stacked": [
        case("a weight with one copy for each expert enters li",
             item='block a(x, g) -> y |   weight u: bf16[D] "u" |   return @x * u',
             body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
        case("a weight with one copy for each expert enters li",
             item='block a(x, g) -> y |   weight u: bf16[D] "u" |   q[d] = @u[d] |   return x',
             body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
    ],
    "language.whole_tensor": [
        case("this function takes whole tensors, not indexed o",
             body="y[t, d] = @softmax(z[t, d])"),
        case("this function takes whole tensors, not indexed o", body="y[t, d] = @norm(x[t, d])"),
        case("this function takes whole tensors, not indexed o",
             body="y[t] = @rms_scale(x[t, 0], eps)"),
    ],
    "language.power": [
        case("^ takes numbers", body="y = @z ^ 2"),
        case("% takes numbers", body="y = @z % 2"),
    ],
    "language.number": [
        case("this is no number that can be held", body="y = z * @10 ^ 60"),
        case("this is no number that can be held", body="y = z * (@1 / 0)"),
        case("this is no number that can be held", body="y = z * @99999999999999999999"),
        case("this is no number that can be held", body="y = z * @1e999"),
        case("this is no number that can be held", body="y = z * (@infinity - infinity)"),
        case("this is no number that can be held", body="y = z * @(-1) ^ 0.5"),
        case("this is no number that can be held", body="y = z * @2 ^ 65"),
        case("this is no number that can be held",
             body='weight u: bf16[@D * 4611686018427387904] "u" | y = u + 1'),
        case("this is no number that can be held", body="y = reshape(z, [@D / (D - D)])"),
        case("this is no number that can be held",
             config="F = width: count or 0",
             body='weight u: bf16[@D / F] "u" | y = u + 1'),
        case("this is no number that can be held",
             config="F = width: int or 4611686018427387904",
             body='weight u: bf16[@F * F] "u" | y = u + 1'),
    ],
    "language.rank": [
        case("x has another number of axes",
             item="block a(x: [T]) -> y |   return x",
             body="y = @a(z)"),
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
        case("the size 1/3 * D is no whole number under this c",
             body='@weight u: bf16[D / 3] "u" | y = u + 1'),
        case("the size 5/2 is no whole number under this confi",
             body="state s: partial[4, 1] f32[5] | a, b = split(x, [5, D - 5]) | "
                  'weight p: f32[4, 5] "p" | y = @pool_windows(s, a, a, p)'),
    ],
    "language.size_range": [
        case("the size D - 9 is out of range",
             body='@weight u: bf16[D - 9] "u" | y = u + 1'),
        case("the size D - 8 is out of range",
             body='@weight u: bf16[D - 8] "u" | y = u + 1'),
    ],
    "language.run_time_size": [
        case("the size T is known only when the model runs",
             body='@weight u: bf16[T] "u" | y = u + 1'),
        case("the size T is known only when the model runs", body="y = @member(top(z, 1), T)"),
    ],
    "language.axes": [
        case("a tensor of too many axes", body="y = @reshape(z, [T, H * C, 1, 1, 1, 1, 1, 1, 1])"),
        case("a tensor of too many axes",
             body='weight u: @bf16[1, 1, 1, 1, 1, 1, 1, 1, 1] "u" | y = u + 1'),
    ],
    "language.state_sizes": [
        case("the numbers of this state make no sense",
             body="@state s: ring[0] bf16[D] | y = append(s, x)"),
        case("the numbers of this state make no sense",
             body="@state s: partial[4, 2] f32[D] | y = pool_windows(s, x, x, x)"),
    ],
    "language.state_format": [
        case("state holds plain floats", body="state s: ring[4] @row8[D] | y = append(s, x)"),
    ],
    "language.linear": [
        case("the last axes differ", body="y = @linear(x, v)"),
        case("the last axes differ", body="y = @rms_norm(heads, z, eps)"),
        case("the last axes differ",
             body="state s: blocks[1] bf16[D] | k = append(s, x) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1)"),
    ],
    "language.broadcast": [
        case("these axes do not line up", body="y = @x + z"),
        case("these axes do not line up", body="y = @x * reshape(z, [T, C, H])"),
        case("these axes do not line up", body="y = @concat(heads, x)"),
        case("these axes do not line up",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1, sink = z)"),
    ],
    "language.reshape": [
        case("reshape keeps the number of elements", body="y = @reshape(z, [T, C])"),
        case("reshape keeps the number of elements", body="y = @reshape(z, [D, D])"),
    ],
    "language.reshape_run_time": [
        case("reshape keeps the axes that only a run determine",
             item="block a(k: [B, S, D]) -> y |   return @reshape(k, [S, B, D])",
             body="state s: blocks[1] bf16[D] | y = a(append(s, x))"),
    ],
    "language.hadamard": [
        case("a Hadamard transform needs a power of two",
             item="format h = scaled(f8e4m3, f8e8m0, [1, 4], after = hadamard)",
             body="a, b = split(x, [3, D - 3]) | y = @round_trip(a, h)"),
    ],
    "language.heads": [
        case("the heads of the keys do not divide those of the",
             body="state s: blocks[1] bf16[3, C] | "
                  "k = append(s, repeat(reshape(take(z, top(z, C)), [T, C]), 3)) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1)"),
    ],
    "language.values": [
        case("the values have fewer channels than asked for",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, visible(k))], scale = 1, values = D)"),
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
        case("the rope turns more channels than there are",
             body="y = @rope(reshape(z, [T, H * C / 2, 2]), position, layer.rope)"),
    ],
    "language.equation": [
        case("both sides have the same indices", body="@y[t, d] = sum(d2: x[t, d2])"),
        case("both sides have the same indices", body="@y[t] = 2"),
        case("both sides have the same indices",
             item="",
             body="state s: blocks[1] bf16[D] | keys = append(s, x) | "
                  "@y[t, s2, d] = keys[t, s2, d]"),
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
        case("too many indices in one sum",
             body='weight u: f32[1, 1, 1, 1, 1, 1, 1, 1] "u" | '
                  "y[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u2, v2, w2, x2] = "
                  "@sum(y2, z2: u[a, b, c, d, e, f, g, h] * u[i, j, k, l, m, n, o, p] * "
                  "u[q, r, s, t, u2, v2, w2, x2] * u[y2, z2, 0, 0, 0, 0, 0, 0])"),
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
        case("a tensor kept for each sequence is read in sums ",
             body="state s: blocks[1] bf16[D] | keys = append(s, x) | "
                  "y[t, s2, d] = @keys[t, s2, d] * x[t, d]"),
    ],
    "language.sequence_index": [
        case("a tensor kept for each sequence is read by a tok",
             body="state s: blocks[1] bf16[D] | keys = append(s, x) | "
                  "y[s2] = @sum(t, d: keys[t, s2, d] * x[t, d])"),
    ],
    "language.append": [
        case("the rows do not fit the state", body="state s: ring[4] bf16[D] | y = @append(s, z)"),
        case("the rows do not fit the state",
             body='state s: partial[4, 1] f32[D] | weight b: f32[3, D] "b" | '
                  "y = @pool_windows(s, x, x, b)"),
        case("the rows do not fit the state",
             body='state s: partial[4, 1] f32[D] | weight b: f32[4, D] "b" | '
                  "y = @pool_windows(s, z, x, b)"),
    ],
    "language.pace": [
        case("the rows come at another pace than the state kee",
             body="state s: blocks[4] bf16[D] | y = @append(s, x)"),
    ],
    "language.rows": [
        case("rows of tokens or of windows belong here",
             body='state s: ring[4] bf16[D] | weight u: bf16[4, D] "u" | y = @append(s, u)'),
    ],
    "language.window": [
        case("window takes what append gives for a ring", body="y = @window(z)"),
    ],
    "language.visible": [
        case("visible takes what append gives for blocks", body="y = @visible(z)"),
    ],
    "language.sources": [
        case("attend takes a list of sources", body="y = @attend(heads, [z], scale = 1)"),
        case("attend takes a list of sources",
             body="y = @attend(heads, [(none, none)], scale = 1)"),
        case("attend takes a list of sources",
             body="state s: blocks[1] bf16[C] | state r: blocks[1] bf16[C] | "
                  "a, b = split(z, [C, H * C - C]) | k = append(s, a) | held = append(r, a) | "
                  "y = @attend(heads, [(k, held, visible(k)), (k, visible(k))], scale = 1)"),
    ],
    "language.scale": [
        case("attend needs its scale",
             body="state s: blocks[1] bf16[H, C] | k = append(s, heads) | "
                  "y = @attend(heads, [(k, visible(k))])"),
    ],
}
# fmt: on

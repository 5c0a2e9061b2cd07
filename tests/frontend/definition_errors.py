"""Wrong models by example: text, definitions, names, parts and layers, config.

A case has the beginning of the message and what goes where in `snippets.BASE`; ` | ` parts lines,
`@` marks the place that the error names (`elsewhere`: it names one outside of what was put in).
"""

from __future__ import annotations

from snippets import Case, case

# fmt: off
CASES: dict[str, list[Case]] = {
    "language.too_deep": [
        case("this nests too deeply", body="y = " + "(" * 40 + "@(1" + ")" * 41),
        case("this nests too deeply", body="y = z" + " + 1" * 200 + " @+ 1"),
    ],
    "language.character": [
        case("the character '&' has no meaning here", body="y = z @& 2"),
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
        case("this does not follow the grammar", body="y = z @is true"),
        case("this does not follow the grammar", table="kind: block { norm if l @}"),
    ],
    "language.indentation": [
        case("the indentation returns to a column at which no ",
             item="block a(x) -> y |     z = 2 * x |   @return z"),
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
    "language.import_outside": [
        case("../x.st is no model file of this model", item='import @"../x.st"'),
    ],
    "language.kind": [
        case("number is no kind here", config="F = intermediate_size: @number"),
        case("words is no kind here", table="kind: @words"),
        case("integer is no kind here", item="block a(x: @integer) -> y |   return x"),
        case("queue is no kind here", body="state s: @queue[4] bf16[D]"),
        case("fourier is no kind here",
             item="format f = scaled(f8e4m3, f8e8m0, [4], after = @fourier)"),
        case("rows is no kind here", entry="for l in @rows |   x = layers[l](x)"),
    ],
    "language.format_kind": [
        case("a format and sizes belong here", body='weight u: @bf16 "u"'),
        case("a format and sizes belong here", item="block a(x: @layer.rope) -> y |   return x"),
        case("a format and sizes belong here", item="block a(x) -> y: @int |   return x"),
        case("a format and sizes belong here", body='weight u: @[D] "u"'),
    ],
    "language.cases": [
        case("kind: cases belong to the kinds block and", table="@kind: block"),
        case("ratio: cases belong to the kinds block an", table="@ratio: int { one: norm }"),
        case("F: cases belong to the kinds", config='@F = width: int { one: norm } or 1',
             body="y = z * F"),
        case("F: cases belong to the kinds", config='F = width: text { @one: norm } or "one"',
             body="y = z * F"),
    ],
    "language.rule_cases": [
        case("kind: these cases do not say", table="@kind: block { norm if l < H }"),
        case("kind: these cases do not say", table="@kind: block { norm, decoder }"),
        case("kind: these cases do not say", table="@kind: block { a: norm, norm }"),
        case("kind: these cases do not say", table='@kind = types: block { norm if l < 1, norm }'),
        case("act: these cases do not say", config='@act: block { norm } or "a"'),
    ],
    "language.rope_place": [
        case("a rope says its channels", config="@other: rope",
             body="y = rope(heads, position, other)"),
        case("a rope says its channels", config="@F = width: int[C, halves]", body="y = z * F"),
        case("a rope says its channels", table="slow: rope[@C, halves]"),
    ],
    "language.rope_channels": [
        case("a rope turns pairs of channels", config="far = rope_theta: rope[C / 4, halves]",
             body="y = rope(heads, position, far)", elsewhere=True),
        case("a rope turns pairs of channels", config="far = rope_theta: rope[@3, halves]",
             body="y = rope(heads, position, far)"),
        case("a rope turns pairs of channels", config="far = rope_theta: rope[C - 3, halves]",
             body="y = rope(heads, position, far)", elsewhere=True),
    ],
    "language.rule": [
        case("a rule reads names, numbers", table="kind: block { norm if @exp(l) < 1, norm }"),
        case("a rule reads names, numbers", config="F = width: int or @[1, 2]", body="y = z * F"),
    ],
    "language.rule_only": [
        case("this is for the layer table", body="y = @true"),
        case("this is for the layer table", config="F = width: flag or true", body="y = z * @F"),
        case("this is for the layer table", config="F = width: list or none", body="y = z * @F"),
    ],
    "language.default": [
        case("the config has no width", config='F = width: int or @"wide"', body="y = F"),
        case("the config has no width", config='F = width: int or @H / 4', body="y = F"),
        case("the config has no width", config='F = width: flag or @1 | require F is true'),
        case("the config has no width", config='F = width: int or @0', body="y = F"),
    ],
    "language.format": [
        case("this is no format", item="format f = @f32 * 2"),
        case("this is no format", item="format f = @scaled(f8e4m3, f8e8m0)"),
        case("this is no format", item="format f = @scaled(f8e4m3, [4], inputs = row8)"),
    ],
    "language.format_block": [
        case("block sizes are whole numbers above 0",
             item="format f = scaled(f8e4m3, f8e8m0, @[0])"),
        case("block sizes are whole numbers above 0",
             item="format f = scaled(f8e4m3, f8e8m0, @[1, 2, 4])"),
    ],
    "language.format_scale": [
        case("bf16 cannot hold scales", item="format f = scaled(f8e4m3, @bf16, [4])"),
    ],
    "language.format_keyword": [
        case("inputs takes another format",
             item="format f = scaled(f8e4m3, f8e8m0, [4], inputs = @bf16)"),
        case("result takes another format",
             item="format f = scaled(f8e4m3, f8e8m0, [4], result = @4)"),
        case("result takes another format",
             item="format f = scaled(f8e4m3, f8e8m0, [4], result = @row8)"),
    ],
    "language.format_axes": [
        case("the blocks of row8 have more axes than this weig",
             body='@weight u: row8[D] "u" | y = z * u'),
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
        case("no format g",
             item='block a(x, f: int) -> y |   weight u: @g[D] "u" |   return x',
             body="y = z"),
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
        case("lines after return are never reached",
             item="block a(x) -> y |   @return x |   z = x"),
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
        case("the table has no column ration",
             table="ratio: int",
             item='block a(x) -> y |   weight u: @layer.ration[D] "u" |   return x'),
    ],
    "language.needs_part": [
        case("block decoder has weights, state or settings and", body="y = @decoder(z)"),
        case("block a has weights, state or settings and canno",
             item='block a(x) -> y |   part n: norm(D) "n." |   return n(x) | '
                  "block c(x, f: block) -> y |   return @f(x)",
             body='part c: c(a) "" | y = c(x)'),
    ],
    "language.not_callable": [
        case("this cannot be called", body="y = @z(2)"),
    ],
    "language.no_keywords": [
        case("a part of block norm is called with values only", body="y = norm(@x = z)"),
        case("a part over layers is called with values only",
             entry="for l in layers |   x = layers[l](x, @ids = ids)"),
    ],
    "language.many": [
        case("this part stands for many instances of norm",
             body='part e: norm[4](D) "e{e}." | y = @e(x)'),
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
        case("scaled has no argument input",
             item="format f = scaled(f8e4m3, f8e8m0, [4], @input = row8)"),
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
        case("the state s is used twice",
             body="state s: ring[4] bf16[H, C] | a = append(s, heads) | b = append(@s, heads)"),
    ],
    "language.expert_prefix": [
        case("a part for each expert has {e} in its prefix, an",
             body='part e: norm[4](D) @"e." | y = e(x)'),
        case("a part for each expert has {e} in its prefix, an",
             body='part e: norm(D) @"e{e}." | y = e(x)'),
        case("a part for each expert has {e} in its prefix, an",
             body='@weight u: bf16[D] "u{e}" | y = u + 1'),
        case("a part for each expert has {e} in its prefix, an",
             item="block a(x, g) -> y |   @weight u: bf16[D, D] head |   return linear(x, u)",
             body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))',
             config='head = head_weight: text or "head"'),
    ],
    "language.nested_experts": [
        case("experts inside experts",
             item='block a(x, g) -> y |   @part e: c[2] "i{e}." | '
                  "  return route(e, x, take(x, top(x, 2)), top(x, 2)) | block c(x, g) -> y | "
                  "  return x",
             body='part e: a[4] "e{e}." | y = route(e, x, take(x, top(x, 2)), top(x, 2))'),
    ],
    "language.rows_prefix": [
        case("a part over layers has {l} in its prefix, the nu",
             entry='part more: decoder[layers] @"layers." | for l in layers |   x = more[l](x)'),
    ],
    "language.weight_twice": [
        case("the weight layers.{l}.u is declared with two sha",
             body='weight u: bf16[D] "u" | @weight u2: bf16[D, D] "u" | y = u + 1 | q = u2 + 1'),
        case("the weight layers.1.w is declared with two shape",
             entry='@weight u: bf16[D] "layers.1.w" | y = x * u'),
    ],
    "language.recursion": [
        case("block a is put to use inside itself",
             item='block a(x) -> y |   part b: a "" |   return @b(x)',
             body='part a: a "" | y = a(z)'),
        case("block a is put to use inside itself",
             item="block a(x) -> y |   return c(x) | block c(x) -> y |   return @a(x)",
             body="y = a(z)"),
    ],
    "language.layer_prefix": [
        case("{l} stands for the number of a layer; there is n",
             entry='@weight u: bf16[D, D] "u{l}" | y = linear(x, u)'),
    ],
    "language.no_row": [
        case("layer is the row of a layer; this block is in no",
             entry="y = rope(x, position, @layer.rope)"),
    ],
    "language.row_column": [
        case("the config gives no column ratio", table="@ratio: int", body="y = layer.ratio"),
    ],
    "language.loop": [
        case("a for body is one call of its layers", entry="@for l in layers |   x = 2 * x"),
        case("a for body is one call of its layers", entry="for l in layers |   x = @layers[0](x)"),
        case("a for body is one call of its layers",
             entry="@for l in layers |   x = layers[l](x) |   x = layers[l](x)"),
    ],
    "language.loop_place": [
        case("for stands in entries only", body="@for l in layers |   z = norm(z)"),
    ],
    "language.loop_target": [
        case("a for carries values defined before it; y is not",
             entry="for l in layers |   @y = layers[l](x)"),
    ],
    "language.loop_part": [
        case("this is no part over layers", entry="for l in layers |   x = @x[l](x)"),
    ],
    "language.loop_rows": [
        case("the part runs over layers", entry="for l in @draft_layers |   x = layers[l](x)"),
    ],
    "language.carried": [
        case("the carried values are the first arguments",
             entry="for l in layers |   x = @layers[l](2 * x)"),
    ],
    "language.carried_kind": [
        case("a layer gives other values than it was called wi",
             item="block thin(x: [T, D]) -> y |   a, b = split(x, [H, D - H]) |   return a | "
                  'entry other(ids: i64[T]) -> y |   weight embed: bf16[V, D] "embed" | '
                  '  part more: thin[layers] "t.{l}." |   x = gather(embed, ids) | '
                  "  for l in layers |     x = @more[l](x) |   return x"),
    ],
    "language.require": [
        case("Base does not cover this config",
             config="require tie_word_embeddings is true", elsewhere=True),
        case("Base does not cover this config", config="require head_dim is 8", elsewhere=True),
    ],
}
# fmt: on

"""What users are told about model files."""

from supertile.ir.error_texts.text import Text

LANGUAGE_TEXTS: dict[str, Text] = {
    # The file
    "language.unreadable": Text("{file} cannot be read: {reason}", expected="a model file"),
    "language.encoding": Text(
        "{file} is not text", expected="UTF-8", found="a byte that is no UTF-8, at {byte}"
    ),
    "language.too_long": Text(
        "{file} is too long for a model file",
        expected="at most {limit} characters",
        found="{size}",
    ),
    "language.empty": Text("{file} is empty", expected="a model file, see docs/language.md"),
    "language.too_deep": Text(
        "this nests too deeply",
        expected="at most {brackets} levels of brackets, {operations} signs of arithmetic a line",
        suggestion="give a part of it a name on a line of its own",
    ),
    # The grammar
    "language.character": Text(
        "the character {character} has no meaning here", suggestion="comments begin with #"
    ),
    "language.syntax": Text(
        "this does not follow the grammar",
        expected="{expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "language.indentation": Text(
        "the indentation returns to a column at which no body began",
        expected="the column of an earlier line of the same block",
        suggestion="indent bodies by two spaces",
    ),
    # Definitions
    "language.no_model": Text(
        "no model line",
        expected='model NAME for "model_type"',
        suggestion="add it as the first line",
    ),
    "language.model_twice": Text(
        "a second model line", expected="one", suggestion="remove one of the two"
    ),
    "language.no_entry": Text(
        "no entry", expected="entry NAME(ids: i64[T]) -> logits", suggestion="add an entry"
    ),
    "language.defined_twice": Text(
        "the name {name} is taken",
        expected="one meaning for a name",
        found="an earlier definition, {earlier}",
        suggestion="choose another name",
    ),
    "language.builtin_name": Text(
        "{name} is a word of the language", suggestion="choose another name"
    ),
    "language.import_cycle": Text(
        "{file} imports itself, directly or through others",
        suggestion="move what both need to a third file",
    ),
    "language.import_missing": Text(
        "{file} does not exist", expected="a path relative to this file"
    ),
    "language.import_outside": Text(
        "{file} is no model file of this model",
        expected="a file ending in .st, in the folder of the main model file or below it",
    ),
    "language.imports": Text("too many imports", expected="at most {limit} files"),
    "language.kind": Text(
        "{name} is no kind here", expected="one of {known}", found="{name}", suggestion="{hint}"
    ),
    "language.format_kind": Text(
        "a format and sizes belong here", expected="a kind such as bf16[T, D]"
    ),
    "language.cases": Text(
        "{name}: cases belong to the kinds block and format, to text, and to ropes of the table",
        expected='{name}: block {{ value: block_name, ... }}, or text {{ value: "text", ... }}',
    ),
    "language.rule_cases": Text(
        "{name}: these cases do not say what every layer has",
        expected="{name}: block {{ first if l < K, second }}: a condition each but for the last",
        suggestion="a column with rules has no key, no default and no case of a value",
    ),
    "language.rope_place": Text(
        "a rope says its channels and which two of them turn together, in the config section",
        expected="turn = rope_theta: rope[C, halves], or [C, interleaved]",
    ),
    "language.rope_channels": Text(
        "a rope turns pairs of channels", expected="an even number of channels", found="{found}"
    ),
    "language.rule": Text(
        "a rule reads names, numbers and their arithmetic",
        expected="an expression such as (l + 1) % step",
        suggestion="calls and lists belong into blocks",
    ),
    "language.rule_only": Text(
        "this is for the layer table and for require, not for blocks",
        found="{found}",
        suggestion="let a column choose a block by it: {{ first if NAME is true, second }}",
    ),
    "language.default": Text(
        "the config has no {key}, and its default is of another kind",
        expected="{wanted}",
        found="{found}",
    ),
    "language.format": Text(
        "this is no format", expected="scaled(element, scale element, [block sizes])"
    ),
    "language.format_block": Text(
        "block sizes are whole numbers above 0", expected="a list such as [128, 128]"
    ),
    "language.format_scale": Text(
        "{found} cannot hold scales", expected="f8e8m0 or f32", found="{found}"
    ),
    "language.format_keyword": Text(
        "{name} takes another format",
        expected="inputs: a scaled format with blocks in one row; result: a plain float",
    ),
    "language.format_axes": Text(
        "the blocks of {name} have more axes than this weight", expected="{wanted} axes or more"
    ),
    "language.plain_format": Text(
        "{found} does not stand alone",
        expected="a plain format, or for weights a scaled one",
        suggestion="declare it: format NAME = scaled({found}, ...)",
    ),
    "language.format_element": Text(
        "{found} has no scales", expected="f8e4m3 or f4e2m1", found="{found}"
    ),
    "language.unknown_format": Text(
        "no format {name}", expected="a format of the model or an element", suggestion="{hint}"
    ),
    "language.state_kind": Text("{kind} takes {wanted}", expected="{kind}[{wanted}]"),
    "language.entry_parameter": Text(
        "an entry takes tensors; {name} is none", expected="a kind such as i64[T]"
    ),
    "language.no_results": Text(
        "block {name} states no results", expected="-> names of the results, behind its inputs"
    ),
    "language.no_return": Text(
        "block {name} does not end with return", expected="return as the last line"
    ),
    "language.after_return": Text(
        "lines after return are never reached", suggestion="make return the last line"
    ),
    "language.unused": Text(
        "the {what} {name} is never used", suggestion="use it or remove the line"
    ),
    # Names and calls
    "language.unknown_name": Text(
        "no value named {name}",
        expected="a name defined above, a config name, a block or a format",
        found="{name}",
        suggestion="{hint}",
    ),
    "language.unknown_function": Text(
        "no function, part or block named {name}", found="{name}", suggestion="{hint}"
    ),
    "language.unknown_column": Text(
        "the table has no column {name}", found="{name}", suggestion="{hint}"
    ),
    "language.unknown_entry": Text(
        "the model has no entry {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "language.needs_part": Text(
        "block {name} has weights, state or settings and cannot be called by itself",
        expected="a part of the block, then a call of the part",
        suggestion='part a: {name} "prefix."',
    ),
    "language.not_callable": Text("this cannot be called", found="{found}"),
    "language.no_keywords": Text(
        "{name} is called with values only", suggestion="give settings in the part line"
    ),
    "language.many": Text(
        "this part stands for many instances of {name}",
        expected="route(part, ...) for experts, part[l](...) in a for for layers",
    ),
    "language.argument_count": Text(
        "{name} takes ({wanted})", expected="{wanted}", found="{count} arguments"
    ),
    "language.keyword": Text(
        "{name} has no argument {keyword}", expected="{wanted}", found="{keyword}"
    ),
    "language.settings": Text(
        "the settings of {block} do not fit", expected="{block}({wanted}), each once"
    ),
    "language.target_count": Text(
        "as many names as values", expected="{wanted} values", found="{found}"
    ),
    "language.result_count": Text(
        "as many values as the block states results", expected="{wanted}", found="{found}"
    ),
    "language.state_twice": Text(
        "the state {name} is used twice",
        expected="each state value used once, by append or pool_windows",
        suggestion="keep what the first use gives and use that",
    ),
    # Kinds and sizes of values
    "language.value_kind": Text("wrong kind of value", expected="{wanted}", found="{found}"),
    "language.arithmetic": Text("arithmetic takes float tensors and numbers", found="{found}"),
    "language.stacked": Text(
        "a weight with one copy for each expert enters linear only", found="{found}"
    ),
    "language.whole_tensor": Text(
        "this function takes whole tensors, not indexed ones",
        found="{found}",
        suggestion="give the value a name first",
    ),
    "language.power": Text(
        "{symbol} takes numbers",
        expected="numbers on both sides",
        suggestion="of tensors, use sqrt, rsqrt or x * x",
    ),
    "language.number": Text(
        "this is no number that can be held",
        expected="whole numbers of 64 bits and finite fractions",
        suggestion="check divisors and powers",
    ),
    "language.rank": Text(
        "{name} has another number of axes", expected="{wanted} axes", found="{found}"
    ),
    "language.size": Text("a size of {name} differs", expected="{wanted}", found="{found}"),
    "language.size_kind": Text(
        "a size belongs here", expected="names of sizes, numbers, + - * /", found="{found}"
    ),
    "language.size_operation": Text("{symbol} makes no size", expected="+ - * and / by one term"),
    "language.fraction": Text(
        "the size {size} is no whole number under this config", found="{value}"
    ),
    "language.size_range": Text(
        "the size {size} is out of range under this config",
        expected="1 or more, in 64 bits",
        found="{value}",
    ),
    "language.run_time_size": Text(
        "the size {size} is known only when the model runs",
        expected="a size that the config determines",
    ),
    "language.axes": Text("a tensor of too many axes", expected="at most {limit}", found="{found}"),
    "language.state_sizes": Text(
        "the numbers of this state make no sense",
        expected="a window or ratio of 1 or more, an overlap of 0 or 1",
        found="{found}",
    ),
    "language.state_format": Text(
        "state holds plain floats", expected="f32, bf16 or f16", found="{found}"
    ),
    "language.linear": Text(
        "the last axes differ", expected="equal last axes", found="{x} and {w}"
    ),
    "language.broadcast": Text(
        "these axes do not line up",
        expected="equal axes, or those of one among those of the other in order",
        found="{a} and {b}",
        suggestion="write an index equation: y[t, d] = a[t] * b[t, d]",
    ),
    "language.reshape": Text(
        "reshape keeps the number of elements", expected="{wanted}", found="{found}"
    ),
    "language.reshape_run_time": Text(
        "reshape keeps the axes that only a run determines, in their order",
        expected="{wanted}",
        found="{found}",
    ),
    "language.hadamard": Text(
        "a Hadamard transform needs a power of two", expected="2, 4, 8, ...", found="{found}"
    ),
    "language.heads": Text(
        "the heads of the keys do not divide those of the queries",
        expected="q [T, heads, C] and keys [B, S, a divisor of heads, C]",
        found="{x} and {w}",
    ),
    "language.values": Text(
        "the values have fewer channels than asked for", expected="{wanted}", found="{found}"
    ),
    "language.op": Text("{op} cannot be made", expected="{reason}"),
    "language.split": Text("the parts do not add up", expected="{wanted}", found="{found}"),
    "language.top": Text("more choices than scores", expected="at most {found}", found="{count}"),
    "language.rope": Text(
        "the rope turns more channels than there are", expected="{dims} or more", found="{found}"
    ),
    # Index equations
    "language.equation": Text(
        "both sides have the same indices", expected="{wanted}", found="{found}"
    ),
    "language.equation_targets": Text(
        "an index equation defines one value", suggestion="write one equation a line"
    ),
    "language.mixed_indices": Text(
        "an indexed tensor meets one without indices",
        found="{a} and {b}",
        suggestion="index both",
    ),
    "language.index_name": Text(
        "{name} is the name of a value", expected="a name of its own for an index"
    ),
    "language.index_repeated": Text(
        "an index stands twice", expected="each index once in one tensor or sum"
    ),
    "language.index_count": Text(
        "as many indices as axes", expected="an index for each axis of {found}", found="{count}"
    ),
    "language.index_kind": Text("an index is a name or a whole number", found="{found}"),
    "language.index_size": Text(
        "the index {name} runs over two sizes", expected="{wanted}", found="{found}"
    ),
    "language.index_range": Text(
        "no element {index}", expected="0 to one less than {count}", found="{index}"
    ),
    "language.index_limit": Text(
        "too many indices in one sum", expected="at most {limit}", suggestion="sum in two steps"
    ),
    "language.not_indexable": Text("this cannot be indexed", expected="a tensor", found="{found}"),
    "language.sum_index": Text(
        "the sum runs over {name}, which indexes nothing in it", suggestion="index a tensor with it"
    ),
    "language.sum_body": Text(
        "a sum takes indexed tensors", expected="tensors with indices", found="{found}"
    ),
    "language.per_sequence": Text(
        "a tensor kept for each sequence is read in sums of products only",
        found="{found}",
        suggestion="write sum(c: q[t, c] * keys[t, s, c])",
    ),
    "language.sequence_index": Text(
        "a tensor kept for each sequence is read by a token of the result",
        expected="one other factor with {name}, and no other such index",
        suggestion="write sum(c: q[{name}, c] * keys[{name}, s, c])",
    ),
    # State and attention
    "language.append": Text("the rows do not fit the state", expected="{a}", found="{b}"),
    "language.pace": Text(
        "the rows come at another pace than the state keeps them",
        expected="rows [{wanted}, ...]",
        found="{found}",
    ),
    "language.rows": Text(
        "rows of tokens or of windows belong here",
        expected="[T, ...] or what pool_windows gives",
        found="{found}",
    ),
    "language.window": Text("window takes what append gives for a ring", found="{found}"),
    "language.visible": Text("visible takes what append gives for blocks", found="{found}"),
    "language.sources": Text(
        "attend takes a list of sources",
        expected="[(keys, index), ...] or [(keys, values, index), ...]",
    ),
    "language.scale": Text("attend needs its scale", suggestion="scale = C ^ -0.5"),
    # Parts and layers
    "language.expert_prefix": Text(
        "a part for each expert has {{e}} in its prefix, and no other part has",
        suggestion='part experts: expert[E] "experts.{{e}}."',
    ),
    "language.nested_experts": Text(
        "experts inside experts", expected="one level of parts for each expert"
    ),
    "language.rows_prefix": Text(
        "a part over layers has {{l}} in its prefix, the number of the layer",
        suggestion='part layers: decoder[layers] "layers.{{l}}."',
    ),
    "language.weight_twice": Text(
        "the weight {name} is declared with two shapes or formats",
        expected="one shape and format for a name of the checkpoint",
        suggestion="declare it in one block and make that a part of both users",
    ),
    "language.recursion": Text(
        "block {name} is put to use inside itself", suggestion="a block calls others only"
    ),
    "language.calls": Text(
        "blocks call blocks too often",
        expected="at most {limit} calls in a model",
        suggestion="give what a block computes a name instead of calling it again",
    ),
    "language.layer_prefix": Text(
        "{{l}} stands for the number of a layer; there is none here", found="{name}"
    ),
    "language.no_row": Text(
        "{name} is the row of a layer; this block is in none",
        suggestion="reach the block through a part over layers",
    ),
    "language.row_column": Text(
        "the config gives no column {name}: it has no {key}",
        suggestion="{hint}",
    ),
    "language.cell": Text("column {name} holds another kind", expected="{wanted}", found="{found}"),
    "language.case": Text(
        "column {name} has no case {found}", expected="one of {known}", found="{found}"
    ),
    "language.no_layers": Text(
        "the config has no {rows}", suggestion="compile an entry that needs none"
    ),
    "language.loop": Text(
        "a for body is one call of its layers",
        expected="X = layers[l](X, ...)",
    ),
    "language.loop_place": Text(
        "for stands in entries only", suggestion="move the loop to the entry"
    ),
    "language.loop_target": Text(
        "a for carries values defined before it; {name} is not", expected="X = layers[l](X, ...)"
    ),
    "language.loop_part": Text(
        "this is no part over layers", expected='part layers: block[layers] "..."', found="{found}"
    ),
    "language.loop_rows": Text("the part runs over {wanted}", expected="for l in {wanted}"),
    "language.carried": Text(
        "the carried values are the first arguments", expected="{wanted} first"
    ),
    "language.carried_kind": Text(
        "a layer gives other values than it was called with",
        expected="{wanted}",
        found="{found}",
    ),
    # Config
    "language.family": Text(
        "this config is of another model than {model}",
        expected="model_type {wanted}",
        found="{found}",
        suggestion="{hint}",
    ),
    "language.require": Text(
        "{model} does not cover this config", expected="{wanted}", found="{found}"
    ),
    "language.config_kind": Text(
        "the config key {key} has another kind", expected="{wanted}", found="{found}"
    ),
    "language.no_rope": Text("the config gives no rope {key}", expected="one of {known}"),
}

"""Every text that a user can be shown about wrong input, and the exception that carries it.

An error is data first: a code from `TEXTS`, the values that fill its text, and where the input has
lines, a `Spot`. `render` makes the one paragraph that the command line prints. Raise with

    raise UserError("checkpoint.missing", file=path, name=name)

and never with a text of your own. Whatever is raised that is no `UserError` is a bug.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Spot:
    """A place in a text that the user wrote: 1-based line and column, and the line itself."""

    file: str
    line: int
    column: int
    text: str = ""


@dataclass(frozen=True)
class Text:
    """One error: what is wrong, what was expected, what was found, what to try. Each a template."""

    message: str
    expected: str = ""
    found: str = ""
    suggestion: str = ""


class UserError(Exception):
    """The user's input is wrong; the command ends with exit code 1 and this error's paragraph."""

    def __init__(self, code: str, spot: Spot | None = None, **values: Any) -> None:
        text = TEXTS[code]
        self.code = code
        self.spot = spot
        self.values = values
        self.message = text.message.format(**values)
        self.expected = text.expected.format(**values)
        self.found = text.found.format(**values)
        self.suggestion = text.suggestion.format(**values)
        super().__init__(self.render())

    def render(self) -> str:
        """The paragraph: place, message, source line with caret, expected, found, suggestion."""
        lines = []
        if self.spot is None:
            lines.append(f"error: {self.message}")
        else:
            spot = self.spot
            lines.append(f"{spot.file}:{spot.line}:{spot.column}: error: {self.message}")
            if spot.text:
                shown, column = _window(spot.text.expandtabs(1), spot.column)
                gutter = f"{spot.line:>5} | "
                lines.append(gutter + shown)
                lines.append(" " * (len(gutter) + column - 1) + "^")
        for label, value in (
            ("expected", self.expected),
            ("found", self.found),
            ("try", self.suggestion),
        ):
            if value:
                lines.append(f"  {label}: {_shorten(value)}")
        return "\n".join(lines)


def nearest(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """`did you mean X?` for the closest known name, else `otherwise`."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def _window(text: str, column: int, width: int = 100) -> tuple[str, int]:
    """The part of a long line around the column, and the column within that part."""
    if len(text) <= width:
        return text, column
    start = max(0, min(column - 1 - width // 2, len(text) - width))
    return text[start : start + width], column - start


def _shorten(value: str, limit: int = 400) -> str:
    return value if len(value) <= limit else value[: limit - 3] + "..."


# Keyed by `area.case`; one table an area. `{}` fields are filled by the raiser.

CONFIG_TEXTS: dict[str, Text] = {
    # The file
    "config.absent": Text(
        "{file} does not exist",
        expected="a Hugging Face config.json",
    ),
    "config.folder": Text(
        "{file} is a folder",
        expected="a Hugging Face config.json",
        suggestion="name the config.json inside it",
    ),
    "config.unreadable": Text(
        "{file} cannot be read: {reason}",
        expected="a Hugging Face config.json",
    ),
    "config.huge": Text(
        "{file} is too large for a configuration",
        expected="at most {limit} bytes",
        suggestion="name the config.json, not the weights",
    ),
    "config.encoding": Text(
        "{file} is not text",
        expected="JSON in UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "config.empty": Text(
        "{file} is empty",
        expected="a Hugging Face config.json",
        suggestion="fetch the file again",
    ),
    # The JSON
    "config.syntax": Text(
        "this is not JSON",
        found="{reason}",
        suggestion="look just before the mark; JSON has no comments and no trailing commas",
    ),
    "config.nested": Text(
        "{file} nests its lists and objects too deeply",
        expected="the few levels of a Hugging Face config.json",
    ),
    "config.duplicate": Text(
        "the key {key} stands twice in one object",
        suggestion="remove one of the two",
    ),
    "config.constant": Text(
        "{found} is not a number that a configuration can hold",
        expected="a finite number, integers with at most {digits} digits",
    ),
    "config.object": Text(
        "the configuration is not an object",
        expected='keys and values in braces, {{"model_type": ...}}',
        found="{found}",
    ),
    # One key
    "config.missing": Text(
        "the key `{key}` is missing",
        expected="{expected}",
    ),
    "config.type": Text(
        "`{key}` has the wrong type",
        expected="{expected}",
        found="{found}",
    ),
    "config.range": Text(
        "`{key}` is out of range",
        expected="{expected}",
        found="{found}",
    ),
    "config.choice": Text(
        "`{key}` has an unknown value",
        expected="{known}",
        found="{found}",
        suggestion="{hint}",
    ),
    "config.family": Text(
        "`{key}` names a model family that cannot be read",
        expected="{known}",
        found="{found}",
        suggestion="{hint}",
    ),
    "config.length": Text(
        "`{key}` has the wrong number of entries",
        expected="{expected}",
        found="{found} entries",
    ),
    # Keys against each other
    "config.contradiction": Text(
        "`{first_key}` and `{key}` disagree{where}",
        found="{first} from `{first_key}`, {second} from `{key}`",
        suggestion="correct one of them, or remove it",
    ),
    "config.above": Text(
        "`{key}` is too large",
        expected="at most {limit}, which `{other}` allows",
        found="{found}",
    ),
    "config.divide": Text(
        "`{key}` does not divide `{other}`",
        expected="a divisor of {whole}",
        found="{found}",
    ),
    "config.odd": Text(
        "`{key}` gives no whole number of channel pairs to rotate",
        expected="an even number of channels, 2 or more",
        found="{found}",
    ),
}

CHECKPOINT_TEXTS: dict[str, Text] = {
    # The file system
    "checkpoint.no_file": Text(
        "{file} cannot be opened: {reason}",
        expected="a readable safetensors file, or a folder with one",
    ),
    "checkpoint.not_a_file": Text(
        "{file} is not a file",
        expected="a file, or the folder of a checkpoint",
        found="{kind}",
    ),
    "checkpoint.empty": Text(
        "{file} is empty",
        found="0 bytes",
        suggestion="fetch the file again",
    ),
    "checkpoint.pickle": Text(
        "{file} is no safetensors file but looks like a pickled PyTorch checkpoint",
        expected="weights as safetensors; pickles are never read, since reading one runs its code",
        suggestion="convert the weights to safetensors where you trust their source",
    ),
    # The header of one file
    "checkpoint.header_length": Text(
        "{file} is cut short, or is no safetensors file",
        expected="at least 8 bytes: a length, then a header of that length, at most {limit} bytes",
        found="{found}",
        suggestion="fetch the file again",
    ),
    "checkpoint.json": Text(
        "{file} does not hold the JSON object that it should",
        expected="{expected}",
        found="{found:.200}",
    ),
    "checkpoint.duplicate": Text(
        "{file} has the key {name!r:.200} twice in one JSON object",
        expected="every key once",
    ),
    "checkpoint.entry": Text(
        "the header of {file} describes the tensor {name!r:.200} wrongly",
        expected="dtype: text; shape: up to {rank} sizes from 0 on; data_offsets: begin and end",
    ),
    "checkpoint.offsets": Text(
        "the tensor {name!r:.200} lies outside the data of {file}",
        expected="bytes within 0 to {size}, begin before end",
        found="{begin} to {end}",
        suggestion="the file may be cut short: fetch it again",
    ),
    "checkpoint.size": Text(
        "the tensor {name!r:.200} in {file} has another size than its shape and dtype need",
        expected="{expected} bytes for {dtype} {shape}",
        found="{found} bytes",
    ),
    "checkpoint.overlap": Text(
        "the tensors {first!r:.200} and {second!r:.200} share bytes in {file}",
        expected="every tensor in bytes of its own",
    ),
    "checkpoint.unknown_dtype": Text(
        "the tensor {name!r:.200} in {file} has a dtype that is not read here",
        expected="one of {known}",
        found="{dtype!r:.60}",
    ),
    # A folder and its index
    "checkpoint.no_weights": Text(
        "the folder {file} holds no safetensors file",
        expected="model.safetensors, or model.safetensors.index.json with its shards",
    ),
    "checkpoint.many_files": Text(
        "the folder {file} holds {count} safetensors files and no model.safetensors.index.json",
        expected="an index that says which tensor lies in which file",
        suggestion="fetch the index, or name one of the files",
    ),
    "checkpoint.weight_map": Text(
        "{file} does not say which tensor lies in which shard",
        expected='an object "weight_map" from tensor names to file names',
        found="{found}",
    ),
    "checkpoint.shard_name": Text(
        "{file} names the shard {shard!r:.200}",
        expected="plain file names: shards lie in the folder of the index, never elsewhere",
    ),
    "checkpoint.no_shard": Text(
        "the shard {shard!r:.200} that {file} names is missing",
        suggestion="fetch the shard; the download may be incomplete",
    ),
    "checkpoint.broken_promise": Text(
        "{file} says that the tensor {name!r:.200} lies in {shard!r:.200}, which lacks it",
        expected="an index and shards of one release",
        suggestion="fetch the index and the shard again",
    ),
    # A tensor and its declaration
    "checkpoint.missing": Text(
        "{file} has no tensor {name!r:.200}{others}",
        expected="{declared}, shape {shape}",
        suggestion="{suggestion}",
    ),
    "checkpoint.shape": Text(
        "the tensor {name!r:.200} in {file} has another shape than the model{others}",
        expected="{expected}",
        found="{found}",
        suggestion="compare the sizes in config.json with this checkpoint",
    ),
    "checkpoint.dtype": Text(
        "the tensor {name!r:.200} in {file} has an unsuitable dtype{others}",
        expected="{expected}",
        found="{found!r:.60}",
    ),
    "checkpoint.narrower": Text(
        "the tensor {name!r:.200} in {file} is narrower than the model declares{others}",
        expected="{expected}",
        found="{found!r:.60}",
        suggestion="use the weights as released, not a copy with further rounding",
    ),
    "checkpoint.no_scales": Text(
        "the tensor {name!r:.200} in {file} lacks its scales{others}",
        expected="{first!r:.200} or {second!r:.200}, {shape}",
        found="{dtype} codes alone",
    ),
    "checkpoint.not_finite": Text(
        "the tensor {name!r:.200} in {file} holds NaN or infinity",
        expected="finite numbers",
        found="{count} of {size} elements, the first at {index}",
        suggestion="the file may be damaged: fetch it again",
    ),
}

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
    "language.imports": Text("too many imports", expected="at most {limit} files"),
    "language.kind": Text(
        "{name} is no kind here", expected="one of {known}", found="{name}", suggestion="{hint}"
    ),
    "language.format_kind": Text(
        "a format and sizes belong here", expected="a kind such as bf16[T, D]"
    ),
    "language.cases": Text(
        "column {name}: cases belong to the kinds block and format, and only to them",
        expected="{name}: block {{ value: block_name, ... }}",
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
    "language.arithmetic": Text(
        "arithmetic takes float tensors and numbers", found="{found}"
    ),
    "language.stacked": Text(
        "a weight with one copy for each expert enters linear only", found="{found}"
    ),
    "language.whole_tensor": Text(
        "this function takes whole tensors, not indexed ones",
        found="{found}",
        suggestion="give the value a name first",
    ),
    "language.power": Text(
        "^ takes numbers", expected="numbers on both sides", suggestion="use sqrt, rsqrt or x * x"
    ),
    "language.number": Text(
        "this is no number that can be held",
        expected="whole numbers of 64 bits and finite fractions",
        suggestion="check divisors and powers",
    ),
    "language.rank": Text(
        "{name} has another number of axes", expected="{wanted} axes", found="{found}"
    ),
    "language.size": Text(
        "a size of {name} differs", expected="{wanted}", found="{found}"
    ),
    "language.size_kind": Text("a size belongs here", expected="names of sizes, numbers, + - * /",
        found="{found}"),
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
    "language.axes": Text(
        "a tensor of too many axes", expected="at most {limit}", found="{found}"
    ),
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
    "language.index_kind": Text(
        "an index is a name or a whole number", found="{found}"
    ),
    "language.index_size": Text(
        "the index {name} runs over two sizes", expected="{wanted}", found="{found}"
    ),
    "language.index_range": Text(
        "no element {index}", expected="0 to one less than {count}", found="{index}"
    ),
    "language.index_limit": Text(
        "too many indices in one sum", expected="at most {limit}", suggestion="sum in two steps"
    ),
    "language.not_indexable": Text("this cannot be indexed", expected="a tensor",
        found="{found}"),
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
    "language.append": Text(
        "the rows do not fit the state", expected="{a}", found="{b}"
    ),
    "language.pace": Text(
        "the rows come at another pace than the state keeps them",
        expected="rows [{wanted}, ...]",
        found="{found}",
    ),
    "language.rows": Text(
        "rows of tokens or of windows belong here", expected="[T, ...] or what pool_windows gives",
        found="{found}",
    ),
    "language.window": Text(
        "window takes what append gives for a ring", found="{found}"
    ),
    "language.visible": Text(
        "visible takes what append gives for blocks", found="{found}"
    ),
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
        "the config gives no column {name}",
        suggestion="remove the column, or use the model file of this family",
    ),
    "language.cell": Text(
        "column {name} holds another kind", expected="{wanted}", found="{found}"
    ),
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
        suggestion="use the model file of {found}",
    ),
    "language.require": Text(
        "{model} does not cover this config", expected="{key}: {wanted}", found="{found}"
    ),
    "language.config_missing": Text(
        "{file} has no key {key}", expected="the key, or a default here: or VALUE"
    ),
    "language.config_kind": Text(
        "the config key {key} has another kind", expected="{wanted}", found="{found}"
    ),
    "language.no_rope": Text("the config gives no rope {key}", expected="one of {known}"),
}

RUN_TEXTS: dict[str, Text] = {
    # Token files
    "run.tokens_missing": Text("{file} {reason}", expected="a token file"),
    "run.tokens_huge": Text("{file} is too large", expected="at most {limit} bytes"),
    "run.tokens_empty": Text("{file} holds no tokens", expected="at least one sequence"),
    "run.tokens_broken": Text(
        "{file} cannot be read: {reason}", expected=".npy, .npz or text with token ids"
    ),
    "run.tokens_key": Text("{file} has no input_ids", expected="input_ids", found="{found}"),
    "run.tokens_shape": Text(
        "{file} does not hold token ids", expected="integers [B, S], lengths [B]", found="{found}"
    ),
    "run.tokens_word": Text(
        "this is no token id", expected="whole numbers, one sequence a line", found="{found}"
    ),
    "run.row_empty": Text(
        "sequence {row} of {file} is empty", expected="at least one token a sequence"
    ),
    "run.token_range": Text(
        "token {at} of sequence {row} is not in the vocabulary",
        expected="0 to one less than {size}",
        found="{found}",
        suggestion="use the tokens of this model's tokenizer",
    ),
    # What is run
    "run.context": Text(
        "the longest sequence is longer than the model's positions",
        expected="at most {limit} tokens (max_position_embeddings)",
        found="{found}",
    ),
    "run.no_entry": Text("the model has no entry {name} under this config", expected="{known}"),
    "run.trace_unmatched": Text("no value has a name like {name:.100}", suggestion="{hint}"),
    "run.pin_broken": Text("{file} cannot be used to pin values: {reason}", expected="an .npz file"),
    "run.pin_rows": Text(
        "{name} cannot be pinned", expected="a value with a row for each token or each window"
    ),
    "run.pin_shape": Text("the pin {name} has another shape", expected="{wanted}", found="{found}"),
    "run.pin_dtype": Text("the pin {name} has another dtype", expected="{wanted}", found="{found}"),
    "run.pin_effect": Text(
        "the model cannot go on with the pinned values of {names:.300}",
        found="{reason}",
        suggestion="pin numbers that the model could have computed: experts and blocks that exist",
    ),
    "run.nan": Text(
        "no next token: the logits of sequence {row} at position {position} hold NaN",
        expected="numbers, of which the largest is the next token",
        suggestion="look for the first NaN with --trace '*'",
    ),
    "run.pin_unused": Text(
        "no value {name} was computed",
        expected="names as --trace '*' shows them",
        suggestion="{hint}",
    ),
}

IR_TEXTS: dict[str, Text] = {
    "ir.version": Text(
        "{file} is no IR text of this version",
        expected="the first line {expected!r}",
        found="{found!r:.100}",
        suggestion="write the text again with this version of Supertile",
    ),
    "ir.syntax": Text("{message:.300}", suggestion="{suggestion}"),
    "ir.undefined": Text(
        "the value {name:.100} is used but never defined",
        expected="a function argument, or the result of an op above",
        suggestion="{suggestion}",
    ),
    "ir.invalid": Text("{op} does not hold what it must: {message:.300}"),
    "ir.too_large": Text(
        "{file} is too large",
        expected="at most {limit} characters of IR text",
        found="{size}",
    ),
    "ir.too_deep": Text(
        "{file} is nested too deeply",
        expected="at most {limit} regions within each other, and attributes nested as sparingly",
    ),
}

PASS_TEXTS: dict[str, Text] = {
    "pass.syntax": Text(
        "the pipeline cannot be read here",
        expected="{expected}",
        found="{found:.100}",
        suggestion="a pipeline reads like 'specialize{{tokens=1 batch=8}},cse'",
    ),
    "pass.unknown": Text(
        "there is no pass {name:.100}",
        expected="one of {known}",
        suggestion="{suggestion}",
    ),
    "pass.unknown_option": Text(
        "the pass {name} has no option {option:.100}",
        expected="{known}",
        suggestion="{suggestion}",
    ),
    "pass.option_twice": Text("the option {option:.100} of the pass {name} is given twice"),
    "pass.option_missing": Text(
        "the pass {name} needs the option {option}",
        expected="{expected}",
    ),
    "pass.option_value": Text(
        "the option {option} of the pass {name} cannot have this value",
        expected="{expected}",
        found="{found:.100}",
    ),
    "pass.size_range": Text(
        "the option {option} of the pass specialize is out of range",
        expected="an integer of at least 1",
        found="{found}",
    ),
    "pass.size_conflict": Text(
        "@{function} already has another size for the axis {axis}",
        expected="{found}, as the function has",
        found="{given}",
        suggestion="specialize the module that has the sizes open",
    ),
    "pass.size_fit": Text(
        "these sizes do not fit the model: {op} at {place}",
        found="{reason}",
        suggestion="try larger sizes; see which sizes the op needs",
    ),
}

COMMAND_TEXTS: dict[str, Text] = {
    # Files that a command writes
    "command.unwritable": Text(
        "{file} cannot be written: {reason}",
        suggestion="name a place that you may write to",
    ),
    "command.full": Text(
        "{file} cannot be written: {reason}",
        suggestion="free space, or name a place elsewhere; what was there before is unchanged",
    ),
    # The command line
    "command.usage": Text("{message}", suggestion="{hint}"),
    "command.unknown": Text(
        "there is no command {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.no_model": Text(
        "there is no model file {name}",
        expected="a path, or a shipped model: {known}",
        suggestion="{hint}",
    ),
    "command.no_config": Text(
        "there is no config {name}",
        expected="a path, or a shipped config: {known}",
        suggestion="{hint}",
    ),
    "command.target": Text(
        "there is no target {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.level": Text(
        "there is no level {name}", expected="one of {known}", suggestion="{hint}"
    ),
    "command.stop_after": Text(
        "no pass or phase {name} is run", expected="one of {known}", suggestion="{hint}"
    ),
    "command.no_such": Text("there is no {what} {name}", suggestion="{hint}"),
    "command.no_pipeline": Text(
        "{file} is no reproducer and no passes are given", suggestion="-p 'canonicalize,cse'"
    ),
    "command.unreadable": Text("{file} cannot be read: {reason}"),
    "command.memory": Text(
        "not enough memory", suggestion="use fewer sequences, a shorter context or smaller chunks"
    ),
    # Comparing numbers
    "command.check_entries": Text(
        "the module names no entries, so its numbers cannot be compared",
        expected="a module that compile or a failed comparison wrote (supertile.entries)",
    ),
    "command.check_size": Text(
        "the module is too large to compare its numbers",
        expected="at most {limit} weights",
        found="{found}",
        suggestion="compile --check-numerics, which makes the model small",
    ),
    "command.check_call": Text(
        "no call fits the sizes that the module is specialised to, so its numbers cannot be compared",
        expected="at most batch x context tokens",
        found="{tokens} tokens for {batch} sequences of {context}",
    ),
    "command.is_folder": Text(
        "{file} is a folder",
        expected="the name of a file to write",
    ),
}

MACHINE_TEXTS: dict[str, Text] = {
    # Which machine
    "machine.unknown": Text(
        "there is no machine {name!r:.100}",
        expected="one of {known}, or the path of a machine file",
        suggestion="{hint}",
    ),
    # The file
    "machine.absent": Text("{file} does not exist", expected="a machine file"),
    "machine.folder": Text(
        "{file} is a folder",
        expected="a machine file",
        suggestion="name the .toml file inside it",
    ),
    "machine.special_file": Text("{file} is no ordinary file", expected="a machine file"),
    "machine.unreadable": Text("{file} cannot be read: {reason}", expected="a machine file"),
    "machine.huge": Text(
        "{file} is too large for a machine file", expected="at most {limit} bytes"
    ),
    "machine.encoding": Text(
        "{file} is not text",
        expected="TOML in UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "machine.empty": Text(
        "{file} is empty",
        expected="a machine file",
        suggestion="see `supertile list targets --show h200` for what one holds",
    ),
    "machine.syntax": Text("this is not TOML", found="{reason}"),
    "machine.nested": Text(
        "{file} nests its tables too deeply", expected="the few levels of a machine file"
    ),
    # Keys
    "machine.unknown_key": Text(
        "{where} has no key {key!r:.100}", expected="one of {known}", suggestion="{hint}"
    ),
    "machine.missing": Text(
        "`{key}` is missing",
        expected="`{key}` in this table",
        suggestion='where a figure is not known: {{ value = "unknown", reason = "..." }}',
    ),
    "machine.table": Text("`{key:.100}` is no table", expected="a table", found="{found}"),
    "machine.text": Text(
        "`{key:.100}` is no text", expected="printable text of at least one letter", found="{found}"
    ),
    "machine.list": Text(
        "`{key}` is no list of words", expected='a list such as ["bf16"]', found="{found}"
    ),
    "machine.choice": Text(
        "`{key}` has an unknown value",
        expected="{expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "machine.name": Text(
        "`{key:.100}` is not a name",
        expected="small letters, digits and _; in the machine's name also - and ., in a source's name capitals",
        found="{found!r:.100}",
    ),
    # One figure
    "machine.figure": Text(
        "`{key}` is no figure",
        expected='{{ value = 1, unit = "{unit}", source = "...", evidence = "vendor" }}',
        found="{found}",
    ),
    "machine.number": Text(
        "`{key}` is no figure that a machine can have",
        expected='a number above 0, or "unknown"',
        found="{found}",
    ),
    "machine.whole": Text("`{key}` counts something", expected="a whole number", found="{found}"),
    "machine.fraction": Text(
        "`{key}` is a fraction of a peak", expected="a number from 0 to 1", found="{found}"
    ),
    "machine.unit": Text(
        "`{key}` is no unit that is known here",
        expected="one of {expected}",
        found="{found:.60}",
        suggestion="{hint}",
    ),
    "machine.dimension": Text(
        "`{key}` is the unit of another quantity",
        expected="one of {expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "machine.source": Text(
        "`{key}` names no source of this file",
        expected="a name of [sources], then the place in it; one of {known}",
        found="{found:.100}",
        suggestion="{hint}",
    ),
    "machine.note": Text(
        "`{key}` is {evidence} and does not say how",
        expected='note = "..." with the reasoning',
    ),
    # Facts against each other
    "machine.repeated": Text("`{table}` has {what} twice", expected="each once"),
    "machine.no_engine": Text(
        "no engine has the kind {kind}",
        expected="an engine of kind matrix and one of kind vector",
    ),
    "machine.not_stored": Text(
        "`{key}` computes what the machine does not store",
        expected="{holds} in formats.stored, or no rate for {format}",
    ),
    "machine.not_computed": Text(
        "`{key}`: the matrix engine has no rate for {format}", expected="one of {known}"
    ),
    "machine.main_memory": Text(
        "one memory is the main memory: the one without `outer`",
        expected="one memory without `outer`",
        found="{found}",
    ),
    "machine.circle": Text(
        "`{key}` leads around in a circle",
        expected="memories that end at the main memory",
        found="{steps}",
    ),
    "machine.smaller": Text(
        "`{key}` is smaller than `{inner}`", expected="at least {least}", found="{found}"
    ),
    "machine.nest": Text(
        "`{key}` does not nest",
        expected="a multiple of {count} ({inner}), and more than that",
        found="{found}",
        suggestion="list the domains from the innermost to the outermost",
    ),
    "machine.size": Text(
        "the machine's devices are those of none of its domains",
        expected="1, or the size of a domain ({known})",
        found="{found}",
    ),
    "machine.faster": Text(
        "`{key}` is faster than the link of its domain",
        expected="at most {limit}",
        found="{found}",
    ),
    # What a figure is needed for
    "machine.unknown_figure": Text(
        "{needed_by} needs `{name}` of {machine}, which is unknown",
        found="{reason}",
        suggestion="copy the machine file, write the figure with its source there, and name the copy",
    ),
}

DEPLOY_TEXTS: dict[str, Text] = {
    # The text of --deploy
    "deploy.syntax": Text(
        "there is no key here", expected="KEY=VALUE, without spaces in it", found="{found!r:.60}"
    ),
    "deploy.unknown_key": Text(
        "a deployment has no key {key!r:.60}", expected="one of {known}", suggestion="{hint}"
    ),
    "deploy.twice": Text("`{key}` is given twice", expected="every key once at most"),
    "deploy.no_value": Text("`{key}` has no value", expected="{key}=VALUE: {expected}"),
    "deploy.value": Text(
        "`{key}` has a wrong value",
        expected="{expected}",
        found="{found!r:.60}",
        suggestion="{hint}",
    ),
    "deploy.no_phase": Text(
        "the deployment does not say which phase it is for",
        expected="phase=prefill or phase=decode",
        suggestion='--deploy "{nearest}"',
    ),
    # Values that do not fit each other
    "deploy.count": Text(
        "`{key}` counts something",
        expected="1 or more",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.phase": Text(
        "`{key}` is for {phase} only",
        expected="`{key}` with phase={phase}",
        found="phase={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.chunk": Text(
        "the chunk is longer than the prompt",
        expected="at most context={context}",
        found="chunk={found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.world": Text(
        "attention and experts run on the same ranks, but these are not as many",
        expected="tp * dp = ep = {ep}",
        found="tp={tp} dp={dp}, which is {found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.slot_ranks": Text(
        "not every rank gets its slots",
        expected="1 slot or more on each of ep={ep} ranks",
        found="slots on {found} ranks",
        suggestion='--deploy "{nearest}"',
    ),
    # Deployments that the model does not allow
    "deploy.dense": Text(
        "`{key}` places experts, and this {model} is dense: it has none",
        expected="no slots, and ranks given by tp and dp alone",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.heads": Text(
        "the ranks of a group cannot share the model's attention evenly",
        expected="a tp among which {shared} divide",
        found="tp={tp}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.few_slots": Text(
        "there are more experts than slots",
        expected="at least {experts} slots in all, one for each expert of a layer",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.many_slots": Text(
        "a rank has more slots than there are experts, and would hold one twice",
        expected="at most {experts} slots on a rank",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.context": Text(
        "this {model} has fewer positions than the context has tokens",
        expected="at most context={limit} (max_position_embeddings)",
        found="{found}",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.drafts": Text(
        "a step of this {model} cannot accept so many draft tokens",
        expected="{wanted}",
        found="mtp={found}",
        suggestion='--deploy "{nearest}"',
    ),
    # Deployments that the machine does not allow
    "deploy.devices": Text(
        "{machine} has fewer devices than the deployment has ranks",
        expected="at most {limit}; a rank is one {unit}",
        found="{found} ranks",
        suggestion='--deploy "{nearest}"',
    ),
    "deploy.cache": Text(
        "{machine} cannot store the FP8 part of cached entries",
        expected="cache=bf16",
        found="cache=fp8; it stores {found}",
        suggestion='--deploy "{nearest}"',
    ),
}

TEXTS: dict[str, Text] = {
    **CONFIG_TEXTS,
    **CHECKPOINT_TEXTS,
    **LANGUAGE_TEXTS,
    **RUN_TEXTS,
    **IR_TEXTS,
    **PASS_TEXTS,
    **COMMAND_TEXTS,
    **MACHINE_TEXTS,
    **DEPLOY_TEXTS,
}

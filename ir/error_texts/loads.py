"""What users are told about files of expert loads, and texts that describe loads."""

from supertile.ir.error_texts.text import Text

CONVERT = (
    'where you trust the file: python -c "import numpy, torch; '
    "d = torch.load('F.pt', weights_only=True); "
    "numpy.savez('F.npz', logical_count=d['logical_count'])\""
)

LOADS_TEXTS: dict[str, Text] = {
    # The file
    "loads.absent": Text("{file} does not exist", expected="a file of expert loads"),
    "loads.folder": Text(
        "{file} is a folder",
        expected="a file of expert loads",
        suggestion="name the .pt, .npz, .json or .csv file inside it",
    ),
    "loads.folder_files": Text(
        "the folder {file} does not say which of its files are the loads",
        expected="files of one kind: {known}",
        found="{found}",
        suggestion="name them by a pattern in quotes, 'FOLDER/rank*.csv', or --loads F --loads F",
    ),
    "loads.no_match": Text(
        "no file is named by {pattern:.300}", expected="a pattern of existing files of loads"
    ),
    "loads.file_twice": Text(
        "{file:.300} is named twice, and would count twice", expected="each file once"
    ),
    "loads.many_files": Text(
        "there are too many files of loads", expected="at most {limit}", found="{found}"
    ),
    "loads.laws": Text(
        "loads are made by one law, or are the sum of files",
        expected="one law, or files alone",
        found="the law {found:.60} and others",
        suggestion="give --loads once",
    ),
    "loads.special_file": Text("{file} is no ordinary file", expected="a file of expert loads"),
    "loads.unreadable": Text(
        "{file:.300} cannot be read: {reason}", expected="a file of expert loads"
    ),
    "loads.huge": Text(
        "{file} is too large for a file of expert loads",
        expected="at most {limit} bytes",
        suggestion="add up steps, or keep fewer of them; .npz takes more than text",
    ),
    "loads.encoding": Text(
        "{file} is not text",
        expected="UTF-8",
        found="a byte that is no UTF-8, at position {position}",
    ),
    "loads.empty": Text(
        "{file} is empty", expected="a file of expert loads", suggestion="record the loads again"
    ),
    "loads.suffix": Text(
        "{file} does not say by its name what it holds",
        expected="a name that ends with {expected}",
        found="{found:.60}",
        suggestion="{hint}",
    ),
    "loads.broken": Text(
        "{file} is cut short or damaged: {reason}",
        expected="a whole file of torch.save (.pt), numpy.savez, numpy.save or safetensors, of "
        "numbers alone",
        suggestion="copy the file again",
    ),
    "loads.torch_refused": Text(
        "{file} holds more than tables of numbers; a pickle is a program and is never run here",
        expected="dict, list, tuple, numbers, words and tensors, saved by torch 1.6 or newer",
        found="{found}",
        suggestion=CONVERT,
    ),
    # The JSON
    "loads.syntax": Text("this is not JSON", found="{reason}"),
    "loads.nested": Text(
        "{file} nests its lists too deeply", expected="counts by step, layer and expert"
    ),
    "loads.duplicate": Text(
        "the key {key} stands twice in one object", suggestion="remove one of the two"
    ),
    "loads.constant": Text(
        "{found} is not a number that counts tokens",
        expected="a finite number, integers with at most {digits} digits",
    ),
    # Its keys and tables
    "loads.keys": Text(
        "{file} has no key of a table of expert counts",
        expected="one of {expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "loads.numbers": Text(
        "`{key}` in {file} is no table of numbers", expected="numbers alone", found="{found}"
    ),
    "loads.ragged": Text(
        "the rows of a table differ at `{key}` in {file}",
        expected="{expected}, as the first has",
        found="{found}",
    ),
    "loads.elements": Text(
        "`{key}` in {file} is too large, or nested too deeply",
        expected="at most {limit} numbers by step, layer and expert",
        suggestion="add up steps, or keep fewer of them",
    ),
    "loads.rank": Text(
        "`{key}` in {file} has another number of axes", expected="{expected}", found="{found}"
    ),
    "loads.rows": Text(
        "`{key}` in {file} does not fit the layers of the model",
        expected="{expected}",
        found="{found} rows",
        suggestion="check that the loads are of this model; `layers` can name the rows",
    ),
    "loads.experts": Text(
        "`{key}` in {file} does not fit the experts of the model",
        expected="{expected} experts in a row",
        found="{found}",
        suggestion="counts of slots need a physical_to_logical_map beside them",
    ),
    "loads.value": Text(
        "`{key}` in {file} is no count of tokens",
        expected="{expected}",
        found="{found}",
    ),
    "loads.dense_rows": Text(
        "`{key}` in {file} counts tokens of experts in a layer that has none",
        expected="rows of zeros for {dense}",
        found="counts in layer {found}",
        suggestion="check that the loads are of this model",
    ),
    "loads.layers": Text(
        "`{key}` in {file} does not name the layers of the rows",
        expected="{expected}",
        found="{found}",
    ),
    "loads.pairs": Text(
        "`{key}` in {file} is no table of pairs of experts",
        expected="{expected}",
        found="{found}",
    ),
    "loads.windows": Text(
        "{file} cannot be added to {first}: their windows of time do not match",
        expected="{expected}, as the first has",
        found="{found}",
        suggestion="add up the steps of each file first",
    ),
    "loads.rank_twice": Text(
        "{file} has counts of rank {rank} in the window {window}, and so has {first}",
        expected="a window of a rank in one file",
        suggestion="name one of the two files",
    ),
    "loads.no_counts": Text(
        "`{key}` in {file} counts no token at all",
        expected="counts in one layer at least",
        suggestion="record while requests run, or take --loads uniform",
    ),
    # Counts of slots
    "loads.no_map": Text(
        "`{key}` in {file} counts tokens of slots, and nothing says which expert is in which",
        expected="{expected} beside it",
    ),
    "loads.map": Text(
        "`{key}` in {file} does not say which expert is in which slot",
        expected="{expected}",
        found="{found}",
    ),
    "loads.idle_load": Text(
        "a slot that holds no expert has tokens, by `{key}` in {file}",
        expected="no tokens where the map has -1",
    ),
    "loads.records": Text(
        "`{key}` in {file} is no record of a forward pass",
        expected="a list of objects with global_physical_count [layers][slots], of one shape",
        found="{found}",
        suggestion="record with --expert-distribution-recorder-mode stat",
    ),
    "loads.devices": Text(
        "`{key}` in {file} has no loads of experts on devices",
        expected='layers by position, {{"layer_id": 0, "device_list": [{{"device_expert": [..], '
        '"device_expert_load": [..]}}, ..]}}',
        found="{found}",
    ),
    # Comma-separated text
    "loads.header": Text(
        "the first line does not name the columns",
        expected="{expected}; step may be left out",
        found="{found}",
        suggestion="{hint}",
    ),
    "loads.lines": Text(
        "nothing stands below the names of the columns", expected="a line for each expert"
    ),
    "loads.width": Text(
        "this line has another number of columns",
        expected="{expected}, as the first line",
        found="{found}",
    ),
    "loads.cell": Text("this is no {name}", expected="{expected}", found="{found}"),
    "loads.twice": Text(
        "a second line for one expert", expected="one line for each step, layer and expert"
    ),
    "loads.many_steps": Text(
        "there are too many steps",
        expected="at most {limit} counts by step, layer and expert",
        found="{found} steps",
        suggestion="add up steps, or keep fewer of them",
    ),
    # The text of made-up loads
    "loads.law": Text(
        "loads begin with a law, or name a file",
        expected="{expected}; or a path that ends with .pt, .npz, .npy, .safetensors, "
        ".json or .csv",
        found="{found!r:.60}",
        suggestion="{hint}",
    ),
    "loads.no_value": Text("`{law}` needs a value", expected="{law}:VALUE, {expected}"),
    "loads.law_value": Text("`{law}` takes no value", expected="{law}, then KEY=VALUE"),
    "loads.key": Text(
        "there is no such key of made-up loads",
        expected="{expected}",
        found="{found}",
        suggestion="{hint}",
    ),
    "loads.key_twice": Text("`{key}` is given twice", expected="every key once at most"),
    "loads.key_value": Text("`{key}` has a wrong value", expected="{expected}", found="{found}"),
    # Routings and tables of token ids
    "loads.chosen": Text(
        "{name} chooses an expert that the model does not have",
        expected="experts from 0 to {limit}",
        found="{found} at {at}",
    ),
    "loads.token_id": Text(
        "a token id is outside the table of a layer",
        expected="ids from 0 to {limit}",
        found="{found} at position {at}",
    ),
}

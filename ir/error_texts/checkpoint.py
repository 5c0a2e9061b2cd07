"""What users are told about checkpoints."""

from supertile.ir.error_texts.text import Text

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
    "checkpoint.changed": Text(
        "{file} has changed while it was read",
        expected="a file that stays as it is while a run lasts",
        found="{found}",
        suggestion="run again once the file is whole",
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
    "checkpoint.other_names": Text(
        "{file} names its tensors in no way that is known of this model",
        expected="tensors by names of the model file, or of a dialect beside it",
        found="missing of each: {missing:.400}",
        suggestion="give the model file that the checkpoint was made for",
    ),
    "checkpoint.surplus": Text(
        "{file} has {count} tensors of this model that the config has no place for",
        expected="tensors of the layers and experts of the config, which has {last} layers",
        found="{names:.300} (layers {layers})",
        suggestion="give the checkpoint's own config, or run without them: --allow-unused",
    ),
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

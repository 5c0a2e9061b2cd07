"""What a machine file may say: for each table its figures, and the dimension of each."""

from __future__ import annotations

TOP = (
    *("name", "title", "device_unit", "devices", "formats", "engines", "memories"),
    *("domains", "parameters", "sources"),
)
FIGURE = ("value", "unit", "source", "evidence", "note")
UNKNOWN_FIGURE = ("value", "reason")
FORMATS_KEYS = ("stored", "scaled", "source", "evidence", "note")

KINDS = ("matrix", "vector", "special")
FORMS = ("sum", "max", "each")

# Name -> dimension; `machine_types` says what each means.
ENGINE = {"cores": "count", "clock": "frequency"}
MEMORY = {
    "capacity": "bytes",
    "usable": "bytes",
    "read": "bandwidth",
    "write": "bandwidth",
    "fill": "bandwidth",
    "drain": "bandwidth",
    "line": "bytes",
}
DOMAIN = {
    "devices": "count",
    "bandwidth": "bandwidth",
    "latency": "time",
    "ports": "count",
    "port_bandwidth": "bandwidth",
}
PROTOCOL = {
    "write_latency": "time",
    "write_bandwidth": "bandwidth",
    "read_latency": "time",
    "read_bandwidth": "bandwidth",
    "issue": "time",
    "piece_limit": "bytes",
    "message_limit": "bytes",
    "rank_limit": "count",
    "crossover": "bytes",
    "engine_cores": "count",
    "ports": "count",
}
# Must be there, if only as unknown: whoever writes the file has looked for it.
REQUIRED = {
    "engine": ("cores",),
    "memory": ("capacity",),
    "domain": ("devices", "bandwidth", "latency"),
}

PROTOCOLS = {
    "load_store": "cores read or write the memory of another device",
    "dma": "a copy engine, its tasks posted on the device",
    "dma_host": "a copy engine, its tasks posted by the host",
    "rdma": "a network card",
    "collective": "a fixed-function collective engine",
    "dispatch": "the fused kernel that sends tokens to experts: start-up, and rate of token bytes",
    "combine": "the fused kernel that returns them: start-up, and rate of token bytes",
}

# Name -> dimension, meaning.
PARAMETERS: dict[str, tuple[str, str]] = {
    "launch_matrix": ("time", "overhead of a kernel on the matrix engine"),
    "launch_vector": ("time", "overhead of a kernel on the vector engine"),
    "launch_collective": ("time", "overhead of a communication kernel"),
    "graph_launch": ("time", "launch of a captured graph of kernels"),
    "task_dynamic": ("time", "dispatch of a task that a running kernel schedules itself"),
    "task_static": ("time", "the same, with the schedule fixed beforehand"),
    "task_collective": ("time", "dispatch of a task of the collective engine"),
    "task_vector": ("time", "dispatch of a communication task of the vector engine"),
    "host_collective": ("time", "least time of a collective that the on-chip CPU drives"),
    "matrix_fraction": ("fraction", "of the matrix engine's peak that kernels reach"),
    "vector_fraction": ("fraction", "of the vector engine's peak that kernels reach"),
    "memory_fraction": ("fraction", "of the main memory's bandwidth that kernels reach"),
    "link_fraction": ("fraction", "of a link's bandwidth, where no protocol gives its own"),
}

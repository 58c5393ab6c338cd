"""One module a row: ``measure(quick)`` yields its lines and limits (or a dict, for the plot)."""

from rows import (
    first_call,
    forward_passes,
    growth,
    import_time,
    memory,
    metrics,
    propagation,
    several_outputs,
    smoothgrad,
    tabular,
)

ROWS = {
    "forward_passes": forward_passes,
    "first_call": first_call,
    "several_outputs": several_outputs,
    "tabular": tabular,
    "memory": memory,
    "import_time": import_time,
    "smoothgrad": smoothgrad,
    "growth": growth,
    "metrics": metrics,
    "propagation": propagation,
}

"""One module a row: ``measure(quick)`` yields its lines and limits (or a dict, for the plot)."""

from rows import (
    beside_by_hand,
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
    todays_networks,
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
    "todays_networks": todays_networks,
    "beside_by_hand": beside_by_hand,
}

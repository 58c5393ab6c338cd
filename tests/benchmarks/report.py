"""What was measured, as a table in markdown."""

import datetime
import importlib.metadata
import os
import platform
from typing import NamedTuple

from contender import BY_HAND, OURS, UNFOLDED, XPLIQUE

#: The column for our amount over Xplique's.
OF_XPLIQUE = "ours, of Xplique"

HEADINGS = {
    OURS: "xplique_sal",
    UNFOLDED: "… `fold_batch_norm=False`",
    BY_HAND: "by hand",
    XPLIQUE: "Xplique 2.0.2",
    OF_XPLIQUE: "xplique_sal ÷ Xplique",
}


class Line(NamedTuple):
    """One line of the table.

    Attributes
    ----------
    what, kind
        What was measured, and with which Keras.
    unit
        What 1 means.
    amount, measure
        How much that was, in ``"s"`` or ``"MiB"``.
    ratios
        For each column, ``{"ratio", "low", "high"}``: the median and its range.
    """

    what: str
    kind: str
    unit: str
    amount: float
    measure: str
    ratios: dict


class Limit(NamedTuple):
    """A promise, and what was measured."""

    what: str
    found: float
    most: float
    measure: str


def once(ratio):
    """Return the ratio of something that was measured once."""
    return {"ratio": ratio, "low": ratio, "high": ratio}


def table(lines):
    """Return the table of ratios; a column of which nothing was measured is left out.

    The last one says how much ours is of what Xplique takes.
    """
    each = []
    for line in lines:
        shown = {name: found["ratio"] for name, found in line.ratios.items()}
        if OURS in shown and XPLIQUE in shown:
            shown[OF_XPLIQUE] = shown[OURS] / shown[XPLIQUE]
        each.append(shown)
    columns = [name for name in HEADINGS if any(name in shown for shown in each)]
    rows = [["measured", "Keras", "1 is", *(HEADINGS[name] for name in columns)]]
    rows.append(["---"] * 3 + ["---:"] * len(columns))
    for line, shown in zip(lines, each, strict=True):
        unit = f"{line.unit} ({_amount(line.amount, line.measure)})"
        cells = [_ratio(shown[name]) if name in shown else "" for name in columns]
        rows.append([line.what, line.kind, unit, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def table_of_limits(limits):
    """Return the table of promises."""
    rows = [["promise", "measured", "at most", ""], ["---", "---:", "---:", "---"]]
    for limit in limits:
        found, most = (_amount(value, limit.measure) for value in (limit.found, limit.most))
        rows.append([limit.what, found, most, "kept" if is_kept(limit) else "**broken**"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def is_kept(limit):
    """Tell whether a promise was kept."""
    return limit.found <= limit.most


def _ratio(value):
    """Return a number with two digits at least, without an exponent."""
    return f"{value:.3f}" if value < 0.0995 else f"{value:.2f}" if value < 9.995 else f"{value:.1f}"


def _amount(value, measure):
    if measure == "passes":
        return f"{value:.2f} forward passes"
    if measure == "by hand":
        return f"{value:.2f} of by hand"
    return f"{value:.0f} MiB" if measure == "MiB" else f"{value:.2g} s"


def environment():
    """Return what the figures depend on."""
    packages = ["tensorflow", "tf-keras", "keras", "xplique", "numpy", "xplique-sal"]
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout
            versions[name] = "not installed"
    return {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "versions": versions,
    }


def summary(found):
    """Return the environment as a sentence."""
    versions = found["versions"]
    return (
        f"Measured on {found['date']} with {found['cores']} cores, "
        f"Python {found['python']}, TensorFlow {versions['tensorflow']}, "
        f"tf-keras {versions['tf-keras']}, Keras {versions['keras']} and "
        f"Xplique {versions['xplique']}."
    )


def replaced(page, name, text):
    """Return a page with what is between the two comments of that name replaced.

    Raises
    ------
    ValueError
        If the page does not have both, once, in order.
    """
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not found or not closed or start in rest or end in after:
        raise ValueError(f"the page has no {start} ... {end}, or several")
    return f"{before}{start}\n\n{text}\n\n{end}{after}"

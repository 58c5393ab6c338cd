"""The combinations of versions that are tried: one row each."""

from __future__ import annotations

from typing import NamedTuple

#: What pip is asked for where a row says nothing: the newest of everything that fits together.
NEWEST: tuple[str, ...] = ()

#: The last patch release of each TensorFlow, with the tf-keras that belongs to it.
TENSORFLOW = {
    "2.16.2": "2.16.0",
    "2.17.1": "2.17.0",
    "2.18.1": "2.18.0",
    "2.19.1": "2.19.0",
    "2.20.0": "2.20.1",
    "2.21.0": "2.21.0",
}

#: The last patch release of each Keras 3, and a TensorFlow that it works with; every one of 3.12,
#: the last that Python 3.10 gets.
KERAS = {
    "3.0.5": "2.16.2",
    "3.1.1": "2.16.2",
    "3.2.1": "2.16.2",
    "3.3.3": "2.17.1",
    "3.4.1": "2.17.1",
    "3.5.0": "2.18.1",
    "3.6.0": "2.18.1",
    "3.7.0": "2.18.1",
    "3.8.0": "2.19.1",
    "3.9.2": "2.19.1",
    "3.10.0": "2.19.1",
    "3.11.3": "2.20.0",
    "3.12.0": "2.20.0",
    "3.12.1": "2.20.0",
    "3.12.2": "2.20.0",
    "3.12.3": "2.20.0",
    "3.12.4": "2.20.0",
    "3.13.2": "2.21.0",
    "3.14.1": "2.21.0",
    "3.15.1": "2.21.0",
}

#: The Python of the rows of TensorFlow and of Keras.
PYTHON = "3.11"


class Row(NamedTuple):
    """One combination.

    Attributes
    ----------
    name
        What it is asked for by.
    python
        Its Python, major and minor.
    base
        What pip is asked for besides the package; rows of one Python and one base share it.
    keras
        The Keras 3 that then takes the place of the one in the base; ``None`` leaves it.
    """

    name: str
    python: str
    base: tuple[str, ...] = NEWEST
    keras: str | None = None


def _rows() -> dict[str, Row]:
    rows = [Row(f"python-{python}", python) for python in ("3.10", "3.11", "3.12", "3.13")]
    rows.append(Row("lowest", "3.10", ("--constraint", "tests/lowest.txt")))
    for tensorflow, tf_keras in TENSORFLOW.items():
        base = (f"tensorflow=={tensorflow}", f"tf-keras=={tf_keras}")
        minor = tensorflow.rpartition(".")[0]
        rows.append(Row(f"tensorflow-{minor}", PYTHON, base))
        rows += [
            Row(f"keras-{keras}", PYTHON, base, keras)
            for keras, needed in KERAS.items()
            if needed == tensorflow
        ]
    return {row.name: row for row in rows}


#: By name, those that share a base one after the other.
ROWS = _rows()

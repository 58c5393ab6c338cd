"""Where pictures of an epoch go: a folder, or TensorBoard."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from xplique_sal.callbacks.picture import contact_sheet
from xplique_sal.errors import InvalidParameterError


class Folder:
    """A folder with one PNG for each epoch, in which all samples are side by side.

    Parameters
    ----------
    path
        The folder; made if it is missing. Anything that `tf.io.gfile` can write to.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)
        try:
            tf.io.gfile.makedirs(self._path)
        except tf.errors.OpError as error:
            raise InvalidParameterError(
                "`directory` as a folder that can be made and written to",
                f"{self._path!r} ({error.message})",
                "Pass another folder.",
            ) from error

    def write(self, finished: int, name: str, pictures: np.ndarray) -> None:
        """Write the picture of one input after `finished` epochs.

        It has its name only when it is whole; one of that name that was there is replaced.
        """
        suffix = f"_{name}" if name else ""
        path = f"{self._path}/epoch_{finished:04d}{suffix}.png"
        unfinished = f"{self._path}/.{finished:04d}{suffix}.{os.getpid()}.unfinished"
        content = tf.io.encode_png(contact_sheet(pictures)).numpy()
        try:
            with tf.io.gfile.GFile(unfinished, "wb") as file:
                file.write(content)
            tf.io.gfile.rename(unfinished, path, overwrite=True)
        finally:
            if tf.io.gfile.exists(unfinished):
                tf.io.gfile.remove(unfinished)

    def close(self) -> None:
        """Do nothing: every picture is written when it comes."""


class Log:
    """A log that TensorBoard shows, with one picture for each sample and epoch.

    Parameters
    ----------
    path
        The log's folder; made if it is missing.
    tag
        What the pictures are called.
    """

    def __init__(self, path: str | os.PathLike[str], tag: str) -> None:
        self._tag = tag
        self._writer = tf.summary.create_file_writer(os.fspath(path))

    def write(self, finished: int, name: str, pictures: np.ndarray) -> None:
        """Write the pictures of one input after `finished` epochs."""
        height, width = pictures.shape[1:3]
        encoded = [tf.io.encode_png(picture) for picture in pictures]
        # What `tf.summary.image` writes, which cannot be called where TensorBoard is not installed.
        kind = tf.compat.v1.SummaryMetadata.PluginData(plugin_name="images")
        # Whatever another callback or the user has switched off.
        with self._writer.as_default(), tf.summary.record_if(True):
            tf.summary.write(
                f"{self._tag}/{name}" if name else self._tag,
                tf.stack([tf.constant(str(width)), tf.constant(str(height)), *encoded]),
                step=finished - 1,
                metadata=tf.compat.v1.SummaryMetadata(plugin_data=kind),
            )
        self._writer.flush()

    def close(self) -> None:
        """Close the log's file."""
        self._writer.close()


def writers(
    directory: str | os.PathLike[str] | None, log_dir: str | os.PathLike[str] | None, tag: str
) -> list[Any]:
    """Return what was asked for of the two."""
    opened: list[Any] = []
    if directory is not None:
        opened.append(Folder(directory))
    if log_dir is not None:
        opened.append(Log(log_dir, tag))
    return opened

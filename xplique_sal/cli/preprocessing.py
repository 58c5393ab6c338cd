"""From pixels and rows to what a model was trained on, by the names that people know."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xplique_sal.errors import InvalidInputError, InvalidParameterError

#: What each model of `keras.applications` was trained on, by the module's name.
_APPLICATIONS = {
    **dict.fromkeys(("resnet", "resnet50", "vgg16", "vgg19"), "caffe"),
    **dict.fromkeys(("inception_v3", "inception_resnet_v2", "xception", "nasnet"), "tf"),
    **dict.fromkeys(("mobilenet", "mobilenet_v2", "resnet_v2"), "tf"),
    "densenet": "torch",
    **dict.fromkeys(("mobilenet_v3", "efficientnet", "efficientnet_v2"), "none"),
    **dict.fromkeys(("convnext", "regnet", "resnet_rs"), "none"),
}
_MODES = ("none", "0-1", "-1-1", "mean-std", "caffe", "tf", "torch")
NAMES = (*_MODES, *sorted(_APPLICATIONS))
_CAFFE = np.array([103.939, 116.779, 123.68], np.float32)
_TORCH = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What is done to each sample before a model gets it.

    Parameters
    ----------
    name
        One of `NAMES`: ``"none"`` leaves numbers as they are; ``"0-1"`` is x/255; ``"-1-1"`` and
        ``"tf"`` are x/127.5 − 1; ``"caffe"`` is BGR without ImageNet's mean; ``"torch"`` is x/255
        without ImageNet's mean, over its standard deviation; ``"mean-std"`` is (x − mean)/std.
    mean, std
        Of ``"mean-std"``: one number, or one for each channel or feature.
    """

    name: str = "none"
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise InvalidParameterError(
                f"a preprocessing among {', '.join(NAMES)}", repr(self.name), "Pass one of these."
            )
        has_numbers = self.mean is not None and self.std is not None
        if has_numbers != (self.name == "mean-std") or (self.std and 0 in self.std):
            raise InvalidParameterError(
                "--mean and --std with --preprocess mean-std, and only with it",
                f"--preprocess {self.name}, mean {self.mean} and std {self.std}",
                "Pass both, as numbers with commas between them; std is never 0.",
            )

    def __call__(self, sample: np.ndarray) -> np.ndarray:
        """Return a sample, channels last, in float32, as the model takes it."""
        mode = _APPLICATIONS.get(self.name, self.name)
        x = np.asarray(sample, np.float32)
        if mode in ("caffe", "torch") and x.shape[-1] != 3:
            raise InvalidInputError(
                f"images with three channels for --preprocess {self.name}",
                f"{x.shape[-1]} channels",
                "Choose another preprocessing.",
            )
        if mode == "0-1":
            return x / np.float32(255)
        if mode in ("-1-1", "tf"):
            return x / np.float32(127.5) - np.float32(1)
        if mode == "caffe":
            return x[..., ::-1] - _CAFFE
        if mode == "torch":
            return (x / np.float32(255) - _TORCH[0]) / _TORCH[1]
        if mode == "mean-std":
            mean, std = (np.asarray(numbers, np.float32) for numbers in (self.mean, self.std))
            return (x - mean) / std
        return x

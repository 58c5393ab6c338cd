"""Whether a map is ever slower than by a tape written by hand, over networks of many families."""

import statistics

from contender import BY_HAND, OURS
from process import KERASES, fresh
from report import Limit, Line
from timing import ratios

from rows.todays_networks import CLOCKS, seconds

#: By name, how many samples.
BATCHES = {
    **dict.fromkeys(["ViT", "Conv1D", "U-Net"], 2),
    **dict.fromkeys(["LSTM", "GRU"], 8),
    **dict.fromkeys(
        ["MobileNet", "MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "EfficientNetV2B0"], 2
    ),
    **dict.fromkeys(["NASNetMobile", "DenseNet121", "ResNet50", "ResNet50V2", "VGG16"], 1),
    **dict.fromkeys(["VGG19", "InceptionV3", "InceptionResNetV2", "Xception", "ConvNeXtTiny"], 1),
}
SIZES_OF_TABLE = (1, 8, 64)
MOST = 1.02


def measure(quick):
    """Yield a line for each network and Keras by the processor's clock, and the limit of all."""
    clock = next(name for name in CLOCKS if name)
    each = [("MLP", count) for count in SIZES_OF_TABLE]
    if not quick:
        each += BATCHES.items()
    found = {}
    for name, count in each:
        for kind in KERASES:
            times = fresh(seconds, kind, name=name, rounds=7, count=count, clock=clock)
            relative = {OURS: ratios(times, BY_HAND)[OURS]}
            amount = statistics.median(times[BY_HAND])
            what = f"`explain`: {name}, samples at once: {count}{clock}"
            yield Line(what, kind, "by hand", amount, "s", relative)
            found[name, count, kind] = relative[OURS]["ratio"]
    worst = max(found, key=found.get)
    yield Limit(
        f"the slowest beside a tape by hand of {len(found)} ({worst[0]}, {worst[1]}, {worst[2]})",
        found[worst],
        MOST,
        "by hand",
    )

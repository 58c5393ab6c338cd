"""Pictures of maps, each as its field expects it, and of what metrics say of them.

They take arrays and tensors, from any method, and draw with matplotlib, which is imported when the
first of them is called: ``pip install 'xplique-sal[plots]'``.
"""

from xplique_sal.plots.boxes import plot_boxes
from xplique_sal.plots.comparison import plot_comparison, plot_curves
from xplique_sal.plots.image import plot_attribution, plot_attributions
from xplique_sal.plots.sequence import plot_sequence_logo
from xplique_sal.plots.series import plot_timeseries_attributions
from xplique_sal.plots.spectrogram import plot_spectrogram
from xplique_sal.plots.table import plot_feature_impact, plot_mean_feature_impact
from xplique_sal.plots.text import TextPicture, plot_text
from xplique_sal.plots.volume import plot_volume

__all__ = [
    "TextPicture",
    "plot_attribution",
    "plot_attributions",
    "plot_boxes",
    "plot_comparison",
    "plot_curves",
    "plot_feature_impact",
    "plot_mean_feature_impact",
    "plot_sequence_logo",
    "plot_spectrogram",
    "plot_text",
    "plot_timeseries_attributions",
    "plot_volume",
]

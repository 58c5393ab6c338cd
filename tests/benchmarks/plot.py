"""The picture of how the time grows."""

from contender import BY_HAND, OURS, XPLIQUE

STYLES = {
    OURS: ("xplique_sal", "C0", "o-"),
    BY_HAND: ("loop by hand", "C7", "s--"),
    XPLIQUE: ("Xplique 2.0.2", "C1", "^--"),
}


def draw(curves, path):
    """Draw what `rows.growth` has measured, one panel for each thing that is varied."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    for axes, curve in zip(figure.subplots(2, 2).flat, curves, strict=True):
        for name, (label, colour, style) in STYLES.items():
            axes.plot(curve["values"], curve["seconds"][name], style, color=colour, label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(curve["values"], [str(value) for value in curve["values"]])
        axes.minorticks_off()
        axes.set_xlabel(curve["varied"])
        axes.set_ylabel("seconds")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.savefig(path, dpi=110)

"""Make a page for each explainer while the documentation is built.

A page holds what the explainer's docstring says, and maps of handwritten digits that were made by
the line of code shown above them. All of it comes from `xplique_sal.attributions.__all__`: a new
method gets its page, its pictures and its place in the navigation by being exported.
"""

import contextlib
import inspect
import io
import os
import re
import warnings
from functools import cache
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

FOLDER = "methods/"
LINKED = (FOLDER + "index.md", "references.md")  # whose tables name methods
OVERVIEW = FOLDER + "pictures/overview.png"
SECTION = "Methods"  # of the navigation in mkdocs.yml
MARK = "<!-- every method -->"  # is replaced by a table of them
DIGITS = (3, 5, 0, 9)
COLUMNS = 5  # of the overview

PAGE = """\
---
title: {name}
---

# {name}

{opening}

```python
{call}
```

![Four digits in noise, each beside its map and the scale of its values]({picture})

The model of these pictures is the network of [the demo](../index.md), which learned to read digits
that lie somewhere in noise{scores}; `labels` are the digits. Each map has its own scale.
[Choosing a method](index.md) compares them all, and [References](../references.md) lists the
papers.

::: xplique_sal.attributions.{name}
    options:
      heading_level: 2
      inherited_members: false
      show_root_heading: true

`explain`, `iter_explain`, `explain_with_scores` and `explain_outputs` are
[those of every explainer][xplique_sal.attributions.base.BlackBoxExplainer].
"""


def explainers():
    """Return the exported explainers, in the order in which the page on choosing names them."""
    from xplique_sal import attributions

    text = Path(__file__).with_name(FOLDER.rstrip("/")).joinpath("index.md").read_text("utf-8")
    places = {name: text.find(f"\n| `{name}` |") for name in attributions.__all__}
    order = sorted(places, key=lambda name: (places[name] < 0, places[name], name))
    return [getattr(attributions, name) for name in order]


def file_of(explainer):
    """Return the name of an explainer's page and picture: that of its module."""
    return explainer.__module__.rpartition(".")[2]


def opening_of(explainer):
    """Return what a docstring says before its first section: the idea and the formula."""
    text = inspect.getdoc(explainer)
    return re.split(r"^[A-Z][a-z]+\n-{3,}$", text, maxsplit=1, flags=re.M)[0].strip()


def call_of(explainer):
    """Return the line of code that makes the maps of a page."""
    parameters = inspect.signature(explainer).parameters
    options = {"logits": "logits=True", "baselines": "baselines=images", "seed": "seed=0"}
    # A probability near 1 hardly moves when a part is hidden: black boxes are given the logits.
    model = "model" if "logits" in parameters else "scores"
    arguments = [model, *(text for name, text in options.items() if name in parameters)]
    return f"maps = {explainer.__name__}({', '.join(arguments)}).explain(images, labels)"


def page_of(explainer):
    """Return the Markdown of an explainer's page."""
    call = call_of(explainer)
    return PAGE.format(
        name=explainer.__name__,
        opening=opening_of(explainer),
        call=call,
        scores=", and `scores` is that network without its softmax" * ("(scores" in call),
        picture=f"pictures/{file_of(explainer)}.png",
    )


def maps_of(explainer, model, scores, images, labels):
    """Run the line of code of a page."""
    namespace = dict(model=model, scores=scores, images=images, labels=labels)
    namespace[explainer.__name__] = explainer
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        exec(call_of(explainer), namespace)
    return namespace["maps"]


def table(folder):
    """Return a table of all methods, linked from a page beside `folder`."""
    from xplique_sal.attributions.base import WhiteBoxExplainer

    rows = ["| method | map | needs |", "|---|---|---|"]
    for explainer in explainers():
        summary = " ".join(opening_of(explainer).split("\n\n")[0].split())
        needs = "gradients" if issubclass(explainer, WhiteBoxExplainer) else "outputs alone"
        link = f"[`{explainer.__name__}`]({folder}{file_of(explainer)}.md)"
        rows.append(f"| {link} | {summary} | {needs} |")
    return "\n".join(rows)


@cache
def pictures():
    """Return the PNGs of all pages, by their places in the site."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from xplique_sal.plots import plot_attribution, plot_attributions

    model, scores, images, labels = _network()
    maps = {cls: maps_of(cls, model, scores, images, labels) for cls in explainers()}
    found = {}
    for explainer, made in maps.items():
        plot_attributions(
            made,
            images,
            display="side_by_side",
            cols=2,
            colorbar=True,
            titles=[f"the score of {label}" for label in labels],
        )
        found[f"{FOLDER}pictures/{file_of(explainer)}.png"] = _png(plt.gcf())

    rows = -(-(len(maps) + 1) // COLUMNS)
    figure, panels = plt.subplots(
        rows, COLUMNS, figsize=(1.7 * COLUMNS, 1.9 * rows), layout="constrained", squeeze=False
    )
    for axes in panels.flat:
        axes.set_axis_off()
    panels.flat[0].imshow(images[0, ..., 0], cmap="gray")
    panels.flat[0].set_title("the image", fontsize="medium")
    for axes, (explainer, made) in zip(panels.flat[1:], maps.items(), strict=False):
        plot_attribution(made[0], ax=axes)
        axes.set_title(explainer.__name__, fontsize="medium")
    found[OVERVIEW] = _png(figure)
    return found


def _network():
    """Return a trained network, the same without its softmax, and digits that it reads rightly."""
    import numpy as np
    import tf_keras

    from xplique_sal.demo import digits

    train, test = digits.digit_canvases()
    model = digits.train(digits.build_network(tf_keras), train)
    scores = digits.build_network(tf_keras)
    scores.set_weights(model.get_weights())
    scores.layers[-1].activation = tf_keras.activations.linear
    right = np.argmax(model(test.images), axis=-1) == test.labels
    shown = [np.flatnonzero(right & (test.labels == digit))[0] for digit in DIGITS]
    return model, scores, test.images[shown], test.labels[shown]


def _png(figure) -> bytes:
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    # Without the version of matplotlib the same picture is the same file.
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def on_config(config):
    """Add the pages to the navigation."""
    (section,) = (entry[SECTION] for entry in config.nav if SECTION in entry)
    section += [{cls.__name__: f"{FOLDER}{file_of(cls)}.md"} for cls in explainers()]
    return config


def on_files(files, config):
    """Add the pages and their pictures to the files of the site."""
    from mkdocs.structure.files import File

    contents = {f"{FOLDER}{file_of(cls)}.md": page_of(cls) for cls in explainers()}
    for uri, content in {**contents, **pictures()}.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown, page, **_):
    """Fill in the table of all methods, and link the methods that the tables of a page name."""
    folder = "" if page.file.src_uri.startswith(FOLDER) else FOLDER
    if page.file.src_uri in LINKED:
        lines = markdown.split("\n")
        for explainer in explainers():
            link = f"[`{explainer.__name__}`]({folder}{file_of(explainer)}.md)"
            lines = [
                line.replace(f"`{explainer.__name__}`", link) if line.startswith("|") else line
                for line in lines
            ]
        markdown = "\n".join(lines)
    return markdown.replace(MARK, table(folder))

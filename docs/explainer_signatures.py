"""Show explainers and metrics in the reference with their docstrings as they are at run time.

A method's docstring has the parameters of its base, which are put into it when the class is made,
so that reading the source does not find them. What an exported method's docstring says first, its
page says already (`method_pages.py`).
"""

import inspect

import griffe


class ExplainerSignatures(griffe.Extension):
    """Take the docstring of each class in ``attributions`` and in ``metrics`` from it."""

    def on_class_members(self, *, cls, **_):
        """Replace what was read from the source."""
        if not cls.path.startswith(("xplique_sal.attributions.", "xplique_sal.metrics.")):
            return
        explainer = griffe.dynamic_import(cls.path)
        if cls.docstring is not None:
            text = inspect.getdoc(explainer)
            exported = cls.name in griffe.dynamic_import("xplique_sal.attributions").__all__
            cls.docstring.value = text[text.index("Parameters\n---") :] if exported else text

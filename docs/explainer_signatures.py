"""Show explainers in the reference as they are at run time.

A method's signature has its own defaults, and its docstring the parameters of its base; both are
made when the class is, so that reading the source does not find them. What an exported method's
docstring says first, its page says already (`method_pages.py`).
"""

import inspect

import griffe

_KINDS = {
    inspect.Parameter.POSITIONAL_ONLY: griffe.ParameterKind.positional_only,
    inspect.Parameter.POSITIONAL_OR_KEYWORD: griffe.ParameterKind.positional_or_keyword,
    inspect.Parameter.VAR_POSITIONAL: griffe.ParameterKind.var_positional,
    inspect.Parameter.KEYWORD_ONLY: griffe.ParameterKind.keyword_only,
    inspect.Parameter.VAR_KEYWORD: griffe.ParameterKind.var_keyword,
}


class ExplainerSignatures(griffe.Extension):
    """Take docstring and ``__init__`` of each class in ``xplique_sal.attributions`` from it."""

    def on_class_members(self, *, cls, **_):
        """Replace what was read from the source."""
        if not cls.path.startswith("xplique_sal.attributions."):
            return
        explainer = griffe.dynamic_import(cls.path)
        if cls.docstring is not None:
            text = inspect.getdoc(explainer)
            exported = cls.name in griffe.dynamic_import("xplique_sal.attributions").__all__
            cls.docstring.value = text[text.index("Parameters\n---") :] if exported else text
        signature = inspect.signature(explainer.__init__)
        parameters = [
            griffe.Parameter(
                parameter.name,
                annotation=_text(parameter.annotation),
                kind=_KINDS[parameter.kind],
                default=_text(parameter.default, repr),
            )
            for parameter in signature.parameters.values()
        ]
        initialiser = griffe.Function("__init__", parameters=griffe.Parameters(*parameters))
        cls.set_member("__init__", initialiser)


def _text(value, write=str):
    return None if value is inspect.Parameter.empty else write(value)

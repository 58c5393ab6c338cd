"""Show explainers in the reference as they are at run time.

A method's signature has its own defaults, and its docstring the parameters of its base; both are
made when the class is, so that reading the source does not find them.
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
            cls.docstring.value = inspect.getdoc(explainer)
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

"""Constructors that hand parameters on to their base, shown with all of them."""

from __future__ import annotations

import functools
import inspect
import re
from difflib import get_close_matches
from typing import Any

__all__ = ["show_handed_on"]

_ENTRY = re.compile(r"^\*{0,2}\w+", re.MULTILINE)


def show_handed_on(subclass: type) -> None:
    """Show in signature and docstring what a constructor takes as ``**name`` for its base.

    Other names it then refuses itself, since Python's error would name the base. scikit-learn
    reads parameters off signatures, and people off docstrings; so many of them written in every
    class would hide what is the class's own.

    Parameters
    ----------
    subclass : type
        Whose docstring has an entry for ``**name`` among its parameters. One whose
        constructor hands nothing on is left as it is.
    """
    if "__init__" not in vars(subclass):
        return
    *own, last = inspect.signature(subclass.__init__).parameters.values()
    if last.kind is not inspect.Parameter.VAR_KEYWORD:
        return
    base = subclass.__mro__[1]
    names = {parameter.name for parameter in own}
    shared = inspect.signature(base.__init__).parameters.values()
    shared = [parameter for parameter in shared if parameter.name not in names]
    _refuse_other_names(subclass, inspect.Signature([*own, *shared]))
    own_doc, base_doc = (f"\n{inspect.cleandoc(c.__doc__ or '')}\n" for c in (subclass, base))
    placeholder = _entries(own_doc).get(f"**{last.name}")
    if placeholder is not None:  # python -OO leaves no docstrings, others may not write them
        of_base = _entries(base_doc)
        described = "".join(of_base[p.name] for p in shared if p.name in of_base)
        subclass.__doc__ = own_doc.replace(placeholder, described)


def _refuse_other_names(subclass: type, signature: inspect.Signature) -> None:
    """Give the constructor this signature, and an error that helps with any other name."""
    init, known = subclass.__init__, list(signature.parameters)[1:]

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **params: Any) -> None:
        for name in params:
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"expected some of {known}."
                raise TypeError(f"{subclass.__name__}: no parameter is called {name!r}: {hint}")
        init(self, *args, **params)

    checked.__signature__ = signature
    subclass.__init__ = checked


def _entries(docstring: str) -> dict[str, str]:
    """Parameters of a clean numpydoc docstring, and the lines that describe each."""
    _, found, section = docstring.partition("Parameters\n----------\n")
    if not found:
        return {}
    section = re.split(r"\n\n[A-Z][\w ]*\n-+\n", section)[0].rstrip("\n") + "\n"
    starts = [match.start() for match in _ENTRY.finditer(section)]
    parts = [section[a:b] for a, b in zip(starts, [*starts[1:], len(section)])]
    return {_ENTRY.match(part)[0]: part for part in parts}

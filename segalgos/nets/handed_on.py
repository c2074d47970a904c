"""Constructors that hand parameters on to their base, shown with all of them."""

from __future__ import annotations

import inspect
import re

__all__ = ["show_handed_on"]

_ENTRY = re.compile(r"^    (\*{0,2}\w+)", re.MULTILINE)


def show_handed_on(subclass: type, base: type) -> None:
    """Show in signature and docstring what a constructor takes as ``**name`` for its base.

    scikit-learn reads parameters off signatures, and people off docstrings; so many
    parameters written in every class would hide what is the class's own.

    Parameters
    ----------
    subclass : type
        Whose docstring has an entry for ``**name`` among its parameters. One whose
        constructor hands nothing on is left as it is.
    base : type
        Whose constructor gets the rest.
    """
    if "__init__" not in vars(subclass):
        return
    *own, last = inspect.signature(subclass.__init__).parameters.values()
    if last.kind is not inspect.Parameter.VAR_KEYWORD:
        return
    names = {parameter.name for parameter in own}
    shared = inspect.signature(base.__init__).parameters.values()
    shared = [parameter for parameter in shared if parameter.name not in names]
    subclass.__init__.__signature__ = inspect.Signature([*own, *shared])
    if subclass.__doc__ and base.__doc__:  # python -OO leaves none
        entries, of_base = _entries(subclass.__doc__), _entries(base.__doc__)
        described = "".join(of_base[p.name] for p in shared if p.name in of_base)
        subclass.__doc__ = subclass.__doc__.replace(entries[f"**{last.name}"], described)


def _entries(docstring: str) -> dict[str, str]:
    """Parameters of a numpydoc docstring and the lines that describe each."""
    section = docstring.split("    Parameters\n    ----------\n")[1]
    section = re.split(r"\n    [A-Z][\w ]*\n    -+\n", section)[0] + "\n"
    section = section.rstrip("\n") + "\n"
    starts = [match.start() for match in _ENTRY.finditer(section)]
    parts = [section[a:b] for a, b in zip(starts, [*starts[1:], len(section)])]
    return {_ENTRY.match(part)[1]: part for part in parts}

"""A small reader of XML that trusts nobody.

Declarations of types and entities are refused, so that nothing is expanded or fetched; size,
depth and number of elements are bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

__all__ = ["Element", "read_xml"]

MAX_BYTES = 16 * 2**20
MAX_ELEMENTS = 200_000
MAX_DEPTH = 30


@dataclass
class Element:
    """An element without its attributes.

    Parameters
    ----------
    tag : str
    text : str
        All text directly inside.
    children : list of Element
    """

    tag: str
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def find(self, tag: str) -> Element | None:
        """The first child with that tag."""
        return next((child for child in self.children if child.tag == tag), None)

    def find_text(self, tag: str) -> str | None:
        """What the first child with that tag says, without space around it."""
        child = self.find(tag)
        return None if child is None else child.text.strip()


class _RefusedError(Exception):
    pass


def read_xml(path: Path, caller: str) -> Element:
    """Read the elements and their text.

    Parameters
    ----------
    path : Path
    caller : str
        What errors begin with.

    Returns
    -------
    Element
        The root.

    Raises
    ------
    ValueError
        If the file is damaged, too large, or declares a document type or entities.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{caller}: {path} is larger than {MAX_BYTES} bytes: is it an annotation?")
    top = Element("")
    stack = [top]
    n_elements = 0

    def refuse(*_: object) -> None:
        raise _RefusedError("it declares a document type or entities, which are refused")

    def start(tag: str, _: object) -> None:
        nonlocal n_elements
        n_elements += 1
        if n_elements > MAX_ELEMENTS or len(stack) > MAX_DEPTH:
            raise _RefusedError("it has too many elements, or too deep ones")
        element = Element(tag)
        stack[-1].children.append(element)
        stack.append(element)

    def text(content: str) -> None:
        stack[-1].text += content

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = text
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, _RefusedError, ValueError, LookupError) as error:
        raise ValueError(f"{caller}: {path} is no annotation in XML: {error}.") from error
    return top.children[0]

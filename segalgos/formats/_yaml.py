"""The part of YAML that descriptions of data sets are written in, read strictly.

Mappings and lists in blocks and in brackets, plain and quoted text, text in blocks, comments.
Anchors, tags and everything else is refused: nothing is ever built or run. All scalars are text,
so that a class called ``no`` or ``007`` keeps its name.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["parse_yaml", "quote", "read_yaml"]

MAX_BYTES = 2**20
MAX_DEPTH = 20

_BLOCK_TEXT = re.compile(r"[|>][+-]?\d?[+-]?$")
_PLAIN = re.compile(r"[A-Za-z0-9_./\\$(][^:#\[\]{},\"'&*!|>%@`?\n]*")


def read_yaml(path: Path, caller: str) -> dict[str, Any]:
    """Read a file whose top is a mapping.

    Parameters
    ----------
    path : Path
    caller : str
        What errors begin with.

    Returns
    -------
    dict
        Of text, None, lists and dicts.

    Raises
    ------
    ValueError
        If it is damaged or uses more of YAML; names the line.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"{caller}: {path} is larger than {MAX_BYTES} bytes: is it the right one?")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{caller}: {path} is no text ({error}): it is damaged.") from error
    return parse_yaml(text, f"{caller}: {path}")


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Read text whose top is a mapping; see `read_yaml`."""
    content = _Parser(text, where).parse()
    if not isinstance(content, dict):
        raise ValueError(f"{where} holds no mapping, expected lines such as 'names: [a, b]'.")
    return content


def quote(text: str) -> str:
    """Text as YAML writes it, in quotes where it needs them."""
    plain = _PLAIN.fullmatch(text) and text == text.strip()
    # Words and numbers that other readers would not take for text.
    odd = re.fullmatch(r"(?i)y|n|yes|no|on|off|true|false|null|~|[\d.+-].*", text)
    return text if plain and not odd else json.dumps(text, ensure_ascii=False)


class _Parser:
    def __init__(self, text: str, where: str):
        self.where = where
        self.raw = text.splitlines()
        self.at = 0

    def fail(self, problem: str, line: int | None = None) -> ValueError:
        line = self.at if line is None else line
        return ValueError(
            f"{self.where}, line {min(line, len(self.raw) - 1) + 1}: {problem}. Only plain "
            "mappings and lists are read: write it so."
        )

    def parse(self) -> Any:
        self.skip()
        if self.at < len(self.raw) and self.raw[self.at].rstrip() == "---":
            self.at += 1
        content = self.block(0)
        self.skip()
        if self.at < len(self.raw):
            raise self.fail("this line does not belong to what is above it")
        return content

    def skip(self) -> None:
        """Go on to the next line that says something."""
        while self.at < len(self.raw) and not _strip_comment(self.raw[self.at]).strip():
            self.at += 1

    def peek(self) -> tuple[int, str] | None:
        """Indentation and content of the next line; None at the end."""
        self.skip()
        if self.at >= len(self.raw):
            return None
        line = _strip_comment(self.raw[self.at]).rstrip()
        content = line.lstrip(" ")
        if content.startswith("\t"):
            raise self.fail("it is indented by a tab")
        if content.startswith(("%", "? ")) or content in ("---", "...", "?"):
            raise self.fail(f"it begins with {content.split()[0]!r}")
        return len(line) - len(content), content

    def block(self, depth: int) -> Any:
        """A mapping or list whose entries have the indentation of the next line."""
        if depth > MAX_DEPTH:
            raise self.fail("it is nested too deep")
        first = self.peek()
        if first is None:
            return None
        indent, content = first
        if content == "-" or content.startswith("- "):
            return self.block_list(indent, depth)
        return self.block_mapping(indent, depth)

    def block_list(self, indent: int, depth: int) -> list[Any]:
        items: list[Any] = []
        while (line := self.peek()) is not None and line[0] == indent:
            content = line[1]
            if content != "-" and not content.startswith("- "):
                break
            rest = content[1:].strip()
            if _split_key(rest) is not None or rest.startswith("- "):
                raise self.fail("a list holds more than text")
            items.append(self.value(rest, indent, depth))
        return items

    def block_mapping(self, indent: int, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while (line := self.peek()) is not None and line[0] == indent:
            parts = _split_key(line[1])
            if parts is None:
                raise self.fail("it is neither 'key: value' nor '- item'")
            key = self.scalar(parts[0])
            if not isinstance(key, str) or key in mapping:
                raise self.fail(f"the key {parts[0]!r} is there twice, or is none")
            mapping[key] = self.value(parts[1], indent, depth, in_mapping=True)
        if line is not None and line[0] > indent:
            raise self.fail("it is indented more than the lines above")
        return mapping

    def value(self, text: str, indent: int, depth: int, *, in_mapping: bool = False) -> Any:
        """What stands behind a key or dash on the current line, or on those below."""
        if _BLOCK_TEXT.match(text):
            return self.block_text(indent)
        if text[:1] in ("[", "{"):
            return self.flow(text)
        if text:
            content = self.scalar(text)
            self.at += 1
            return content
        self.at += 1
        below = self.peek()
        deeper = below is not None and below[0] > indent
        # Lists may stand below their key without indentation.
        level = below is not None and below[0] == indent and in_mapping
        if deeper or (level and (below[1] == "-" or below[1].startswith("- "))):
            return self.block(depth + 1)
        return None

    def block_text(self, indent: int) -> str:
        self.at += 1
        lines = []
        while self.at < len(self.raw):
            line = self.raw[self.at]
            if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
                break
            lines.append(line.strip())
            self.at += 1
        return "\n".join(lines).strip("\n")

    def flow(self, text: str) -> Any:
        """Brackets, which may go on over several lines."""
        begin = self.at
        self.at += 1
        while not _is_closed(text):
            if self.at >= len(self.raw):
                raise self.fail("a bracket or quote is not closed", begin)
            text += " " + _strip_comment(self.raw[self.at]).strip()
            self.at += 1
        content, end = self.flow_value(text, 0, 0, begin)
        if text[end:].strip():
            raise self.fail(f"{text[end:].strip()!r} stands behind a closed bracket", begin)
        return content

    def flow_value(self, text: str, at: int, depth: int, line: int) -> tuple[Any, int]:
        if depth > MAX_DEPTH:
            raise self.fail("it is nested too deep", line)
        at = _after_space(text, at)
        if text[at : at + 1] not in ("[", "{"):
            end = _scalar_end(text, at)
            return self.scalar(text[at:end].strip(), line), end
        is_list = text[at] == "["
        close = "]" if is_list else "}"
        items: list[Any] = []
        mapping: dict[str, Any] = {}
        at = _after_space(text, at + 1)
        while text[at : at + 1] != close:
            if at >= len(text):
                raise self.fail("a bracket is not closed", line)
            entry, at = self.flow_value(text, at, depth + 1, line)
            at = _after_space(text, at)
            if not is_list:
                if text[at : at + 1] != ":" or not isinstance(entry, str) or entry in mapping:
                    raise self.fail("curly brackets hold more than 'key: value'", line)
                mapping[entry], at = self.flow_value(text, at + 1, depth + 1, line)
                at = _after_space(text, at)
            else:
                items.append(entry)
            if text[at : at + 1] == ",":
                at = _after_space(text, at + 1)
            elif text[at : at + 1] != close:
                raise self.fail(f"expected a comma or {close!r} in brackets", line)
        return (items if is_list else mapping), at + 1

    def scalar(self, text: str, line: int | None = None) -> str | None:
        if text in ("", "~", "null", "Null", "NULL"):
            return None
        if text[0] == '"':
            try:
                content = json.loads(text, strict=False)
            except ValueError as error:
                raise self.fail(f"the text {text} in quotes is damaged ({error})", line) from error
            return content
        if text[0] == "'":
            inner = text[1:-1]
            if len(text) < 2 or text[-1] != "'" or "'" in inner.replace("''", ""):
                raise self.fail(f"the text {text} in quotes is damaged", line)
            return inner.replace("''", "'")
        if text[0] in "&*!|>%@`[]{},":
            raise self.fail(f"{text!r} begins with {text[0]!r}", line)
        return text


def _walk(text: str):
    """Each place in a text, and the quote that it is in, or "" outside quotes."""
    quote_ = ""
    escaped = False
    for i, character in enumerate(text):
        if quote_:
            yield i, quote_
            if escaped:
                escaped = False
            elif character == "\\" and quote_ == '"':
                escaped = True
            elif character == quote_:
                quote_ = ""
        elif character in "\"'" and (i == 0 or text[i - 1] in " [{,:'"):
            quote_ = character
            yield i, quote_
        else:
            yield i, ""
    if quote_:
        yield len(text), quote_


def _strip_comment(line: str) -> str:
    for i, quote_ in _walk(line):
        if not quote_ and line[i] == "#" and (i == 0 or line[i - 1] in " \t"):
            return line[:i]
    return line


def _split_key(text: str) -> tuple[str, str] | None:
    if text[:1] in ("[", "{"):
        return None
    for i, quote_ in _walk(text):
        if not quote_ and text[i] == ":" and text[i + 1 : i + 2] in ("", " "):
            return text[:i].strip(), text[i + 1 :].strip()
    return None


def _is_closed(text: str) -> bool:
    depth = 0
    for i, quote_ in _walk(text):
        if i == len(text):
            return False  # within quotes
        if not quote_:
            depth += (text[i] in "[{") - (text[i] in "]}")
    return depth <= 0


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def _scalar_end(text: str, at: int) -> int:
    """Where a scalar in brackets ends: at a comma, a bracket or a colon before space."""
    for i, quote_ in _walk(text[at:]):
        place = at + i
        if quote_ or place >= len(text):
            continue
        colon = text[place] == ":" and (text[place + 1 : place + 2] in ("", " "))
        after_quote = text[place] == ":" and text[place - 1] in "\"'"
        if text[place] in ",[]{}" or colon or after_quote:
            return place
    return len(text)

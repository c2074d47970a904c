"""The small readers of YAML and XML: what they read, and what they refuse."""

import pytest

from segalgos.formats._xml import read_xml
from segalgos.formats._yaml import parse_yaml, quote

YAML = """\
---
# a data set
path: ../data  # where it is
train: images/train
val:
test: ~
nc: 3
names:
  0: person
  1: 'it''s: a "car"'
  2: "tab\\there"
roboflow:
  url: https://x.org/a#b
  tags: [a, 'b, c', {0: d, "e": [f]},
         no]   # goes on
empty: []
download: |
  import os
  os.system("rm")  # never run

list:
- one
- two words
"""


def test_yaml():
    assert parse_yaml(YAML, "here") == {
        "path": "../data",
        "train": "images/train",
        "val": None,
        "test": None,
        "nc": "3",
        "names": {"0": "person", "1": "it's: a \"car\"", "2": "tab\there"},
        "roboflow": {
            "url": "https://x.org/a#b",
            "tags": ["a", "b, c", {"0": "d", "e": ["f"]}, "no"],
        },
        "empty": [],
        "download": 'import os\nos.system("rm")  # never run',
        "list": ["one", "two words"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no mapping"),
        ("- a", "holds no mapping"),
        ("a: &x 1", "line 1: '&x 1' begins with '&'"),
        ("a: 1\nb: *x", r"line 2: '\*x' begins with '\*'"),
        ("a: !!python/object/apply:os.system [ls]", "begins with '!'"),
        ("a: 1\na: 2", "line 2: the key 'a' is there twice"),
        ("a: 1\n  b: 2", "line 2: it is indented more"),
        ("a:\n\tb: 2", "line 2: it is indented by a tab"),
        ("a: [1, 2", "line 1: a bracket or quote is not closed"),
        ("a: [1 2] 3", "stands behind a closed bracket"),
        ("a: {b, c}", "more than 'key: value'"),
        ("a: {b: c d: e}", "in brackets"),
        ("a: 'b", "damaged"),
        ('a: "\\q"', "damaged"),
        ("a", "neither 'key: value'"),
        ("a: 1\n---\nb: 2", "begins with '---'"),
        ("? a\n: b", r"begins with '\?'"),
        ("- a: 1\n  b: 2", "a list holds more than text"),
        ("a: " + "[" * 50 + "]" * 50, "nested too deep"),
        ("\n".join(" " * i + f"k{i}:" for i in range(40)) + "\n" + " " * 40 + "x: 1", "too deep"),
    ],
)
def test_yaml_refuses(text, words):
    with pytest.raises(ValueError, match="here.*" + words):
        parse_yaml(text, "here")


@pytest.mark.parametrize(
    "name", ["car", "a b", "no", "1", "3d", "a: b", "#1", "'x'", "", " a", "é", "-"]
)
def test_names_survive_yaml(name):
    assert parse_yaml(f"names:\n  0: {quote(name)}", "here")["names"]["0"] == name


BOMB = """<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>
<annotation>&c;</annotation>"""
OUTSIDE = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "document type or entities"),
        (OUTSIDE, "document type or entities"),
        ('<!DOCTYPE a SYSTEM "http://x.org/a.dtd"><a/>', "document type or entities"),
        ("<a>&b;</a>", "undefined entity"),
        ("<a><b></a>", "mismatched tag"),
        ("", "no element"),
        ("<a>" * 100 + "</a>" * 100, "too deep"),
        ('<?xml version="1.0" encoding="none-such"?><a/>', "encoding"),
        ("\0\0", ""),
    ],
)
def test_xml_refuses(tmp_path, text, words):
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"voc: .*a\.xml is no annotation in XML.*" + words):
        read_xml(path, "voc")


def test_xml(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<?xml version="1.0"?><a x="1"><!-- no --><b> 1 &lt; 2 </b><b>3</b><c/></a>')
    root = read_xml(path, "voc")
    assert root.tag == "a"
    assert [child.text for child in root.children] == [" 1 < 2 ", "3", ""]
    assert root.find_text("b") == "1 < 2"
    assert root.find("d") is root.find_text("d") is None

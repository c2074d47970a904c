import json

import numpy as np
import pytest

from segalgos.bench.store import Store, StoreBusyError, read_rows, safe_name


def test_rows_are_kept_and_continued(tmp_path):
    with Store(tmp_path) as store:
        store.append({"key": "a", "score": float("nan"), "more": [1.0, float("inf")]})
    with Store(tmp_path) as store:
        assert store.rows == [{"key": "a", "score": None, "more": [1.0, None]}]
        store.append({"key": "b", "name": "Ü\n"})
    rows, n_bad = read_rows(tmp_path / "results.jsonl")
    assert [row["key"] for row in rows] == ["a", "b"]
    assert n_bad == 0


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    with Store(tmp_path), pytest.raises(StoreBusyError, match="another run is writing"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_a_row_that_cannot_be_written_changes_nothing(tmp_path):
    with Store(tmp_path) as store:
        store.append({"key": "a"})
        before = store.path.read_bytes()
        with pytest.raises(TypeError):
            store.append({"key": "b", "array": np.zeros(3)})
        assert store.path.read_bytes() == before
        store.append({"key": "c"})
    assert [row["key"] for row in read_rows(tmp_path / "results.jsonl")[0]] == ["a", "c"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "results.jsonl"]


def test_lines_that_are_no_rows_are_counted(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"key": "a"}) + "\n{torn\n[]\n\n" + "[" * 100_000 + "\n")
    rows, n_bad = read_rows(path)
    assert rows == [{"key": "a"}]
    assert n_bad == 3


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("kmeans", "kmeans"),
        ("../../x", "_.._x"),
        (".ssh", "ssh"),
        ("", "_"),
        ("a b/<i>", "a_b__i_"),
    ],
)
def test_safe_names_stay_in_their_folder(label, name):
    assert safe_name(label) == name

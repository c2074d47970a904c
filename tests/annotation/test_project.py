"""The folder of a data set: nothing is lost, nothing is overwritten."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from segalgos import rle
from segalgos.annotation import project as room
from segalgos.annotation.project import DatasetBusyError, Project, StaleError
from segalgos.annotation.state import Object, Pointing, Scribble, Stroke
from segalgos.formats.annotated import ClassInfo

SIZE = (120, 160)


def an_object(number, class_id=1, seed=0):
    mask = np.random.default_rng(seed).random((1, *SIZE)) < 0.01
    pointing = Pointing((Stroke(((3.5, 4.25), (5.0, 6.0)), 2.0, False),), (1.0, 2.0, 30.0, 40.0))
    return Object(number, class_id, rle.encode(mask).counts, "graph_cut", pointing)


def plain(items):
    """Items that can be compared."""
    return [
        item._replace(counts=item.counts.tolist()) if isinstance(item, Object) else item
        for item in items
    ]


def reopen(project, images):
    project.close()
    return Project(project.folder, images)


def test_changes_are_there_after_reopening(project, images):
    one, other = an_object(1), an_object(2, 2, seed=1)
    line = Scribble(3, 0, Stroke(((1.0, 2.0), (3.0, 4.0)), 5.0))
    project.change(1, 0, "new object", (), (one,), size=SIZE)
    project.change(1, 1, "new object", (), (other, line))
    project.change(1, 2, "delete", (one,), ())
    project.set_mark(1, 3, "done")
    with reopen(project, images) as again:
        state = again.get(1)
        assert state.revision == 4
        assert state.mark == "done"
        assert plain(state.items.values()) == plain([other, line])
        assert [info.name for info in again.classes] == ["disc", "ground"]
        assert again.counts[1] == {2: 1}
        state, step = again.undo(1, 4)
        assert step.what == "delete"
        assert plain(state.items.values()) == plain([one, other, line])
        state, _ = again.undo(1, 5)
        assert plain(state.items.values()) == plain([one])
        state, _ = again.redo(1, 6)
        state, _ = again.redo(1, 7)
        assert plain(state.items.values()) == plain([other, line])
        assert state.next_id == 4
        assert again.redo(1, 8) == (state, None)


def test_a_new_change_forgets_what_was_undone(project):
    project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
    project.undo(1, 1)
    state = project.change(1, 2, "new object", (), (an_object(2, seed=3),))
    assert state.redo == ()
    assert list(state.items) == [2]


def test_a_stale_change_is_refused_and_changes_nothing(project):
    project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
    before = (project.folder / "objects" / "000001.json").read_bytes()
    for late in (
        lambda: project.change(1, 0, "new object", (), (an_object(1, seed=5),)),
        lambda: project.undo(1, 0),
        lambda: project.redo(1, 2),
        lambda: project.set_mark(1, 0, "done"),
    ):
        with pytest.raises(StaleError, match="changed elsewhere"):
            late()
    assert (project.folder / "objects" / "000001.json").read_bytes() == before
    with pytest.raises(StaleError, match="classes were changed"):
        project.set_classes(7, project.classes)


def test_one_process_holds_the_folder(project, images):
    with pytest.raises(DatasetBusyError, match="another program"):
        Project(project.folder, images)


def test_a_failed_write_leaves_the_old_state(project, monkeypatch):
    state = project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        project.change(1, 1, "new object", (), (an_object(2),))
    with pytest.raises(OSError, match="no space"):
        project.set_classes(0, project.classes[:1])
    monkeypatch.undo()
    assert project.get(1) is state
    assert len(project.classes) == 2
    assert not list((project.folder / "objects").glob(".*"))


def test_leftovers_of_a_kill_are_removed(project, images):
    leftover = project.folder / "objects" / ".000001-abc.json"
    leftover.write_text("{")
    with reopen(project, images) as again:
        assert not leftover.exists()
        assert again.error(1) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: "{", "is no JSON"),
        (lambda c: json.dumps(c | {"version": 2}), "version 2"),
        (lambda c: json.dumps(c | {"size": [10**6, 10**6]}), "at most"),
        (lambda c: json.dumps(c | {"mark": "<b>"}), "mark"),
        (lambda c: json.dumps(c | {"items": [{"id": 1}]}), "class"),
        (lambda c: json.dumps(c | {"undo": [{"what": 3, "before": [], "after": []}]}), "text"),
        (lambda c: json.dumps(c).replace('"counts": "', '"counts": "zz'), "damaged"),
    ],
)
def test_a_damaged_file_spoils_its_image_alone_and_stays(project, images, damage, message):
    project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
    project.change(2, 0, "new object", (), (an_object(1),), size=SIZE)
    path = project.folder / "objects" / "000001.json"
    text = damage(json.loads(path.read_text()))
    path.write_text(text)
    with reopen(project, images) as again:
        with pytest.raises(ValueError, match=message):
            again.get(1)
        assert message in again.error(1)
        with pytest.raises(ValueError, match=message):
            again.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
        assert len(again.get(2).objects) == 1
    assert path.read_text() == text


def test_new_images_are_added_and_old_ones_keep_their_ids(project, images, tmp_path):
    ids = {info.file: info.id for info in project.images.values()}
    Image.new("RGB", (20, 30)).save(images / "a first one.png")
    with reopen(project, images) as again:
        assert {f: i for f, i in ((x.file, x.id) for x in again.images.values()) if i < 4} == ids
        assert again.path(4).name == "a first one.png"


def test_only_images_that_were_given_are_opened(project, images, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (20, 30)).save(secret)
    content = json.loads((project.folder / "project.json").read_text())
    content["images"].append({"id": 9, "file": "../secret.png"})
    project.close()
    (project.folder / "project.json").write_text(json.dumps(content))
    with Project(project.folder, images) as again:
        assert not again.is_here(9)
        with pytest.raises(FileNotFoundError, match="not among the images"):
            again.path(9)


def test_an_image_of_another_size_is_refused(project):
    project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
    with pytest.raises(ValueError, match="put the old file"):
        project.change(1, 1, "new object", (), (an_object(2),), size=(5, 5))


def test_classes_are_renamed_added_and_removed(project):
    disc, ground = project.classes
    new = ClassInfo(0, "  sky \t blue ", "#112233", False)
    project.set_classes(0, [ground._replace(name="earth"), disc, new])
    assert [(info.id, info.name) for info in project.classes] == [
        (2, "earth"), (1, "disc"), (3, "sky blue"),
    ]  # fmt: skip
    project.change(1, 0, "new object", (), (an_object(1),), size=SIZE)
    with pytest.raises(ValueError, match="1 objects are of class 'disc'"):
        project.set_classes(1, project.classes[:1])
    with pytest.raises(ValueError, match="two classes are called"):
        project.set_classes(1, [disc, ground._replace(name="disc")])
    with pytest.raises(ValueError, match="no name for a class"):
        project.set_classes(1, [disc, ClassInfo(0, "a\0b", "#112233")])
    assert project.revision == 1


def test_history_is_bounded(project, monkeypatch):
    monkeypatch.setattr(room, "MAX_STEPS", 3)
    for i in range(6):
        state = project.change(1, i, "new object", (), (an_object(i + 1),), size=SIZE)
    assert len(state.undo) == 3
    monkeypatch.setattr(room, "MAX_HISTORY_RUNS", 1)
    assert len(project.change(1, 6, "delete", state.objects[:1], ()).undo) == 1

"""The order in which the page proposes images."""

import numpy as np
import pytest
from PIL import Image

from segalgos.annotation.pictures import Pictures
from segalgos.annotation.project import Project
from segalgos.annotation.session import Session
from segalgos.annotation.useful_order import UsefulOrder


@pytest.fixture
def two_kinds(tmp_path, scene):
    """Four scenes, two pictures of noise, and a file that is no picture."""
    folder = tmp_path / "kinds"
    folder.mkdir()
    for i in range(4):
        Image.fromarray(scene(seed=i)[0]).save(folder / f"a{i}.png")
    for i in range(2):
        noise = np.random.default_rng(i).integers(0, 256, (120, 160, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"b{i}.png")
    (folder / "c.png").write_bytes(b"no picture")
    with Project(tmp_path / "dataset", folder, ["disc"]) as made:
        yield made


def test_what_is_seen_is_not_proposed_again(two_kinds):
    order, pictures = UsefulOrder(), Pictures(two_kinds.path)
    assert order(two_kinds, pictures) is None  # it begins to look
    order._thread.join()
    kinds = {1: "a", 2: "a", 3: "a", 4: "a", 5: "b", 6: "b"}
    first = order(two_kinds, pictures)
    assert kinds[first[0]] == "a"
    assert sorted(first) == [1, 2, 3, 4, 5, 6]
    two_kinds.set_mark(first[0], 0, "done")
    second = order(two_kinds, pictures)
    assert kinds[second[0]] == "b"
    assert first[0] not in second
    for image_id in second:
        two_kinds.set_mark(image_id, 0, "skipped")
    assert order(two_kinds, pictures) is None


def test_before_all_were_looked_at_images_come_in_order(two_kinds):
    session = Session(two_kinds, order=UsefulOrder())
    try:
        assert session.next_image(2) == 3
        session._order._thread.join()
        assert session.next_image(2) in (1, 3, 4)
    finally:
        session.close()

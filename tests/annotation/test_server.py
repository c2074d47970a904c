"""What the server answers, and what it refuses."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segalgos.annotation import exports, guard
from segalgos.annotation.session import Session

TestClient = pytest.importorskip("starlette.testclient").TestClient

TOKEN, PORT = "a-secret-token", 8123
HOME = f"http://127.0.0.1:{PORT}"


@pytest.fixture
def session(project):
    made = Session(project)
    yield made
    made.close()


@pytest.fixture
def client(session):
    """A page's side, with its cookie."""
    from segalgos.annotation.server import make_app

    made = TestClient(make_app(session, TOKEN, PORT), HOME, headers={"origin": HOME})
    assert made.get(f"/?token={TOKEN}").status_code == 200
    return made


@pytest.fixture
def stranger(session):
    """Somebody without the cookie."""
    from segalgos.annotation.server import make_app

    return TestClient(make_app(session, TOKEN, PORT), HOME)


def change(client, revision, action, image=1, **content):
    body = {"revision": revision, "action": action, **content}
    return client.post(f"/api/images/{image}/change", json=body)


def click(client, revision, **content):
    stroke = {"points": [[60, 80]], "radius": 3, "inside": True}
    asked = {"object": None, "class": 1, "method": "graph_cut", "view": [0, 0, 120, 160]}
    return change(client, revision, "point", **asked, stroke=stroke, **content)


def test_the_page_and_what_it_shows_first(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "<canvas" in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("main.js", "style.css", "icon.svg"):
        assert client.get(f"/page/{name}").status_code == 200
    overview = client.get("/api/overview").json()
    assert [row["name"] for row in overview["images"]] == [f"picture{i}.png" for i in range(3)]
    assert [info["name"] for info in overview["classes"]] == ["disc", "ground"]
    assert "sam" not in overview["methods"]


def test_pictures_tiles_and_thumbnails(client, images):
    opened = client.get("/api/images/1").json()
    assert (opened["height"], opened["width"]) == (120, 160)
    tile = Image.open(io.BytesIO(client.get("/api/images/1/tiles/0/0/0").content))
    np.testing.assert_array_equal(np.array(tile), np.array(Image.open(images / "picture0.png")))
    assert Image.open(io.BytesIO(client.get("/api/images/1/thumbnail").content)).width == 144
    for place in ("1/0/0", "0/1/0", "0/0/9"):
        assert client.get(f"/api/images/1/tiles/{place}").status_code == 404
    assert client.get("/api/images/99").status_code == 404


def test_a_click_becomes_an_object_that_is_refined_and_undone(client, scene):
    made = click(client, 0).json()
    (item,) = made["put"]
    disc = scene(seed=0)[1]
    assert abs(item["area"] - disc.sum()) < 0.03 * disc.sum()
    assert item["paths"]
    assert made["image"]["objects"] == 1
    beside = {"points": [[60, 82]], "radius": 2, "inside": False}
    asked = {"object": item["id"], "class": 1, "method": "graph_cut", "view": None}
    refined = change(client, 1, "point", **asked, stroke=beside).json()
    assert refined["what"] == "refine object"
    assert len(refined["put"][0]["strokes"]) == 2
    undone = change(client, 2, "undo").json()
    assert undone["put"][0]["area"] == item["area"]
    assert change(client, 3, "undo").json()["removed"] == [item["id"]]
    assert change(client, 4, "redo").json()["put"][0]["area"] == item["area"]


def test_brush_eraser_polygon_and_class(client):
    line = {"points": [[20, 20], [20, 60]], "radius": 4, "inside": True}
    painted = change(client, 0, "paint", object=None, stroke=line, **{"class": 2}).json()["put"][0]
    wider = {"points": [[40, 20], [40, 60]], "radius": 4, "inside": True}
    grown = change(client, 1, "paint", object=painted["id"], stroke=wider, **{"class": 2}).json()
    assert grown["put"][0]["area"] == 2 * painted["area"]
    gone = {"points": [[40, 0], [40, 100]], "radius": 8, "inside": False}
    left = change(client, 2, "paint", object=None, stroke=gone).json()
    assert left["put"][0]["area"] == painted["area"]
    corners = [[60, 60], [60, 80], [80, 80], [80, 60]]
    square = change(client, 3, "polygon", object=None, points=corners, **{"class": 1}).json()
    assert square["put"][0]["area"] == 400
    number = square["put"][0]["id"]
    assert change(client, 4, "reclass", ids=[number], **{"class": 2}).json()["put"][0]["class"] == 2
    assert change(client, 5, "delete", ids=[number]).json()["removed"] == [number]
    everything = {"points": [[60, 0], [60, 160]], "radius": 200, "inside": False}
    assert change(client, 6, "paint", object=None, stroke=everything).json()["removed"] == [1]


def test_of_two_tabs_the_late_one_is_told(client):
    assert click(client, 0).status_code == 200
    late = click(client, 0)
    assert late.status_code == 409
    assert late.json()["kind"] == "stale"
    assert "not made" in late.json()["error"]
    items = client.get("/api/images/1").json()["items"]
    assert len(items) == 1
    body = {"revision": 5, "classes": []}
    assert client.post("/api/classes", json=body).status_code == 409


def test_marks_and_the_next_image(client):
    assert client.get("/api/next?after=1").json() == {"image": 2}
    change(client, 0, "mark", image=2, mark="skipped")
    assert client.get("/api/next?after=1").json() == {"image": 3}
    change(client, 0, "mark", image=3, mark="done")
    change(client, 0, "mark", image=1, mark="done")
    assert client.get("/api/next?after=1").json() == {"image": None}


def test_the_order_is_asked_of_a_function(project):
    with Session(project, order=lambda project, pictures: [3, 1, 2]).project:
        asked = Session(project, order=lambda project, pictures: [3, 1, 2])
        assert asked.next_image(1) == 3
        assert asked.next_image(3) == 1


def test_the_forest_learns_while_one_scribbles(client, session, scene):
    disc = scene(seed=0)[1]
    inside = {"points": [[50, 70], [70, 90]], "radius": 3}
    outside = {"points": [[5, 5], [5, 150], [110, 150]], "radius": 3}
    assert change(client, 0, "accept").status_code == 400
    change(client, 0, "scribble", stroke=inside, **{"class": 1})
    change(client, 1, "scribble", stroke=outside, **{"class": 0})
    found = _when_learned(client)
    assert [area["class"] for area in found["areas"]] == [1]
    shown = Image.open(io.BytesIO(client.get("/api/images/1/uncertainty").content))
    assert shown.size == (160, 120)
    assert shown.mode == "RGBA"
    again = client.get(f"/api/images/1/forest?version={found['version']}").json()
    assert "areas" not in again
    taken = change(client, 2, "accept", point=[60, 80]).json()["put"]
    assert len(taken) == 1
    assert abs(taken[0]["area"] - disc.sum()) < 0.1 * disc.sum()
    assert change(client, 3, "accept", point=[2, 2]).status_code == 400
    change(client, 3, "delete", ids=[1, 2])
    assert _when_learned(client)["version"] == 0


def _when_learned(client):
    for _ in range(1200):
        found = client.get("/api/images/1/forest").json()
        if not found["working"]:
            assert found["error"] is None
            return found
        time.sleep(0.1)
    raise TimeoutError("the forest learns for ever")


@pytest.mark.parametrize("name", exports.FORMATS)
def test_exports(client, name):
    assert client.post("/api/export", json={"format": name}).status_code == 400  # nothing yet
    area = click(client, 0).json()["put"][0]["area"]
    change(client, 0, "mark", image=2, mark="done")
    answer = client.post("/api/export", json={"format": name}).json()
    assert "2 images, 1 objects" in answer["lines"][0]
    assert os.path.isdir(answer["folder"])
    if name == "coco":
        (path,) = [p for p in map(str, _files(answer["folder"])) if p.endswith(".json")]
        assert json.loads(Path(path).read_text())["annotations"][0]["area"] == area
    if name == "class_maps":
        from segalgos.datasets import load

        dataset = load("folder", root=answer["folder"])
        assert dataset.classes == ("background", "disc", "ground")
        assert (dataset[0].labels == 1).sum() == area
    again = client.post("/api/export", json={"format": name}).json()
    assert again["folder"] != answer["folder"]


def _files(folder):
    return [os.path.join(at, name) for at, _, names in os.walk(folder) for name in names]


def test_an_area_that_is_not_counted_is_one_object(client, project):
    info = project.classes[0]._replace(countable=False)
    project.set_classes(0, [info, project.classes[1]])
    for i, row in enumerate((20, 60)):
        line = {"points": [[row, 20], [row, 60]], "radius": 4, "inside": True}
        change(client, i, "paint", object=None, stroke=line, **{"class": 1})
    answer = client.post("/api/export", json={"format": "coco"}).json()
    assert "1 images, 1 objects" in answer["lines"][0]


# --- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["/", "/page/main.js", "/api/overview", "/api/images/1", "/api/images/1/tiles/0/0/0",
     "/?token=", "/?token=a-secret-tokem", "/api/overview?token=é", "/nothing"],
)  # fmt: skip
def test_without_the_token_everything_is_refused(stranger, path):
    answer = stranger.get(path)
    assert answer.status_code == 403
    assert TOKEN not in answer.text
    assert "set-cookie" not in answer.headers
    assert "content-security-policy" in answer.headers
    stranger.cookies.set(f"segalgos-{PORT}", "guess")
    assert stranger.get(path).status_code == 403


def test_the_cookie_is_for_this_page_alone(stranger):
    cookie = stranger.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert cookie.startswith(f"segalgos-{PORT}=")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://example.org"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"host": "example.org"},
        {"host": f"example.org:{PORT}"},
        {"host": "127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_other_pages_and_names_are_refused(client, headers):
    assert client.get("/api/overview", headers=headers).status_code == 403
    body = {"revision": 0, "action": "mark", "mark": "done"}
    refused = client.post("/api/images/1/change", json=body, headers=headers)
    assert refused.status_code == 403
    assert client.get("/api/images/1").json()["image"]["mark"] == "open"


def test_changes_need_an_origin_and_json(client):
    body = json.dumps({"revision": 0, "action": "mark", "mark": "done"})
    form = {"content-type": "text/plain"}
    assert client.post("/api/images/1/change", content=body, headers=form).status_code == 415
    client.headers.pop("origin")
    assert client.post("/api/images/1/change", json=json.loads(body)).status_code == 403
    assert client.get("/api/images/1/change").status_code in (404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/page/../server.py",
        "/page/..%2f..%2fserver.py",
        "/page/%2e%2e/guard.py",
        "/page//etc/passwd",
        "/api/images/..%2f..%2fsecret.png",
        "/api/images/1/tiles/0/0/..%2f..%2f0",
        "/api/images/-1",
        "/api/images/1/thumbnail/../../../project.json",
        "/api/next?after=%2fetc",
    ],
)
def test_paths_lead_nowhere_else(client, path):
    assert client.get(path).status_code in (400, 404)


AT = {"points": [[1, 0]], "radius": 1}


@pytest.mark.parametrize(
    "content",
    [
        {"revision": "0", "action": "mark"},
        {"action": "__init__"},
        {"action": "mark", "mark": "<b>"},
        {"action": "delete", "ids": [7]},
        {"action": "paint", "class": 1, "stroke": {"points": [], "radius": 1}},
        {"action": "paint", "class": 1, "stroke": {"points": [[1e99, 0]], "radius": 1}},
        {"action": "paint", "class": 1, "stroke": {"points": [[1, 0]], "radius": -1}},
        {"action": "paint", "class": 9, "stroke": AT},
        {"action": "polygon", "class": 1, "points": [[1, 2], [3, 4]]},
        {"action": "point", "class": 1, "method": "graph_cut"},
        {"action": "point", "class": 1, "method": "x", "box": [0, 0, 50, 50]},
        {"action": "point", "class": 1, "method": "graph_cut", "box": [5, 5, 5, 50]},
        {"action": "scribble", "class": True, "stroke": AT},
    ],
)
def test_bad_changes_change_nothing(client, content):
    answer = client.post("/api/images/1/change", json={"revision": 0} | content)
    assert answer.status_code == 400
    assert answer.json()["error"]
    opened = client.get("/api/images/1").json()
    assert opened["revision"] == 0
    assert opened["items"] == []


def test_bodies_are_bounded(client, monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 1000)
    large = json.dumps({"revision": 0, "x": "x" * 2000})
    kind = {"content-type": "application/json"}
    assert client.post("/api/classes", content=large, headers=kind).status_code == 413
    pieces = (large[i : i + 500].encode() for i in range(0, len(large), 500))  # without a length
    assert client.post("/api/classes", content=pieces, headers=kind).status_code == 413


def test_a_corrupt_image_spoils_itself_alone(tmp_path, images):
    from segalgos.annotation.project import Project
    from segalgos.annotation.server import make_app

    (images / "a broken one.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.fromarray(np.zeros((4, 5, 6, 3), np.uint8)[0]).save(images / "tiny.png")
    with Project(tmp_path / "other", images, ["disc"]) as project:
        session = Session(project)
        client = TestClient(make_app(session, TOKEN, PORT), HOME, headers={"origin": HOME})
        client.get(f"/?token={TOKEN}")
        for path in ("", "/thumbnail", "/tiles/0/0/0"):
            broken = client.get(f"/api/images/1{path}")
            assert broken.status_code == 400
            assert "a broken one.png" in broken.json()["error"]
        assert client.get("/api/overview").json()["images"][0]["error"]
        assert client.get("/api/next?after=5").json() == {"image": 2}  # not the broken one
        assert click(client, 0, image=2).status_code == 200
        tiny = {"points": [[2, 2]], "radius": 1, "inside": True}
        asked = {"object": None, "class": 1, "method": "graph_cut", "view": None, "stroke": tiny}
        assert change(client, 0, "point", image=5, **asked).status_code == 200
        session.forest.close()


# --- a server of its own -----------------------------------------------------------------------


@pytest.fixture
def start(tmp_path, images):
    """``start()``: a running server and its address."""
    processes = []

    def start_(**environment):
        command = [sys.executable, "-m", "segalgos", "annotate", str(images), "--no-browser"]
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "dataset"), "--classes", "disc"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        processes.append(process)
        return process, process.stdout.readline().strip()

    yield start_
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def ask(address, path, body=None):
    home, token = address.split("/?token=")
    port = home.rpartition(":")[2]
    headers = {"cookie": f"segalgos-{port}={token}", "origin": home}
    data = None if body is None else json.dumps(body).encode()
    if data:
        headers["content-type"] = "application/json"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(home + path, data, headers), timeout=60) as answer:
        return json.loads(answer.read())


def test_kill_9_loses_nothing_that_was_answered(start):
    process, address = start()
    line = {"points": [[20, 20], [20, 60]], "radius": 4, "inside": True}
    n_answered = 0
    for i in range(12):
        body = {"revision": i, "action": "paint", "object": None, "class": 1, "stroke": line}
        ask(address, "/api/images/1/change", body)
        n_answered += 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, address = start()
    opened = ask(address, "/api/images/1")
    assert len(opened["items"]) == n_answered
    assert opened["revision"] == n_answered
    undone = ask(address, "/api/images/1/change", {"revision": n_answered, "action": "undo"})
    assert len(undone["removed"]) == 1


def test_ctrl_c_ends_cleanly_and_the_port_is_on_this_computer_alone(start):
    process, address = start()
    assert address.startswith("http://127.0.0.1:")
    ask(address, "/api/overview")
    second = subprocess.run(
        [*process.args[:4], *process.args[4:]], capture_output=True, text=True, timeout=120
    )
    assert second.returncode == 4
    assert "another program is working" in second.stderr
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "everything is saved" in process.stderr.read()


@pytest.mark.parametrize("n_asked", [0, 50, 200])
def test_ctrl_c_while_kernels_compile_ends_cleanly(start, tmp_path, n_asked):
    process, address = start(NUMBA_CACHE_DIR=str(tmp_path / "empty"))
    for _ in range(n_asked):  # while kernels compile
        ask(address, "/api/status")
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert "everything is saved" in process.stderr.read()

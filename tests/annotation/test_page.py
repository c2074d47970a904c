"""The page in a real browser, used as a person would: pointer, keys, a look at what is shown."""

import importlib.util
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_spec = importlib.util.spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
room = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(room)

pytest.importorskip("uvicorn", reason="needs segalgos[annotate]")
pytest.importorskip("websockets", reason="drives Chromium by it")
pytestmark = pytest.mark.skipif(room.find_chromium() is None, reason="needs Chromium")

HOSTILE = "a 'quoted\" <script>document.title='ran'<!-- & ;.png"
OBJECTS = "document.querySelectorAll('#objects .entry [title^=Delete]').length"
SAVED = "document.getElementById('saved').textContent == 'saved'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images: one of a hostile name, a broken one, a plain one, a large one."""
    made = tmp_path_factory.mktemp("page")
    (made / "images").mkdir()
    rows, cols = np.mgrid[:240, :320]
    pixels = np.random.default_rng(0).normal(60, 6, (240, 320, 3))
    pixels[np.hypot(rows - 120, cols - 160) < 60] += (120, 60, 0)
    picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    picture.save(made / "images" / HOSTILE)
    (made / "images" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    picture.save(made / "images" / "plain.png")
    picture.resize((3200, 2400)).save(made / "images" / "wide.png")
    return made


class Server:
    def __init__(self, folder):
        command = [sys.executable, "-m", "segalgos", "annotate", str(folder / "images")]
        command += ["--out", str(folder / "out"), "--classes", "disc,ground", "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def stop(self, how=signal.SIGKILL):
        self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def running(folder):
    servers = [Server(folder)]
    yield servers
    for server in servers:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="module")
def browser():
    made = room.Chromium()
    yield made
    made.close()


@pytest.fixture
def page(running, browser):
    browser.goto(running[-1].address)
    browser.wait("document.querySelector('#images .picture')")
    browser.wait("document.body?.dataset.warm == 'true'", 300)
    return browser


def open_image(page, name):
    page.run(f"[...document.querySelectorAll('.picture')].find((p) => p.title == {name!r}).click()")
    page.wait(f"document.querySelector('.picture[aria-selected=true]')?.title == {name!r}")
    page.wait("!document.body.classList.contains('opening')")
    page.wait("document.getElementById('place').textContent.includes('×')")


def look(page):
    """What the canvas shows, as it is on the screen."""
    page.run("0")
    path = os.path.join(os.environ.get("SEGALGOS_SCREENSHOTS", page._folder), "look.png")
    page.screenshot(path)
    left, top, width, height = page.run(
        "(() => { const b = document.getElementById('canvas').getBoundingClientRect();"
        " return [b.left, b.top, b.width, b.height]; })()"
    )
    box = tuple(map(int, (left, top, left + width, top + height)))
    return np.array(Image.open(io.BytesIO(Path(path).read_bytes())).convert("RGB").crop(box)), box


def wait_for_objects(page, n):
    page.wait(f"{OBJECTS} == {n} && {SAVED}", 120)


def test_a_person_makes_masks(page, running, folder):
    open_image(page, HOSTILE)
    x, y = page.place("#canvas")
    page.key("c")
    before, _ = look(page)

    page.click(x, y)  # the disc
    wait_for_objects(page, 1)
    area = int(page.text("#objects .about").split()[0].replace(",", ""))
    assert abs(area - np.pi * 60**2) < 0.02 * np.pi * 60**2
    after, box = look(page)
    inside = after[int(y - box[1]) + 20, int(x - box[0]) + 20].astype(int)
    changed = inside - before[int(y - box[1]) + 20, int(x - box[0]) + 20].astype(int)
    assert np.abs(changed).max() > 15  # the mask is seen
    assert (after[5, 5] == before[5, 5]).all()

    page.click(x + 40, y, "right")  # beside: a part goes
    page.wait(f"{SAVED} && document.getElementById('undo').title.includes('refine')", 60)
    page.key("z", "Control")
    page.wait(f"{SAVED} && document.getElementById('redo').title.includes('refine')", 60)
    assert int(page.text("#objects .about").split()[0].replace(",", "")) == area

    page.key("Enter")
    page.key("2")
    page.key("d")
    page.drag([(box[0] + 300, box[1] + 80 + 4 * i) for i in range(20)])  # brush, of the other class
    wait_for_objects(page, 2)
    assert "ground" in page.text("#objects")
    page.key("e")
    page.drag([(box[0] + 290, box[1] + 110), (box[0] + 310, box[1] + 110)])  # a gap
    page.wait(f"{SAVED} && document.getElementById('undo').title.includes('erase')")
    page.key("Enter")
    page.key("b")
    page.drag([(x - 250, y - 250), (x, y), (x + 250, y + 250)])
    wait_for_objects(page, 3)
    page.key("Delete")
    wait_for_objects(page, 2)

    assert page.run("document.title") != "ran"
    assert page.run("document.querySelectorAll('script').length") == 1
    names = "[...document.querySelectorAll('.picture .name')].map((name) => name.textContent)"
    assert HOSTILE in page.run(names)
    page.key("Enter", "Shift")  # done, and on
    page.wait("document.getElementById('progress-text').textContent.startsWith('1 of')")
    page.wait("document.querySelector('.picture[aria-selected=true]').title == 'plain.png'")
    home = running[-1].address.split("?")[0]
    asked = [address for address in page.addresses() if address.startswith("http")]
    assert len(asked) > 10
    assert all(address.startswith(home) for address in asked)
    assert [p for p in page.problems() if "400" not in p] == []  # of the broken image


def test_a_broken_image_says_so_and_the_rest_works(page):
    page.run(
        "[...document.querySelectorAll('.picture')].find((p) => p.title == 'broken.png').click()"
    )
    page.wait("!document.getElementById('problem').hidden")
    assert "could not be decoded" in page.text("#problem")
    page.key("PageDown")
    page.wait("document.getElementById('problem').hidden")


def test_the_keyboard_alone_is_enough(page):
    open_image(page, "plain.png")
    page.run("document.getElementById('canvas').focus()")
    page.key("c")
    page.key("1")
    page.key("ArrowRight")
    page.key(" ")
    wait_for_objects(page, 1)
    page.key("Escape")
    page.key("Tab")
    page.wait("document.querySelector('#objects [aria-selected=true]')")
    page.key("Delete")
    wait_for_objects(page, 0)
    page.key("?")
    page.wait("document.getElementById('help-dialog').open")
    page.key("Escape")
    page.wait("!document.getElementById('help-dialog').open")


def test_two_tabs(page, running):
    open_image(page, "plain.png")
    x, y = page.place("#canvas")
    page.new_tab()
    try:
        page.goto(running[-1].address)
        page.wait("document.body?.dataset.warm == 'true'")
        open_image(page, "plain.png")
        page.key("c")
        page.click(x, y)
        wait_for_objects(page, 1)
        page.switch(0)  # which knows nothing of it
        page.key("d")
        page.drag([(x - 200, y - 200), (x - 150, y - 200)])
        page.wait("!document.getElementById('message').hidden")
        assert "another tab" in page.text("#message")
        wait_for_objects(page, 1)  # what the other tab did is here now
        page.drag([(x - 200, y - 200), (x - 150, y - 200)])
        wait_for_objects(page, 2)
        page.key("Delete")
        wait_for_objects(page, 1)
    finally:
        page.tabs.pop().close()
        page.switch(0)


def test_a_new_class_and_an_export(page, folder):
    open_image(page, HOSTILE)
    page.key("a")
    page.wait("document.getElementById('class-dialog').open")
    page.type("<img src=x onerror=alert(1)>")
    page.key("Enter")
    page.wait("!document.getElementById('class-dialog').open")
    assert "<img src=x onerror=alert(1)>" in page.text("#classes")
    page.key("x")
    page.wait("document.getElementById('export-dialog').open")
    page.press("[data-format=yolo]")
    page.wait("document.getElementById('export-result').textContent.includes('objects')", 120)
    assert (folder / "out" / "exports" / "yolo-1").is_dir()
    page.key("Escape")


def test_a_large_image_comes_in_tiles(page):
    open_image(page, "wide.png")
    page.wait("document.getElementById('place').textContent.includes('3200 × 2400')")
    x, y = page.place("#canvas")
    page.key("c")
    page.key("1")
    page.click(x, y)
    wait_for_objects(page, 1)
    area = int(page.text("#objects .about").split()[0].replace(",", ""))
    assert abs(area - 100 * np.pi * 60**2) < 0.03 * 100 * np.pi * 60**2


def test_forest_shows_classes_and_doubt(page):
    open_image(page, "plain.png")
    page.key("f")
    x, y = page.place("#canvas")
    page.key("1")
    page.drag([(x - 30, y - 30), (x, y), (x + 40, y + 20)])
    page.key("0")
    page.drag([(x - 300, y - 250), (x, y - 250), (x + 300, y - 200)])
    page.wait("document.getElementById('forest').dataset.version > 0", 200)
    n = page.run(OBJECTS)
    page.click(x, y + 60, modifiers=("Control",))  # that piece
    wait_for_objects(page, n + 1)
    page.key("v")


def test_after_kill_9_all_is_there(page, running, folder):
    open_image(page, HOSTILE)
    before = page.text("#objects")
    assert "ground" in before
    running[-1].stop()
    page.key("d")
    x, y = page.place("#canvas")
    page.drag([(x - 200, y - 200), (x - 150, y - 200)])
    page.wait("document.getElementById('saved').textContent == 'no server'")
    assert "does not answer" in page.text("#message")
    running.append(Server(folder))
    page.goto(running[-1].address)
    page.wait("document.querySelector('#images .picture')")
    open_image(page, HOSTILE)
    assert page.text("#objects") == before
    page.key("z", "Control")  # what was done before the kill can be undone
    page.wait(f"{SAVED} && !document.getElementById('redo').disabled")
    page.key("y", "Control")
    page.wait(f"{SAVED} && document.getElementById('redo').disabled")
    running[-1].stop(signal.SIGINT)
    assert running[-1].process.returncode == 0

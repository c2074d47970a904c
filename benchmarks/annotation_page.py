"""How long a person waits for the page of `segalgos annotate`, and what memory it takes.

    python benchmarks/annotation_page.py click  # masks of clicks and boxes on 1 Mpx, by method
    python benchmarks/annotation_page.py open   # 500 images: until the list is there, in Chromium
    python benchmarks/annotation_page.py large  # 100 Mpx: opening, a tile, a click, memory

Rows are added to ``benchmarks/results/annotation_page.jsonl``. Images are those of scikit-image,
enlarged; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

from segalgos.annotation.pictures import Picture
from segalgos.annotation.project import Project
from segalgos.annotation.session import Session
from segalgos.annotation.state import Pointing, Stroke
from segalgos.bench.cell import machine, versions

OUT = Path(__file__).parent / "results" / "annotation_page.jsonl"
CHROMIUM = Path(__file__).parents[1] / "tests" / "annotation" / "chromium.py"
PHOTOS = ("astronaut", "chelsea", "coffee", "rocket")
SIDE = 1024
N_CLICKS = 6  # on each photograph, at places drawn at random


def write(kind: str, **values) -> None:
    row = {"kind": kind, **values, "load": os.getloadavg()[0]}
    row |= {"command": " ".join(sys.argv), "machine": machine(), "versions": versions()}
    OUT.parent.mkdir(exist_ok=True)
    with open(OUT, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    print({key: row[key] for key in (*values, "load")})


def measure_clicks(seed: int = 0) -> None:
    """Through the session, as a request would: find, save, outline."""
    rng = np.random.default_rng(seed)
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "images").mkdir()
        for name in PHOTOS:
            picture = Image.fromarray(getattr(data, name)()).resize((SIDE, SIDE), Image.LANCZOS)
            picture.save(folder / "images" / f"{name}.png")
        with Project(folder / "out", folder / "images", ["object"]) as project:
            session = Session(project)
            session._warm_up()
            for method in session.tools.names:
                for how in ("click", "box"):
                    times = [
                        time_one(session, image_id, method, how, rng)
                        for image_id in project.images
                        for _ in range(N_CLICKS)
                    ]
                    seconds, cpu = zip(*times)
                    summary = {
                        "median_cpu_ms": round(1000 * float(np.median(cpu)), 1),
                        "median_ms": round(1000 * float(np.median(seconds)), 1),
                        "p95_ms": round(1000 * float(np.percentile(seconds, 95)), 1),
                        "max_ms": round(1000 * max(seconds), 1),
                    }
                    write("click", method=method, how=how, pixels=SIDE**2, n=len(seconds),
                          seed=seed, **summary)  # fmt: skip
            session.forest.close()
    finally:
        shutil.rmtree(folder)


def time_one(session: Session, image_id: int, method: str, how: str, rng) -> tuple[float, float]:
    """Seconds on the clock, and of all cores together, which other programs hardly change."""
    session.pictures.get(image_id)
    revision = session.project.get(image_id).revision
    row, col = rng.uniform(0.2 * SIDE, 0.8 * SIDE, 2).tolist()
    request = {"revision": revision, "action": "point", "object": None, "class": 1}
    request |= {"method": method, "view": [0, 0, SIDE, SIDE]}
    if how == "click":
        request["stroke"] = {"points": [[row, col]], "radius": 5, "inside": True}
    else:
        half = 0.15 * SIDE
        request["box"] = [row - half, col - half, row + half, col + half]
    began = time.perf_counter(), time.process_time()
    json.dumps(session.change(image_id, request))
    seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    session.change(image_id, {"revision": revision + 1, "action": "undo"})
    return seconds


def measure_open(n_images: int = 500) -> None:
    """From the address to the whole list, and to the first picture on the canvas."""
    spec = importlib.util.spec_from_file_location("chromium", CHROMIUM)
    room = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    folder = Path(tempfile.mkdtemp())
    server, browser = None, None
    try:
        (folder / "images").mkdir()
        photo = Image.fromarray(data.astronaut()).resize((SIDE, SIDE))
        photo.save(folder / "images" / "0000.jpg")
        for i in range(1, n_images):
            shutil.copyfile(folder / "images" / "0000.jpg", folder / "images" / f"{i:04d}.jpg")
        command = [sys.executable, "-m", "segalgos", "annotate", str(folder / "images")]
        server = subprocess.Popen(
            [*command, "--out", str(folder / "out"), "--classes", "object", "--no-browser"],
            stdout=subprocess.PIPE,
            text=True,
        )
        address = server.stdout.readline().strip()
        browser = room.Chromium()
        browser.goto(address)
        browser.wait("document.body?.dataset.warm == 'true'", 600)
        time.sleep(10)  # compiling goes on for the forest
        began = time.perf_counter()
        browser.goto(address)
        browser.wait(f"document.querySelectorAll('#images .picture').length == {n_images}")
        listed = time.perf_counter() - began
        browser.wait("document.getElementById('place').textContent.includes('×')")
        opened = time.perf_counter() - began
        write("open", n_images=n_images, listed_s=round(listed, 3), opened_s=round(opened, 3))
    finally:
        if browser:
            browser.close()
        if server:
            server.send_signal(signal.SIGKILL)
            server.wait()
            server.stdout.close()
        shutil.rmtree(folder)


def measure_large(side: int = 10_000) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        (folder / "images").mkdir()
        photo = Image.fromarray(data.astronaut()).resize((side, side))
        photo.save(folder / "images" / "large.jpg", quality=90)
        del photo
        with Project(folder / "out", folder / "images", ["object"]) as project:
            session = Session(project)
            session._warm_up()
            small = Picture(data.astronaut())
            session.tools.find(small, Pointing((Stroke(((100.0, 220.0),), 3.0),)), "graph_cut")
            steps = {}
            for name, step in {
                "open_s": lambda: session.image(1),
                "tile_s": lambda: session.pictures.get(1).tile(0, 3, 3),
                "click_s": lambda: click_large(session, side),
            }.items():
                began = time.perf_counter()
                step()
                steps[name] = round(time.perf_counter() - began, 3)
            kept = round(session.pictures.n_bytes / 1e6)
            peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
            write("large", pixels=side * side, **steps, kept_mb=kept, peak_mb=peak)
            session.forest.close()
    finally:
        shutil.rmtree(folder)


def click_large(session: Session, side: int) -> None:
    stroke = {"points": [[0.2 * side, 0.43 * side]], "radius": side / 200, "inside": True}
    request = {"revision": 0, "action": "point", "object": None, "class": 1, "stroke": stroke}
    json.dumps(session.change(1, request | {"method": "graph_cut", "view": [0, 0, side, side]}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("click", "open", "large"), nargs="+")
    for what in parser.parse_args().what:
        {"click": measure_clicks, "open": measure_open, "large": measure_large}[what]()

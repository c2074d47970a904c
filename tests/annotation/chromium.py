"""Headless Chromium, driven as a person would: pointer and keys, and a look at the page."""

import base64
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*"),
)
BUTTONS = {"left": 1, "right": 2, "middle": 4}
MODIFIERS = {"Alt": 1, "Control": 2, "Meta": 4, "Shift": 8}
CODES = {"Enter": 13, "Escape": 27, "Delete": 46, "PageDown": 34, "PageUp": 33, " ": 32, "Tab": 9}


def find_chromium():
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Chromium:
    """One page of a browser of its own."""

    def __init__(self, width=1400, height=860):
        from websockets.sync.client import connect

        self._folder = tempfile.mkdtemp(prefix="segalgos-chromium-")
        size = (f"--user-data-dir={self._folder}", f"--window-size={width},{height}")
        self._process = subprocess.Popen(
            [find_chromium(), *FLAGS, *size, "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        port_file = Path(self._folder) / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and port_file.read_text().count("\n") >= 1)
        port = int(port_file.read_text().split("\n")[0])
        self._numbers = itertools.count(1)
        self._open = ExitStack()
        self._connect = lambda address: connect(address, max_size=None, proxy=None)
        self._port, self._width, self._height = port, width, height
        self.tabs = []
        self.new_tab(first=True)

    def new_tab(self, first=False):
        """Open a tab, or take the one that is there, and go on in it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        connection.request(*(("GET", "/json/list") if first else ("PUT", "/json/new?about:blank")))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        page = next(p for p in answer if p["type"] == "page") if first else answer
        self._socket = self._open.enter_context(self._connect(page["webSocketDebuggerUrl"]))
        self.tabs.append(self._socket)
        self.events = []
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.send(f"{domain}.enable")
        metrics = {"width": self._width, "height": self._height, "deviceScaleFactor": 1}
        self.send("Emulation.setDeviceMetricsOverride", **metrics, mobile=False)

    def switch(self, place):
        self._socket = self.tabs[place]
        self.send("Page.bringToFront")

    def send(self, method, **params):
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def goto(self, address):
        self.send("Page.navigate", url=address)

    def run(self, script):
        """The value of an expression in the page."""
        found = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(f"{script}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def wait(self, script, seconds=60):
        """Wait until an expression is true in the page."""
        wait_until(lambda: self.run(f"Boolean({script})"), seconds, script)

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? null")

    def place(self, selector):
        """The middle of an element on the screen."""
        script = f"""(() => {{ const box = document.querySelector({json.dumps(selector)})
            .getBoundingClientRect();
            return [box.left + box.width / 2, box.top + box.height / 2]; }})()"""
        return self.run(script)

    def press(self, selector):
        self.click(*self.place(selector))

    def _mouse(self, kind, x, y, button="left", buttons=0, modifiers=0, count=1):
        self.send(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, button=button, buttons=buttons,
            modifiers=modifiers, clickCount=count,
        )  # fmt: skip

    def click(self, x, y, button="left", modifiers=()):
        flags = sum(MODIFIERS[name] for name in modifiers)
        self._mouse("mouseMoved", x, y, "none")
        self._mouse("mousePressed", x, y, button, BUTTONS[button], flags)
        self._mouse("mouseReleased", x, y, button, 0, flags)

    def drag(self, points, button="left"):
        (x, y), *others = points
        self._mouse("mouseMoved", x, y, "none")
        self._mouse("mousePressed", x, y, button, BUTTONS[button])
        for x, y in others:
            self._mouse("mouseMoved", x, y, button, BUTTONS[button])
        self._mouse("mouseReleased", x, y, button)

    def key(self, key, *modifiers):
        flags = sum(MODIFIERS[name] for name in modifiers)
        code = CODES.get(key, ord(key.upper()) if len(key) == 1 else 0)
        text = {"text": key} if len(key) == 1 and not {"Control", "Alt"} & {*modifiers} else {}
        if key == "Enter":
            text = {"text": "\r"}
        common = {"key": key, "modifiers": flags, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text):
        self.send("Input.insertText", text=text)

    def screenshot(self, path):
        data = self.send("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))

    def problems(self):
        """What the page's console complained of."""
        self.run("0")
        found = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"])[:500])
            elif (
                event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"
            ):
                found.append(event["params"]["entry"]["text"])
        return found

    def addresses(self):
        """All that was asked for."""
        self.run("0")
        sent = [e for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def close(self):
        self._open.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def wait_until(is_so, seconds=60, what=""):
    ends = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > ends:
            raise TimeoutError(f"waited {seconds} s for {what or is_so}")
        time.sleep(0.05)

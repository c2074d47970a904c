"""Keep watch over one cell: its time, its memory, its output and its children.

Run as a program of its own, with the standard library only: whatever the cell does to
itself, this process lives on, and when the benchmark dies (its end of standard input
closes) it kills the cell and everything the cell started.

    python keeper.py '{"seconds": 60, "bytes": 8000000000}' COMMAND...

It prints one JSON object when the cell has ended.
"""

import contextlib
import ctypes
import json
import os
import selectors
import signal
import subprocess
import sys
import time

TAIL = 8192  # bytes of output kept; the rest of a flood is read and dropped
TICK = 0.05  # seconds between looks at the clock and the memory

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option, value):
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _processes():
    """Map every process to its parent and its resident bytes."""
    found = {}
    if os.path.isdir("/proc/self"):
        page = os.sysconf("SC_PAGE_SIZE")
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
                    # The name in brackets may hold blanks; state, parent ... follow it.
                    fields = file.read().rpartition(")")[2].split()
                    found[int(entry)] = int(fields[1]), int(fields[21]) * page
    else:  # macOS
        command = ["ps", "-axo", "pid=,ppid=,rss="]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lister:
            for line in lister.stdout:
                pid, parent, kilobytes = map(int, line.split())
                found[pid] = parent, kilobytes * 1024
        found.pop(lister.pid, None)
    return found


def _descendants(root):
    """Map every process that descends from `root` to its resident bytes."""
    processes, found, queue = _processes(), {}, [root]
    children = {}
    for pid, (parent, _) in processes.items():
        children.setdefault(parent, []).append(pid)
    while queue:
        for child in children.get(queue.pop(), []):
            found[child] = processes[child][1]
            queue.append(child)
    return found


def _kill_all(cell):
    """Kill the cell and all that descends from it; as subreaper we inherit strays."""
    with contextlib.suppress(OSError):
        os.killpg(cell.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        strays = _descendants(os.getpid())
        for pid in strays:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not strays:
            return
        time.sleep(0.01)


def watch(command, seconds, max_bytes):
    """Run a command until it ends or breaks a limit; the verdict is a dict.

    Parameters
    ----------
    command : list of str
    seconds : float
        Wall-clock limit.
    max_bytes : float
        Limit of resident memory, summed over the cell's processes.

    Returns
    -------
    dict or None
        ``ended`` ("exit", "signal", "timeout" or "oom"), ``code``, ``peak_bytes``,
        ``seconds`` and ``output_tail``; None if the benchmark has died.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    started = time.monotonic()
    cell = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
    )
    os.set_blocking(cell.stdout.fileno(), False)
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "benchmark")
    selector.register(cell.stdout.fileno(), selectors.EVENT_READ, "cell")
    tail, peak, ended, next_look = b"", 0, None, started

    def read_output():
        nonlocal tail
        try:
            data = os.read(cell.stdout.fileno(), 1 << 20)
        except BlockingIOError:
            return True
        tail = (tail + data)[-TAIL:]
        return bool(data)

    try:
        while ended is None:
            for key, _ in selector.select(TICK):
                if key.data == "benchmark":
                    if not os.read(sys.stdin.fileno(), 1):
                        return None
                elif not read_output():
                    selector.unregister(cell.stdout.fileno())
            now = time.monotonic()
            if cell.poll() is not None:
                ended = "signal" if cell.returncode < 0 else "exit"
            elif now - started > seconds:
                ended = "timeout"
            elif now >= next_look:  # a flood of output must not make us scan /proc each time
                next_look = now + TICK
                used = sum(_descendants(os.getpid()).values())
                peak = max(peak, used)
                if used > max_bytes:
                    ended = "oom"
        read_output()
    finally:
        _kill_all(cell)
    return {
        "ended": ended,
        "code": cell.returncode,
        "peak_bytes": peak,
        "seconds": time.monotonic() - started,
        "output_tail": tail.decode("utf-8", "replace"),
    }


if __name__ == "__main__":
    limits = json.loads(sys.argv[1])
    verdict = watch(sys.argv[2:], limits["seconds"], limits["bytes"])
    if verdict is not None:
        sys.stdout.write(json.dumps(verdict) + "\n")

"""Segmenters that misbehave, run by the benchmark as ``hostile:Name``."""

import ctypes
import os
import subprocess
import sys
import time

import numpy as np

from segalgos import Segmenter, Traits


class Fine(Segmenter):
    """Splits an image into a left and a right half."""

    traits = Traits(task="partition", family="graph", year=2026, deterministic=False)

    def __init__(self, wait=0.0, random_state=None, channel_axis="auto"):
        self.wait = wait
        self.random_state = random_state
        self.channel_axis = channel_axis

    def _predict(self, image, mask, prompts):
        time.sleep(self.wait)
        labels = np.zeros(image.shape[:2], np.int32)
        labels[:, image.shape[1] // 2 :] = 1
        return labels


class Segfaults(Fine):
    def _predict(self, image, mask, prompts):
        ctypes.string_at(0)


class Hangs(Fine):
    def _predict(self, image, mask, prompts):
        while True:
            pass


class HangsAtExit(Fine):
    def _predict(self, image, mask, prompts):
        import threading

        threading.Thread(target=time.sleep, args=(1000,)).start()
        return super()._predict(image, mask, prompts)


class EatsMemory(Fine):
    def _predict(self, image, mask, prompts):
        eaten = []
        while True:
            eaten.append(np.ones(10_000_000))


class PrintsWithoutEnd(Fine):
    def _predict(self, image, mask, prompts):
        while True:
            os.write(1, b"all work and no play " * 1000)


class PrintsALot(Fine):
    def _predict(self, image, mask, prompts):
        sys.stdout.write("noise\n" * 100_000)
        return super()._predict(image, mask, prompts)


class WrongShape(Fine):
    def predict(self, images, *, prompts=None, mask=None):
        return np.zeros((3, 3), np.int32)


class WrongKind(Fine):
    def predict(self, images, *, prompts=None, mask=None):
        return np.zeros(np.shape(images)[:2])


class Raises(Fine):
    def _predict(self, image, mask, prompts):
        raise RuntimeError("the paper said it would work")


class LeavesSilently(Fine):
    def _predict(self, image, mask, prompts):
        os._exit(0)


class LeavesChildren(Fine):
    """Starts a process that outlives it, in a session of its own, and marks it."""

    def _predict(self, image, mask, prompts):
        subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(1000)", "segalgos-stray"],
            start_new_session=True,
        )
        return super()._predict(image, mask, prompts)

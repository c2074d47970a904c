"""Kernels that are compiled before they are needed."""

import subprocess
import sys

CHECK = """
from segalgos import _hierarchy_kernels
from segalgos.contours import _structured_trees, _structured_votes, oriented_watershed
from segalgos.warmup import compile_contours

compile_contours()
assert oriented_watershed._weigh_by_angle.signatures
assert _hierarchy_kernels.levels_between.signatures
for module in (_structured_trees, _structured_votes):
    kernels = [v for v in vars(module).values() if hasattr(v, "py_func")]
    assert any(kernel.signatures for kernel in kernels)
"""


def test_contours_that_no_method_finds_are_compiled():
    # A process of its own: here, other tests may have compiled them.
    ended = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr

"""Rules for compiled kernels that no compiler tells."""

import ast
from pathlib import Path

import pytest

import segalgos

FILES = sorted(Path(segalgos.__file__).parent.rglob("*.py"))


def calls_in_kernels(path):
    """Calls within the functions of a file that numba compiles."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
        if any("njit" in ast.unparse(decorator) for decorator in decorators):
            yield from (child for child in ast.walk(node) if isinstance(child, ast.Call))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kernels_call_no_two_functions_that_numbas_cache_takes_for_one(path):
    # numba tells the parts of np.sort and of np.argsort, and of both sides of np.searchsorted,
    # apart by a number that it counts in each process. Kernels that two processes compiled into
    # one cache may then have the other's part, and silently give wrong results.
    for call in calls_in_kernels(path):
        name = ast.unparse(call.func)
        text = f"{path}:{call.lineno}: {ast.unparse(call)}"
        if name == "np.argsort" or name.endswith(".argsort"):
            assert "kind='mergesort'" in ast.unparse(call), f"{text}: pass kind='mergesort'"
        if name == "np.searchsorted":
            assert len(call.args) + len(call.keywords) == 2, f"{text}: take the left side alone"


def test_the_rule_finds_calls():
    names = {ast.unparse(call.func) for path in FILES for call in calls_in_kernels(path)}
    assert {"np.sort", "np.argsort", "np.searchsorted"} <= names

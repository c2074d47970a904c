"""Disjoint sets, shared by all methods that merge."""

from numba import njit

__all__ = ["find"]


@njit(nogil=True, cache=True)
def find(parent, node):
    """Find the root of a node.

    Parameters
    ----------
    parent : (n,) int ndarray
        Parent of each node; a root is its own. Paths are halved on the way.
    node : int

    Returns
    -------
    int
    """
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node

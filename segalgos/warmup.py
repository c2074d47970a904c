"""Compile kernels before they are needed, on all cores.

Numba compiles a function when it is first called and keeps the result in files. Here methods are
called on a tiny image, in a process a core, so that nobody waits, or measures it, later.

    segalgos warmup
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from threading import Thread

import numpy as np

from segalgos import catalog
from segalgos.parallel import map_items, n_threads
from segalgos.results import Instances

__all__ = ["compile_contours", "compile_method", "compile_metrics", "warm_up"]

METRICS, CONTOURS = "metrics", "contours"


def compile_method(name: str) -> None:
    """Call a method on tiny images, of 8 bits and of floats.

    Parameters
    ----------
    name : str
        Of the catalogue.
    """
    rng = np.random.default_rng(0)
    labels = _labels()
    segmenter = catalog.get_segmenter(name).small()
    if segmenter.traits.task == "interactive":  # it does nothing without prompts
        return
    for dtype in (np.uint8, np.float32):
        image = rng.integers(0, 256, (*labels.shape, 3)).astype(dtype)
        target = labels if segmenter.traits.needs_labels else None
        if segmenter.traits.task == "instance":
            target = Instances.from_labels(labels)
        segmenter.fit(image, target).predict(image, mask=labels == 1)
        segmenter.predict(image)
    if "nodes" in segmenter.get_params():  # kernels of the graph of pixels
        segmenter.set_params(nodes="pixels").predict(image)
    if hasattr(segmenter, "hierarchy"):  # kernels of cuts that it does not use itself
        hierarchy = segmenter.hierarchy(image)
        hierarchy.ucm()
        hierarchy.cut(min_area=2)
        hierarchy.cut(scribbles=labels)


def compile_metrics() -> None:
    """Score tiny label maps."""
    from segalgos import metrics

    labels = _labels()
    metrics.region_scores(labels, labels)
    metrics.semantic_scores(labels, labels, 2)
    metrics.instance_scores(labels, labels)
    contours = np.where(metrics.partition_boundaries(labels), 0.5, 0.0)
    metrics.evaluate_hierarchies([contours], [labels])


def compile_contours() -> None:
    """Find contours of tiny images, of 8 bits and of floats, and learn to."""
    from segalgos.contours.globalized_pb import globalized_pb
    from segalgos.contours.multiscale_pb import multiscale_pb
    from segalgos.contours.structured_forest import StructuredForest
    from segalgos.contours.thinning import non_maximum_suppression
    from segalgos.contours.ucm import combine_hierarchies, contour_hierarchy

    image = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    non_maximum_suppression(multiscale_pb(image))
    multiscale_pb(image.astype(np.float32), mask=_labels() == 1)
    globalized_pb(image)
    forest = StructuredForest(
        n_trees=1, n_evaluated=1, scales=(0.5, 1, 2), n_patches=50, random_state=0
    )
    hierarchy = contour_hierarchy(forest.fit(image, _labels()).predict(image))
    combine_hierarchies([hierarchy, hierarchy])


def _labels():
    labels = np.zeros((24, 24), np.int32)
    labels[:, 12:] = 1
    return labels


def warm_up(
    names: Sequence[str], on_done: Callable[[str], None] = lambda name: None
) -> dict[str, str]:
    """Compile the kernels of methods, and those of the metrics.

    Parameters
    ----------
    names : sequence of str
        Of the catalogue, or "contours": those functions that no method calls.
    on_done : callable
        Told each name, on any thread.

    Returns
    -------
    dict of str to str
        Why methods failed, by name: the last line that they wrote.
    """
    todo = [METRICS, *names]
    shares = [todo[i :: n_threads()] for i in range(min(n_threads(), len(todo)))]
    failures: dict[str, str] = {}

    def work(share: list[str]) -> None:
        while share:  # a method that kills its process does not keep the others from it
            process = subprocess.Popen(
                [sys.executable, "-m", "segalgos.warmup", *share],
                stdin=subprocess.PIPE,  # closed when we end, however that comes
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            last = ""
            for line in process.stdout:
                if line.strip() == f"compiled {share[0]}":
                    on_done(share.pop(0))
                    if not share:
                        break
                else:
                    last = line.strip() or last
            process.stdin.close()
            process.stdout.close()
            process.wait()
            if share:
                failures[share[0]] = last
                on_done(share.pop(0))

    map_items(work, shares)
    return failures


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()
    for name in sys.argv[1:]:
        if name == METRICS:
            compile_metrics()
        elif name == CONTOURS:
            compile_contours()
        else:
            compile_method(name)
        sys.stdout.write(f"compiled {name}\n")
        sys.stdout.flush()

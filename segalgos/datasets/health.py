"""Statistics of a data set, and what is wrong with it."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from segalgos.datasets._findings import KINDS, SEVERITIES, Finding
from segalgos.datasets._image_facts import Facts, look_at
from segalgos.datasets._image_hash import NEAR, find_near
from segalgos.datasets._sources import Source, lone_images, open_any
from segalgos.parallel import map_items

__all__ = ["ClassStats", "Finding", "HealthReport", "NearPair", "SplitStats", "check"]

# COCO's bounds of small and medium objects, in pixels.
_SMALL, _MEDIUM = 32**2, 96**2


@dataclass(frozen=True)
class SplitStats:
    """Counts of one part.

    Parameters
    ----------
    images, objects, crowds : int
    without_objects : int
        Images that have none.
    smallest, median, largest : tuple of int, optional
        Height and width of images, by area.
    """

    images: int
    objects: int
    crowds: int
    without_objects: int
    smallest: tuple[int, int] | None
    median: tuple[int, int] | None
    largest: tuple[int, int] | None


@dataclass(frozen=True)
class ClassStats:
    """Counts of one class.

    Parameters
    ----------
    name : str
    images : int
        In which it is.
    objects : int
        0 of label maps.
    pixels : int
        Of objects, those that overlap counted for each.
    share : float
        Of the pixels of all classes.
    small, medium, large : int
        Objects below 32 x 32 pixels, below 96 x 96, and above.
    by_split : dict of str to int
        Objects in each split; of label maps, images.
    """

    name: str
    images: int
    objects: int
    pixels: int
    share: float
    small: int
    medium: int
    large: int
    by_split: dict[str, int]


@dataclass(frozen=True)
class NearPair:
    """Two images that are nearly the same.

    Parameters
    ----------
    first, second : tuple of str
        Split and name.
    distance : int
        Bits of 255 in which their hashes differ; 0 and ``same_pixels`` for equal images.
    turned : bool
        Whether one is a mirrored or turned copy of the other.
    same_pixels : bool
    """

    first: tuple[str, str]
    second: tuple[str, str]
    distance: int
    turned: bool
    same_pixels: bool


@dataclass
class HealthReport:
    """What `check` found.

    Parameters
    ----------
    source, layout : str
    classes : list of ClassStats
    splits : dict of str to SplitStats
        "" where there are none.
    findings : list of Finding
        The worst first.
    near : list of NearPair
    """

    source: str
    layout: str
    classes: list[ClassStats] = field(default_factory=list)
    splits: dict[str, SplitStats] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    near: list[NearPair] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether there is no error and no warning; notes do not count."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind was found, the worst first."""
        found = Counter(finding.kind for finding in self.findings)
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def to_dict(self) -> dict[str, Any]:
        """Make plain dicts and lists of it.

        Returns
        -------
        dict
            For JSON.
        """
        plain = asdict(self)
        plain["findings"] = [
            {**asdict(f), "severity": f.severity, "remedy": f.remedy} for f in self.findings
        ]
        return {**plain, "healthy": self.healthy, "counts": self.counts}


def check(
    source: str | os.PathLike,
    *,
    layout: str | None = None,
    task: str = "semantic",
    root: str | os.PathLike | None = None,
    near: int | None = NEAR,
    on_start: Callable[[int], None] | None = None,
    on_image: Callable[[], None] | None = None,
) -> HealthReport:
    """Look through a data set for what makes training or scores go wrong.

    Parameters
    ----------
    source : path or str
        A folder or file in any of the layouts that can be read, or the name of a data set, see
        `segalgos.datasets.available`.
    layout : str, optional
        "folder" (images and label maps) or a label format, see
        `segalgos.formats.convert.SOURCES`; found out if left out.
    task : {"semantic", "instance"}
        What the values of label maps are: classes, or objects.
    root : path, optional
        Where the data set of that name is.
    near : int or None, default=64
        Bits of 255 in which perceptual hashes of copies may differ; None looks for no copies.
    on_start, on_image : callable, optional
        Told how many images there are, and, on any thread, that one is done.

    Returns
    -------
    HealthReport

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is in no layout, in several, or the file that describes the whole is damaged.

    See Also
    --------
    segalgos.datasets.split : Splits that keep copies together.
    segalgos.formats.convert.convert : Other formats.

    Notes
    -----
    Every file is read once, on threads; an image is in memory only while it is looked at, so that
    memory grows by about a kilobyte an image. Copies are found by comparing the hashes of all
    pairs.

    Objects of one class with an IoU of 0.95 are taken for one that was annotated twice. Outlines
    and boxes may reach a pixel beyond the image. 255 and -1 in label maps are void.

    Examples
    --------
    >>> from segalgos import datasets
    >>> report = datasets.check("my_folder")  # doctest: +SKIP
    >>> report.healthy, report.counts  # doctest: +SKIP
    (False, {'leak between splits': 2, 'annotated twice': 1})
    """
    opened = open_any(source, layout, task, root)
    if on_start is not None:
        on_start(len(opened.entries))

    def look(entry) -> Facts:
        facts = look_at(entry, opened.values)
        if on_image is not None:
            on_image()
        return facts

    facts = map_items(look, opened.entries)
    report = HealthReport(str(source), opened.layout)
    report.findings += opened.findings
    for image in facts:
        report.findings += image.findings
    for path in lone_images(opened, [f.file for f in facts if f.file is not None]):
        report.findings.append(Finding("image without labels", f"{path} is in no file of labels"))
    report.splits = _split_stats(facts)
    report.classes = _class_stats(opened, facts)
    report.findings += _class_findings(report, opened)
    if near is not None:
        report.near = _near_pairs(facts, near)
        report.findings += [_near_finding(pair) for pair in report.near]
    order = {kind: place for place, kind in enumerate(KINDS)}
    report.findings.sort(key=lambda f: (SEVERITIES.index(f.severity), order[f.kind]))
    return report


# --- counts --------------------------------------------------------------------------------------


def _split_stats(facts: list[Facts]) -> dict[str, SplitStats]:
    found = {}
    for split in dict.fromkeys(f.split for f in facts):
        own = [f for f in facts if f.split == split]
        sizes = sorted((f.size for f in own if f.size), key=lambda s: (s[0] * s[1], s))
        ends = (sizes[0], sizes[len(sizes) // 2], sizes[-1]) if sizes else (None,) * 3
        without = sum(any(x.kind == "image without objects" for x in f.findings) for f in own)
        n_objects = sum(len(f.objects) for f in own)
        n_crowds = sum(f.n_crowds for f in own)
        found[split] = SplitStats(len(own), n_objects, n_crowds, without, *ends)
    return found


def _class_stats(source: Source, facts: list[Facts]) -> list[ClassStats]:
    images: dict[int, Counter[str]] = defaultdict(Counter)
    objects: dict[int, Counter[str]] = defaultdict(Counter)
    pixels: Counter[int] = Counter()
    sizes: dict[int, Counter[str]] = defaultdict(Counter)
    for f in facts:
        pixels.update(f.pixels)
        for value in f.pixels:
            images[value][f.split] += 1
        for category, area in f.objects:
            objects[category][f.split] += 1
            size = "small" if area < _SMALL else "medium" if area < _MEDIUM else "large"
            sizes[category][size] += 1
    places = objects if objects else images
    names = _names(source, pixels)
    total = sum(pixels[value] for value in names)
    return [
        ClassStats(
            name,
            images[value].total(),
            objects[value].total(),
            pixels[value],
            pixels[value] / total if total else float("nan"),
            *(sizes[value][size] for size in ("small", "medium", "large")),
            dict(places[value]),
        )
        for value, name in names.items()
    ]


def _names(source: Source, pixels: Counter[int]) -> dict[int, str]:
    """Values of classes and their names; values without a name are named by themselves."""
    names = dict(zip(source.values or range(len(source.classes)), source.classes))
    if not names:
        return {value: f"value {value}" for value in sorted(pixels) if value >= 0}
    return names


def _class_findings(report: HealthReport, source: Source) -> list[Finding]:
    found = []
    for stats in report.classes:
        if not stats.images:
            if stats.name != "background":
                found.append(Finding("class without objects", f"{stats.name!r} is nowhere"))
        elif "train" in report.splits and not stats.by_split.get("train"):
            where = ", ".join(stats.by_split)
            found.append(Finding("class missing in train", f"{stats.name!r} is only in {where}"))
    return found


# --- copies --------------------------------------------------------------------------------------


def _near_pairs(facts: list[Facts], most: int) -> list[NearPair]:
    same: dict[bytes, list[int]] = defaultdict(list)
    for i, f in enumerate(facts):
        if f.digest is not None:
            same[f.digest].append(i)
    # Equal images are told once, as a chain, and looked for among others as one.
    found = [(a, b, 0, False, True) for group in same.values() for a, b in pairwise(group)]
    first = [group[0] for group in same.values() if facts[group[0]].hashes is not None]
    if first:
        pairs = find_near(np.array([facts[i].hashes for i in first]), most)
        for i, j, distance, symmetry in pairs.tolist():
            found.append((first[i], first[j], distance, symmetry > 0, False))
    found.sort()
    return [
        NearPair(_who(facts[a]), _who(facts[b]), distance, turned, equal)
        for a, b, distance, turned, equal in found
    ]


def _who(facts: Facts) -> tuple[str, str]:
    return facts.split, facts.name


def _near_finding(pair: NearPair) -> Finding:
    (split, name), (other_split, other) = pair.first, pair.second
    how = "the same pixels" if pair.same_pixels else f"{pair.distance} of 255 bits differ"
    how += ", mirrored or turned" if pair.turned else ""
    if split == other_split:
        return Finding("duplicate images", f"{name} and {other}: {how}", split, name)
    detail = f"{split}/{name} and {other_split}/{other}: {how}"
    return Finding("leak between splits", detail, split, name)

"""Split a data set: groups stay together, classes are shared out, copies never part."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segalgos.checks import check_choice
from segalgos.datasets._image_facts import Facts, look_at
from segalgos.datasets._image_hash import NEAR, find_near
from segalgos.datasets._instances import _read_any
from segalgos.datasets._sources import Entry, Source, open_any
from segalgos.files import atomic_path
from segalgos.parallel import map_items

if TYPE_CHECKING:
    from segalgos.formats.convert import Report

__all__ = ["FRACTIONS", "Split", "split"]

FRACTIONS = {"train": 0.7, "val": 0.15, "test": 0.15}
_PASSES = 20  # over all groups, to better a split; few are needed


@dataclass(eq=False)
class Split:
    """Which image goes where.

    Parameters
    ----------
    source : Source
        The data set, opened.
    entries : dict of str to list of Entry
        By the name of the part.
    n_groups : int
        Groups of images that stayed together.
    shares : dict of str to dict of str to float
        Of each class, in which share of its images it is in each part; "images" is all of them.
    """

    source: Source = field(repr=False)
    entries: dict[str, list[Entry]] = field(repr=False)
    n_groups: int
    shares: dict[str, dict[str, float]]

    @property
    def names(self) -> dict[str, list[str]]:
        """Names of the images of each part."""
        return {part: [entry.name for entry in own] for part, own in self.entries.items()}

    def to_dict(self) -> dict[str, Any]:
        """Make plain dicts and lists of it.

        Returns
        -------
        dict
            For JSON.
        """
        return {"groups": self.n_groups, "shares": self.shares, "names": self.names}

    def write_lists(self, folder: str | os.PathLike) -> list[Path]:
        """Write a list of names for each part, ``train.txt`` and so on.

        Parameters
        ----------
        folder : path
            Made if needed; lists that are there are replaced.

        Returns
        -------
        list of Path
        """
        paths = []
        for part, names in self.names.items():
            odd = next((name for name in names if "\n" in name or "\r" in name), None)
            if odd is not None:
                raise ValueError(f"split: the name {odd!r} does not fit a line: rename the file.")
            paths.append(Path(folder) / f"{part}.txt")
            with atomic_path(paths[-1]) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        return paths

    def write(
        self,
        target: str | os.PathLike,
        target_format: str | None = None,
        *,
        images: str = "copy",
    ) -> Report | None:
        """Write a new data set that is split so; the old one stays as it is.

        Parameters
        ----------
        target : path
            A folder that does not exist yet or is empty.
        target_format : str, optional
            A key of `segalgos.formats.convert.WRITERS`; that of the source if left out.
        images : {"copy", "link", "none"}, default="copy"
            As for `segalgos.formats.convert.convert`.

        Returns
        -------
        Report or None
            What is lost, which is nothing if the format is kept; None for images and label maps,
            whose files are copied as they are.

        Raises
        ------
        FileExistsError
            If the target holds something.
        ValueError
            If the source has no files of its own, or the format cannot hold these parts.
        """
        from segalgos.formats.convert import write

        if self.source.layout == "folder":
            if target_format not in (None, "folder"):
                raise ValueError(
                    f"split: images and label maps of classes are not written as {target_format}: "
                    "leave the format out."
                )
            _copy_masks(self, Path(target), images)
            return None
        if not self.source.parts:
            raise ValueError(
                f"split: {self.source.layout} is a data set by name: write lists of it, or pass "
                "its folder."
            )
        readers = {name: part.read for name, part in self.source.parts.items()}
        first = next(iter(self.source.parts.values()))
        parts = {
            name: replace(
                first,
                entries=[(entry.split, entry.key) for entry in own],
                read=partial(_read_any, readers),
            )
            for name, own in self.entries.items()
        }
        return write(parts, target, target_format or self.source.layout, images=images)


def split(
    source: str | os.PathLike,
    fractions: Mapping[str, float] | None = None,
    *,
    group_by: str | None = None,
    near: int | None = NEAR,
    layout: str | None = None,
    task: str = "semantic",
    root: str | os.PathLike | None = None,
    random_state: int = 0,
    on_start: Callable[[int], None] | None = None,
    on_image: Callable[[], None] | None = None,
) -> Split:
    """Split all images of a data set anew.

    Parameters
    ----------
    source : path or str
        As for `segalgos.datasets.check`. Splits that are there are put together first.
    fractions : mapping of str to float, optional
        Shares of images by the name of the part, which add up to 1; by default 0.7 for train,
        0.15 for val and for test.
    group_by : str, optional
        What else keeps images together: "folder", the folder of their files; or a regular
        expression that is looked for in their names, whose first group (or whole) is the name of
        the group: ``(patient\\d+)_``.
    near : int or None, default=64
        Bits of 255 in which perceptual hashes of copies may differ, which stay together; None
        does not look for copies.
    layout : str, optional
        As for `segalgos.datasets.check`.
    task : {"semantic", "instance"}
        What the values of label maps are.
    root : path, optional
        Where the data set of that name is.
    random_state : int, default=0
        Which of the equally good splits.
    on_start, on_image : callable, optional
        Told how many images there are, and that one is read.

    Returns
    -------
    Split
        Nothing is written yet.

    Raises
    ------
    ValueError
        If fractions do not add up to 1, there are fewer groups than parts, an image cannot be
        read, or a name has no group.

    See Also
    --------
    segalgos.datasets.check : What is wrong with a data set.

    Notes
    -----
    Groups go one by one to the part that lacks most of what is in them, those of rare classes
    first, as in iterative stratification [1]_, here for whole groups; then single groups move
    while that brings the shares of classes and of images nearer to the fractions.

    References
    ----------
    .. [1] K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the stratification of multi-label data",
       ECML PKDD 2011.
    """
    shares = _check_fractions(FRACTIONS if fractions is None else fractions)
    opened = open_any(source, layout, task, root)
    if on_start is not None:
        on_start(len(opened.entries))

    def look(entry: Entry) -> Facts:
        facts = look_at(entry, None)
        if on_image is not None:
            on_image()
        return facts

    facts = map_items(look, opened.entries)
    groups = _group(facts, opened, group_by, near)
    n_groups = int(groups.max(initial=-1)) + 1
    if n_groups < len(shares):
        raise ValueError(
            f"split: {len(facts)} images make {n_groups} groups, expected at least "
            f"{len(shares)}, one for each part: ask for fewer parts or smaller groups."
        )
    counts = _class_counts(facts)
    of_groups = np.zeros((n_groups, counts.shape[1]))
    np.add.at(of_groups, groups, counts)
    chosen = _share_out(of_groups, np.array(list(shares.values())), random_state)[groups]
    names = list(shares)
    entries = {
        name: [
            replace(entry, name=f.name)
            for entry, f, part in zip(opened.entries, facts, chosen, strict=True)
            if part == place
        ]
        for place, name in enumerate(names)
    }
    return Split(opened, entries, n_groups, _shares(opened, facts, counts, chosen, names))


def _check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    found = {str(name): float(share) for name, share in fractions.items()}
    good = found and all(share > 0 for share in found.values())
    if not good or abs(sum(found.values()) - 1) > 1e-6:
        raise ValueError(
            f"split: fractions are {found}, expected positive numbers that add up to 1, such as "
            "train=0.8, val=0.2."
        )
    odd = next((name for name in found if not re.fullmatch(r"\w[\w-]*", name)), None)
    if odd is not None:
        raise ValueError(f"split: {odd!r} is no name for a part: use letters and digits.")
    return found


# --- groups --------------------------------------------------------------------------------------


def _group(
    facts: list[Facts], source: Source, group_by: str | None, near: int | None
) -> NDArray[np.int64]:
    """The group of each image, from 0 without gaps."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = [] if near is None else near_pairs(facts, near)
    if group_by is not None:
        first: dict[str, int] = {}
        names = _group_names(facts, group_by)
        ties += [(first.setdefault(name, i), i) for i, name in enumerate(names)]
    one, other = np.array(ties, np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(facts),) * 2)
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _group_names(facts: list[Facts], group_by: str) -> list[str]:
    if group_by == "folder":
        lone = next((f.name for f in facts if f.file is None), None)
        if lone is not None:
            raise ValueError(f"split: {lone!r} has no file here, so no folder: group by a pattern.")
        return [str(f.file.parent) for f in facts]
    try:
        pattern = re.compile(group_by)
    except re.error as error:
        raise ValueError(f"split: group_by {group_by!r} is no pattern: {error}.") from error
    found = [pattern.search(f.name) for f in facts]
    for f, match in zip(facts, found, strict=True):
        if match is None:
            raise ValueError(
                f"split: the pattern {group_by!r} is not in the name {f.name!r}: widen it, such "
                "as with ^."
            )
    return [match[1] if match.re.groups else match[0] for match in found]


def near_pairs(facts: list[Facts], most: int) -> list[tuple[int, int]]:
    """Places of images that are copies of one another.

    Parameters
    ----------
    facts : list of Facts
    most : int
        Bits in which hashes may differ.

    Returns
    -------
    list of tuple of int
    """
    same: dict[bytes, int] = {}
    pairs = [(same.setdefault(f.digest, i), i) for i, f in enumerate(facts) if f.digest is not None]
    hashed = [i for i, f in enumerate(facts) if f.hashes is not None]
    if hashed:
        found = find_near(np.array([facts[i].hashes for i in hashed]), most)
        pairs += [(hashed[i], hashed[j]) for i, j in found[:, :2].tolist()]
    return pairs


# --- sharing out ---------------------------------------------------------------------------------


def _class_counts(facts: list[Facts]) -> NDArray[np.float64]:
    """One for each image, and for each class that is in it."""
    values = sorted({value for f in facts for value in f.pixels})
    places = {value: i for i, value in enumerate(values, start=1)}
    counts = np.zeros((len(facts), len(values) + 1))
    counts[:, 0] = 1
    for row, f in zip(counts, facts, strict=True):
        row[[places[value] for value in f.pixels]] = 1
    return counts


def _share_out(
    counts: NDArray[np.float64], fractions: NDArray[np.float64], random_state: int
) -> NDArray[np.int64]:
    """The part of each group.

    Parameters
    ----------
    counts : (n_groups, 1 + n_classes) float64
        Images, and those with each class.
    fractions : (n_parts,) float64
    random_state : int

    Returns
    -------
    (n_groups,) int64

    Notes
    -----
    What is made small is the sum over parts and classes of the squared distance between what is
    there and what should be, by the total of the class, small parts weighing more.
    """
    rng = np.random.default_rng(random_state)
    totals = np.maximum(counts.sum(axis=0), 1)
    scaled = counts / totals
    scaled[:, 0] *= np.sqrt(max(1, counts.shape[1] - 1))  # sizes of parts count as all classes do
    lacks = fractions[:, None] * scaled.sum(axis=0)
    weights = 1 / fractions

    def cost(group: int, lack: NDArray[np.float64]) -> NDArray[np.float64]:
        """What adding a group to each part changes."""
        return weights * ((scaled[group] - 2 * lack) * scaled[group]).sum(axis=1)

    shuffled = rng.permutation(len(counts))
    rarest = np.where(counts > 0, scaled, 0).max(axis=1)
    order = shuffled[np.argsort(-rarest[shuffled], kind="stable")]
    chosen = np.empty(len(counts), np.int64)
    for group in order:
        chosen[group] = np.argmin(cost(group, lacks))
        lacks[chosen[group]] -= scaled[group]
    sizes = np.bincount(chosen, minlength=len(fractions))
    for _ in range(_PASSES):
        moved = False
        for group in order:
            here = chosen[group]
            if sizes[here] == 1:
                continue
            lacks[here] += scaled[group]
            costs = cost(group, lacks)
            best = int(np.argmin(costs))
            best = best if costs[best] < costs[here] - 1e-12 else here
            lacks[best] -= scaled[group]
            sizes[here] -= 1
            sizes[best] += 1
            chosen[group], moved = best, moved or best != here
        if not moved:
            break
    for part in np.flatnonzero(sizes == 0):  # every part has at least one group
        giver = int(np.argmax(sizes))
        group = next(g for g in order[::-1] if chosen[g] == giver)
        chosen[group] = part
        sizes[giver] -= 1
        sizes[part] += 1
    return chosen


def _shares(source, facts, counts, chosen, names) -> dict[str, dict[str, float]]:
    values = sorted({value for f in facts for value in f.pixels})
    known = dict(zip(source.values or range(len(source.classes)), source.classes))
    titles = ["images", *(known.get(value, f"value {value}") for value in values)]
    parts: dict[str, dict[str, float]] = defaultdict(dict)
    for title, column in zip(titles, counts.T, strict=True):
        inside = np.bincount(chosen, column, minlength=len(names))
        for name, share in zip(names, inside / max(column.sum(), 1), strict=True):
            parts[title][name] = float(share)
    return dict(parts)


# --- images and label maps -----------------------------------------------------------------------


def _copy_masks(plan: Split, target: Path, images: str) -> None:
    """Copy files to ``train/images``, ``train/masks`` and so on; all or nothing."""
    from segalgos.formats.convert import staging

    check_choice("split", "images", images, ("copy", "link", "none"))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"split: {target} holds something: name a new folder.")
    with staging(target) as inside:
        for part, own in plan.entries.items():
            stem, count = Counter(entry.name for entry in own).most_common(1)[0]
            if count > 1:
                raise ValueError(f"split: {count} images would be called {stem!r}: rename them.")
            for entry in own:
                image, mask = entry.key
                for folder, file in (("images", image), ("masks", mask)):
                    place = inside / part / folder / file.name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    if images == "link":
                        os.link(file, place)
                    elif folder == "masks" or images == "copy":
                        shutil.copyfile(file, place)
        for name in ("classes.txt", "classes.json"):
            if (plan.source.path / name).is_file():
                shutil.copyfile(plan.source.path / name, inside / name)
        os.replace(inside, target)

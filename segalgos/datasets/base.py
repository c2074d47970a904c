"""Sample, Dataset and Info: what every data set gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    import numpy as np

    from segalgos.results import Instances

__all__ = ["VIEWS", "Dataset", "Field", "Info", "Sample"]

VIEWS = ("partition", "semantic", "instance")


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and what is known about it.

    Parameters
    ----------
    image : (H, W) or (H, W, 3) uint8
        Grey or RGB.
    labels : (H, W) int32 or None
        Class of every pixel, -1 where it is unknown or void.
    instances : Instances or None
        The objects, each with its mask and class.
    annotations : tuple of (H, W) int32, or None
        One partition into regions for each annotator, ids from 0.
    name : str
        Name of the image within its data set.
    """

    image: NDArray
    labels: NDArray[np.int32] | None = None
    instances: Instances | None = None
    annotations: tuple[NDArray[np.int32], ...] | None = None
    name: str = ""


@dataclass(frozen=True)
class Info:
    """What is known of a data set without opening it.

    Parameters
    ----------
    name : str
        What :func:`segalgos.datasets.load` calls it.
    task : {"partition", "semantic", "instance"}
        What it is mainly used for.
    splits : tuple of str
        Names of its parts.
    size : str
        Number of images, as text: "367 train, 101 val".
    licence, citation : str
        Terms of use, and what to cite.
    source : str
        Where its files can be had: a name and a web address.
    summary : str
        One sentence.
    built_in : bool
        Rendered on demand, so that no files are needed.
    folder : str
        Usual name of the folder of its files.
    marks : tuple of str
        Paths inside that folder of which one must exist.
    """

    name: str
    task: str
    splits: tuple[str, ...]
    size: str
    licence: str
    citation: str
    source: str
    summary: str
    built_in: bool = False
    folder: str = ""
    marks: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Dataset(Sequence[Sample]):
    """A lazy sequence of samples: an image is decoded or rendered when it is asked for.

    Parameters
    ----------
    read : callable
        ``read(i)`` gives the i-th :class:`Sample`; a picklable function, so that
        data sets travel to other processes.
    indices : sequence of int
        What to pass to ``read``, one for each sample.
    info : Info
        Name, licence and the like.
    split : str
        Which part of the data set this is.
    classes : tuple of str
        Class names; class ids are positions in it. Empty for partitions.
    views : tuple of {"partition", "semantic", "instance"}
        The truths that every sample carries: annotations, labels, instances.
    task : str, optional
        By default that of ``info``.

    Examples
    --------
    >>> from segalgos import datasets
    >>> shapes = datasets.load("shapes", split="train", n_images=4)
    >>> len(shapes), shapes[0].image.shape, shapes.labels[0].shape
    (4, (192, 256, 3), (192, 256))
    """

    read: Callable[[int], Sample] = field(repr=False)
    indices: Sequence[int] = field(repr=False)
    info: Info = field(repr=False)
    split: str
    classes: tuple[str, ...]
    views: tuple[str, ...]
    task: str = ""

    def __post_init__(self) -> None:
        if not self.task:
            object.__setattr__(self, "task", self.info.task)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.info.name

    @property
    def licence(self) -> str:
        """Terms of use."""
        return self.info.licence

    @property
    def citation(self) -> str:
        """What to cite."""
        return self.info.citation

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, key: int | slice) -> Sample | Dataset:
        if isinstance(key, slice):
            return replace(self, indices=self.indices[key])
        return self.read(self.indices[key])

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The samples at ``indices`` of this data set, in that order.

        Parameters
        ----------
        indices : iterable of int
            Positions in this data set; negative ones count from its end.

        Returns
        -------
        Dataset
            As lazy as this one.
        """
        return replace(self, indices=tuple(self.indices[i] for i in indices))

    @property
    def images(self) -> Field:
        """The images alone, a lazy sequence."""
        return Field(self, "image")

    @property
    def labels(self) -> Field | None:
        """The label maps alone, a lazy sequence; None if no sample has any."""
        return Field(self, "labels") if "semantic" in self.views else None

    @property
    def instances(self) -> Field | None:
        """The instances alone, a lazy sequence; None if no sample has any."""
        return Field(self, "instances") if "instance" in self.views else None

    def to_coco(self) -> dict[str, Any]:
        """Make a COCO data set of all objects, for its scores.

        Returns
        -------
        dict
            "images" (ids are places in this data set), "annotations" (crowds marked, masks as
            run lengths) and "categories" (ids are places in ``classes``): the truth of
            `segalgos.metrics.coco_average_precision`, for detections from
            ``Instances.to_coco(image_id)``.

        Raises
        ------
        ValueError
            If the samples have no instances.

        See Also
        --------
        segalgos.datasets.coco.annotations : What a COCO file holds, with its own ids and areas.

        Notes
        -----
        Reads every sample.
        """
        if "instance" not in self.views:
            raise ValueError(
                f"to_coco: the samples of {self.name!r} have no instances, only "
                f"{', '.join(self.views)}: choose another data set or task=."
            )
        images, annotations = [], []
        for i, sample in enumerate(self):
            height, width = sample.image.shape[:2]
            images.append({"id": i, "file_name": sample.name, "height": height, "width": width})
            for annotation in sample.instances.to_coco(i):
                del annotation["score"]
                annotations.append({**annotation, "id": len(annotations) + 1})
        names = enumerate(self.classes)
        categories = [{"id": i, "name": name} for i, name in names if name != "background"]
        return {"images": images, "annotations": annotations, "categories": categories}

    @property
    def annotations(self) -> Field | None:
        """The annotators' partitions alone, a lazy sequence; None if no sample has any."""
        return Field(self, "annotations") if "partition" in self.views else None


@dataclass(frozen=True, eq=False)
class Field(Sequence[Any]):
    """One attribute of every sample of a data set, read when it is asked for.

    Parameters
    ----------
    dataset : Dataset
        Where the samples come from.
    attribute : str
        A field of :class:`Sample`.
    """

    dataset: Dataset
    attribute: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            return replace(self, dataset=self.dataset[key])
        return getattr(self.dataset[key], self.attribute)

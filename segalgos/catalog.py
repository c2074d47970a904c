"""The plain list of all segmenters.

Static, so that listing it imports no algorithm; a test holds it equal to the classes'
own traits and to what is in the package.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segalgos.base import Segmenter

__all__ = ["ENTRIES", "Entry", "all_segmenters", "get_entry", "get_segmenter"]


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue.

    Parameters
    ----------
    key : str
        Short name for the command line.
    name, module : str
        Of the class.
    family, task : str
        As in its traits.
    year : int
        As in its traits.
    paper : str
        Whose idea it is.
    summary : str
        What it does, in one line.
    extra : str, optional
        The extra that must be installed for it.
    """

    key: str
    name: str
    module: str
    family: str
    task: str
    year: int
    paper: str
    summary: str
    extra: str | None = None

    @property
    def installed(self) -> bool:
        """Whether the packages that it needs are here."""
        return self.extra is None or importlib.util.find_spec(self.extra) is not None

    def load(self) -> type[Segmenter]:
        """Import the class.

        Returns
        -------
        type

        Raises
        ------
        ImportError
            If its extra is not installed; names the command that installs it.
        """
        if not self.installed:
            raise ImportError(
                f"{self.name} needs {self.extra}, which is not installed: "
                f"pip install 'segalgos[{self.extra}]'."
            )
        return getattr(importlib.import_module(self.module), self.name)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        "kmeans",
        "KMeansSegmenter",
        "segalgos.clustering.kmeans",
        "clustering",
        "partition",
        1982,
        "S. Lloyd, Least squares quantization in PCM, IEEE Trans. Inf. Theory",
        "clusters of similar colours",
    ),
    Entry(
        "gaussian_mixture",
        "GaussianMixtureSegmenter",
        "segalgos.clustering.gaussian_mixture",
        "clustering",
        "partition",
        1977,
        "A. Dempster et al., Maximum likelihood from incomplete data via the EM algorithm, JRSS B",
        "clusters of colours, each of its own spread and direction",
    ),
    Entry(
        "mean_shift",
        "MeanShiftSegmenter",
        "segalgos.clustering.mean_shift",
        "clustering",
        "partition",
        2002,
        "D. Comaniciu and P. Meer, Mean shift, TPAMI",
        "regions of pixels that climb to the same peak of density",
    ),
    Entry(
        "slic",
        "SLICSegmenter",
        "segalgos.clustering.slic",
        "clustering",
        "partition",
        2012,
        "R. Achanta et al., SLIC superpixels compared to state-of-the-art methods, TPAMI",
        "compact superpixels of about equal size",
    ),
    Entry(
        "etps",
        "ETPSSegmenter",
        "segalgos.clustering.etps",
        "clustering",
        "partition",
        2015,
        "J. Yao et al., Real-time coarse-to-fine topologically preserving segmentation, CVPR",
        "superpixels moved from blocks to pixels, true to edges",
    ),
    Entry(
        "felzenszwalb",
        "FelzenszwalbSegmenter",
        "segalgos.graph.felzenszwalb",
        "graph",
        "partition",
        2004,
        "P. Felzenszwalb and D. Huttenlocher, Efficient graph-based image segmentation, IJCV",
        "regions merged along a minimum spanning tree",
    ),
    Entry(
        "watershed",
        "WatershedSegmenter",
        "segalgos.graph.watershed",
        "graph",
        "partition",
        1991,
        "F. Meyer, Un algorithme optimal pour la ligne de partage des eaux, RFIA",
        "basins of the gradient, flooded from its minima or from seeds",
    ),
    Entry(
        "normalized_cuts",
        "NormalizedCutsSegmenter",
        "segalgos.graph.normalized_cuts",
        "graph",
        "partition",
        2000,
        "J. Shi and J. Malik, Normalized cuts and image segmentation, TPAMI",
        "regions cut apart where little holds them together",
    ),
    Entry(
        "ucm",
        "UCMSegmenter",
        "segalgos.contours.ucm",
        "contours",
        "partition",
        2011,
        "P. Arbelaez et al., Contour detection and hierarchical image segmentation, TPAMI",
        "regions merged along their weakest contours, cut from the whole hierarchy",
    ),
    Entry(
        "graph_cut",
        "GraphCutSegmenter",
        "segalgos.graph.graph_cut",
        "graph",
        "interactive",
        2001,
        "Y. Boykov and M.-P. Jolly, Interactive graph cuts for optimal segmentation, ICCV",
        "the cheapest cut between seeds, or an object out of a box",
    ),
    Entry(
        "random_walker",
        "RandomWalkerSegmenter",
        "segalgos.graph.random_walker",
        "graph",
        "interactive",
        2006,
        "L. Grady, Random walks for image segmentation, TPAMI",
        "the seed that a walker from each pixel meets first, with probabilities",
    ),
    Entry(
        "random_forest",
        "RandomForestSegmenter",
        "segalgos.pixels.random_forest",
        "pixels",
        "semantic",
        2001,
        "L. Breiman, Random forests, Machine Learning",
        "pixels classified by filter responses, from dense labels or scribbles",
    ),
    Entry(
        "svm",
        "SVMSegmenter",
        "segalgos.pixels.svm",
        "pixels",
        "semantic",
        1995,
        "C. Cortes and V. Vapnik, Support-vector networks, Machine Learning",
        "pixels classified by a wide margin between filter responses, with kernels",
    ),
    Entry(
        "pixel_classifier",
        "PixelClassifierSegmenter",
        "segalgos.pixels.pixel_classifier",
        "pixels",
        "semantic",
        1958,
        "D. Cox, The regression analysis of binary sequences, JRSS B",
        "pixels classified by any scikit-learn classifier, logistic regression by default",
    ),
    Entry(
        "fcn",
        "FCNSegmenter",
        "segalgos.nets.fcn",
        "nets",
        "semantic",
        2015,
        "J. Long et al., Fully convolutional networks for semantic segmentation",
        "a classifier that slides over the image, its scores made dense",
        extra="torch",
    ),
    Entry(
        "unet",
        "UNetSegmenter",
        "segalgos.nets.unet",
        "nets",
        "semantic",
        2015,
        "O. Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation",
        "an encoder-decoder network with skips between both",
        extra="torch",
    ),
    Entry(
        "deeplab",
        "DeepLabSegmenter",
        "segalgos.nets.deeplab",
        "nets",
        "semantic",
        2018,
        "L.-C. Chen et al., Encoder-decoder with atrous separable convolution",
        "atrous convolutions at several rates, and a decoder",
        extra="torch",
    ),
    Entry(
        "segformer",
        "SegFormerSegmenter",
        "segalgos.nets.segformer",
        "nets",
        "semantic",
        2021,
        "E. Xie et al., SegFormer: simple and efficient design for semantic segmentation",
        "a transformer that sees the whole image, with a light decoder",
        extra="torch",
    ),
    Entry(
        "ddrnet",
        "DDRNetSegmenter",
        "segalgos.nets.ddrnet",
        "nets",
        "semantic",
        2021,
        "Y. Hong et al., Deep dual-resolution networks for real-time segmentation",
        "a fine and a coarse path side by side, in real time",
        extra="torch",
    ),
    Entry(
        "sam",
        "SAMSegmenter",
        "segalgos.nets.sam.segmenter",
        "nets",
        "interactive",
        2023,
        "A. Kirillov et al., Segment anything, ICCV",
        "what clicks, boxes or rough masks point at, or everything; needs trained weights",
        extra="torch",
    ),
    Entry(
        "net",
        "NetSegmenter",
        "segalgos.nets.segmenter",
        "nets",
        "semantic",
        2015,
        "O. Ronneberger et al., U-Net (the default)",
        "any torch module, also of Hugging Face; a small U-Net by default",
        extra="torch",
    ),
    Entry(
        "mask_rcnn",
        "MaskRCNNSegmenter",
        "segalgos.nets.mask_rcnn",
        "nets",
        "instance",
        2017,
        "K. He et al., Mask R-CNN",
        "proposes boxes, judges each, and draws a mask within it",
        extra="torch",
    ),
    Entry(
        "yolact",
        "YOLACTSegmenter",
        "segalgos.nets.yolact",
        "nets",
        "instance",
        2019,
        "D. Bolya et al., YOLACT: real-time instance segmentation",
        "boxes in one stage, and masks added up from those of the whole image",
        extra="torch",
    ),
    Entry(
        "boundary_instances",
        "BoundaryInstanceSegmenter",
        "segalgos.instances.boundary_instances",
        "instances",
        "instance",
        2019,
        "J. Caicedo et al., Evaluation of deep learning strategies for nucleus segmentation",
        "objects one by one, also when they touch, by a semantic segmenter that learns borders",
    ),
)


def all_segmenters(family: str | None = None, task: str | None = None) -> list[type[Segmenter]]:
    """List the segmenter classes whose packages are installed.

    Parameters
    ----------
    family, task : str, optional
        Keep only these.

    Returns
    -------
    list of type
        In the order of the catalogue. ``ENTRIES`` also names those that need an extra.
    """
    return [
        entry.load()
        for entry in ENTRIES
        if family in (None, entry.family) and task in (None, entry.task) and entry.installed
    ]


def get_entry(name: str) -> Entry:
    """Find a line of the catalogue by its key or its class's name.

    Parameters
    ----------
    name : str
        Like ``"kmeans"`` or ``"KMeansSegmenter"``.

    Returns
    -------
    Entry

    Raises
    ------
    ValueError
        If there is none; names the closest.
    """
    for entry in ENTRIES:
        if name in (entry.key, entry.name):
            return entry
    keys = [entry.key for entry in ENTRIES]
    close = difflib.get_close_matches(str(name).lower(), keys, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(keys)}."
    raise ValueError(f"no segmenter is called {name!r}: {hint}")


def get_segmenter(name: str) -> type[Segmenter]:
    """Import a segmenter by its key or its class's name.

    Parameters
    ----------
    name : str

    Returns
    -------
    type
    """
    return get_entry(name).load()

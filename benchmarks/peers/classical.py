"""Clustering, superpixels and graph methods against the packages a user would otherwise pick.

    pip install 'segalgos[peers]'
    python benchmarks/peers/classical.py --photo PHOTO --data DATA --out FOLDER

PHOTO is any photograph of at least 3840 x 2160 pixels, of which the middle is taken; without it a
picture of scikit-image is enlarged. DATA is the folder that holds BSDS500; without it the small
image is a part of a picture of scikit-image and superpixels are not scored against people.
fast-slic and PyMaxflow are used where they are installed: the former has to be built (``pip
install --no-build-isolation fast-slic``), the latter is GPL.
"""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

import numpy as np
from measure import Task, main
from scipy import ndimage

import segalgos
from segalgos import datasets, metrics

PHOTO = (2160, 3840)
SMALL = (321, 481)
PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "scikit-image",
    "scikit-learn",
    "opencv-contrib-python-headless",
    "faiss-cpu",
    "fast-slic",
    "PyMaxflow",
    "pyamg",
)


# --- images ------------------------------------------------------------------------------


def middle(image, shape):
    """The part of that shape, at most, around an image's middle."""
    starts = [max(0, (have - want) // 2) for have, want in zip(image.shape, shape)]
    return np.ascontiguousarray(
        image[tuple(slice(start, start + want) for start, want in zip(starts, shape))]
    )


def load_image(text):
    """An image and a small one of the same kind."""
    kind, _, path = text.partition(":")
    if kind in ("small", "bsds500 val"):
        val = datasets.load("bsds500", root=path, split="val")
        if kind == "bsds500 val":
            return val, val.subset([0])
        image = val[0].image
    elif kind == "photo":
        image = middle(segalgos.read_image(path), PHOTO)
        if image.shape != (*PHOTO, 3):
            raise ValueError(f"classical: {path} is {image.shape}, expected at least {PHOTO}.")
    else:
        from skimage import data, transform

        image = middle(data.coffee(), SMALL)
        if kind == "enlarged":
            image = np.round(transform.resize(image, PHOTO, order=1) * 255).astype(np.uint8)
    return image, middle(image, (96, 128))


def images(arguments):
    """Size -> what `load_image` understands."""
    found = {"photo": f"photo:{arguments.photo}" if arguments.photo else "enlarged:"}
    if not arguments.data:
        return found | {"small": "part:"}
    return found | {
        "small": f"small:{arguments.data}",
        "bsds500 val": f"bsds500 val:{arguments.data}",
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this script."""
    parser.add_argument("--photo", help="a photograph of at least 3840 x 2160 pixels")
    parser.add_argument("--data", help="folder that holds BSDS500")


def installed(packages: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """The contenders whose package is installed: name -> (package, call)."""
    return {
        name: call
        for name, (package, call) in packages.items()
        if importlib.util.find_spec(package)
    }


# --- k-means -----------------------------------------------------------------------------

N_CLUSTERS = 8
N_ITERATIONS = 20


def kmeans_inputs(image):
    """An image, and pixels of it to start from."""
    pixels = image.reshape(-1, 3)
    distinct = np.unique(pixels[:: max(1, len(pixels) // 10000)], axis=0)
    start = np.random.default_rng(0).choice(distinct, N_CLUSTERS, replace=False)
    return image, pixels, start.astype(np.float32)


def kmeans_ours(inputs):
    """Labels by segalgos."""
    image, _, start = inputs
    return segalgos.kmeans(image, N_CLUSTERS, init=start, max_iter=N_ITERATIONS, tol=0)


def kmeans_sklearn(inputs):
    """Labels by scikit-learn."""
    from sklearn.cluster import KMeans

    _, pixels, start = inputs
    model = KMeans(N_CLUSTERS, init=start, n_init=1, max_iter=N_ITERATIONS, tol=0)
    return model.fit(pixels.astype(np.float32)).labels_


def kmeans_opencv(inputs):
    """Labels by OpenCV, which starts from labels instead of centres."""
    import cv2

    _, pixels, start = inputs
    values = pixels.astype(np.float32)
    labels = nearest(values, start)
    criteria = (cv2.TERM_CRITERIA_MAX_ITER, N_ITERATIONS, 0)
    cv2.kmeans(values, N_CLUSTERS, labels, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return labels


def kmeans_faiss(inputs):
    """Labels by faiss."""
    import faiss

    _, pixels, start = inputs
    values = pixels.astype(np.float32)
    model = faiss.Kmeans(3, N_CLUSTERS, niter=N_ITERATIONS, max_points_per_centroid=len(values))
    model.train(values, init_centroids=start)
    return model.index.search(values, 1)[1]


def nearest(values, centers):
    """Index of each value's nearest centre, (n, 1) int32."""
    distances = [((values - center) ** 2).sum(axis=1) for center in centers]
    return np.argmin(distances, axis=0).astype(np.int32)[:, None]


def inertia(inputs, labels):
    """Mean squared distance to the mean of the own cluster."""
    values, labels = inputs[1], np.asarray(labels).ravel()
    counts = np.bincount(labels)
    squares = 0.0
    for column in values.T.astype(np.float64):
        sums = np.bincount(labels, column)
        squares += (column**2).sum() - (sums[counts > 0] ** 2 / counts[counts > 0]).sum()
    return {"inertia/px": squares / len(values)}


KMEANS = Task(
    "k-means",
    kmeans_inputs,
    {
        "segalgos": kmeans_ours,
        "scikit-learn": kmeans_sklearn,
        **installed({"OpenCV": ("cv2", kmeans_opencv), "faiss": ("faiss", kmeans_faiss)}),
    },
    inertia,
    {"scikit-learn": (20, 50), "OpenCV": (20, 50), "faiss": (20, 50)},
)


# --- Gaussian mixture --------------------------------------------------------------------

N_COMPONENTS = 5
N_STEPS = 20


def mixture_inputs(image):
    """Pixels, and weights, means and covariances to start from."""
    pixels = image.reshape(-1, 3)
    means = kmeans_inputs(image)[2][:N_COMPONENTS].astype(np.float64)
    spread = np.cov(pixels[:: len(pixels) // 10000 + 1].T) / N_COMPONENTS
    start = np.full(N_COMPONENTS, 1 / N_COMPONENTS), means, np.stack([spread] * N_COMPONENTS)
    return image, pixels, start


def mixture_ours(inputs):
    """Labels and mixture by segalgos."""
    image, _, start = inputs
    model = segalgos.GaussianMixtureSegmenter(
        N_COMPONENTS, init=start, max_iter=N_STEPS, tol=0, reg_covar=1e-6
    )
    labels = model.fit_predict(image)
    return labels, (model.weights_, model.means_, model.covariances_)


def mixture_sklearn(inputs):
    """Labels and mixture by scikit-learn."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    _, pixels, (shares, means, covariances) = inputs
    model = GaussianMixture(
        N_COMPONENTS,
        weights_init=shares,
        means_init=means,
        precisions_init=np.linalg.inv(covariances),
        max_iter=N_STEPS,
        tol=0,
        reg_covar=1e-6 * 255**2,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the steps are counted on purpose
        labels = model.fit_predict(pixels.astype(np.float64))
    return labels, (model.weights_, model.means_, model.covariances_)


def log_likelihood(inputs, result):
    """Mean log-likelihood of a pixel under the mixture."""
    from scipy.special import logsumexp
    from scipy.stats import multivariate_normal

    values = inputs[1][:: len(inputs[1]) // 300_000 + 1].astype(np.float64)
    parts = [
        np.log(share) + multivariate_normal(mean, covariance).logpdf(values)
        for share, mean, covariance in zip(*result[1])
    ]
    return {"log-likelihood": float(logsumexp(parts, axis=0).mean())}


MIXTURE = Task(
    "Gaussian mixture",
    mixture_inputs,
    {"segalgos": mixture_ours, "scikit-learn": mixture_sklearn},
    log_likelihood,
    {"scikit-learn": (10, 40)},
)


# --- superpixels -------------------------------------------------------------------------


def n_superpixels(image):
    """4000 for the photograph, 400 for small images."""
    return 4000 if image.shape[0] * image.shape[1] > 1e6 else 400


def slic_ours(image):
    """Labels by segalgos."""
    return segalgos.slic(image, n_superpixels(image))


def slic_skimage(image):
    """Labels by scikit-image."""
    from skimage.segmentation import slic

    return slic(image, n_superpixels(image), compactness=10, start_label=0)


def slic_opencv(image):
    """Labels by OpenCV."""
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2Lab)
    size = round(np.sqrt(image.shape[0] * image.shape[1] / n_superpixels(image)))
    model = cv2.ximgproc.createSuperpixelSLIC(lab, cv2.ximgproc.SLIC, size, 10.0)
    model.iterate(10)
    model.enforceLabelConnectivity()
    return model.getLabels()


def slic_fast(image):
    """Labels by fast-slic."""
    from fast_slic.avx2 import SlicAvx2

    return SlicAvx2(num_components=n_superpixels(image), compactness=10).iterate(image)


SLIC = {
    "segalgos": slic_ours,
    "scikit-image": slic_skimage,
    **installed({"OpenCV": ("cv2", slic_opencv), "fast-slic": ("fast_slic", slic_fast)}),
}
SLIC_GOALS = {"scikit-image": (15, 40), "OpenCV": (6, 15), "fast-slic": (1, 2)}


def count_segments(_, labels):
    """Number of ids."""
    return {"segments": len(np.unique(labels))}


def on_each(call):
    """The same for every sample of a data set."""
    return lambda samples: [call(sample.image) for sample in samples]


def superpixel_quality(samples, results):
    """Scores against people, averaged over images."""
    scores = [
        metrics.superpixel_scores(np.asarray(labels, np.int32), list(sample.annotations))
        for sample, labels in zip(samples, results)
    ]
    return {
        short: float(np.mean([score[name] for score in scores]))
        for short, name in (
            ("UE", "undersegmentation_error"),
            ("recall", "boundary_recall"),
            ("ASA", "achievable_segmentation_accuracy"),
            ("segments", "n_segments"),
        )
    }


def load_all(samples):
    """All samples of a data set, read."""
    return list(samples)


SLIC_TASK = Task("SLIC", lambda image: image, SLIC, count_segments, SLIC_GOALS)
SLIC_QUALITY = Task(
    "SLIC on 100 images",
    load_all,
    {name: on_each(call) for name, call in SLIC.items()},
    superpixel_quality,
    SLIC_GOALS,
    ("bsds500 val",),
)


# --- Felzenszwalb ------------------------------------------------------------------------

SCALE = 300.0


def felzenszwalb_skimage(image):
    """Labels by scikit-image."""
    from skimage.segmentation import felzenszwalb

    return felzenszwalb(image, scale=SCALE, sigma=0.8, min_size=20)


def felzenszwalb_opencv(image):
    """Labels by OpenCV."""
    import cv2

    return cv2.ximgproc.segmentation.createGraphSegmentation(0.8, SCALE, 20).processImage(image)


FELZENSZWALB = Task(
    "Felzenszwalb",
    lambda image: image,
    {
        "segalgos": lambda image: segalgos.felzenszwalb(image, SCALE, sigma=0.8, min_size=20),
        "scikit-image": felzenszwalb_skimage,
        **installed({"OpenCV": ("cv2", felzenszwalb_opencv)}),
    },
    count_segments,
    {"scikit-image": (20, 60), "OpenCV": (2.5, 6)},
)


# --- watershed ---------------------------------------------------------------------------


def watershed_inputs(image):
    """A smoothed gradient, and its deeper minima as markers."""
    grey = image.astype(np.float32).mean(axis=2)
    relief = ndimage.gaussian_gradient_magnitude(grey, 2.0)
    markers, _ = ndimage.label(ndimage.minimum_filter(relief, 15) == relief)
    return relief, markers.astype(np.int32)


def watershed_skimage(inputs):
    """Labels by scikit-image, whose markers begin at 1."""
    from skimage.segmentation import watershed

    relief, markers = inputs
    return watershed(relief, markers) - 1


def watershed_ours(inputs):
    """Labels by segalgos."""
    relief, markers = inputs
    return segalgos.watershed(relief, markers - 1, relief="image")


def same_basins(inputs, labels):
    """Number of basins, and the share of pixels that scikit-image labels alike."""
    reference = watershed_skimage(inputs)
    return {"segments": len(np.unique(labels)), "agreement": float((labels == reference).mean())}


WATERSHED = Task(
    "watershed",
    watershed_inputs,
    {"segalgos": watershed_ours, "scikit-image": watershed_skimage},
    same_basins,
    {"scikit-image": (4, 10)},
)


# --- random walker -----------------------------------------------------------------------

BETA = 130.0


def walker_inputs(image):
    """An image, and dabs of three labels: corner, middle, bottom."""
    height, width = image.shape[:2]
    seeds = np.full((height, width), -1, np.int32)
    rows, columns = np.ogrid[:height, :width]
    places = ((0.1, 0.1), (0.5, 0.5), (0.9, 0.6))
    for label, (down, along) in enumerate(places):
        distance = np.hypot(rows - down * height, columns - along * width)
        seeds[distance <= 8] = label
    return image, seeds


def walker_ours(inputs):
    """Probabilities by segalgos."""
    image, seeds = inputs
    return segalgos.random_walker(image, seeds, beta=BETA, return_proba=True)[1]


def walker_skimage(mode):
    """Probabilities by scikit-image in one of its modes."""

    def walk(inputs):
        import warnings

        from skimage.segmentation import random_walker

        image, seeds = inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            probabilities = random_walker(
                image, seeds + 1, BETA, mode, tol=1e-3, return_full_prob=True, channel_axis=-1
            )
        return np.moveaxis(probabilities, 0, -1)

    return walk


def walker_error(inputs, probabilities):
    """Largest difference to what a direct solver gives."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    image, seeds = inputs
    image = image / 255
    n = seeds.size
    index = np.arange(n).reshape(seeds.shape)
    scale = BETA / (10 * image.std() * np.sqrt(image.shape[-1]))
    pairs, weights = [], []
    for here, there in (
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
    ):
        squares = ((image[here] - image[there]) ** 2).sum(axis=-1)
        pairs.append((index[here].ravel(), index[there].ravel()))
        weights.append(np.exp(-scale * squares).ravel() + 1e-10)
    rows, columns = np.concatenate(pairs, axis=1)
    affinity = sparse.coo_array((np.concatenate(weights), (rows, columns)), (n, n)).tocsr()
    affinity = affinity + affinity.T
    laplacian = (sparse.diags_array(affinity.sum(axis=1)) - affinity).tocsc()
    free, known = np.flatnonzero(seeds.ravel() < 0), np.flatnonzero(seeds.ravel() >= 0)
    is_label = np.eye(probabilities.shape[-1])[seeds.ravel()[known]]
    right = -laplacian[free][:, known] @ is_label
    exact = splu(laplacian[free][:, free]).solve(right)
    found = probabilities.reshape(n, -1)[free]
    return {"largest error": float(np.abs(found - exact).max())}


WALKER = Task(
    "random walker",
    walker_inputs,
    {
        "segalgos": walker_ours,
        **{f"scikit-image {mode}": walker_skimage(mode) for mode in ("cg_j", "bf")},
        **installed({"scikit-image cg_mg": ("pyamg", walker_skimage("cg_mg"))}),
    },
    walker_error,
    {f"scikit-image {mode}": (10, 30) for mode in ("cg_j", "cg_mg", "bf")},
    ("small",),
)


# --- GrabCut -----------------------------------------------------------------------------

GAMMA = 50.0


def box_inputs(image):
    """An image and a box that leaves a tenth at each side."""
    height, width = image.shape[:2]
    return image, (height // 10, width // 10, height - height // 10, width - width // 10)


def grabcut_ours(inputs):
    """Object by segalgos."""
    image, box = inputs
    labels = segalgos.grab_cut(image, box, n_components=N_COMPONENTS, n_iter=5, smoothness=GAMMA)
    return labels == 1


def grabcut_opencv(inputs):
    """Object by OpenCV."""
    import cv2

    image, (top, left, bottom, right) = inputs
    mask = np.zeros(image.shape[:2], np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    rectangle = (left, top, right - left, bottom - top)
    cv2.grabCut(image, mask, rectangle, *models, 5, cv2.GC_INIT_WITH_RECT)
    return (mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)


def grabcut_energy(inputs, inside):
    """Energy of a cut a pixel, with models that scikit-learn learns from the cut itself."""
    from sklearn.mixture import GaussianMixture

    image = inputs[0].astype(np.float64)
    energy = 0.0
    for part in (image[inside], image[~inside]):
        if len(part) > N_COMPONENTS:
            model = GaussianMixture(N_COMPONENTS, random_state=0, reg_covar=1.0)
            model.fit(part[:: len(part) // 100_000 + 1])
            energy -= model.score(part) * len(part)
    pairs = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(None, -1 if down else None), slice(max(0, -right), -1 if right > 0 else None))
        there = (slice(down, None), slice(max(0, right), -1 if right < 0 else None))
        squares = ((image[here] - image[there]) ** 2).sum(axis=-1)
        pairs.append((squares, inside[here] != inside[there], np.hypot(down, right)))
    mean = sum(squares.sum() for squares, *_ in pairs) / sum(squares.size for squares, *_ in pairs)
    for squares, differs, distance in pairs:
        energy += GAMMA / distance * np.exp(-squares[differs] / (2 * mean)).sum()
    return {"energy/px": energy / inside.size, "object": float(inside.mean())}


GRABCUT = Task(
    "GrabCut",
    box_inputs,
    {"segalgos": grabcut_ours, **installed({"OpenCV": ("cv2", grabcut_opencv)})},
    grabcut_energy,
    {"OpenCV": (1.5, 4)},
    ("small",),  # on the photograph either side takes many minutes
)


# --- maximum flow ------------------------------------------------------------------------

CUT_SIDE = 2048  # 4 megapixels


def flow_inputs(image):
    """Costs of labels by distance to two colours, and of parting neighbours by contrast."""
    image = middle(image, (CUT_SIDE, CUT_SIDE)).astype(np.float32)
    height, width = image.shape[:2]
    center = image[height // 3 : -height // 3, width // 3 : -width // 3].mean(axis=(0, 1))
    border = np.concatenate([image[: height // 10], image[-height // 10 :]]).mean(axis=(0, 1))
    unary = np.stack([((image - color) ** 2).sum(axis=-1) for color in (border, center)], axis=-1)
    unary /= unary.mean()
    pairwise = np.zeros((2, height, width), np.float32)
    across = ((image[:, 1:] - image[:, :-1]) ** 2).sum(axis=-1)
    down = ((image[1:] - image[:-1]) ** 2).sum(axis=-1)
    scale = 2 * (across.mean() + down.mean()) / 2
    pairwise[0, :, :-1] = 2 * np.exp(-across / scale)
    pairwise[1, :-1] = 2 * np.exp(-down / scale)
    # Whole numbers: sums are exact in any order, and energies can be compared for equality.
    return np.round(unary * 100).astype(np.float32), np.round(pairwise * 100).astype(np.float32)


def flow_ours(inputs):
    """Labels by segalgos."""
    return segalgos.grid_cut(*inputs)[0]


def flow_pymaxflow(inputs):
    """Labels by PyMaxflow."""
    import maxflow

    unary, pairwise = inputs
    graph = maxflow.Graph[float]()
    nodes = graph.add_grid_nodes(unary.shape[:2])
    right = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 0]])
    below = np.array([[0, 0, 0], [0, 0, 0], [0, 1, 0]])
    graph.add_grid_edges(nodes, pairwise[0], structure=right, symmetric=True)
    graph.add_grid_edges(nodes, pairwise[1], structure=below, symmetric=True)
    graph.add_grid_tedges(nodes, unary[..., 0], unary[..., 1])
    graph.maxflow()
    return (~graph.get_grid_segments(nodes)).astype(np.int32)


def flow_energy(inputs, labels):
    """What the labels cost."""
    unary, pairwise = (costs.astype(np.float64) for costs in inputs)
    energy = np.where(labels == 1, unary[..., 1], unary[..., 0]).sum()
    energy += pairwise[0, :, :-1][labels[:, 1:] != labels[:, :-1]].sum()
    energy += pairwise[1, :-1][labels[1:] != labels[:-1]].sum()
    return {"energy": float(energy)}


FLOW = Task(
    "maximum flow",
    flow_inputs,
    {"segalgos": flow_ours, **installed({"PyMaxflow": ("maxflow", flow_pymaxflow)})},
    flow_energy,
    {"PyMaxflow": (1, 3)},
)


# --- region graph and normalized cut -----------------------------------------------------

SIMILARITY = 255.0
MAX_NCUT = 0.001


def graph_inputs(image):
    """An image and 400 superpixels of it."""
    return image, segalgos.slic(image, 400)


def graph_ours(inputs):
    """Labels by segalgos."""
    from scipy import sparse

    from segalgos.graph.normalized_cuts import cut_graph

    image, labels = inputs
    graph = segalgos.region_graph(labels, image, connectivity=2)  # as scikit-image
    n = graph.n_regions
    rows = np.repeat(np.arange(n), np.diff(graph.indptr))
    squares = ((graph.color[rows] - graph.color[graph.indices]) ** 2).sum(axis=1)
    weights = sparse.csr_array(
        (np.exp(-squares / SIMILARITY), graph.indices, graph.indptr), shape=(n, n)
    )
    return cut_graph(weights + sparse.eye_array(n), max_ncut=MAX_NCUT)[labels]


def graph_skimage(inputs):
    """Labels by scikit-image."""
    from skimage import graph

    image, labels = inputs
    regions = graph.rag_mean_color(image, labels, mode="similarity", sigma=SIMILARITY)
    return graph.cut_normalized(labels, regions, thresh=MAX_NCUT)


def graph_cost(inputs, labels):
    """Segments, and how much similarity the cuts lose: the normalized cut over its number."""
    from skimage import graph

    image, base = inputs
    regions = graph.rag_mean_color(image, base, mode="similarity", sigma=SIMILARITY)
    segment = np.zeros(base.max() + 1, int)
    segment[base] = np.unique(labels, return_inverse=True)[1].reshape(base.shape)
    n = segment.max() + 1
    cut, total = np.zeros(n), np.bincount(segment, minlength=n).astype(float)
    for a, b, weight in regions.edges(data="weight"):
        for one, other in ((segment[a], segment[b]), (segment[b], segment[a])):
            total[one] += weight
            cut[one] += weight * (one != other)
    return {"segments": int(n), "ncut/segments": float((cut / total).mean())}


REGION_GRAPH = Task(
    "region graph and normalized cut",
    graph_inputs,
    {"segalgos": graph_ours, "scikit-image": graph_skimage},
    graph_cost,
    {"scikit-image": (15, 50)},
)


TASKS = [
    KMEANS,
    MIXTURE,
    SLIC_TASK,
    SLIC_QUALITY,
    FELZENSZWALB,
    WATERSHED,
    WALKER,
    GRABCUT,
    FLOW,
    REGION_GRAPH,
]

if __name__ == "__main__":
    main(__file__, TASKS, load_image, images, PACKAGES, add_arguments)

"""SAM behind the interface of a segmenter: rows and columns, any image, prompts or everything."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from segalgos import checks
from segalgos.base import Segmenter, Traits
from segalgos.color import find_data_range
from segalgos.nets.devices import find_device
from segalgos.nets.sam.automatic import Everything, find_everything
from segalgos.nets.sam.backends import Backend, NetworkBackend, OnnxBackend
from segalgos.nets.sam.embedded import EmbeddedImage, Habits, embed_image
from segalgos.nets.sam.sam import SAM
from segalgos.results import Instances, Prompts

__all__ = ["SAMSegmenter"]

#: Embeddings of so many images are kept by each segmenter: 4 MB each.
IMAGES_KEPT = 4

#: The network of `SAMSegmenter(untrained=True)`.
UNTRAINED = {
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 2,
    "global_attn_indexes": (1,),
    "image_size": 128,
    "window_size": 3,
    "prompt_channels": 32,
    "mask_channels": 8,
    "decoder_heads": 2,
    "decoder_mlp_channels": 64,
    "iou_head_channels": 32,
}


class _Runtime:
    """What a segmenter has loaded and computed; none of it is part of its state."""

    def __init__(self, key: tuple, backend: Backend):
        self.key = key
        self.backend = backend
        self._kept: OrderedDict[bytes, tuple] = OrderedDict()
        self._lock = Lock()

    def embedding(self, image: NDArray) -> tuple:
        """Frame and embedding of an image, which is known by its digest."""
        digest = hashlib.blake2b(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image))
        name = digest.digest()
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        found = embed_image(self.backend, image)
        with self._lock:
            self._kept[name] = found
            while len(self._kept) > IMAGES_KEPT:
                self._kept.popitem(last=False)
        return found


# Networks live as long as a segmenter that has used them, and segmenters with the same
# checkpoint share one.
_runtimes: weakref.WeakKeyDictionary[SAMSegmenter, _Runtime] = weakref.WeakKeyDictionary()
_backends: weakref.WeakValueDictionary[tuple, Backend] = weakref.WeakValueDictionary()
_lock = Lock()


class SAMSegmenter(Segmenter):
    """Segment Anything [1]_: the object that is pointed at, or everything there is.

    Parameters
    ----------
    checkpoint : path-like or pair of path-like, optional
        Weights of ViT-B, ViT-L, ViT-H or MobileSAM [2]_, by the names of their authors or of
        Hugging Face: a safetensors file, or one of ``torch.save``, which is read without
        unpickling. Or two ONNX files, encoder and decoder, in the public layout. Nothing is
        downloaded here: ``segalgos data download sam_vit_b --root DIR`` does.
    multimask : bool or "auto", default="auto"
        Choose the mask with the highest expected IoU out of three for a part, the whole thing
        and what is between; or take the one mask that is meant for clear prompts. "auto"
        chooses where a single click is all there is.
    n_refinements : int, default=0
        How often the mask is handed back to the network, with the same prompts.
    output : {"labels", "instances"}, default="labels"
        What `predict` gives: a label map, or `Instances` whose scores are expected IoUs.
    data_range : float, optional
        The value of white. None guesses it from the values: 1, 255, 65535 or the largest.
    precision : {"float32", "bfloat16"}, default="float32"
        Of products of matrices in the image encoder, on a CPU. "bfloat16" is faster on CPUs
        that have instructions for it, but has three digits: borders of masks move.
    device : str, optional
        Like "cpu" or "cuda". None takes a GPU if there is one. ONNX files run on the CPU.
    untrained : bool, default=False
        In place of a checkpoint: a tiny network with random weights, always the same. What it
        finds means nothing; it is for tests and demos.
    channel_axis : int, None or "auto", default="auto"
        Which axis holds the channels; None for a grey image.

    See Also
    --------
    segalgos.nets.sam.SAM : The bare network.
    segalgos.GraphCutSegmenter : Needs no weights.

    Notes
    -----
    Prompts mean:

    - points: inside (1) and outside (0) of object 1;
    - boxes: object i + 1 lies in box i. With several boxes there is nothing else inside of an
      object, since it would not be known in which;
    - scribbles: clicks along them, 8 at most; an object for each id above 0, which the result
      keeps. 0 is outside of all objects;
    - a mask: roughly object 1. Where no click or box says more, the box around it is a prompt
      too.

    A label map has the object's id, 0 elsewhere; where objects overlap, the network's larger
    score is on top. `Instances` has an object each, in the order of ids, which are its classes;
    a mask may be empty. If nothing points inside of an object, as with no point at all,
    nothing is found: zeros, or no instances. Prompts outside of the image are refused.

    The network sees RGB: grey is repeated, two channels are red and green with their mean as
    blue, and a fourth is taken for transparency and left out. More are refused.

    The image is embedded once: `embed` gives an object that answers prompts, and `predict`
    finds the last four images again by what they hold. `fit` learns nothing. A saved segmenter
    names its checkpoint and does not hold it. Results do not depend on the number of threads.

    References
    ----------
    .. [1] A. Kirillov et al., "Segment anything", ICCV 2023, arXiv:2304.02643.
    .. [2] C. Zhang et al., "Faster segment anything: towards lightweight SAM for mobile
       applications", arXiv:2306.14289, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from segalgos import Prompts, SAMSegmenter
    >>> image = np.zeros((32, 40)); image[8:24, 8:24] = 1
    >>> segmenter = SAMSegmenter(untrained=True)  # or checkpoint="sam_vit_b_01ec64.pth"
    >>> segmenter.predict(image, prompts=Prompts(points=[[16, 16]])).shape
    (32, 40)
    >>> embedded = segmenter.embed(image)
    >>> len(embedded.candidates(Prompts(boxes=[8, 8, 24, 24])).instances)
    3
    """

    traits = Traits(
        task="interactive",
        family="nets",
        year=2023,
        takes_prompts=True,
        keeps_uint8=True,
        max_channels=4,
    )

    def __init__(
        self,
        checkpoint: str | os.PathLike | tuple[str | os.PathLike, str | os.PathLike] | None = None,
        *,
        multimask: bool | str = "auto",
        n_refinements: int = 0,
        output: str = "labels",
        data_range: float | None = None,
        precision: str = "float32",
        device: str | None = None,
        untrained: bool = False,
        channel_axis: int | str | None = "auto",
    ):
        self.checkpoint = checkpoint
        self.multimask = multimask
        self.n_refinements = n_refinements
        self.output = output
        self.data_range = data_range
        self.precision = precision
        self.device = device
        self.untrained = untrained
        self.channel_axis = channel_axis

    @classmethod
    def small(cls) -> Self:
        """Make an instance with a tiny network of random weights, for tests and demos.

        Returns
        -------
        SAMSegmenter
            It finds nothing that means anything.
        """
        return cls(untrained=True)

    def embed(self, image: ArrayLike) -> EmbeddedImage:
        """Let the image encoder see an image once, for any number of prompts.

        Parameters
        ----------
        image : (H, W) or (H, W, C) array_like

        Returns
        -------
        EmbeddedImage
            Its ``predict(prompts)`` gives what `predict` here would, its
            ``candidates(prompts)`` several masks and their logits, to be handed back.

        Raises
        ------
        ValueError
            If the image is not as expected, or there is no checkpoint.
        """
        self._check_params()
        return self._embed(self._to_rgb(self._clean(image, "image")))

    def segment_everything(self, images: Any, **options: Any) -> Instances | list[Instances]:
        """Find masks of everything, asking at each point of a grid.

        Parameters
        ----------
        images : array_like or sequence of array_like
            One image or many; sizes may differ.
        **options
            Those of `segalgos.nets.sam.automatic.Everything`: ``points_per_side=32``,
            ``iou_threshold=0.88``, ``stability_threshold=0.95``, ``nms_threshold=0.7``,
            ``n_crop_layers=0``, ``min_area=0`` ...

        Returns
        -------
        Instances or list of Instances
            The likeliest first; scores are expected IoUs. Masks may overlap.

        Raises
        ------
        ValueError
            If an image or option is not as expected, or there is no checkpoint.
        TypeError
            If there is no such option.
        """
        caller = f"{self._caller}.segment_everything"
        self._check_params()
        try:
            wanted = Everything(**options)
        except TypeError as error:
            names = ", ".join(Everything.__dataclass_fields__)
            raise TypeError(
                f"{caller}: options are {sorted(options)}, expected some of {names}."
            ) from error
        wanted.check(caller)
        if not checks.is_batch(images, self._caller):
            return find_everything(self._to_rgb(self._clean(images, "image")), self._embed, wanted)
        return [
            find_everything(
                self._to_rgb(self._clean(images[i], f"images[{i}]")), self._embed, wanted
            )
            for i in range(len(images))
        ]

    # --- hooks ---------------------------------------------------------------------------

    def _check_params(self) -> None:
        caller = self._caller
        if not isinstance(self.untrained, bool):
            raise TypeError(f"{caller}: untrained is {self.untrained!r}, expected True or False.")
        if self.untrained and self.checkpoint is not None:
            raise ValueError(
                f"{caller}: there is a checkpoint, and untrained is True: leave one out."
            )
        paths = self._paths()
        if len(paths) > 2 or not all(isinstance(path, str | os.PathLike) for path in paths):
            raise TypeError(
                f"{caller}: checkpoint is {self.checkpoint!r}, expected a path, or a pair of paths "
                "of ONNX files, encoder and decoder."
            )
        if self.multimask not in ("auto", True, False):
            raise ValueError(
                f'{caller}: multimask is {self.multimask!r}, expected "auto", True or False.'
            )
        checks.check_int(caller, "n_refinements", self.n_refinements, low=0)
        checks.check_choice(caller, "output", self.output, ("labels", "instances"))
        checks.check_choice(caller, "precision", self.precision, ("float32", "bfloat16"))
        if self.data_range is not None:
            checks.check_real(caller, "data_range", self.data_range, above=0)
        find_device(self.device, caller)

    def _predict(
        self, image: NDArray, mask: NDArray[np.bool_] | None, prompts: Prompts
    ) -> NDArray[np.int32] | Instances:
        found = self._embed(self._to_rgb(image)).predict(prompts)
        if mask is not None and isinstance(found, Instances):
            return Instances(found.masks & mask, found.scores, found.classes)
        return found

    # --- the image -----------------------------------------------------------------------

    def _to_rgb(self, image: NDArray) -> NDArray:
        """Show an image of 1 to 4 channels as RGB from 0 to 255, (H, W, 3)."""
        n_channels = image.shape[-1]
        if n_channels == 1:
            image = np.repeat(image, 3, axis=-1)
        elif n_channels == 2:
            mean = image.mean(axis=-1, keepdims=True, dtype=np.float32)
            image = np.concatenate([image, mean], axis=-1, dtype=np.float32)
        elif n_channels == 4:
            image = np.ascontiguousarray(image[..., :3])
        white = find_data_range(image, None, self.data_range, self._caller)
        return image if white == 255 else image * np.float32(255 / white)

    def _embed(self, rgb: NDArray) -> EmbeddedImage:
        runtime = self._runtime()
        habits = Habits(self.multimask, self.n_refinements, self.output, self._caller)
        return EmbeddedImage(runtime.backend, *runtime.embedding(rgb), habits)

    # --- the network ---------------------------------------------------------------------

    def _paths(self) -> tuple:
        if self.checkpoint is None:
            return ()
        return self.checkpoint if isinstance(self.checkpoint, tuple | list) else (self.checkpoint,)

    def _runtime(self) -> _Runtime:
        """What is loaded for this segmenter as it is now."""
        if self.checkpoint is None and not self.untrained:
            raise ValueError(
                f"{self._caller}: checkpoint is None, expected the path of trained weights: get "
                "some, for instance by `segalgos data download sam_vit_b --root DIR`, and pass "
                "checkpoint='DIR/sam_vit_b_01ec64.pth'."
            )
        files = []
        for path in self._paths():
            path = Path(path)
            if not path.exists():
                raise FileNotFoundError(
                    f"{self._caller}: the checkpoint {path} does not exist: check the path, or get "
                    "it by `segalgos data download`."
                )
            files.append((str(path.resolve()), path.stat().st_mtime_ns, path.stat().st_size))
        device = find_device(self.device, self._caller)
        key = (tuple(files), self.untrained, self.precision, str(device))
        with _lock:
            runtime = _runtimes.get(self)
            if runtime is None or runtime.key != key:
                backend = _backends.get(key)
                if backend is None:
                    backend = _backends[key] = self._load(device)
                runtime = _runtimes[self] = _Runtime(key, backend)
            return runtime

    def _load(self, device: torch.device) -> Backend:
        paths = self._paths()
        if len(paths) == 2:
            return OnnxBackend(*paths)
        if self.untrained:
            with torch.device("meta"):  # torch's layers would draw from the caller's generator
                network = SAM(**UNTRAINED)
            network.to_empty(device="cpu").eval()
            network.reset_parameters(torch.Generator().manual_seed(0))
        else:
            network = SAM.from_checkpoint(paths[0])
        return NetworkBackend(network.requires_grad_(False).to(device), self.precision)

"""Published weights of networks: where they are, and by which digest they are known."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from segalgos.datasets.download import download_file

__all__ = ["Weights", "available_weights", "download_weights"]


@dataclass(frozen=True)
class Weights:
    """One file of weights, and what is known of it without having it.

    Parameters
    ----------
    name : str
        What `download_weights` calls it.
    method : str
        Key of the method that takes it as its checkpoint.
    url : str
        Its publisher's address.
    sha256 : str
        Digest of the file; a download with another one is refused.
    n_bytes : int
    licence, citation, summary : str
    """

    name: str
    method: str
    url: str
    sha256: str
    n_bytes: int
    licence: str
    citation: str
    summary: str

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rsplit("/", 1)[-1]


_SAM = "A. Kirillov et al., Segment anything, ICCV 2023"
_META = "https://dl.fbaipublicfiles.com/segment_anything/"

#: The digests are those that many independent users of the files have recorded in public.
_WEIGHTS = (
    Weights(
        "sam_vit_b",
        "sam",
        f"{_META}sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
        "Apache-2.0",
        _SAM,
        "SAM with ViT-B, 94 million parameters",
    ),
    Weights(
        "sam_vit_l",
        "sam",
        f"{_META}sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        1_249_524_607,
        "Apache-2.0",
        _SAM,
        "SAM with ViT-L, 312 million parameters",
    ),
    Weights(
        "sam_vit_h",
        "sam",
        f"{_META}sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
        "Apache-2.0",
        _SAM,
        "SAM with ViT-H, 641 million parameters",
    ),
    Weights(
        "mobile_sam",
        "sam",
        "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
        "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt",
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        40_728_226,
        "Apache-2.0",
        "C. Zhang et al., Faster segment anything, arXiv:2306.14289, 2023",
        "MobileSAM, 10 million parameters: the light one",
    ),
)


def available_weights() -> list[Weights]:
    """What weights can be downloaded.

    Returns
    -------
    list of Weights
    """
    return list(_WEIGHTS)


def download_weights(name: str, root: str | Path) -> Path:
    """Download weights, unless they are here, and check their digest.

    Parameters
    ----------
    name : str
        One of those of `available_weights`.
    root : path
        Folder for the file; made if needed.

    Returns
    -------
    Path
        Of the file, for a segmenter's ``checkpoint``.

    Raises
    ------
    ValueError
        If there are no such weights, or the file, here or there, has another digest.
    OSError
        If the address cannot be reached.
    """
    known = {weights.name: weights for weights in _WEIGHTS}
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(known)}."
        raise ValueError(f"download_weights: there are no weights {name!r}: {hint}")
    weights = known[name]
    return download_file(weights.url, weights.sha256, Path(root) / weights.file)

"""FDA: images of the source with the low frequencies' amplitudes of the target."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from segalgos.adaptation.batch_norm import estimate_statistics
from segalgos.adaptation.domains import Domains
from segalgos.adaptation.entropy import pixel_entropy
from segalgos.adaptation.fitted import copy_network, with_network
from segalgos.adaptation.training import BothDomains, Training, TwoDomainRun
from segalgos.checks import check_real
from segalgos.nets.semantic import SemanticNetSegmenter
from segalgos.nets.standardization import LARGEST_INTENSITY

__all__ = ["adapt_fourier", "charbonnier", "swap_amplitudes"]

# A pixel's entropy counts by (x^2 + 0.001^2)^2: eta of Yang 2020, and what keeps it smooth at 0.
ETA, SMALL = 2.0, 1e-3


def adapt_fourier(
    segmenter: SemanticNetSegmenter,
    domains: Domains,
    training: Training,
    *,
    band: float = 0.01,
    entropy_weight: float = 0.005,
) -> SemanticNetSegmenter:
    """Train on the source in the light of the target [1]_.

    Parameters
    ----------
    segmenter : SemanticNetSegmenter
        Fitted.
    domains : Domains
        With labelled images of the source.
    training : Training
    band : float, default=0.01
        Half the side of the square of frequencies that are swapped, as a share of the shorter
        side of a crop: beta of [1]_, which takes 0.01 to 0.09. More of it leaves traces of the
        target's scenes in the images.
    entropy_weight : float, default=0.005
        Of the target's entropy in the loss, which counts unsure pixels more than sure ones.

    Returns
    -------
    SemanticNetSegmenter

    Raises
    ------
    ValueError
        If there are no labelled images of the source.

    Notes
    -----
    Each crop of the source gets the amplitudes of a crop of the target, drawn at random, in the
    frequencies below `band`; phases, which hold the outlines, stay its own.

    References
    ----------
    .. [1] Y. Yang and S. Soatto, "FDA: Fourier domain adaptation for semantic segmentation",
       CVPR 2020, arXiv:2004.05498.
    """
    domains.need_source("fourier")
    check_real("adapt", "band", band, low=0, high=0.5)
    check_real("adapt", "entropy_weight", entropy_weight, low=0)
    network = copy_network(segmenter)
    method = f"fourier {band} {entropy_weight}"
    run = TwoDomainRun(segmenter, network, domains, training, method)
    mean, std = segmenter.mean_.astype(np.float32), segmenter.std_.astype(np.float32)

    def restyle(source: NDArray, target: NDArray) -> NDArray[np.float32]:
        """Swap amplitudes of intensities as they were: of standardised ones the mean has a sign."""
        found = swap_amplitudes(source * std + mean, target * std + mean, band)
        return np.clip((found - mean) / std, -LARGEST_INTENSITY, LARGEST_INTENSITY)

    def draw(rng: np.random.Generator) -> tuple[Tensor, Tensor, None]:
        source, labels = run.draw_source(rng)
        target, _ = run.draw_target(rng)
        styled = [restyle(a, b) for a, b in zip(source, target)]
        return run.images(np.stack(styled), target), run.labels(labels), None

    def loss(outputs: tuple[Any, Tensor], labels: Tensor, weights: None) -> Tensor:
        source, target = outputs
        unsure = charbonnier(pixel_entropy(target)).mean()
        return run.source_loss(source, labels) + entropy_weight * unsure

    history = run.train(
        BothDomains(network, run.n_source), draw, loss, ema_decay=segmenter.ema_decay
    )
    estimate_statistics(segmenter, network, domains.target, seed=run.seed)
    return with_network(segmenter, network.eval(), history)


def swap_amplitudes(
    source: NDArray[np.float32], target: NDArray[np.float32], band: float
) -> NDArray[np.float32]:
    """Give an image the low frequencies' amplitudes of another one (eq. 3 of [1]_).

    Parameters
    ----------
    source, target : (H, W, C) float32
        Intensities of the same size.
    band : float
        Half the side of the square of frequencies, as a share of the shorter side.

    Returns
    -------
    (H, W, C) float32
        With the phases of `source`.

    References
    ----------
    .. [1] Y. Yang and S. Soatto, "FDA: Fourier domain adaptation for semantic segmentation",
       CVPR 2020, arXiv:2004.05498.
    """
    height, width = source.shape[:2]
    reach = int(band * min(height, width))
    # Of real images half of the spectrum tells the other half: columns 0 to reach are enough.
    spectrum = np.fft.rfft2(source, axes=(0, 1))
    other = np.fft.rfft2(target, axes=(0, 1))
    rows = np.unique(np.arange(-reach, reach + 1) % height)
    low = np.ix_(rows, np.arange(min(reach, width // 2) + 1))
    phase = np.exp(1j * np.angle(spectrum[low]))
    spectrum[low] = np.abs(other[low]) * phase
    return np.fft.irfft2(spectrum, s=(height, width), axes=(0, 1)).astype(np.float32)


def charbonnier(values: Tensor) -> Tensor:
    """Weigh values by Charbonnier's penalty, ``(x^2 + 0.001^2)^2`` (eq. 5 of [1]_).

    Parameters
    ----------
    values : Tensor

    Returns
    -------
    Tensor

    References
    ----------
    .. [1] Y. Yang and S. Soatto, "FDA: Fourier domain adaptation for semantic segmentation",
       CVPR 2020, arXiv:2004.05498.
    """
    return (values.square() + SMALL**2) ** ETA

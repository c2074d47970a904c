"""Stages of a network, from the image to the scores: to freeze some, or to train them slower."""

from __future__ import annotations

from torch import nn

from segalgos.nets.net import Net

__all__ = ["freeze_stages", "layer_rates", "stages_of"]


def stages_of(network: nn.Module) -> list[list[nn.Module]]:
    """Part a network into stages that follow one another.

    Parameters
    ----------
    network : torch.nn.Module

    Returns
    -------
    list of list of torch.nn.Module
        Of a network on an encoder: what makes each map of the encoder, then all that comes after
        it. Of another: its parts in the order in which they were made, which is that of the
        figures here; lists of blocks are taken apart. Every parameter is in one stage.
    """
    encoder = next((m for m in network.modules() if hasattr(m, "first_stages")), None)
    if encoder is None:
        return [[module] for module in _parts(network)]
    stages, seen = [], []
    for n_maps in range(1, len(encoder.channels) + 1):
        first = encoder.first_stages(n_maps)
        stages.append([module for module in first if not any(module is m for m in seen)])
        seen = first
    inside = {id(p) for module in seen for p in module.parameters()}
    stages.append(_without(network, inside))
    return [stage for stage in stages if stage]


def _parts(network: nn.Module) -> list[nn.Module]:
    """Modules with parameters that a network is made of, one after the other."""
    children = _learning(network)
    if len(children) == 1 and not list(network.parameters(recurse=False)):
        return _parts(children[0]) or children  # a shell around it
    found = []
    for child in children:
        found += _learning(child) if isinstance(child, nn.ModuleList) else [child]
    return found


def _learning(module: nn.Module) -> list[nn.Module]:
    """Children that have parameters."""
    return [child for child in module.children() if any(True for _ in child.parameters())]


def _without(module: nn.Module, inside: set[int]) -> list[nn.Module]:
    """The largest modules that hold parameters, but none of those `inside`."""
    own = {id(p) for p in module.parameters()}
    if not own & inside:
        return [module] if own else []
    return [part for child in module.children() for part in _without(child, inside)]


def freeze_stages(network: Net, n: int) -> None:
    """Keep the first stages of a network from training, and no others.

    Parameters
    ----------
    network : Net
        Such as ``segmenter.network_``. Changed in place.
    n : int
        How many of `stages_of` to freeze; 0 lets all of them learn again.

    Raises
    ------
    ValueError
        If there are not so many, or none would be left to learn.
    """
    stages = stages_of(network)
    if not 0 <= n < len(stages):
        raise ValueError(
            f"freeze_stages: n is {n}, expected 0 to {len(stages) - 1}: "
            f"{type(network).__name__} has {len(stages)} stages, and one must learn."
        )
    network.unfreeze()
    network.freeze([module for stage in stages[:n] for module in stage])


def layer_rates(network: nn.Module, decay: float) -> dict[str, float]:
    """Make factors on the learning rate that fall from the last stage to the first [1]_.

    Parameters
    ----------
    network : torch.nn.Module
    decay : float
        Each stage learns at this share of the rate of the next; 1 is the same rate for all.

    Returns
    -------
    dict of str to float
        By the name of each parameter, for `segalgos.training.loop.train`; 1 in the last stage.

    References
    ----------
    .. [1] J. Howard and S. Ruder, "Universal language model fine-tuning for text classification",
       ACL 2018, arXiv:1801.06146 ("discriminative fine-tuning").
    """
    stages = stages_of(network)
    stage_of = {
        id(p): i for i, stage in enumerate(stages) for module in stage for p in module.parameters()
    }
    last = len(stages) - 1
    return {
        name: decay ** (last - stage_of.get(id(p), last)) for name, p in network.named_parameters()
    }

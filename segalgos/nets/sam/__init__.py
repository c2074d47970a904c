"""Segment Anything: masks of what is pointed at (needs the extra [torch])."""

from segalgos.nets.sam.sam import SAM

__all__ = ["SAM"]

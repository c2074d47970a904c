"""Data sets: built-in rendered ones, a user's own folder, and public ones read in place."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

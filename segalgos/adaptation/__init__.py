"""Segmenters taken to images that differ from those they learned from, or to other classes."""

"""Segmentation on the pixel graph."""

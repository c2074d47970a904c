"""Clusterings and superpixels."""

"""Graphs of pixels, and their eigenvectors."""

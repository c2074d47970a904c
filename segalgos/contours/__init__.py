"""Contours between regions, and hierarchies of regions made from them."""

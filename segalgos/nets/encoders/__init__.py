"""Encoders that nets share."""

"""Objects one by one, from segmenters that give classes."""

"""Losses, augmentation and the loop that trains any network; knows no architecture."""

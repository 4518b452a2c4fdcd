"""Counts cells in microscopy images and volumes from dot annotations."""

__version__ = "0.1.0"

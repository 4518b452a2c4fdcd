"""Counts cells in microscopy pictures and volumes from dot annotations."""

__version__ = "0.1.0"

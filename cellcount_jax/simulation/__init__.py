"""Simulated microscopy images and volumes with exact dots."""

"""Dot annotations: one file per format or family, and one table of formats."""

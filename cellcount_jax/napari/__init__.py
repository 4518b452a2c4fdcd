"""The plugin for napari: annotate, count, correct, retrain; an optional extra, imported lazily.

What a person does is decided in `annotation`; here it is only shown and wired to mouse and keys.
"""

"""The counter of `cellcount train` from a few annotated images of each of many sets."""

"""Readers and writers of all formats of dots, a lazy reader of images, and sample data."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.io.annotations.dots import Dots, detect_format, read_dots, write_dots
from cellcount_jax.simulation.presets import find_preset
from cellcount_jax.simulation.simulate import simulate_cells

LayerData = tuple[Any, dict[str, Any], str]


def dots_reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """The reader of one file of dots; None if it is none."""
    if not isinstance(path, str):
        return None
    try:
        detect_format(path)
    except (ValueError, OSError):
        return None
    return read_dots_layer


def read_dots_layer(path: str | Sequence[str]) -> list[LayerData]:
    """A file of dots as the data of a points layer, with features `score` and `label`."""
    paths = [path] if isinstance(path, str) else path
    layers: list[LayerData] = []
    for one in paths:
        dots = read_dots(one)
        features: dict[str, Any] = {}
        if dots.scores is not None:
            features["score"] = dots.scores
        if dots.labels is not None:
            features["label"] = list(dots.labels)
        layers.append((dots.points, {"name": Path(one).stem, "features": features}, "points"))
    return layers


def write_dots_layer(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Writes a points layer in the format of the extension: .csv, .roi, .zip, .xml, .geojson, .tsv.

    Hidden points are left out; features `score` and `label` are kept.
    """
    points = np.asarray(data, np.float32)
    shown = np.broadcast_to(np.asarray(attributes.get("shown", True), bool), (len(points),))
    features = attributes.get("features")
    columns = {} if features is None else {name: np.asarray(features[name]) for name in features}
    scores = columns["score"].astype(np.float32)[shown] if "score" in columns else None
    labels = columns["label"].astype(str)[shown].tolist() if "label" in columns else None
    write_dots(path, Dots(points[shown], scores, labels))
    return [path]


def sample_image() -> list[LayerData]:
    """A simulated image of cells."""
    image, _ = simulate_cells(0, (512, 512), 160)
    return [(image.max(axis=-1), {"name": "simulated cells"}, "image")]


def sample_volume() -> list[LayerData]:
    """A simulated volume of nuclei, with the voxel size of a light-sheet microscope."""
    image, _ = simulate_cells(0, (24, 192, 192), 120, preset="light_sheet")
    scale = simulated_spacing()
    return [(image[..., 0], {"name": "simulated volume", "scale": scale}, "image")]


def simulated_spacing() -> tuple[float, ...]:
    """Micrometres per voxel of the simulated volume."""
    return tuple(find_preset("light_sheet").spacing or (1.0, 1.0, 1.0))

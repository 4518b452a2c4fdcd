"""Writes small files in the layout of each benchmark, and returns the dots they contain."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

Dots = dict[str, np.ndarray | None]
"""Name of a sample -> its dots [N, ndim]; None if it is not labelled."""


def write(name: str, root: Path, n: int = 4) -> Dots:
    """Writes about `n` images of the benchmark `name` in root/name."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return WRITERS[name](folder, n)


def _image(number: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 200, shape).astype(np.uint8)


def _dots(number: int, shape: tuple[int, ...], count: int) -> np.ndarray:
    """Distinct whole pixels in raster order."""
    chosen = np.random.default_rng(100 + number).permutation(int(np.prod(shape)))[:count]
    return np.stack(np.unravel_index(np.sort(chosen), shape), -1).astype(np.float32)


def _mask(dots: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[tuple(dots.astype(int).T)] = 1
    return mask


def _blocks(number: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Instance mask of three blocks with sides of 3 pixels, ids with gaps, and their centres."""
    ids = [2, 3, 7]
    labels = np.zeros(shape, np.uint16)
    centres = []
    for k, identity in enumerate(ids):
        corner = np.array([1 + number % 2, *([1 + 5 * k] * (len(shape) - 1))])
        labels[tuple(slice(c, c + 3) for c in corner)] = identity
        centres.append(corner + 1)
    return labels, np.array(centres, np.float32)


def _cell_dots(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for i in range(1, n + 1):
        dots = _dots(i, (16, 24), 3 + i)
        marks = _image(i, (16, 24, 3))
        marks[..., 0] = np.where(_mask(dots, (16, 24)), 255, marks[..., 0])
        Image.fromarray(_image(i, (16, 24, 3))).save(folder / f"{i:03d}cell.png")
        Image.fromarray(marks).save(folder / f"{i:03d}dots.png")
        written[f"{i:03d}"] = dots
    return written


def _mbm(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for i in range(n):
        slide, crop = f"BM_GRAZ_HE_{i // 2:04d}_01", f"{i % 2:03d}"
        dots = _dots(i, (24, 24), 4)
        Image.fromarray(_image(i, (24, 24, 3))).save(folder / f"{slide}_{crop}.png")
        marks = Image.fromarray(_mask(dots, (24, 24)) * 255).convert("1", dither=Image.Dither.NONE)
        marks.save(folder / f"{slide}_dots_{crop}.png")
        written[f"{slide}_{crop}"] = dots
    return written


def _adi(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for i in range(n):
        name = f"{i}-100_GTEX-A{i // 2}_Adipose-Subcutaneous"
        # One mark in the middle of a block of 8: JPEG artefacts stay within the block.
        dots = np.array([[4, 4], [4, 20], [12, 12]], np.float32)
        marks = np.zeros((16, 24, 3), np.uint8)
        marks[tuple(dots.astype(int).T)] = 255
        for subfolder, array in (("images", _image(i, (16, 24, 3))), ("annotations", marks)):
            (folder / subfolder).mkdir(exist_ok=True)
            Image.fromarray(array).save(
                folder / subfolder / f"{name}.jpeg", quality=95, subsampling=0
            )
        written[name] = dots
    return written


def _idcia(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for stain in ("Cy3", "DAPI"):
        for part in ("images", "ground_truth"):
            (folder / part / stain).mkdir(parents=True)
        for i in range(n):
            name = f"{stain}_{i}"
            dots = _dots(i, (60, 80), i).astype(np.float32) + np.float32(0.25)
            rows = [f"{k + 1},0,{x},{y}" for k, (y, x) in enumerate(dots)]
            header = " ,Area,X,Y" if i % 2 else "Label,Mean,X,Y"
            table = folder / "ground_truth" / stain / f"{name}.csv"
            table.write_text("\n".join([header, *rows]) + "\n")
            Image.fromarray(_image(i, (60, 80))).save(folder / "images" / stain / f"{name}.tiff")
            written[f"{stain}/{name}"] = dots
    return written


def _light_sheet(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for part in ("train", "test", "unlabelled"):
        for sub in ("images", "labels", "dots"):
            (folder / part / sub).mkdir(parents=True)
        for i in range(n):
            labels, centres = _blocks(i, (8, 18, 18))
            volume = _image(i, (8, 18, 18)).astype(np.uint16)
            tifffile.imwrite(folder / part / "images" / f"v{i}.tif", volume)
            written[f"{part}/v{i}"] = None if part == "unlabelled" else centres
            if part == "train":
                tifffile.imwrite(folder / part / "labels" / f"v{i}.tif", labels)
            elif part == "test":
                rows = [f"{x},{y},{z}" for z, y, x in centres]
                (folder / part / "dots" / f"v{i}.csv").write_text("\n".join(["x,y,z", *rows]))
    return written


def _bbbc050(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for i in range(n):
        labels, centres = _blocks(i, (8, 18, 18))
        name = f"Emb{i // 2 + 1:02d}_t{301 + 50 * (i % 2)}"
        for subfolder, array in (("images", _image(i, labels.shape)), ("labels", labels)):
            (folder / subfolder).mkdir(exist_ok=True)
            tifffile.imwrite(folder / subfolder / f"{name}.tif", array.astype(np.uint16))
        written[name] = centres
    return written


def _dsb2018(folder: Path, n: int, *, colours: tuple[int, ...] = ()) -> Dots:
    written: Dots = {}
    for i in range(n):
        shape = (18, 18) if i % 2 else (20, 24)
        labels, centres = _blocks(i, shape)
        for subfolder, array in (("images", _image(i, (*shape, *colours))), ("labels", labels)):
            (folder / subfolder).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / subfolder / f"{i:04x}.png")
        written[f"{i:04x}"] = centres
    return written


def _chula(folder: Path, n: int) -> Dots:
    written: Dots = {}
    for subfolder in ("Dataset", "Label"):
        (folder / subfolder).mkdir(exist_ok=True)
    for i in range(n):
        dots = _dots(i, (24, 32), 5 + i)
        lines = [f"{x:.0f} {y:.0f} {k % 12}" for k, (y, x) in enumerate(dots)]
        (folder / "Label" / f"{i}.txt").write_text("\n".join([*lines, "", ""]))
        Image.fromarray(_image(i, (24, 32, 3))).save(folder / "Dataset" / f"{i}.jpg")
        written[f"{i}"] = dots
    return written


WRITERS: dict[str, Callable[[Path, int], Dots]] = {
    "vgg_cells": _cell_dots,
    "mbm": _mbm,
    "adi": _adi,
    "dcc": _cell_dots,
    "idcia": _idcia,
    "light_sheet": _light_sheet,
    "bbbc050": _bbbc050,
    "dsb2018": _dsb2018,
    "dsb2018_stained": functools.partial(_dsb2018, colours=(3,)),
    "usiigaci": _dsb2018,
    "chula_rbc12": _chula,
}

"""Counts by region add up to those of the image."""

import logging

import numpy as np
import pytest
import tifffile

from cellcount_jax.inference import region_counts
from cellcount_jax.inference.readout import Count
from cellcount_jax.io import regions
from cellcount_jax.io.regions import fill

RNG = np.random.default_rng(0)


def counted(points=None, density=None, scale=1.0) -> Count:
    total = None if density is None else float(density.astype(np.float64).sum())
    count = float(len(points)) if total is None else total
    return Count(count, points, None, density, {}, scale, total)


def mask_regions(tmp_path, mask, shape):
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    return regions.read_regions(tmp_path / "mask.tif", shape)


def loop_density(density, inside, stride):
    """Cells in a mask, pixel by pixel: each has an equal part of its position's cells."""
    total = 0.0
    height, width = inside.shape
    for i, j in np.ndindex(density.shape):
        part = inside[i * stride : (i + 1) * stride, j * stride : (j + 1) * stride]
        total += float(density[i, j]) * part.mean()
    assert density.shape == (-(-height // stride), -(-width // stride))
    return total


def test_points_belong_to_the_pixel_that_they_lie_in(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 2:4] = 7
    found = mask_regions(tmp_path, mask, (8, 8))
    points = np.array([[1.49, 2], [1.51, 2], [3.49, 3.49], [3.51, 3], [-0.6, -0.6], [7.9, 7]])
    inside = region_counts.points_inside(points, found[0], (8, 8))
    assert inside.tolist() == [False, True, True, False, False, False]
    rows = region_counts.count_regions(counted(points.astype(np.float32)), found, (8, 8))
    assert [(r["roi"], r["count"], r["n_points"], r["area_px"]) for r in rows] == [
        ("7", 2.0, 2, 4),
        ("outside", 4.0, 4, 60),
    ]
    assert rows[0]["density_sum"] == ""
    assert "cells_per_mm2" not in rows[0]


@pytest.mark.parametrize("stride", [1, 4])
def test_density_in_regions_is_that_of_a_loop_and_adds_up(tmp_path, stride):
    shape = (37, 50)
    mask = RNG.integers(0, 4, (5, 5)).repeat(8, 0).repeat(10, 1)[:37, :50].astype(np.uint8)
    mask[:3, :3] = 0
    density = RNG.normal(size=[-(-n // stride) for n in shape]).astype(np.float32)
    found = mask_regions(tmp_path, mask, shape)
    rows = region_counts.count_regions(counted(density=density), found, shape, spacing=(0.5, 0.25))
    for row in rows:
        inside = mask == (0 if row["roi"] == "outside" else int(row["roi"]))
        assert row["count"] == pytest.approx(loop_density(density, inside, stride), abs=1e-6)
        assert row["area_px"] == inside.sum()
        area = inside.sum() * 0.5 * 0.25 * 1e-6
        assert row["cells_per_mm2"] == pytest.approx(row["count"] / area, rel=1e-5)
    assert sum(r["count"] for r in rows) == pytest.approx(float(density.sum()), abs=1e-5)


@pytest.mark.parametrize("scale", [0.4, 0.5, 1.7])
def test_regions_of_a_resized_image_add_up(tmp_path, scale):
    shape = (61, 45)
    mask = np.zeros(shape, np.uint8)
    mask[10:30, 5:40], mask[30:55, 5:20] = 1, 2
    sides = [-(-max(1, round(n * scale)) // 2) for n in shape]
    density = RNG.random(sides).astype(np.float32)
    found = mask_regions(tmp_path, mask, shape)
    rows = region_counts.count_regions(counted(density=density, scale=scale), found, shape)
    total = float(density.astype(np.float64).sum())
    assert sum(r["count"] for r in rows) == pytest.approx(total, abs=1e-6)
    # The outside, summed as a region of its own, is what the rows leave for it.
    rest = mask_regions(tmp_path, (mask == 0).astype(np.uint8), shape)
    alone = region_counts.density_sums(density, rest, shape, scale=scale)[0]
    assert rows[-1]["count"] == pytest.approx(alone, abs=1e-6)
    # An even density is shared by area, at any scale.
    flat = np.ones(sides) * np.diff(region_counts.map_edges(61, sides[0], scale))[:, None]
    flat *= np.diff(region_counts.map_edges(45, sides[1], scale))
    assert region_counts.density_sums(flat, found, shape, scale=scale) == pytest.approx([700, 375])


def test_parts_of_a_density_add_up_to_the_whole(tmp_path):
    shape = (40, 64)
    mask = np.zeros(shape, np.uint16)
    mask[5:33, 9:50], mask[33:, 50:] = 300, 2
    found = mask_regions(tmp_path, mask, shape)
    found.append(region_counts.union(found, shape))
    density = RNG.random((10, 16)).astype(np.float32)
    sums = np.zeros(3)
    for y in range(0, 10, 3):
        for x in range(0, 16, 5):
            box = (slice(y, min(10, y + 3)), slice(x, min(16, x + 5)))
            sums += region_counts.density_sums(density[box], found, shape, box=box, whole=(10, 16))
    np.testing.assert_allclose(sums, region_counts.density_sums(density, found, shape), rtol=1e-12)
    large = Count(float(density.sum()), None, None, None, {}, 1.0, float(density.sum()))
    rows = region_counts.count_regions(large, found[:2], shape, sums=sums)
    assert [r["count"] for r in rows[:2]] == pytest.approx(sums[:2].tolist())
    with pytest.raises(ValueError, match="not kept"):
        region_counts.count_regions(large, found[:2], shape)


def test_overlapping_regions_each_count_their_own_which_is_logged(caplog):
    found = [
        fill("a", [np.array([[0, 0], [0, 6], [6, 6], [6, 0.0]])], (10, 10)),
        fill("b", [np.array([[4, 4], [4, 9], [9, 9], [9, 4.0]])], (10, 10)),
    ]
    points = np.array([[5, 5], [1, 1], [8, 8], [9, 0]], np.float32)
    with caplog.at_level(logging.WARNING):
        rows = region_counts.count_regions(counted(points), found, (10, 10))
    assert [r["count"] for r in rows] == [2, 2, 1]
    assert "overlap" in caplog.text


def test_flat_and_solid_regions_of_a_volume(tmp_path):
    points = np.array([[0, 1, 1], [3, 1, 1], [3, 5, 5]], np.float32)
    density = RNG.random((4, 8, 8)).astype(np.float32)
    plane = np.zeros((8, 8), np.uint8)
    plane[:4, :4] = 1
    solid = np.zeros((4, 8, 8), np.uint8)
    solid[2:, :4, :4] = 1
    for mask, n, size in ((plane, 2, 64), (solid, 1, 32)):
        found = mask_regions(tmp_path, mask, (4, 8, 8))
        rows = region_counts.count_regions(
            counted(points, density), found, (4, 8, 8), spacing=(2, 1, 1)
        )
        assert (rows[0]["n_points"], rows[0]["area_px"]) == (n, 16)
        inside = np.broadcast_to(mask, solid.shape) == 1
        assert rows[0]["count"] == pytest.approx(density[inside].sum(), rel=1e-6)
        assert rows[0]["cells_per_mm3"] == pytest.approx(rows[0]["count"] / (size * 2e-9), rel=1e-5)
        assert "cells_per_mm2" not in rows[0]
        assert sum(r["n_points"] for r in rows) == 3

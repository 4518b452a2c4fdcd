"""Regions of every file format cover the right pixels; files without regions say so."""

import io
import json
import logging
import zipfile

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image
from skimage import draw

from cellcount_jax.io import regions
from cellcount_jax.io.regions import fill
from tests.io.region_files import feature, square, whole

RNG = np.random.default_rng(0)


def test_filling_takes_the_pixels_whose_centres_lie_inside():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        angle = np.sort(rng.uniform(0, 2 * np.pi, 9))
        ring = 20 + np.stack([np.sin(angle), np.cos(angle)], 1) * rng.uniform(5, 25, (9, 1))
        found = whole(fill("r", [ring], (40, 45)), (40, 45))
        expected = draw.polygon2mask((40, 45), ring - 0.5)  # its integers are centres
        assert (found != expected).sum() == 0


def test_outlines_that_share_borders_cover_each_pixel_once():
    corners = np.mgrid[0:5, 0:5].reshape(2, -1).T * 8.0
    inner = (corners > 0).all(1) & (corners < 32).all(1)
    corners[inner] += RNG.uniform(-3, 3, (inner.sum(), 2)).round(1)
    corners = corners.reshape(5, 5, 2)
    covered = np.zeros((32, 32), int)
    for i, j in np.ndindex(4, 4):
        ring = [corners[i, j], corners[i, j + 1], corners[i + 1, j + 1], corners[i + 1, j]]
        covered += whole(fill("", [np.array(ring)], (32, 32)), (32, 32))
    assert (covered == 1).all()


def test_geojson_with_holes_pieces_names_and_points(tmp_path, caplog):
    path = tmp_path / "a.geojson"
    kind = {"classification": {"name": "tumour"}}
    features = [
        feature("Polygon", [square(2, 4, 10), square(4, 6, 2)], name="core", **kind),
        feature("MultiPolygon", [[square(20, 20, 3)], [square(28, 28, 8)]], **kind),
        feature("Polygon", [square(-4, -4, 5)], **kind),
        feature("Polygon", [square(13, 0, 2)], name="outside"),
        feature("Point", [1, 1]),
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with caplog.at_level(logging.WARNING):
        found = regions.read_regions(path, (30, 32))
    assert "1 points or lines" in caplog.text
    assert [r.name for r in found] == ["core", "tumour", "tumour (2)", "outside (2)"]
    expected = np.zeros((30, 32), bool)
    expected[4:14, 2:12] = True
    expected[6:8, 4:6] = False
    assert (whole(found[0], (30, 32)) == expected).all()
    assert [int(r.inside.sum()) for r in found] == [96, 9 + 2 * 4, 1, 4]


def test_names_of_regions_fit_in_a_cell_of_a_table(tmp_path):
    path = tmp_path / "a.geojson"
    names = ("=1+1", "two\r\nlines", "'=1+1")
    features = [feature("Polygon", [square(2, 2, 4)], name=name) for name in names]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = [r.name for r in regions.read_regions(path, (30, 32))]
    assert found == ["'=1+1", "two\\r\\nlines", "'=1+1 (2)"]


def test_imagej_regions(tmp_path):
    outline = roifile.ImagejRoi.frompoints(np.array([[3, 2], [9, 2], [9, 8], [3, 8]]), name="dg")
    outline.roitype = roifile.ROI_TYPE.POLYGON
    box = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, name="ca1")
    box.left, box.top, box.right, box.bottom = 10, 1, 14, 4
    oval = roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL)
    oval.left, oval.top, oval.right, oval.bottom = 20, 10, 36, 22
    with zipfile.ZipFile(tmp_path / "a_RoiSet.zip", "w") as archive:
        for i, roi in enumerate((outline, box, oval)):
            archive.writestr(f"{i}-roi.roi", roi.tobytes())
    found = regions.read_regions(tmp_path / "a_RoiSet.zip", (24, 40))
    assert [r.name for r in found] == ["dg", "ca1", "2-roi"]
    masks = [whole(r, (24, 40)) for r in found]
    assert masks[0][2:8, 3:9].all()
    assert masks[0].sum() == 36
    assert masks[1][1:4, 10:14].all()
    assert masks[1].sum() == 12
    y, x = np.mgrid[:24, :40] + 0.5
    assert (masks[2] == (((y - 16) / 6) ** 2 + ((x - 28) / 8) ** 2 < 1)).all()
    (tmp_path / "b.roi").write_bytes(outline.tobytes())
    assert regions.read_regions(tmp_path / "b.roi", (24, 40))[0].name == "dg"


def test_masks_of_any_type(tmp_path):
    mask = np.zeros((9, 11), np.uint32)
    mask[0, 0], mask[5:, 5:] = 3_000_000_000, 4
    Image.fromarray((mask > 0).astype(np.uint8) * 255).save(tmp_path / "m.png")
    np.save(tmp_path / "m.npy", np.where(mask > 0, 5.0, 2.0).astype(np.float32))
    tifffile.imwrite(tmp_path / "m.tif", mask)
    named = {
        e: [(r.name, int(r.inside.sum())) for r in regions.read_regions(path, mask.shape)]
        for e in ("png", "npy", "tif")
        if (path := tmp_path / f"m.{e}")
    }
    assert named["png"] == [("255", 25)]
    assert named["npy"] == [("2", 74), ("5", 25)]
    assert named["tif"] == [("4", 24), ("3000000000", 1)]


def zip_of(**entries) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}.roi", content)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.geojson", b'{"type": "Feature"', "broken JSON"),
        ("a.geojson", b'{"type": "Topology"}', "no list of features"),
        ("a.geojson", b'[{"type": "Feature", "geometry": null}]', "feature 1: has no geometry"),
        (
            "a.geojson",
            json.dumps([feature("Polygon", [[[0, 0], ["a", 1], [2, 2]]])]).encode(),
            r"feature 1: has the coordinates \['a', 1\], not \[x, y\]",
        ),
        (
            "a.geojson",
            json.dumps([feature("Polygon", None)]).encode(),
            "feature 1: is an outline without coordinates",
        ),
        (
            "a.geojson",
            json.dumps([feature("Polygon", [[[0, 0], [1e12, 1], [2, 2]]])]).encode(),
            "feature 1: has an outline with a coordinate that is not a number, or beyond",
        ),
        (
            "a.geojson",
            json.dumps([feature("Polygon", [[[0, 0], [2, 2]]])]).encode(),
            "feature 1: has an outline of fewer than three points",
        ),
        ("a.geojson", json.dumps([feature("Point", [1, 2])]).encode(), "holds no area"),
        ("a.zip", b"PK\x03\x04 not really", "damaged zip"),
        ("a.zip", zip_of(a=b"Iout" + bytes(9)), "region 1: is a damaged ImageJ region"),
        ("a.roi", b"Iout", "damaged ImageJ region"),
        ("a.png", b"\x89PNG\r\n", "a.png"),
    ],
)
def test_damaged_files_fail_in_one_line(tmp_path, name, data, line):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=line) as caught:
        regions.read_regions(tmp_path / name, (10, 10))
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_masks_that_do_not_fit_are_refused(tmp_path):
    np.save(tmp_path / "m.npy", np.ones((5, 6), np.uint8))
    with pytest.raises(ValueError, match="5 x 6 pixels does not fit an image of 6 x 5"):
        regions.read_regions(tmp_path / "m.npy", (6, 5))
    for values, line in ((np.zeros((5, 6), int), "0 everywhere"), (np.eye(6)[:5] / 2, "whole")):
        np.save(tmp_path / "m.npy", values)
        with pytest.raises(ValueError, match=line):
            regions.read_regions(tmp_path / "m.npy", (5, 6))


def test_the_file_of_an_image_is_found_by_its_name(tmp_path):
    image = tmp_path / "images" / "a.tif"
    for name in ("a.tif.geojson", "b_RoiSet.zip", "c_regions.png", "d.roi", "d.zip", "e.txt"):
        (tmp_path / name).write_bytes(b"")
    for letter, name in (("a", "a.tif.geojson"), ("b", "b_RoiSet.zip"), ("c", "c_regions.png")):
        found = regions.find_regions_file(tmp_path, image.with_name(f"{letter}.tif"))
        assert found == tmp_path / name
    assert regions.find_regions_file(tmp_path, image.with_name("e.tif")) is None
    assert regions.find_regions_file(tmp_path / "d.roi", image) == tmp_path / "d.roi"
    with pytest.raises(ValueError, match=r"d.roi, d.zip.*keep one"):
        regions.find_regions_file(tmp_path, image.with_name("d.tif"))
    with pytest.raises(ValueError, match="no such file or folder of regions"):
        regions.find_regions_file(tmp_path / "absent", image)

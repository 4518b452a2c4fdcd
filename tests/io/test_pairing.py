"""Images and annotation files find each other by their names, one to one."""

from pathlib import Path

import pytest
from PIL import Image

from cellcount_jax.io import pairing


def make(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".csv", ".geojson", ".xml", ".zip", ".npy"):
            path.write_text("")
        else:
            Image.new("L", (4, 4)).save(path, "TIFF")


def paired(folder: Path) -> dict[str, str]:
    return {i.name: a.name for i, a in pairing.find_pairs(folder)[1].items()}


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ("a.tif", "a.csv"),
        ("a.tif", "a.tif.csv"),
        ("A.tif", "a.CSV"),
        ("s1.ome.tif", "s1.csv"),
        ("s1.ome.tif", "s1.ome.csv"),
        ("s1.ome.tif", "s1.ome.tif.geojson"),
        ("m1_ROI.tif", "m1_ROI.csv"),
        ("a.tif", "a_RoiSet.zip"),
        ("a.tif", "CellCounter_a.xml"),
        ("a.tif", "a_seg.npy"),
        ("a_points.tif", "a_points.csv"),
    ],
)
def test_names_that_belong_together(tmp_path, image, annotation):
    make(tmp_path, f"images/{image}", f"dots/{annotation}")
    assert paired(tmp_path) == {image: annotation}


def test_the_longer_name_comes_first(tmp_path):
    make(tmp_path, "images/m1.tif", "images/m1_ROI.tif", "dots/m1.csv", "dots/m1_ROI.csv")
    assert paired(tmp_path) == {"m1.tif": "m1.csv", "m1_ROI.tif": "m1_ROI.csv"}


def test_dots_made_by_hand_beside_the_images_are_found_where_there_is_a_dots_folder(tmp_path):
    make(tmp_path, "images/a.tif", "images/b.tif", "images/a.csv", "dots/b.csv")
    assert paired(tmp_path) == {"a.tif": "a.csv", "b.tif": "b.csv"}
    make(tmp_path, "dots/a.csv")
    with pytest.raises(pairing.FolderError, match=r"a\.tif: more than one .*\(a\.csv, a\.csv\)"):
        pairing.find_pairs(tmp_path)


def test_a_file_that_could_annotate_two_images_is_refused_with_both_names(tmp_path):
    make(tmp_path, "images/a.tif", "images/a.png", "dots/a.csv")
    with pytest.raises(pairing.FolderError, match=r"could annotate a\.png, a\.tif; .* a\.png\.csv"):
        pairing.find_pairs(tmp_path)


def test_files_of_dots_that_fit_no_image_are_named(tmp_path, caplog):
    make(tmp_path, "images/a.tif", "dots/a.csv", "dots/b.csv", "dots/c.geojson")
    assert paired(tmp_path) == {"a.tif": "a.csv"}
    assert "no image fits b.csv, c.geojson" in caplog.text


def test_masks_and_drawings_are_images_only_where_they_stand_alone(tmp_path):
    make(tmp_path, "a.tif", "a_cp_masks.png", "a_overlay.png", "b_masks.png")
    images, _ = pairing.find_pairs(tmp_path)
    assert [p.name for p in images] == ["a.tif", "b_masks.png"]

"""A folder with truth: records, figures computed by hand, groups, and files that fail."""

import csv
import json
import math

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.evaluation import metrics
from cellcount_jax.evaluation.folder import evaluate_folder
from cellcount_jax.evaluation.image import GAME_LEVELS, MATCH_RADII, ImageEvaluation, grid_errors
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.evaluation.summary import RADIUS_FACTORS, summarise_folder
from cellcount_jax.inference.readout import Count
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.io.pairing import FolderError
from cellcount_jax.reporting import evaluation_report
from cellcount_jax.simulation.simulate import simulate_cells
from tests.evaluation.made_folder import Bright, image, make_folder


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "lab")


def records_of(folder, counter=None, **options):
    return list(evaluate_folder(counter or Bright(), folder, **options))


def test_records_hold_counts_matches_and_grid_errors(folder):
    a, b, c = records_of(folder, radius=3.0)
    assert [r.name for r in (a, b, c)] == [
        "images/plate1/a.png",
        "images/plate1/b.png",
        "images/plate2/c.png",
    ]
    assert (a.true, a.predicted, a.error, a.n_points) == (3, 4.0, 1.0, 4)
    for record, matches in ((a, (3, 1, 0)), (b, (2, 0, 1)), (c, (0, 0, 0))):
        assert record.matches == dict.fromkeys(
            {*(3.0 * factor for factor in RADIUS_FACTORS), *MATCH_RADII}, matches
        )
    n = len(GAME_LEVELS)
    assert (a.game, b.game, c.game) == ((1.0,) * n, (1.0,) * n, (0.0,) * n)


def test_figures_computed_by_hand(folder):
    found = summarise_folder(records_of(folder, radius=3.0))
    assert (found["n_images"], found["n_cells"], found["n_failed"]) == (3, 6, 0)
    assert found["mae"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(math.sqrt(2 / 3))
    assert found["mape"] == pytest.approx(100 / 3)  # c has no cell and is left out
    assert found["bias"] == pytest.approx(0.0)
    assert found["mse"] == pytest.approx(2 / 3)
    assert (found["game_1"], found["radius"]) == (pytest.approx(2 / 3), 3.0)
    assert found["agreement_high"] == pytest.approx(1.96)  # differences 1, -1, 0
    assert (found["precision"], found["recall"]) == (pytest.approx(5 / 6), pytest.approx(5 / 6))
    assert (found["n_points_mae"], found["n_points_bias"]) == (pytest.approx(2 / 3), 0.0)
    assert found["macro_f1"] == pytest.approx((6 / 7 + 4 / 5 + 1) / 3)
    assert list(found["groups"]) == ["plate1", "plate2"]
    assert found["groups"]["plate1"]["mape"] == pytest.approx(100 / 3)
    assert found["groups"]["plate2"]["mape"] is None
    assert found["groups"]["plate2"]["n_images"] == 1
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("shift", [0.0, 1.1, 2.4, 4.0])
def test_matches_over_the_radius_agree_with_a_direct_calculation(folder, shift):
    records = records_of(folder, Bright(shift), radius=2.0)
    found = summarise_folder(records)
    assert [one["factor"] for one in found["over_radius"]] == list(RADIUS_FACTORS)
    for one in found["over_radius"]:
        radius = 2.0 * one["factor"]
        matches = [match_points(r.points, r.dots, radius=radius) for r in records]
        assert one == {"factor": one["factor"], **metrics.localisation(matches)}
    reached = [one["tp"] for one in found["over_radius"]]
    assert reached == sorted(reached)
    assert reached == [5 if f * 2.0 >= shift else 0 for f in RADIUS_FACTORS]


def test_radius_is_the_trained_one_at_the_scale_of_each_image(folder):
    counter = Bright(radius=3.0)
    assert records_of(folder, counter)[0].radius == 6.0  # images were halved
    assert records_of(folder, counter, radius=4.0)[0].radius == 4.0
    assert records_of(folder)[0].radius == 10.0


def test_grid_errors_of_densities_depend_on_where_the_cells_are():
    dots = np.array([[3.0, 3.0], [12.0, 28.0]], np.float32)
    density = np.zeros((8, 16), np.float32)  # half the image's size
    density[1, 1], density[6, 14] = 1, 1
    shape = (16, 32)

    def errors(density, points=None):
        return grid_errors(dots, shape, Count(0.0, points, None, density, {}))

    assert errors(density) == (0.0, 0.0, 0.0, 0.0)
    assert errors(density[:, ::-1])[:2] == (0.0, 4.0)
    assert errors(None) == ()
    assert errors(None, dots[:1]) == (1.0, 1.0, 1.0, 1.0)
    assert errors(density, dots[:1]) == (1.0, 1.0, 1.0, 1.0)


def test_images_and_dots_that_fail_have_records_and_the_rest_continues(folder):
    (folder / "images" / "broken.png").write_bytes(b"not an image")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "plain.png")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "far.png")
    (folder / "dots" / "far.csv").write_text("y,x\n500,3\n")
    Image.fromarray(image([(3, 3)])).save(folder / "images" / "plate2" / "a.png")
    rows = {r.name.removeprefix("images/"): r for r in records_of(folder)}
    assert rows["broken.png"].status.startswith("error: ")
    assert (rows["plain.png"].status, rows["plain.png"].predicted) == ("no dots", 1.0)
    assert "500" in rows["far.png"].status
    assert "far.csv" in rows["far.png"].status
    assert rows["plate1/b.png"].status == rows["plate2/c.png"].status == "ok"
    for twin in ("plate1/a.png", "plate2/a.png"):
        assert "several images have its name" in rows[twin].status
    found = summarise_folder(list(rows.values()))
    assert (found["n_images"], found["n_failed"], found["n_without_dots"]) == (2, 4, 1)


def test_groups_of_a_table_take_precedence_over_folders(folder):
    (folder / "groups.csv").write_text("image,group\na.png,dim\nplate2/c.png, bright \n")
    assert [r.group for r in records_of(folder)] == ["dim", "", "bright"]
    (folder / "groups.csv").write_bytes("Image;Group;\r\na.png;d\xfcnn;\r\n".encode("latin-1"))
    assert [r.group for r in records_of(folder)] == ["d\xfcnn", "", ""]  # as Excel writes it


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,plate\na.png,dim\n", "columns must be named image and group"),
        ("image,group\na.png\n", r"line 2: 1 cells where the first line has 2"),
        ('image,group\n"a.png,dim\n', "broken quotes|quotation mark"),
        ("", "is empty"),
    ],
)
def test_a_wrong_table_of_groups_is_named(folder, text, says):
    (folder / "groups.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"groups\.csv.*({says})"):
        records_of(folder)


def test_nothing_to_compare_is_an_error(folder):
    statuses = {"x.png": "error: x.png: it is empty", "y.png": "no dots"}
    bad = [ImageEvaluation(name, status=status) for name, status in statuses.items()]
    with pytest.raises(ValueError, match=r"no image could be compared; the first: x\.png"):
        summarise_folder(bad)
    for path in (folder / "dots").iterdir():
        path.unlink()
    with pytest.raises(FolderError, match="no annotations to compare with"):
        records_of(folder)


def test_channels_are_taken_by_the_names_of_training(tmp_path, caplog):
    for part in ("images", "dots"):
        (tmp_path / part).mkdir()
    stack = np.stack([image([]), image([(4, 4), (20, 8)])])
    names = {"Channel": {"Name": ["GFP", "DAPI"]}, "axes": "CYX"}
    tifffile.imwrite(tmp_path / "images/a.ome.tif", stack, metadata=names)
    (tmp_path / "dots/a.csv").write_text("y,x\n4,4\n20,8\n")
    facts = {"channels": 1, "channel_names": ["DAPI"], "ndim": 2}
    (record,) = records_of(tmp_path, Bright(trained_on=facts))
    assert (record.true, record.predicted) == (2, 2.0)
    assert "a.ome.tif: its channels are GFP, DAPI; counted in DAPI" in caplog.text


def test_dots_of_another_image_are_named_in_log_table_figures_and_page(tmp_path, caplog):
    for part in ("images", "dots"):
        (tmp_path / part).mkdir()
    for i in range(12):
        pixels, dots = simulate_cells(i, (128, 128), 40)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
        name = {3: 4, 4: 3}.get(i, i)  # two files were swapped
        write_dots(tmp_path / "dots" / f"{name}.csv", Dots(dots), format="napari")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    (tmp_path / "dots" / "broken.csv").write_text("y,x\n1,1\n")
    (tmp_path / "dots" / "strayed.csv").write_text("y,x\n1,1\n")
    records = records_of(tmp_path)
    doubted = {r.name: r.remarks for r in records if r.remarks}
    assert list(doubted) == ["images/3.png", "images/4.png"]
    (line,) = doubted["images/3.png"]
    assert line.startswith("its dots lie no more on cells than they do on other images")
    assert [m for m in caplog.messages if line in m] == [f"{tmp_path / 'images/3.png'}: {line}"]
    assert "(they would fit images/4.png)" in line
    assert sum(r.status == "ok" for r in records) == 12  # compared all the same
    out = tmp_path / "out"
    found = evaluation_report.write_evaluation(Bright(), records, tmp_path, out)
    assert found["remarks"][0] == f"images/3.png: {line}"
    assert sum("no image fits strayed.csv" in m for m in caplog.messages) == 1
    assert f"images/3.png: {line}" in (out / "evaluation.html").read_text()
    with (out / "evaluation.csv").open() as file:
        table = {row["image"]: row["remarks"] for row in csv.DictReader(file)}
    assert table["images/3.png"] == line
    assert table["images/0.png"] == ""


def test_odd_names_are_compared_and_drawn(tmp_path):
    for part in ("images", "dots"):
        (tmp_path / part).mkdir()
    names = ["a$_$b", "=1+1", "c\nd", b"\xe4".decode("utf-8", "surrogateescape")]
    try:
        for name in names:
            tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image([(4, 4)]))
            (tmp_path / "dots" / f"{name}.csv").write_text("y,x\n4,4\n")
    except OSError:
        pytest.skip("this file system takes no such names")
    records = evaluate_folder(Bright(), tmp_path)
    found = evaluation_report.write_evaluation(Bright(), records, tmp_path, tmp_path / "out")
    assert (found["n_images"], found["mae"]) == (4, 0.0)
    table = (tmp_path / "out" / "evaluation.csv").read_text()
    assert "images/\\xe4.tif" in table
    assert "images/c\\nd.tif" in table

"""Files of several images: a row for each scene, time point and, when asked, plane."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.prediction import predict_files
from tests.inference.made_counters import bright_counter, cells

PLANES = np.stack([cells((40, 32), i)[..., 0] for i in range(3)])
KEYS = ("scene", "time", "slice")


@pytest.fixture(scope="module")
def counter():
    return bright_counter()


def _count(counter, path, out, **options):
    rows = predict_files.count_files(counter, path, out, **options)
    return [tuple(row[key] for key in KEYS) for row in rows], [row["count"] for row in rows], rows


def _alone(counter, tmp_path):
    folder = tmp_path / "alone"
    folder.mkdir()
    for i, plane in enumerate(PLANES):
        tifffile.imwrite(folder / f"{i}.tif", plane)
    return _count(counter, folder, tmp_path / "out_alone")[1]


def _series(path, axes):
    tifffile.imwrite(path, PLANES, imagej=True, metadata={"axes": axes})
    return path


def _scenes(path):
    with tifffile.TiffWriter(path, ome=True) as file:
        for plane in PLANES:
            file.write(plane, metadata={"axes": "YX"})
    return path


def test_each_time_point_counts_as_its_image_alone(counter, tmp_path):
    path = _series(tmp_path / "t.tif", "TYX")
    places, counts, _ = _count(counter, path, tmp_path / "out")
    assert places == [("", "0", ""), ("", "1", ""), ("", "2", "")]
    assert counts == _alone(counter, tmp_path)
    names = sorted(p.name for p in (tmp_path / "out/points").iterdir())
    assert names == ["t_time0.csv", "t_time1.csv", "t_time2.csv"]


def test_each_scene_counts_as_its_image_alone(counter, tmp_path):
    places, counts, _ = _count(counter, _scenes(tmp_path / "s.ome.tif"), tmp_path / "out")
    assert places == [("0", "", ""), ("1", "", ""), ("2", "", "")]
    assert counts == _alone(counter, tmp_path)


def test_planes_of_a_stack_get_rows_when_asked(counter, tmp_path):
    path = _series(tmp_path / "z.tif", "ZYX")
    places, counts, _ = _count(counter, path, tmp_path / "out", per_slice=True)
    assert places == [("", "", "0"), ("", "", "1"), ("", "", "2")]
    assert counts == _alone(counter, tmp_path)


def test_one_scene_and_one_time_point_can_be_chosen(counter, tmp_path):
    alone = _alone(counter, tmp_path)
    series, scenes = _series(tmp_path / "t.tif", "TYX"), _scenes(tmp_path / "s.ome.tif")
    assert _count(counter, series, tmp_path / "out_t", time=1)[:2] == ([("", "1", "")], [alone[1]])
    assert _count(counter, scenes, tmp_path / "out_s", scene=2)[:2] == ([("2", "", "")], [alone[2]])


def test_a_wrong_choice_is_an_error_and_files_without_time_are_counted(counter, tmp_path):
    series, plain = _series(tmp_path / "t.tif", "TYX"), tmp_path / "plain.tif"
    tifffile.imwrite(plain, PLANES[0])
    rows = _count(counter, [series, plain], tmp_path / "out", time=7)[2]
    assert "outside its axis of length 3" in rows[0]["status"]
    assert rows[1]["status"] == "ok"


def test_a_second_call_keeps_rows_whose_points_are_all_there(counter, tmp_path, monkeypatch):
    path, out = _series(tmp_path / "t.tif", "TYX"), tmp_path / "out"
    rows = _count(counter, path, out)[2]
    calls, plain = [], predict_files.count_file
    monkeypatch.setattr(
        predict_files, "count_file", lambda *a, **k: calls.append(a) or plain(*a, **k)
    )
    assert _count(counter, path, out)[2] == rows
    assert not calls
    (out / "points/t_time1.csv").unlink()
    assert _count(counter, path, out)[2] == rows
    assert len(calls) == 3


def test_python_counts_one_part_of_a_file(counter, tmp_path):
    series, scenes = _series(tmp_path / "t.tif", "TYX"), _scenes(tmp_path / "s.ome.tif")
    alone = counter.count(PLANES[1]).count
    assert counter.count(series, index={"T": 1}).count == alone
    assert counter.count(scenes, scene=1).count == alone
    with pytest.raises(ValueError, match="cut the array"):
        counter.count(PLANES[1], scene=1)


def test_normalise_takes_the_place_of_the_models(counter, tmp_path):
    path, dim = tmp_path / "bright.png", tmp_path / "dim.png"
    image = cells((40, 32), 0)
    Image.fromarray(image).save(path)
    Image.fromarray(image // 8).save(dim)
    out = tmp_path / "out"
    assert counter.preprocessing.normalise == "percentile"
    (own,) = _count(counter, dim, out)[1]
    (narrow,) = _count(counter, dim, out, normalise="dtype")[1]
    (wide,) = _count(counter, path, tmp_path / "other", normalise="dtype")[1]
    assert float(wide) == pytest.approx(8 * float(narrow), rel=0.1)
    assert float(own) > 4 * float(narrow)
    assert _count(counter, dim, out)[1] == [own]  # counted anew, with the model's own
    with pytest.raises(ValueError, match="normalise"):
        _count(counter, dim, out, normalise="magic")

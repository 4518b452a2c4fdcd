import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellcount_jax.datasets import tfds_builder
from cellcount_jax.datasets.registry import BENCHMARKS
from tests.datasets import sample_sets

NAMES = list(BENCHMARKS)


def test_every_benchmark_has_a_sample_set():
    assert set(sample_sets.WRITERS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", NAMES)
def test_reads_the_layout(name, tmp_path):
    expected = sample_sets.write(name, tmp_path)
    benchmark = BENCHMARKS[name]
    samples = list(benchmark.read(tmp_path / name))
    assert [s.name for s in samples] == list(expected)
    for sample in samples:
        dots = expected[sample.name]
        assert sample.image.dtype == np.dtype(benchmark.dtype)
        assert sample.image.ndim == benchmark.ndim + 1
        assert sample.image.shape[-1] == benchmark.channels
        if dots is None:
            assert sample.dots is None
            continue
        assert sample.dots is not None
        assert sample.dots.dtype == np.float32
        np.testing.assert_allclose(sample.dots, dots, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_prepared_equals_raw_without_tensorflow(name, tmp_path):
    sample_sets.write(name, tmp_path, n=2)
    benchmark = BENCHMARKS[name]
    records = tfds_builder.prepare(
        benchmark, tmp_path / name, data_dir=tmp_path / "tfds", name="raw-0"
    )
    raw = list(benchmark.read(tmp_path / name))
    assert len(records) == len(raw)
    for stored, sample in zip(records, raw, strict=True):
        assert (stored.name, stored.group) == (sample.name, sample.group)
        assert stored.spacing == sample.spacing
        for field in ("image", "dots", "labels"):
            expected, found = getattr(sample, field), getattr(stored, field)
            if expected is None:
                assert found is None
            else:
                np.testing.assert_array_equal(found, expected)
                assert found.dtype == expected.dtype
    assert not [m for m in sys.modules if m.split(".")[0] == "tensorflow"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("dataset_info.json", b"{", b""),
        ("dataset_info.json", b'"3"', b'"2"'),
        ("features.json", b"}", b""),
        ("*.array_record*", None, b""),
    ],
)
def test_damaged_prepared_data_are_named_with_the_remedy(tmp_path, file, old, new):
    sample_sets.write("mbm", tmp_path, n=3)
    target = {"raw": tmp_path / "mbm", "data_dir": tmp_path / "tfds", "name": "raw-0"}
    assert len(tfds_builder.prepare(BENCHMARKS["mbm"], **target)) == 3
    (path,) = (tmp_path / "tfds").rglob(file)
    data = path.read_bytes()
    assert old is None or old in data
    path.write_bytes(new if old is None else data.replace(old, new))
    with pytest.raises(ValueError, match=r"the prepared data are damaged .*; delete this folder"):
        tfds_builder.prepare(BENCHMARKS["mbm"], **target)


def test_damaged_records_are_named_when_they_are_read(tmp_path):
    sample_sets.write("mbm", tmp_path, n=3)
    target = {"raw": tmp_path / "mbm", "data_dir": tmp_path / "tfds", "name": "raw-0"}
    records = tfds_builder.prepare(BENCHMARKS["mbm"], **target)
    (path,) = (tmp_path / "tfds").rglob("*.array_record*")
    data = bytearray(path.read_bytes())
    data[200:300] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"1\.0\.0: the prepared data are damaged"):
        [records[i] for i in range(3)]


@pytest.mark.parametrize("name", NAMES)
def test_record_is_complete(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.name == name
    assert benchmark.default_protocol in benchmark.protocols
    assert benchmark.page.startswith("https://")
    assert benchmark.licence
    assert benchmark.citation
    for text in (benchmark.title, benchmark.raw_layout, benchmark.citation):
        assert "\n" not in text


def test_groups(tmp_path):
    for name, groups in {
        "mbm": ["BM_GRAZ_HE_0000_01"] * 2 + ["BM_GRAZ_HE_0001_01"] * 2,
        "adi": ["GTEX-A0", "GTEX-A0", "GTEX-A1", "GTEX-A1"],
        "bbbc050": ["Emb01", "Emb01", "Emb02", "Emb02"],
        "dsb2018": ["20x24", "18x18", "20x24", "18x18"],
        "dsb2018_stained": ["20x24", "18x18", "20x24", "18x18"],
        "idcia": ["Cy3"] * 4 + ["DAPI"] * 4,
        "light_sheet": ["train"] * 4 + ["test"] * 4 + ["unlabelled"] * 4,
    }.items():
        sample_sets.write(name, tmp_path)
        assert [s.group for s in BENCHMARKS[name].read(tmp_path / name)] == groups


def test_touching_dots_are_counted_each(tmp_path):
    marks = np.zeros((8, 8, 3), np.uint8)
    marks[2, 2:5, 0] = 255
    marks[5, 5, 0] = 254
    Image.fromarray(marks).save(tmp_path / "001dots.png")
    Image.fromarray(marks).save(tmp_path / "001cell.png")
    (sample,) = BENCHMARKS["vgg_cells"].read(tmp_path)
    assert sample.count == 3


def _fails(name: str, folder: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        list(BENCHMARKS[name].read(folder))
    assert "\n" not in str(caught.value)


def test_an_image_without_its_annotation(tmp_path):
    for name, annotation in {
        "vgg_cells": "002dots.png",
        "mbm": "BM_GRAZ_HE_0000_01_dots_001.png",
        "adi": "annotations/1-100_GTEX-A0_Adipose-Subcutaneous.jpeg",
        "idcia": "ground_truth/DAPI/DAPI_1.csv",
        "bbbc050": "labels/Emb01_t351.tif",
        "dsb2018": "labels/0001.png",
        "usiigaci": "labels/0001.png",
        "chula_rbc12": "Label/1.txt",
    }.items():
        sample_sets.write(name, tmp_path)
        path = tmp_path / name / annotation
        path.unlink()
        _fails(name, tmp_path / name, f"its annotation {re.escape(str(path))} is missing")
    sample_sets.write("light_sheet", tmp_path)
    (tmp_path / "light_sheet/test/dots/v1.csv").unlink()
    _fails("light_sheet", tmp_path / "light_sheet", r"neither test/labels/v1.tif nor test/dots")


def test_broken_and_wrong_files(tmp_path):
    sample_sets.write("vgg_cells", tmp_path)
    path = tmp_path / "vgg_cells/001cell.png"
    path.write_bytes(path.read_bytes()[:200])
    _fails("vgg_cells", path.parent, "001cell.png: damaged")
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    _fails("vgg_cells", path.parent, "001dots.png: its shape .* differs")
    sample_sets.write("bbbc050", tmp_path)
    path = tmp_path / "bbbc050/labels/Emb01_t301.tif"
    path.write_bytes(b"not an image")
    _fails("bbbc050", tmp_path / "bbbc050", "Emb01_t301.tif: is not an image of a known format")
    tifffile.imwrite(path, np.zeros((18, 18), np.uint16))
    _fails(
        "bbbc050", tmp_path / "bbbc050", "Emb01_t301.tif: axes='ZYX' names 3 axes, the file has 2"
    )


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("Label,Mean\n1,2\n", "no column 'Y'"),
        ("X,Y\n3,4\n5,north\n", "line 3: '5,north'"),
        ("X,Y\n3,4\n5,nan\n", "not finite"),
        ("X,Y\n3,4\n5,70\n", r"line 3: dot \(y=70, x=5\) lies outside .*60 high, 80 wide"),
    ],
)
def test_bad_tables(tmp_path, text, pattern):
    sample_sets.write("idcia", tmp_path, n=1)
    (tmp_path / "idcia/ground_truth/DAPI/DAPI_0.csv").write_text(text)
    _fails("idcia", tmp_path / "idcia", pattern)


def test_a_line_of_chula_without_a_position(tmp_path):
    sample_sets.write("chula_rbc12", tmp_path, n=1)
    (tmp_path / "chula_rbc12/Label/0.txt").write_text("3 4 0\n\n5 six 1\n")
    _fails("chula_rbc12", tmp_path / "chula_rbc12", "0.txt, line 3: '5 six 1' is not `x y type`")


def test_tables_without_cells(tmp_path):
    sample_sets.write("idcia", tmp_path, n=1)
    for text in ("", "\n", " ,X,Y\n"):
        (tmp_path / "idcia/ground_truth/DAPI/DAPI_0.csv").write_text(text)
        counts = {s.name: s.count for s in BENCHMARKS["idcia"].read(tmp_path / "idcia")}
        assert counts["DAPI/DAPI_0"] == 0


@pytest.mark.parametrize(
    ("name", "n", "mean", "sd"),
    [
        ("vgg_cells", 200, 176.0, 61.2),
        ("mbm", 44, 126.2, 33.1),
        ("adi", 200, 155.1, 35.9),
        ("chula_rbc12", 59, 102.6, 17.4),
    ],
)
def test_real_counts(raw_dir, name, n, mean, sd):
    counts = [s.count or 0 for s in BENCHMARKS[name].read(raw_dir / name)]
    assert len(counts) == n
    assert np.mean(counts) == pytest.approx(mean, abs=0.05)
    assert np.std(counts) == pytest.approx(sd, abs=0.05)


@pytest.mark.parametrize("name", ["bbbc050", "dsb2018", "dsb2018_stained", "usiigaci"])
def test_real_instances(raw_dir, tmp_path, name):
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
        for path in sorted((raw_dir / name / part).iterdir())[:3]:
            (tmp_path / part / path.name).symlink_to(path)
    samples = list(BENCHMARKS[name].read(tmp_path))
    assert len(samples) == 3
    for sample in samples:
        assert sample.labels is not None
        assert sample.count == len(np.unique(sample.labels)) - 1 > 0
        assert sample.spacing == ((1.75, 0.8, 0.8) if name == "bbbc050" else None)

import dataclasses
import functools
import http.server
import logging
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets import load, simulated, tfds_builder, verify
from cellcount_jax.datasets.registry import BENCHMARKS
from tests.datasets import sample_sets


@pytest.fixture(autouse=True)
def _no_data_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.delenv("CELLCOUNT_RAW_DIR", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def one_line(call, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_loads_every_benchmark(name, tmp_path):
    dots = sample_sets.write(name, tmp_path, n=6)
    dataset = load.load_dataset(name, raw_dir=tmp_path)
    assert dataset.splits["train"]
    assert dataset.splits["test"]
    assert not dataset.is_fallback
    assert dataset.protocol == BENCHMARKS[name].default_protocol
    for sample in dataset.splits["train"] + dataset.splits["test"]:
        np.testing.assert_allclose(sample.dots, dots[sample.name], atol=1e-5)


def test_real_vgg_cells(raw_dir, tmp_path, monkeypatch):
    load_again = functools.partial(load.load_dataset, "vgg_cells", data_dir=tmp_path)
    dataset = load_again(raw_dir=raw_dir)
    sizes = {split: len(samples) for split, samples in dataset.splits.items()}
    assert sizes == {"train": 100, "validation": 10, "test": 90}
    counts = [s.count for samples in dataset.splits.values() for s in samples]
    assert np.mean(counts) == pytest.approx(175.96)
    monkeypatch.setattr(tfds_builder, "prepare", None)  # what is prepared is not prepared again
    again = load_again()
    assert again.split_hash == dataset.split_hash
    for split, samples in dataset.splits.items():
        for a, b in zip(samples, again.splits[split], strict=True):
            np.testing.assert_array_equal(a.image, b.image)
    assert load_again(seed=1).split_hash != dataset.split_hash


def test_missing_in_the_raw_folder(tmp_path, monkeypatch):
    pattern = r"vgg_cells: not found; get it from https://www.robots.* in .*/vgg_cells$"
    one_line(lambda: load.load_dataset("vgg_cells", raw_dir=tmp_path), pattern)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path))
    one_line(lambda: load.load_dataset("vgg_cells", download=True), pattern)
    (tmp_path / "vgg_cells").mkdir()
    one_line(lambda: load.load_dataset("vgg_cells"), "no images found; expected NNNcell.png")


def test_raw_folder_from_the_environment(tmp_path, monkeypatch):
    sample_sets.write("mbm", tmp_path)
    monkeypatch.setenv("CELLCOUNT_RAW_DIR", str(tmp_path))
    assert load.load_dataset("mbm").splits["train"]


def test_prepared_data_are_used_without_raw_files(tmp_path, caplog):
    sample_sets.write("mbm", tmp_path)
    first = load.load_dataset("mbm", raw_dir=tmp_path)
    assert load.load_dataset("mbm").split_hash == first.split_hash
    caplog.clear()
    with caplog.at_level(logging.INFO):
        load.load_dataset("mbm", raw_dir=tmp_path)
    assert "preparing" not in caplog.text


def test_changed_raw_files_are_prepared_again(tmp_path):
    sample_sets.write("idcia", tmp_path, n=3)
    table = tmp_path / "idcia/ground_truth/DAPI/DAPI_2.csv"
    load_again = functools.partial(load.load_dataset, "idcia", data_dir=tmp_path / "tfds")

    def cells(**kwargs) -> int:
        return sum(s.count for rows in load_again(**kwargs).splits.values() for s in rows)

    assert cells(raw_dir=tmp_path) == 3
    text = table.read_text()
    table.write_text(text + "9,0,1,1\n")
    assert cells(raw_dir=tmp_path) == 4
    assert cells() == 4
    os.utime(table, ns=(1, 1))
    assert load.fingerprint(tmp_path / "idcia") != load.fingerprint(tmp_path / "idcia/images")


def test_a_broken_raw_file_leaves_nothing_behind(tmp_path):
    sample_sets.write("vgg_cells", tmp_path)
    path = tmp_path / "vgg_cells/003cell.png"
    path.write_bytes(path.read_bytes()[:150])
    one_line(lambda: load.load_dataset("vgg_cells", raw_dir=tmp_path), "003cell.png: damaged")
    assert not list((tmp_path / "tfds").rglob("*array_record*"))


def test_prepared_data_cannot_be_written(tmp_path):
    sample_sets.write("vgg_cells", tmp_path)
    (tmp_path / "file").write_text("")
    one_line(
        lambda: load.load_dataset("vgg_cells", raw_dir=tmp_path, data_dir=tmp_path / "file"),
        "prepared data cannot be written here .* TFDS_DATA_DIR",
    )


def test_two_processes_prepare_at_once(tmp_path):
    sample_sets.write("vgg_cells", tmp_path, n=12)
    code = (
        "import random; random.seed(0)\n"
        "from cellcount_jax.datasets import load\n"
        f"print(load.load_dataset('vgg_cells', raw_dir={str(tmp_path)!r}).split_hash)\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=120)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert printed[0] == printed[1] == load.load_dataset("vgg_cells").split_hash + "\n"
    assert not list((tmp_path / "tfds").rglob("incomplete*"))


def test_the_slower_of_two_processes_uses_what_the_other_prepared(tmp_path):
    sample_sets.write("mbm", tmp_path)
    benchmark = BENCHMARKS["mbm"]
    target = {"raw": tmp_path / "mbm", "data_dir": tmp_path / "tfds", "name": "raw-0"}

    def read_slowly(folder: Path):
        tfds_builder.prepare(benchmark, **target)
        yield from benchmark.read(folder)

    slow = dataclasses.replace(benchmark, read=read_slowly)
    assert len(tfds_builder.prepare(slow, **target)) == 4
    assert not list((tmp_path / "tfds").rglob("incomplete*"))


class SilentHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    """A local web server: its folder and address."""
    folder = tmp_path / "www"
    folder.mkdir()
    handler = functools.partial(SilentHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()
        thread.join()


def write_zip(target: Path, n: int) -> None:
    sample_sets.write("vgg_cells", target.parent / f"made{n}", n=n)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted((target.parent / f"made{n}").rglob("*.png")):
            archive.write(path, f"cells/{path.name}")


def test_download_keeps_the_checksum(server, tmp_path, monkeypatch):
    folder, address = server
    write_zip(folder / "cells.zip", 6)
    local = dataclasses.replace(BENCHMARKS["vgg_cells"], archive=f"{address}/cells.zip")
    monkeypatch.setitem(BENCHMARKS, "vgg_cells", local)
    dataset = load.load_dataset("vgg_cells", download=True)
    assert not dataset.is_fallback
    assert sum(map(len, dataset.splits.values())) == 6
    # Another folder with the same list of checksums, but the file on the server has changed.
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "downloads").mkdir(parents=True)
    seen = (tmp_path / "tfds/downloads/checksums.tsv").read_text()
    (elsewhere / "downloads/checksums.tsv").write_text(seen)
    write_zip(folder / "cells.zip", 5)
    one_line(
        lambda: load.load_dataset("vgg_cells", download=True, data_dir=elsewhere),
        "cells.zip: cannot be downloaded .*get it from https",
    )


def test_download_fails(server, tmp_path, monkeypatch):
    _, address = server
    local = dataclasses.replace(BENCHMARKS["vgg_cells"], archive=f"{address}/cells.zip")
    monkeypatch.setitem(BENCHMARKS, "vgg_cells", local)
    one_line(
        lambda: load.load_dataset("vgg_cells", download=True),
        "cannot be downloaded .* get it from https://www.robots",
    )
    (server[0] / "cells.zip").write_text("<html>moved</html>")
    one_line(
        lambda: load.load_dataset("vgg_cells", download=True),
        "cells.zip: is not a zip file .* get it from https://www.robots",
    )
    assert not list((tmp_path / "tfds").rglob("*.*"))
    one_line(
        lambda: load.load_dataset("mbm", download=True), "mbm: cannot be downloaded; get it from"
    )


def test_simulated_cells_if_no_data_are_available(monkeypatch, caplog):
    def simulate_dataset(seed, n, shape, preset):
        assert (seed, shape, preset) == (0, (256, 256), "vgg")
        for i in range(n):
            yield Sample(f"{i:03d}", np.zeros((8, 8, 1), np.uint8), np.zeros((i, 2), np.float32))

    monkeypatch.setattr(simulated, "simulate_dataset", simulate_dataset)
    dataset = load.load_dataset("vgg_cells")
    assert dataset.is_fallback
    assert dataset.description.startswith("SIMULATED")
    assert len(dataset.splits["train"]) == 100
    assert "SIMULATED" in caplog.text


def test_no_data(tmp_path):
    one_line(
        lambda: load.load_dataset("mbm"),
        r"mbm: no raw files .* put .* in \$CELLCOUNT_RAW_DIR/mbm",
    )


def test_unknown_names(tmp_path):
    sample_sets.write("mbm", tmp_path)
    load_again = functools.partial(load.load_dataset, raw_dir=tmp_path)
    one_line(lambda: load_again("vgg"), "no dataset 'vgg'; choose one of vgg_cells, mbm")
    one_line(lambda: load_again("mbm", protocol="dlc"), "no protocol 'dlc'; choose one of dcl")


def test_patches_stay_in_the_split_of_their_image(tmp_path):
    sample_sets.write("mbm", tmp_path, n=12)
    whole = load.load_dataset("mbm", raw_dir=tmp_path)
    resampling = Resampling(patches={"tile": 12, "resize": 16})
    cut = load.resampled(whole, resampling)
    assert cut.resampling == resampling
    assert cut.split_hash == whole.split_hash
    for split, samples in whole.splits.items():
        patches = cut.splits[split]
        assert len(patches) == 4 * len(samples)
        assert {p.group for p in patches} == {s.name for s in samples}
        assert sum(p.count for p in patches) == sum(s.count for s in samples)
        assert {p.image.shape for p in patches} == {(16, 16, 3)}


def test_one_group_and_few_images(tmp_path):
    sample_sets.write("idcia", tmp_path, n=8)
    load_again = functools.partial(load.load_dataset, "idcia", raw_dir=tmp_path)
    stain = load_again(protocol="countxplain:Cy3", n_train=3)
    assert {s.group for samples in stain.splits.values() for s in samples} == {"Cy3"}
    assert len(stain.splits["train"]) == 3
    assert stain.protocol == "countxplain:Cy3"
    assert len(load_again(n_train=0).splits["train"]) == 7


def test_check_of_a_real_dataset(raw_dir):
    lines = verify.check("mbm", raw_dir=raw_dir)
    text = "\n".join(lines)
    assert "44 images, 600x600x3 uint8" in text
    assert "126.2 +- 33.1 (published 126 +- 33)" in text
    assert "split dcl (default): 22 train, 2 validation, 20 test" in text
    assert "warning" not in text


def test_check_warns(tmp_path):
    sample_sets.write("idcia", tmp_path)
    warnings = [s for s in verify.check("idcia", raw_dir=tmp_path) if s.startswith("warning")]
    assert warnings == [
        "warning: idcia: 4 labelled images of DAPI, published 119",
        "warning: idcia: 1.5 cells per image of DAPI, published 141 (-98.9 %)",
    ]
    (tmp_path / "idcia/images/DAPI/DAPI_1.tiff").write_bytes(b"")
    assert "DAPI_1.tiff: is empty" in verify.check("idcia", raw_dir=tmp_path)[1]


def test_check_of_missing_data(tmp_path):
    (line,) = verify.check("dcc", raw_dir=tmp_path)
    assert line.startswith("dcc: not available; get it from https://")
    assert line.endswith(f"{tmp_path}/dcc")
    lines = verify.describe_all(raw_dir=tmp_path)
    assert [line.split(":")[0] for line in lines] == list(BENCHMARKS)
    (line,) = verify.check("dcc")
    assert line.endswith("$CELLCOUNT_RAW_DIR/dcc")
    one_line(lambda: verify.check("dc"), "no dataset 'dc'")


def test_check_of_prepared_data(tmp_path):
    sample_sets.write("bbbc050", tmp_path)
    load.load_dataset("bbbc050", raw_dir=tmp_path)
    assert "  4 images, 8x18x18x1 uint16" in verify.check("bbbc050")

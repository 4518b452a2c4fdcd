import dask.array
import numpy as np
import pytest
import zarr

from cellcount_jax.annotation import propose, retrain
from cellcount_jax.io.annotations.dots import Dots, write_dots
from cellcount_jax.napari import files
from cellcount_jax.napari.images import add_image
from cellcount_jax.napari.workspace import workspace_of
from cellcount_jax.simulation.simulate import write_simulated
from tests.napari.conftest import wait_for
from tests.napari.test_annotate_2d import panel, session_of


def test_count_and_threshold_without_running_the_network_again(images, opened, monkeypatch):
    hand = opened(images)
    widget, session = panel(hand, "count"), session_of(hand)
    hand.click([5, 5])
    widget.count_button.click()
    wait_for(lambda: workspace_of(hand.viewer).proposals is not None)
    assert "cells" in widget.result.text()
    monkeypatch.setattr(propose, "by_model", None)  # the network cannot run again
    n = len(session.dots())
    widget.threshold.setValue(1000)
    assert 1 <= len(session.dots()) < n  # what was made by hand is always counted
    widget.threshold.setValue(0)
    assert len(session.dots()) >= n
    hand.screenshot("count")


def test_count_the_folder(images, opened):
    hand = opened(images)
    widget = panel(hand, "count")
    widget.folder_button.click()
    wait_for(lambda: "3 images" in widget.result.text() and "failed" in widget.result.text())
    assert (images / "counts" / "counts.csv").exists()


def test_retrain_draws_a_curve_and_replaces_the_model(tmp_path, opened):
    write_simulated(tmp_path / "folder", 3, seed=1, shape=(64, 64), count=8)
    hand = opened(tmp_path / "folder")
    widget = panel(hand, "count")
    widget.steps.setValue(3)
    widget.train_button.click()
    assert widget.cancel_button.isEnabled()
    ends = ("new MAE", "not trained")
    wait_for(lambda: any(end in widget.errors.text() for end in ends), 150)
    assert "new MAE" in widget.errors.text()
    assert workspace_of(hand.viewer).model == str(tmp_path / "folder" / "cellcount")
    assert len(widget.figure.axes) == 2
    hand.screenshot("retrain")


def test_a_training_is_cancelled(tmp_path, opened):
    write_simulated(tmp_path / "folder", 3, seed=1, shape=(64, 64), count=8)
    hand = opened(tmp_path / "folder")
    widget = panel(hand, "count")
    widget.train_button.click()
    process = widget.process
    widget.cancel_button.click()
    assert process.poll() is not None
    assert "cancelled" in widget.errors.text()
    assert retrain.runs_of(tmp_path / "folder") == []


def test_the_queue_is_sorted_by_doubt(images, opened):
    hand = opened(images)
    widget = panel(hand, "queue")
    assert widget.images.count() == 3
    widget.sort_button.click()
    wait_for(lambda: widget.message.text().startswith("sorted"))
    assert (images / "annotation" / "queue.csv").exists()
    hand.screenshot("queue")


@pytest.mark.parametrize("extension", [".csv", ".roi", ".zip", ".xml", ".geojson", ".tsv"])
def test_readers_and_writers(tmp_path, extension):
    path = str(tmp_path / f"dots{extension}")
    write_dots(path, Dots(np.array([[5.0, 6.0], [7.0, 8.0]])))
    ((points, attributes, kind),) = files.dots_reader(path)(path)
    assert kind == "points"
    np.testing.assert_allclose(points[np.argsort(points[:, 0])], [[5, 6], [7, 8]])
    again = str(tmp_path / f"again{extension}")
    assert files.write_dots_layer(again, points, attributes) == [again]
    assert files.dots_reader(str(tmp_path / "missing.csv")) is None


def test_sample_data():
    assert files.sample_image()[0][0].ndim == 2
    volume, attributes, _ = files.sample_volume()[0]
    assert volume.ndim == len(attributes["scale"]) == 3


def test_a_large_ome_zarr_stays_lazy_and_is_proposed_by_block(tmp_path, monkeypatch):
    from napari.components import ViewerModel

    from cellcount_jax.annotation.propose import classical
    from cellcount_jax.io.images.image import open_lazy

    path = tmp_path / "large.zarr"
    root = zarr.open_group(path, mode="w", zarr_format=2)
    array = root.create_array("s0", shape=(8192, 8192), chunks=(1024, 1024), dtype="uint8")
    image = files.sample_image()[0][0]
    array[2000:2512, 4000:4512] = image
    axes = [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    level = {"path": "s0", "coordinateTransformations": scale}
    root.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    with open_lazy(path) as opened:
        (layer,) = add_image(ViewerModel(), opened)
        assert isinstance(layer.data, dask.array.Array)
        assert layer.scale.tolist() == [0.5, 0.5]
        blocks = []
        found = classical(opened, method="otsu", on_block=lambda i, n: blocks.append((i, n)))
    assert blocks[-1] == (16, 16)
    inside = (found.points >= [2000, 4000]).all(axis=1) & (found.points < [2512, 4512]).all(axis=1)
    assert inside.sum() > 80
    assert inside.all()

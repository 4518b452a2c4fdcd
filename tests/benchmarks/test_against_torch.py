"""The comparison with PyTorch: networks agree on the same weights; figures and errors.

Comparisons need an interpreter with PyTorch and are skipped without one: this one, or the path in
CELLCOUNT_TORCH_PYTHON.
"""

import argparse
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import output
from benchmarks.speed import against_torch, network_cases
from benchmarks.speed.case import Case, Settings
from benchmarks.speed.torch_reference.client import ROOT, Worker

TORCH_PYTHON = os.environ.get("CELLCOUNT_TORCH_PYTHON", sys.executable)
HAS_TORCH = "CELLCOUNT_TORCH_PYTHON" in os.environ or importlib.util.find_spec("torch")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed")


def small(name: str, **fields) -> Settings:
    """Sides differ, so that a mix-up of axes shows."""
    space = (8, 16, 24) if name.endswith("3d") else (48, 32)
    return Settings(batch=2, space=space, width=1 / 16, **fields)


@pytest.fixture(scope="module")
def twin():
    with Worker(TORCH_PYTHON) as worker:
        yield worker


@needs_torch
@pytest.mark.parametrize("name", network_cases.CASES)
def test_networks_agree_on_the_same_weights(name, twin, tmp_path):
    found = against_torch.compare(name, small(name), twin, tmp_path)
    assert {"loss", "gradient_norm"} < set(found)
    assert max(found.values()) < 1e-3


@needs_torch
def test_one_changed_bias_is_noticed(twin, tmp_path, monkeypatch):
    whole = Case.twin_arrays

    def changed(case):
        arrays = whole(case)
        arrays["params/conv3/bias"] = arrays["params/conv3/bias"] + 0.01
        return arrays

    monkeypatch.setattr(Case, "twin_arrays", changed)
    with pytest.raises(against_torch.UnequalError, match=r"csrnet: .* differs from PyTorch's by"):
        against_torch.compare("csrnet", small("csrnet"), twin, tmp_path)


@needs_torch
def test_a_parameter_too_many_is_noticed(twin, tmp_path, monkeypatch):
    whole = Case.twin_arrays
    extra = {"params/head/more": np.zeros(3)}
    monkeypatch.setattr(Case, "twin_arrays", lambda case: whole(case) | extra)
    with pytest.raises(RuntimeError, match=r"CSRNet holds \d+ numbers, flax \d+"):
        against_torch.compare("csrnet", small("csrnet"), twin, tmp_path)


@needs_torch
@pytest.mark.parametrize("name", ["sau_net_3d", "dcl"])
def test_layouts_agree(name, twin, tmp_path):
    against_torch.load(network_cases.build(name, small(name)), twin, tmp_path)
    maps = []
    for variant in ("eager", "channels_last"):
        twin("outputs", path=str(tmp_path / "maps.npz"), variant=variant)
        with np.load(tmp_path / "maps.npz") as arrays:
            maps.append(dict(arrays))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), *maps)


@needs_torch
@pytest.mark.parametrize("what", ["step", "predict"])
def test_both_sides_take_turns(what, twin, tmp_path):
    case = network_cases.build("sau_net_3d", small("sau_net_3d"))
    against_torch.load(case, twin, tmp_path)
    options = argparse.Namespace(pairs=3, seconds=0.01, variants=["eager", "channels_last"])
    row = against_torch.measure(case, twin, what, "float32", options)
    assert len(row["pairs"]) == 3
    assert set(row["torch_variant_seconds"]) == set(options.variants)
    assert row["torch_failed"] == {}
    ratio = row["ratio"]
    assert 0 < ratio["least"] <= ratio["median"] <= ratio["greatest"] < math.inf
    assert row["flops"] > 1e6


@needs_torch
def test_gradients_cost_twice_the_forward_pass(twin, tmp_path):
    against_torch.load(network_cases.build("csrnet", small("csrnet")), twin, tmp_path)
    forward, step = (twin("flops", what=what)["flops"] for what in ("predict", "step"))
    assert 2.5 < step / forward < 3.0  # the images themselves need no gradient


TORCHVISION = """
from torch import nn
from benchmarks.speed.torch_reference import vgg
layers, channels = [], 3
for size in (64, 64, "M", 128, 128, "M", *(256,) * 4, "M", *(512,) * 4, "M", *(512,) * 4):
    if size == "M":
        layers += [nn.MaxPool2d(kernel_size=2, stride=2)]
    else:
        layers += [nn.Conv2d(channels, size, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
        channels = size
assert str(nn.Sequential(*layers)) == str(vgg.features(vgg.VGG19))
"""


@needs_torch
def test_vgg_is_layer_for_layer_torchvisions():
    subprocess.run([TORCH_PYTHON, "-c", TORCHVISION], cwd=ROOT, check=True)


def test_difference_is_relative_to_the_largest_value():
    assert against_torch.difference([1.0, 4.0], [1.0, 5.0]) == pytest.approx(0.2)
    assert against_torch.difference(np.zeros((2, 3)), np.zeros((3, 2))) == math.inf
    assert not against_torch.difference([np.nan], [1.0]) <= 1


def test_runs_fill_the_time():
    assert against_torch.runs(0.2, 0.5) == 3
    assert against_torch.runs(2.0, 0.5) == 1


@pytest.mark.parametrize("python", ["/no/such/python", shutil.which("false")])
def test_no_pytorch_is_one_clear_line(python):
    with pytest.raises(ValueError, match="--torch-python"), Worker(python) as worker:
        worker("describe")


def test_the_workers_error_is_passed_on(tmp_path):
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nread line\necho \'{"error": "no such network"}\'\n')
    script.chmod(0o755)
    with Worker(str(script)) as worker, pytest.raises(RuntimeError, match="no such network"):
        worker("load", network="x")


def test_table_and_json_of_a_run(tmp_path):
    spread = output.median_and_range([1.5, 1.0, 2.0])
    assert spread == {"median": 1.5, "least": 1.0, "greatest": 2.0}
    row = {
        "network": "dcl",
        "what": "step",
        "dtype": "float32",
        "loss": "L1 of the count, Adam",
        "jax_seconds": output.median_and_range([2.0]),
        "torch_seconds": output.median_and_range([3.0]),
        "torch_variant": "compiled",
        "ratio": spread,
        "flops": 2e11,
    }
    results = {
        "device": "CPU, 2 cores",
        "versions": {"jax": "1", "torch": "2"},
        "threads": {"jax": 2, "torch": 2},
        "load_average_before": 0.1,
        "pairs": 3,
        "batch_of_images": 4,
        "matmul_flops_per_second": {"float32": {"jax": 4e11, "torch": 2e11}},
        "equality": {"dcl": {"coarse": 1e-6, "loss": 2e-7}},
        "unequal": ["csrnet: density differs from PyTorch's"],
        "rows": [row],
    }
    output.write(tmp_path / "out", "against_torch", results, against_torch.table(results))
    assert json.loads((tmp_path / "out/against_torch.json").read_text()) == results
    text = (tmp_path / "out/against_torch.md").read_text()
    expected = (
        "| dcl | step (L1 of the count, Adam) | float32 | 2000 | 3000 | compiled "
        "| 1.50 (1.00 to 2.00) | 100 | 25% |"
    )
    assert expected in text
    assert "dcl 1e-06" in text
    assert "Not measured: csrnet: density differs" in text


def test_rows_of_an_earlier_run_elsewhere_are_not_joined():
    same = {"device": "cpu", "torch_device": "cpu", "versions": {}, "threads": {}, "pairs": 9}
    same |= {"batch_of_images": 4}
    earlier = {**same, "load_average_before": 0.5, "matmul_flops_per_second": {"float32": 1}}
    earlier |= {"rows": ["a row"]}
    now = {**same, "load_average_before": 0.1, "matmul_flops_per_second": {"bfloat16": 2}}
    joined = against_torch.joined(earlier, {**now, "rows": []})
    assert joined["rows"] == ["a row"]
    assert joined["load_average_before"] == 0.5
    assert joined["matmul_flops_per_second"] == {"float32": 1, "bfloat16": 2}
    with pytest.raises(ValueError, match="cannot append: pairs was 9 and is 3"):
        against_torch.joined(earlier, {**now, "pairs": 3})


def test_the_twin_is_given_plain_numbers():
    half = {"kernel": jnp.ones((2, 3), jnp.bfloat16)}
    case = Case(
        "x", None, None, None, np.ones((1, 4)), {}, {}, half, {}, {"features": half["kernel"]}
    )
    found = case.twin_arrays()
    assert set(found) == {"params/kernel", "images/image", "batch/features"}
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_every_network_has_a_loss_and_a_twin():
    assert set(network_cases.LOSSES) == set(network_cases.CASES)
    assert set(against_torch.NETWORKS) <= set(network_cases.CASES)

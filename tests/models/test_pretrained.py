"""Weights of VGG from files: names, layouts, and what is said about the wrong file."""

import functools
import hashlib
import http.server
import threading

import jax
import numpy as np
import pytest

from cellcount_jax.io import download
from cellcount_jax.models import pretrained
from cellcount_jax.models.pretrained import load_vgg
from cellcount_jax.models.vgg import VGG, conv_channels, torch_indices
from tests.models.weights import torch_files

WIDTH = 1 / 32


def torchvision_arrays(depth, batch_norm, width=WIDTH, seed=0):
    """Random arrays under torchvision's names, a classifier and counters included."""
    rng = np.random.default_rng(seed)
    arrays, n_in = {"classifier.0.weight": np.zeros((2, 2), np.float32)}, 3
    for name, n_out in conv_channels(depth, width).items():
        i = torch_indices(depth, batch_norm)[name]
        shapes = {f"{i}.weight": (n_out, n_in, 3, 3), f"{i}.bias": (n_out,)}
        if batch_norm:
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"{i + 1}.{part}": (n_out,) for part in parts}
            arrays[f"features.{i + 1}.num_batches_tracked"] = np.array(3)
        for key, shape in shapes.items():
            arrays[f"features.{key}"] = rng.uniform(0.1, 1, shape).astype(np.float32)
        n_in = n_out
    return arrays


def test_agrees_with_reference(golden, tmp_path):
    arrays = golden("vgg19_features")
    path = tmp_path / "vgg19.npz"
    np.savez(path, **{k: v for k, v in arrays.items() if k.startswith("features.")})
    variables = load_vgg(path, depth=19, batch_norm=False, width=1 / 16)
    out = jax.jit(VGG(depth=19, width=1 / 16).apply)(variables, arrays["input_image"])
    expected = arrays["expected_output"]
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("depth", [16, 19])
def test_fits_the_network(tmp_path, depth, batch_norm, stream):
    arrays = torchvision_arrays(depth, batch_norm)
    torch_files.write_arrays(tmp_path / "vgg.pth", arrays, stream=stream)
    got = load_vgg(tmp_path / "vgg.pth", depth=depth, batch_norm=batch_norm, width=WIDTH)
    module = VGG(depth=depth, width=WIDTH, batch_norm=batch_norm)
    x = np.zeros((1, 32, 32, 3), np.float32)
    wanted = {"batch_stats": {}} | jax.eval_shape(module.init, jax.random.key(0), x)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), got) == jax.tree.map(
        lambda a: (a.shape, a.dtype), wanted
    )
    i = torch_indices(depth, batch_norm)["conv3_2"]
    kernel = got["params"]["conv3_2"]["kernel"]
    np.testing.assert_array_equal(kernel[1, 2, 3, 4], arrays[f"features.{i}.weight"][4, 3, 1, 2])
    if batch_norm:
        norm, stats = got["params"]["norm3_2"], got["batch_stats"]["norm3_2"]
        np.testing.assert_array_equal(norm["scale"], arrays[f"features.{i + 1}.weight"])
        np.testing.assert_array_equal(norm["bias"], arrays[f"features.{i + 1}.bias"])
        np.testing.assert_array_equal(stats["mean"], arrays[f"features.{i + 1}.running_mean"])
        np.testing.assert_array_equal(stats["var"], arrays[f"features.{i + 1}.running_var"])


def test_front_end_only(tmp_path):
    arrays = torchvision_arrays(16, batch_norm=False)
    arrays = {k: v for k, v in arrays.items() if not k.startswith(("features.24", "features.28"))}
    np.savez(tmp_path / "vgg.npz", **arrays)
    load = functools.partial(
        load_vgg, tmp_path / "vgg.npz", depth=16, batch_norm=False, width=WIDTH
    )
    got = load(n_convs=10)
    assert list(got["params"]) == list(conv_channels(16, n_convs=10))
    with pytest.raises(ValueError, match=r"vgg\.npz: no key features\.24\.weight"):
        load()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_become_float32(tmp_path, dtype):
    arrays = {k: v.astype(dtype) for k, v in torchvision_arrays(16, batch_norm=False).items()}
    np.savez(tmp_path / "vgg.npz", **arrays)
    got = load_vgg(tmp_path / "vgg.npz", depth=16, batch_norm=False, width=WIDTH)
    assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            (19, False, WIDTH),
            r"no key features\.16\.weight, which VGG-19 without batch norm has; "
            "it looks like VGG-16 without batch norm",
        ),
        ((16, True, WIDTH), r"no key features\.1\.weight, which VGG-16 with batch norm has"),
        (
            (16, False, 1 / 16),
            r"features\.0\.weight has shape \(2, 3, 3, 3\), .* needs "
            r"\(4, 3, 3, 3\)",
        ),
    ],
)
def test_another_network_is_told(tmp_path, asked, message):
    path = tmp_path / "vgg.npz"
    np.savez(path, **torchvision_arrays(16, batch_norm=False))
    depth, batch_norm, width = asked
    with pytest.raises(ValueError, match=message) as caught:
        load_vgg(path, depth=depth, batch_norm=batch_norm, width=width)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [("features.7.bias", np.nan), ("features.28.weight", np.inf), ("features.0.weight", -np.inf)],
)
def test_values_that_are_not_finite(tmp_path, key, value):
    arrays = torchvision_arrays(16, batch_norm=False)
    arrays[key].flat[-1] = value
    np.savez(tmp_path / "vgg.npz", **arrays)
    with pytest.raises(ValueError, match=rf"vgg\.npz: {key} holds values that are not finite"):
        load_vgg(tmp_path / "vgg.npz", depth=16, batch_norm=False, width=WIDTH)


def test_missing_file_names_the_alternatives(tmp_path):
    with pytest.raises(ValueError, match=r"none\.pth: no such file; .*\"imagenet\".*None"):
        load_vgg(tmp_path / "none.pth", depth=16, batch_norm=False)


def test_the_original_weights_are_read_from_the_folder_of_raw_data(tmp_path, monkeypatch):
    monkeypatch.delenv(pretrained.RAW_DIR, raising=False)
    with pytest.raises(ValueError, match=r"vgg16_oxford_fp16\.npz: \$CELLCOUNT_RAW_DIR is not set"):
        load_vgg("oxford", depth=16, batch_norm=False)
    monkeypatch.setenv(pretrained.RAW_DIR, str(tmp_path))
    with pytest.raises(ValueError, match=r"vgg16_oxford_fp16\.npz: no such file; name a weight"):
        load_vgg("oxford", depth=16, batch_norm=False)
    path = tmp_path / pretrained.OXFORD_FILE
    path.parent.mkdir()
    arrays = torchvision_arrays(16, batch_norm=False, width=1.0)
    kept = [f"features.{i}.{part}" for i in (0, 2) for part in ("weight", "bias")]
    np.savez(path, **{name: arrays[name].astype(np.float16) for name in kept})
    found = load_vgg("oxford", depth=16, batch_norm=False, n_convs=2)["params"]
    np.testing.assert_array_equal(found["conv1_2"]["bias"], arrays[kept[3]].astype(np.float16))
    with pytest.raises(ValueError, match=r"no key features\.5\.weight"):
        load_vgg("oxford", depth=16, batch_norm=False)


def test_a_file_of_other_things(tmp_path):
    np.savez(tmp_path / "vgg.npz", weight=np.zeros(3))
    with pytest.raises(ValueError, match=r"no key features\.0\.weight, .* has 0 keys features\.\*"):
        load_vgg(tmp_path / "vgg.npz", depth=16, batch_norm=False)


@pytest.mark.parametrize(
    ("depth", "batch_norm", "name"),
    [
        (16, False, "vgg16-397923af.pth"),
        (19, False, "vgg19-dcbb9e9d.pth"),
        (16, True, "vgg16_bn-6c64b313.pth"),
        (19, True, "vgg19_bn-c79401a0.pth"),
    ],
)
def test_names_of_the_published_files(monkeypatch, depth, batch_norm, name):
    asked = []

    def fetch(url, folder, *, sha256, advice):
        asked.append((url, sha256))
        raise ValueError("no network")

    monkeypatch.setattr(download, "fetch", fetch)
    with pytest.raises(ValueError, match="no network"):
        load_vgg("imagenet", depth=depth, batch_norm=batch_norm)
    ((url, sha256),) = asked
    assert url == f"https://download.pytorch.org/models/{name}"
    assert len(sha256) == 64
    assert sha256.startswith(name[-12:-4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 16, "width": 0.5}, "width 1 only, not 0.5"),
        ({"depth": 13}, "depth 13"),
        ({"depth": 16, "n_convs": 14}, "n_convs is 14"),
    ],
)
def test_impossible_options_cost_no_download(monkeypatch, options, message):
    monkeypatch.setattr(download, "fetch", None)
    with pytest.raises(ValueError, match=message):
        load_vgg("imagenet", batch_norm=False, **options)


def test_named_weights_from_a_server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    arrays = torchvision_arrays(16, batch_norm=False, width=1.0)
    first = {k: v for k, v in arrays.items() if k.startswith(("features.0.", "features.2."))}
    torch_files.write_arrays(tmp_path / "vgg.pth", first, stream=True)
    sha256 = hashlib.sha256((tmp_path / "vgg.pth").read_bytes()).hexdigest()
    monkeypatch.setitem(pretrained.PUBLISHED_SHA256, (16, False), sha256)
    (tmp_path / "vgg.pth").rename(tmp_path / f"vgg16-{sha256[:8]}.pth")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(pretrained, "TORCHVISION_URL", url)
        monkeypatch.setenv("CELLCOUNT_CACHE", str(tmp_path / "cache"))
        try:
            got = load_vgg("imagenet", depth=16, batch_norm=False, n_convs=2)
        finally:
            server.shutdown()
            thread.join()
    kernel = got["params"]["conv1_2"]["kernel"]
    np.testing.assert_array_equal(kernel, first["features.2.weight"].transpose(2, 3, 1, 0))

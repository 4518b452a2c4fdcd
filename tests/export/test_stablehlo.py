"""A network as StableHLO gives the same maps in a process that knows nothing of this package."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.export import stablehlo
from tests.inference.made_counters import made


@pytest.mark.skipif(
    importlib.util.find_spec("flatbuffers") is None, reason="jax writes with flatbuffers"
)
def test_another_process_calls_the_exported_network_on_any_size(tmp_path):
    folder = tmp_path / "net"
    counter = dataclasses.replace(made("density"), facts={"training": {"mae": 1.5}})
    stablehlo.write(counter, folder)
    rng = np.random.default_rng(0)
    images = [rng.normal(size=s).astype(np.float32) for s in ((1, 16, 24, 3), (3, 32, 12, 3))]
    np.savez(tmp_path / "in.npz", *images)
    program = (
        "import sys, numpy as np\n"
        "from jax import export\n"
        f"model = export.deserialize(open({str(folder / stablehlo.MODEL)!r}, 'rb').read())\n"
        f"images = np.load({str(tmp_path / 'in.npz')!r})\n"
        "maps = [np.asarray(model.call(images[k])['density']) for k in images]\n"
        f"np.savez({str(tmp_path / 'out.npz')!r}, *maps)\n"
        "print('cellcount_jax' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
    with np.load(tmp_path / "out.npz") as maps:
        for image, name in zip(images, maps, strict=True):
            expected = np.asarray(counter.stage.predict(counter.variables, image)["density"])
            assert expected.std() > 1e-3
            np.testing.assert_allclose(maps[name], expected, rtol=1e-5, atol=1e-5)
    facts = json.loads((folder / stablehlo.READOUT).read_text())
    assert facts["input"] == "float32[b,4*h,4*w,3]"
    assert facts["platforms"] == ["cpu", "cuda", "tpu"]
    assert facts["readout"]["count_map"] == "density"
    assert facts["training"] == {"mae": 1.5}
    text = (folder / stablehlo.README).read_text()
    assert "export.deserialize" in text
    assert "multiples of 4" in text


@pytest.mark.parametrize(
    ("method", "shape"),
    [
        ("density", "float32[b,4*h,4*w,3]"),
        ("csrnet", "float32[b,8*h,8*w,3]"),
        ("countxplain", "float32[b,8*h,8*w,3]"),
        ("dcl", "float32[b,48,48,3]"),
        ("consistency", "float32[b,48,48,3]"),
        ("consistency_3d", "float32[b,16,16,16,1]"),
    ],
)
def test_every_method_is_exported_with_its_window_if_it_has_one(method, shape):
    exported = stablehlo.to_exported(made(method))
    assert str(exported.in_avals[0]) == shape
    assert exported.platforms == stablehlo.PLATFORMS


def test_without_flatbuffers_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    monkeypatch.delitem(sys.modules, "jax._src.export.serialization", raising=False)
    with pytest.raises(ValueError, match="pip install flatbuffers"):
        stablehlo.write(made("density"), tmp_path / "net")
    assert not (tmp_path / "net").exists()


@pytest.mark.parametrize(
    ("resampling", "words"),
    [
        (Resampling(factor=0.5), ["Resize the image by `resampling.factor`. Map"]),
        (Resampling(patches={"tile": 300, "resize": 256}), ["the rule `resampling.patches`"]),
        (
            Resampling(cell_diameter=14.0, pixel_size=0.5),
            ["so that cells are 14 pixels wide", "its pixel size over `resampling.pixel_size`"],
        ),
    ],
)
def test_the_text_says_how_to_resize(resampling, words):
    counter = dataclasses.replace(made("density"), resampling=resampling)
    facts = stablehlo.describe(counter, stablehlo.to_exported(counter))
    assert facts["resampling"] == resampling.to_dict()
    for part in words:
        assert part in stablehlo.readme(facts)


@pytest.mark.parametrize("method", ["dcl", "consistency"])
def test_the_text_names_the_window_and_the_readout(method):
    counter = made(method)
    facts = stablehlo.describe(counter, stablehlo.to_exported(counter))
    text = stablehlo.readme(facts)
    assert "(1, 48, 48, 3)" in text
    assert "its size is fixed" in text
    assert f"`{counter.stage.readout.count_map}`" in text
    assert "{" not in text
    json.dumps(facts, allow_nan=False)

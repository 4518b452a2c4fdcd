import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from scipy import ndimage

from cellcount_jax import defaults
from cellcount_jax.inference import model_file_v1
from cellcount_jax.inference.batched_predict import BatchedPredictor
from cellcount_jax.inference.window_pass import NetworkInput, count_images
from cellcount_jax.methods import build_stages, density
from cellcount_jax.methods.base import StepInput
from cellcount_jax.models import unet

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("space", [(24, 20), (9, 10, 11)])
def test_density_near_peaks_is_that_under_a_dilated_threshold(space):
    values = np.random.default_rng(0).random((2, *space)).astype(np.float32)
    found = density.near_peaks(jnp.asarray(values), least=0.98, reach=2)
    for one, kept in zip(values, np.asarray(found), strict=True):
        near = ndimage.maximum_filter((one >= 0.98).astype(np.uint8), size=5, mode="constant")
        np.testing.assert_array_equal(kept, one * near)
    assert 0 < float((found > 0).mean()) < 1


@pytest.mark.parametrize("gate", [0.0, 0.2])
def test_a_carpet_counts_nothing_behind_a_gate(gate):
    config = defaults.density()
    config.model.channels, config.model.gate = (2, 4), gate
    (stage,) = build_stages(config)
    variables = stage.init(
        jax.random.key(0), {"labelled": {"image": jnp.zeros((1, 32, 32, 3))}}, {}
    )
    # A head that says the same little everywhere.
    head = variables.trained["head"]
    carpet = 0.1 * stage.readout.single_cell_peak * config.model.target_scale
    head["kernel"], head["bias"] = jnp.zeros_like(head["kernel"]), jnp.full((1,), carpet)
    found = float(stage.predict(variables, jnp.zeros((1, 64, 64, 3)))["density"].sum())
    assert (found == 0) == (gate > 0)


def test_windows_see_as_far_as_the_network_and_its_gate():
    config = defaults.density()
    config.model.channels, config.model.sigma = (8, 16, 32, 64), 2.0
    (without,) = build_stages(config)
    config.model.gate = 0.15
    (with_gate,) = build_stages(config)
    assert without.halo == unet.halo(4)
    assert with_gate.halo >= without.halo + 6
    assert with_gate.halo % with_gate.stride == 0


def test_models_that_lack_later_fields_get_values_that_change_nothing():
    config = defaults.density()
    for field in ("gate", "ndim", "count_weight"):
        del config.model[field]
    facts = model_file_v1.completed({"config": config.to_dict()})
    (stage,) = build_stages(ConfigDict(facts["config"]))
    assert stage.halo == unet.halo(4)


def test_volumes_have_the_same_stage():
    config = defaults.density()
    config.model.update({"ndim": 3, "channels": (2, 4), "gate": 0.1})
    (stage,) = build_stages(config)
    image = jax.random.normal(jax.random.key(0), (1, 8, 12, 16, 1))
    variables = stage.init(jax.random.key(1), {"labelled": {"image": image}}, {})
    assert stage.predict(variables, image)["density"].shape == (1, 8, 12, 16)
    assert stage.target(np.array([[4, 6, 8]], np.float32), (8, 12, 16)).sum() == pytest.approx(1)


def test_a_volume_cut_into_windows_counts_as_the_whole():
    config = defaults.density()
    config.model.update({"ndim": 3, "channels": (2, 4), "gate": 0.1})
    (stage,) = build_stages(config)
    volume = jax.random.normal(jax.random.key(0), (40, 64, 76, 1))
    variables = stage.init(jax.random.key(1), {"labelled": {"image": volume[None]}}, {})
    head = variables.trained["head"]
    head["kernel"], head["bias"] = 100 * head["kernel"], head["bias"] + 20.0
    image = NetworkInput(volume.shape[:-1], np.asarray(volume).__getitem__)
    whole, cut = (BatchedPredictor(stage, variables, max_window=side) for side in (None, 48))
    assert len(whole.cut(image.space)) == 1 < len(cut.cut(image.space))
    first, second = (next(count_images(predictor, [image])) for predictor in (whole, cut))
    assert first.count > 1
    np.testing.assert_allclose(second.density, first.density, atol=1e-5 * first.density.max())
    assert np.array_equal(first.points, second.points)


@pytest.mark.parametrize(("ndim", "most"), [(2, 2**22), (3, 2**24)])
def test_windows_of_narrow_networks_fit_into_memory_whatever_the_number_of_axes(ndim, most):
    config = defaults.density()
    config.model.ndim = ndim
    (stage,) = build_stages(config)
    large = (512, 4096, 4096)[-ndim:]
    window = BatchedPredictor(stage, {}).cut(large)[0].read
    assert math.prod(side.stop - side.start for side in window) <= most


def test_the_error_of_the_count_is_one_term_of_the_loss():
    config = defaults.density()
    config.model.update({"channels": (2, 4), "count_weight": 0.0})
    rows = {
        "image": jax.random.normal(jax.random.key(0), (2, 16, 16, 3)),
        "target": jnp.full((2, 16, 16), 3 / 256),
        "count": jnp.array([3.0, 3.0]),
        "mask": jnp.array([1.0, 0.0]),
    }
    found = []
    for weight in (0.0, 0.5):
        config.model.count_weight = weight
        (stage,) = build_stages(config)
        variables = stage.init(jax.random.key(1), {"labelled": rows}, {})
        inputs = StepInput({"labelled": rows}, jax.random.key(2), 0, {}, variables.model_state)
        found.append(float(stage.loss(variables.trained, inputs)[0]))
    given = {"params": variables.trained, **variables.model_state}
    network = unet.UNet(channels=(2, 4))
    density, _ = network.apply(
        given, rows["image"], train=True, mask=rows["mask"], mutable=["batch_stats"]
    )
    scale = config.model.target_scale
    error = abs(float(density[0].sum()) / scale - 3) / 2
    assert found[1] - found[0] == pytest.approx(0.5 * (scale * 3 / 256) ** 2 * error, rel=1e-3)

"""A stage or weights of another run: only if it is the same network."""

import logging

import numpy as np
import pytest
from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Variables
from cellcount_jax.runtime import checkpoint
from cellcount_jax.training import warm_start
from configs import countxplain_vgg, csrnet_vgg


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> epath.Path:
    """Workdir of a finished density network, seed 0."""
    workdir = epath.Path(tmp_path_factory.mktemp("runs") / "seed0")
    config = csrnet_vgg.get_config("tiny")
    facts = {"method": "csrnet", "stages": ["csrnet"], "config": config.to_dict(), "step": 7}
    variables = {"trained": {"kernel": np.arange(3.0)}}
    checkpoint.save_final(workdir / "checkpoints" / "csrnet", variables, facts)
    return workdir


def take(origin: str | None, folder, config: ConfigDict | None = None) -> bool:
    config = config or countxplain_vgg.get_config("tiny")
    config.init_from = origin
    stages = build_stages(config)
    return warm_start.load_stage(config, stages, stages[0], epath.Path(folder) / "csrnet")


def test_without_init_from_nothing_happens(tmp_path):
    assert not take(None, tmp_path)
    config = csrnet_vgg.get_config("tiny")
    assert not warm_start.load_stage(config, (), build_stages(config)[0], epath.Path(tmp_path))


@pytest.mark.parametrize("name", ["seed0", "seed{seed}"])
def test_the_stage_becomes_part_of_this_run(origin, tmp_path, name):
    assert take(f"{origin.parent / name}:csrnet", tmp_path)
    variables, facts = checkpoint.load_final(epath.Path(tmp_path) / "csrnet")
    np.testing.assert_array_equal(variables["trained"]["kernel"], np.arange(3.0))
    assert facts["stages"] == ["csrnet", "prototypes"]
    assert facts["method"] == facts["config"]["method"] == "countxplain"
    assert facts["init_from"] == f"{origin}:csrnet"
    assert facts["step"] == 7


def test_only_the_named_stage_is_loaded(origin, tmp_path):
    config = countxplain_vgg.get_config("tiny")
    config.init_from = f"{origin}:csrnet"
    stages = build_stages(config)
    assert not warm_start.load_stage(config, stages, stages[1], epath.Path(tmp_path))


def test_fields_that_do_not_affect_the_weights_may_differ(origin, tmp_path):
    config = countxplain_vgg.get_config("tiny")
    config.model.start_at_mean = False
    config.data.on_device_mib = 7
    assert take(f"{origin}:csrnet", tmp_path, config)


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("model.width", 0.5, r"model\.width 0\.03125 there, 0\.5 here"),
        ("model.batch_norm", False, r"model\.batch_norm True there, False here"),
        ("seed", 1, r"seed 0 there, 1 here"),
        ("data.protocol", "half", r"data\.protocol 'dcl' there, 'half' here"),
    ],
)
def test_another_network_or_other_images_are_refused(origin, tmp_path, field, value, line):
    config = countxplain_vgg.get_config("tiny")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=line) as error:
        take(f"{origin}:csrnet", tmp_path, config)
    assert "\n" not in str(error.value)


def test_a_missing_training_is_an_error_that_names_its_folder(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere/checkpoints/csrnet: no finished stage here"):
        take(f"{tmp_path / 'nowhere'}:csrnet", tmp_path)


@pytest.mark.parametrize("name", ["runs/a", "runs/a:counter", ":csrnet"])
def test_an_unknown_stage_is_an_error_that_lists_the_stages(tmp_path, name):
    with pytest.raises(ValueError, match=r"must be WORKDIR:STAGE .*csrnet, prototypes$"):
        take(name, tmp_path)


def variables(value: float, shape=(3,)) -> Variables:
    trained = {"a": np.full(shape, value)}
    return Variables(trained, {}, {"mean": np.full(2, value)}, {"threshold": np.zeros(())})


def test_weights_of_the_same_network_are_taken():
    begun = warm_start.begin_with(variables(0.0), variables(5.0), "old")
    np.testing.assert_array_equal(begun.trained["a"], 5.0)
    np.testing.assert_array_equal(begun.model_state["mean"], 5.0)


def test_those_of_another_network_are_not_and_the_log_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        begun = warm_start.begin_with(variables(0.0), variables(5.0, (4,)), "old")
    np.testing.assert_array_equal(begun.trained["a"], 0.0)
    assert "old: has another network" in caplog.text

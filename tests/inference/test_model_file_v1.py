"""Model files of schema 1, as the first version wrote them, count as they did then."""

from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference import bundled, model_file, model_file_v1
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods import build_stages
from configs import consistency_vgg

FOLDER = Path(__file__).parent / "schema_1"


def waves(shape: tuple[int, ...], channels: int) -> np.ndarray:
    """[*shape, channels] uint8, a smooth grid of bright and dark spots."""
    product = np.prod([np.sin(a / (3 + i)) for i, a in enumerate(np.indices(shape))], axis=0)
    grey = np.rint(127 * (1 + product)).astype(np.uint8)
    return np.repeat(grey[..., None], channels, axis=-1)


@pytest.mark.parametrize(
    ("name", "image", "spacing", "count", "n_points", "scale", "resampling"),
    [
        ("density", waves((90, 120), 3), None, 31.99358400021917, 0, 1.0, Resampling()),
        (
            *("dcl_mbm", waves((200, 260), 3), None, 19.312061043456197, 0, 256 / 300),
            Resampling(patches={"tile": 300, "resize": 256}),
        ),
        (
            *("consistency_bbbc050", waves((12, 60, 50), 1), (3.5, 0.8, 0.8), 18.0, 18),
            *((2.0, 0.5, 0.5), Resampling(pixel_size=(1.75, 1.6, 1.6))),
        ),
    ],
)
def test_files_of_the_first_version_count_as_then(
    name, image, spacing, count, n_points, scale, resampling
):
    counter = Counter.load(FOLDER / f"{name}.cellcount")
    assert counter.facts["schema"] == model_file.SCHEMA
    assert counter.resampling == resampling
    found = counter.count(image, spacing=spacing)
    assert found.count == pytest.approx(count, rel=1e-5)
    assert len(found.points) == n_points
    assert found.scale == scale


def test_renamed_fields_keep_their_values():
    facts = model_file.read(Path(bundled.resolve("nuclei")))[1]
    assert "schema" not in facts
    new = model_file_v1.upgraded(facts)
    config = new["config"]
    assert config["data"]["normalise_diameter"]["diameter"] == 14.0
    assert config["data"]["normalise_diameter"]["autofluorescence"] == 0.5
    plan = config["stages"]["density"]
    assert (plan["ema_decay"], plan["grad_accumulation"]) == (0.99, 1)
    assert new["readout"]["single_cell_peak"] == facts["readout"]["reference"]
    assert Resampling.from_dict(new["resampling"]) == Resampling(cell_diameter=14.0)
    assert config["radius"] == facts["config"]["radius"]
    assert facts["config"]["stages"]["density"]["average"] == 0.99  # the argument is not changed
    old_words = {"patches", "scale", "same_size", "average", "accumulate", "views", "tolerance"}
    assert not old_words & {*new, *config["model"], *plan, *new["readout"]}


def test_older_configs_of_consistency_build_their_network():
    """The options of the loss on unlabelled images do not change what a network predicts."""
    config = consistency_vgg.get_config("tiny").to_dict()
    for name in ("scale", "noise_amplitude", "teacher", "teacher_views", "statistics", "view"):
        del config["consistency"][name]
    new = model_file_v1.completed({"config": config})
    (stage,) = build_stages(ConfigDict(new["config"]))
    assert stage.readout.count == "peaks"


def test_fields_that_older_configs_lack_get_the_values_of_that_time():
    facts = model_file.read(FOLDER / "density.cellcount")[1]
    assert "count" not in facts["config"]["model"]
    new = model_file_v1.completed(model_file_v1.upgraded(facts))
    assert new["config"]["model"]["count"] == "integral"
    assert model_file_v1.completed(new) == new

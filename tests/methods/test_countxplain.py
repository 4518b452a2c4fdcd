"""CountXplain: features computed once, the loss of its parts, prototypes that are features."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from cellcount_jax import losses
from cellcount_jax.methods import build_stages, csrnet
from cellcount_jax.methods.base import Stage, Variables
from cellcount_jax.methods.countxplain import method, places
from cellcount_jax.methods.countxplain.projection import PrototypeProjector, unprojected
from configs import countxplain_vgg
from tests.methods.step_input import step_input

pytestmark = pytest.mark.usefixtures("quick_compilation")


def tiny_config(**prototypes) -> ConfigDict:
    config = countxplain_vgg.get_config("tiny")
    config.model.width = 1 / 16
    released = {
        "channels": None,
        "density_inputs": "cell_half",
        "feature_weight": 1.0,
        "distinct": "",
    }
    config.prototypes.update({**released, **prototypes})
    return config


def make_images(n: int = 9) -> dict[str, np.ndarray]:
    """Fields of `data.batches.stack_samples`."""
    rng = np.random.default_rng(0)
    target = np.zeros((n, 32, 40), np.float32)
    target[:, 8:16, 16:24] = 1 / 64
    return {
        "image": rng.normal(size=(n, 32, 40, 3)).astype(np.float32),
        "target": target,
        "dots": np.zeros((n, 32, 40), np.uint8),
        "count": np.ones(n, np.float32),
        "index": np.arange(n, dtype=np.int32),
        "size": np.full((n, 2), (32, 40), np.int32),
    }


@dataclasses.dataclass(frozen=True)
class Made:
    extractor: Stage
    before: Variables
    stage: Stage
    variables: Variables
    data: dict

    @property
    def rows(self) -> dict:
        return self.data["labelled"]

    def batch(self, n: int = 4) -> dict:
        fields = ("image", "target", "count", "index")
        taken = {name: jnp.asarray(self.rows[name][:n]) for name in fields}
        return {"labelled": {**taken, "mask": jnp.ones(n)}}


@pytest.fixture(scope="module")
def made() -> Made:
    return make(tiny_config())


def make(config: ConfigDict) -> Made:
    extractor, stage = build_stages(config)
    data = {"labelled": make_images()}
    before = extractor.init(jax.random.key(1), data, {})
    variables = stage.init(jax.random.key(2), data, {csrnet.NAME: before})
    placed = jax.device_put(stage.prepare(data, variables.frozen))
    return Made(extractor, before, stage, variables, placed)


@pytest.fixture(scope="module")
def finished(made) -> Variables:
    return made.stage.finish(made.variables, made.data)


def processed(made: Made, trained) -> np.ndarray:
    head = method.head_of(tiny_config().prototypes)
    return np.asarray(head.apply({"params": trained}, made.rows["image"])["processed"])


def test_features_are_those_of_each_image_and_everything_fits_them(made):
    rows = made.rows
    assert rows["image"].shape == (9, 4, 5, 4)
    assert rows["target"].shape == rows["dots"].shape == (9, 4, 5)
    np.testing.assert_allclose(rows["target"].sum(axis=(1, 2)), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(rows["size"], np.full((9, 2), (4, 5)))
    np.testing.assert_array_equal(rows["source_image"], make_images()["image"])
    net = csrnet.network(tiny_config())
    variables = {"params": made.before.trained, **made.before.model_state}
    alone = net.apply(variables, rows["source_image"][8:])["features"]
    np.testing.assert_allclose(rows["image"][8:], alone, atol=1e-5)


def test_the_count_is_that_of_the_prototypes_and_the_explained_network_is_untouched(made):
    images = made.rows["source_image"][:2]
    maps = made.stage.predict(made.variables, images)
    weights, bias = method.density_weights(made.variables.trained, tiny_config().prototypes)
    assert weights.shape == (4,)
    assert weights[2:].tolist() == [0, 0]
    added = maps["similarity"] @ weights
    np.testing.assert_allclose(maps["density"], added + bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["contribution"].sum(-1) + bias, maps["density"], atol=1e-5)
    own = made.extractor.predict(made.before, images)["density"]
    np.testing.assert_allclose(maps["extractor_density"], own, atol=1e-6)
    assert set(made.variables.trained) == {"process", "prototypes", "density"}


def test_the_loss_is_the_weighted_sum_of_its_parts(made):
    options, batch = tiny_config().prototypes, made.batch()
    inputs = step_input(made.variables, batch)
    value, (_, parts) = made.stage.loss(made.variables.trained, inputs)
    head = method.head_of(options)
    maps = head.apply({"params": made.variables.trained}, batch["labelled"]["image"])
    target = batch["labelled"]["target"]
    density = losses.density_mse(maps["density"], target, scale=100.0)
    cell, background = losses.prototype_to_feature(maps["distances"], target, n_cell=2)
    vectors = made.variables.trained["prototypes"]
    diversity = losses.prototype_diversity(vectors, n_cell=2, tau=0.8)
    pull = cell + options.background_weight * background
    assert (options.feature_weight, options.diversity_weight) == (1.0, 100.0)
    np.testing.assert_allclose(value, density + pull + 100 * diversity, rtol=1e-5)
    np.testing.assert_allclose(parts["density_loss"], density, rtol=1e-5)


def test_padding_rows_change_nothing(made):
    rows = made.batch()["labelled"]
    padded = {name: jnp.concatenate([value, 7 + value]) for name, value in rows.items()}
    padded["mask"] = jnp.array([1.0] * 4 + [0.0] * 4)

    def loss(labelled):
        inputs = step_input(made.variables, {"labelled": labelled})
        return made.stage.loss(made.variables.trained, inputs)[0]

    np.testing.assert_allclose(loss(padded), loss(rows), rtol=1e-5)


def test_projection_comes_every_so_many_epochs():
    stage = build_stages(tiny_config(project_every=100))[1]
    variables = Variables({"prototypes": None}, {}, {}, {})
    for epoch in (1, 50, 99, 150):
        assert stage.between_epochs(variables, {}, epoch) is variables
    with pytest.raises(KeyError):  # It goes for the data, and there are none.
        stage.between_epochs(variables, {}, 200)


def test_projected_prototypes_are_the_training_features_that_they_name(made, finished):
    features = processed(made, made.variables.trained)
    places = {k: np.asarray(finished.extras[k]) for k in ("image", "row", "column")}
    vectors = np.asarray(finished.trained["prototypes"])
    named = features[places["image"], places["row"], places["column"]]
    np.testing.assert_allclose(vectors, named, atol=1e-6)
    old = np.asarray(made.variables.trained["prototypes"])
    squared = np.square(features[..., None, :] - old).sum(-1)
    np.testing.assert_allclose(finished.extras["distance"], squared.min((0, 1, 2)), rtol=1e-4)
    np.testing.assert_array_equal(finished.extras["unprojected"], old)
    similar = made.stage.predict(finished, made.rows["source_image"])["similarity"]
    np.testing.assert_allclose(similar.max((0, 1, 2)), 9.21, atol=0.02)


def test_state_keeps_its_shape_through_a_projection(made):
    after = made.stage.between_epochs(made.variables, made.data, 1)
    same = jax.tree.map(lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), *[
        (v.trained, v.extras) for v in (made.variables, after)
    ])  # fmt: skip
    assert all(jax.tree.leaves(same))


def test_fresh_extras_can_be_donated():
    """The training step donates its state, and no buffer can be given away twice."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    given = step(unprojected(4))
    assert given["image"].tolist() == [0, 0, 0, 0]


def test_options_of_the_projection():
    made = make(tiny_config(distinct="vector", refit_density=True))
    after = made.stage.finish(made.variables, made.data)
    vectors = np.asarray(after.trained["prototypes"])
    assert len(np.unique(vectors, axis=0)) == 4
    # The weights before the fit are kept, those after it meet the targets better.
    old = made.variables.trained["density"]
    np.testing.assert_array_equal(after.extras["unprojected_density_kernel"], old["kernel"])
    before = made.stage.explain(after).before_projection.trained
    np.testing.assert_array_equal(before["density"]["kernel"], old["kernel"])
    np.testing.assert_array_equal(before["prototypes"], made.variables.trained["prototypes"])
    images, target = made.rows["source_image"], np.asarray(made.rows["target"])

    def error(trained) -> float:
        maps = made.stage.predict(after._replace(trained=trained), images)
        return float(np.square(np.asarray(maps["density"]) - target).mean())

    assert error(after.trained) < error({**after.trained, "density": old})


def test_what_is_kept_to_show_prototypes(made, finished):
    extras = {k: np.asarray(v) for k, v in finished.extras.items()}
    similar = made.stage.predict(finished, made.rows["source_image"])["similarity"]
    best = np.sort(np.asarray(similar).max(axis=(1, 2)), axis=0)[::-1][:3].T
    np.testing.assert_allclose(extras["top_similarity"], best, rtol=1e-2)
    assert all(len(set(images)) == 3 for images in extras["top_image"].tolist())
    # The first patch is around the prototype's own position, moved inside the image.
    image, row, column = (extras[k][0] for k in ("image", "row", "column"))
    assert (extras["top_image"][0, 0], extras["top_row"][0, 0]) == (image, row)
    left = int(np.clip(column * 8 + 4 - 16, 0, 8))
    expected = make_images()["image"][image, :, left : left + 32]
    np.testing.assert_array_equal(extras["top_patch"][0, 0], expected)
    assert extras["top_corner"][0, 0].tolist() == [row * 8, column * 8 - left]
    assert extras["sample"].shape == (180, 4)
    assert extras["sample_density"].sum() == pytest.approx(9.0, rel=1e-5)


@pytest.mark.parametrize("kind", ["cell_half", "positive", "all", "additive"])
def test_the_refitted_density_layer_is_the_best_one(kind):
    """Targets that some weights make exactly are met exactly."""
    config = tiny_config(density_inputs=kind)
    head = method.head_of(config.prototypes)
    projector = PrototypeProjector(head, unique="", by_density=False)
    features = jax.random.uniform(jax.random.key(0), (3, 4, 5, 4))
    params = head.init(jax.random.key(1), features)["params"]
    true = np.array([0.3, 0.1, 0.02, 0.4])[: 4 if kind == "all" else 2]
    bias = -0.2 if kind in ("cell_half", "positive") else 0.0
    similar = np.asarray(head.apply({"params": params}, features)["similarity"])
    target = similar[..., : len(true)] @ true + bias
    fitted = projector.refit(params, {"image": features, "target": jnp.asarray(target)})
    weights, found = method.density_weights(fitted, config.prototypes)
    np.testing.assert_allclose(weights[: len(true)], true, rtol=1e-3)
    assert found == pytest.approx(bias, abs=1e-4)
    assert jax.tree.structure(fitted) == jax.tree.structure(params)


def test_refitted_weights_of_the_positive_head_are_not_negative_and_its_bias_is_free():
    config = tiny_config(density_inputs="positive")
    head = method.head_of(config.prototypes)
    projector = PrototypeProjector(head, unique="", by_density=False)
    features = jax.random.uniform(jax.random.key(0), (3, 4, 5, 4))
    params = head.init(jax.random.key(1), features)["params"]
    similar = np.asarray(head.apply({"params": params}, features)["similarity"])
    target = jnp.asarray(similar[..., 0] - 0.5 * similar[..., 1] - 3)
    fitted = projector.refit(params, {"image": features, "target": target})
    weights, bias = method.density_weights(fitted, config.prototypes)
    # Slope and intercept of a line through the first similarity alone.
    slope, intercept = np.polyfit(similar[..., 0].ravel(), np.asarray(target).ravel(), 1)
    assert weights[1] == pytest.approx(0.0, abs=1e-6)
    assert weights[0] == pytest.approx(slope, rel=1e-3)
    assert bias == pytest.approx(intercept, rel=1e-3)


def test_refitted_weights_of_the_additive_head_are_not_negative():
    config = tiny_config(density_inputs="additive")
    head = method.head_of(config.prototypes)
    projector = PrototypeProjector(head, unique="", by_density=False)
    features = jax.random.uniform(jax.random.key(0), (3, 4, 5, 4))
    params = head.init(jax.random.key(1), features)["params"]
    similar = np.asarray(head.apply({"params": params}, features)["similarity"])
    target = jnp.asarray(similar[..., 0] - 0.5 * similar[..., 1])
    fitted = projector.refit(params, {"image": features, "target": target})
    weights, _ = method.density_weights(fitted, config.prototypes)
    assert weights[1] == pytest.approx(0.0, abs=1e-6)
    # With the second weight at 0 the first alone makes up the count, which is not its free value.
    alone = target.sum() / similar[..., 0].sum()
    assert weights[0] == pytest.approx(float(alone), rel=1e-3)


def test_each_cell_prototype_adds_its_least_share_and_the_sum_is_the_true_count():
    config = tiny_config(density_inputs="additive")
    head = method.head_of(config.prototypes)
    projector = PrototypeProjector(head, unique="", by_density=False)
    features = jax.random.uniform(jax.random.key(0), (3, 4, 5, 4))
    params = head.init(jax.random.key(1), features)["params"]
    similar = np.asarray(head.apply({"params": params}, features)["similarity"])
    target = jnp.asarray(similar[..., 0] - 0.2 * similar[..., 1])
    rows = {"image": features, "target": target}
    weights, _ = method.density_weights(
        projector.refit(params, rows, least_share=0.2), config.prototypes
    )
    added = weights[:2] * similar[..., :2].sum(axis=(0, 1, 2))
    assert added.sum() == pytest.approx(float(target.sum()), rel=1e-4)
    assert added[1] / added.sum() == pytest.approx(0.2, rel=0.05)


def varied(n: int = 6) -> dict[str, np.ndarray]:
    """Images that differ, each with a density peak at a place of its own."""
    rows = make_images(n)
    for i in range(n):
        rows["target"][i] = 0.0
        rows["target"][i, 8:16, 8 * (i % 4) : 8 * (i % 4) + 8] = (1 + i % 2) / 64
    return rows


def test_clusters_begin_apart_and_on_their_side():
    config = tiny_config(start="clusters", channels=8)
    extractor, stage = build_stages(config)
    data = {"labelled": varied()}
    before = extractor.init(jax.random.key(1), data, {})
    variables = stage.init(jax.random.key(2), data, {csrnet.NAME: before})
    rows = stage.prepare(data, variables.frozen)["labelled"]
    head = method.head_of(config.prototypes)
    maps = head.apply({"params": variables.trained}, rows["image"])
    processed = np.asarray(maps["processed"])
    # Whitened: every channel uses the middle of the sigmoid, none is constant.
    assert (processed.std(axis=(0, 1, 2)) > 0.05).all()
    prototypes = np.asarray(variables.trained["prototypes"])
    assert np.square(prototypes[0] - prototypes[1]).sum() > 0.01
    dense, empty = processed[places.dense(rows["target"])], processed[places.empty(rows["target"])]
    for group, vectors in ((prototypes[:2], dense), (prototypes[2:], empty)):
        # A cluster's centre lies within the range of its members.
        assert (group >= vectors.min(axis=0) - 1e-5).all()
        assert (group <= vectors.max(axis=0) + 1e-5).all()
    again = stage.init(jax.random.key(2), data, {csrnet.NAME: before})
    np.testing.assert_array_equal(again.trained["prototypes"], prototypes)


def test_places_are_dense_or_empty_by_the_target():
    target = np.zeros((2, 4, 5), np.float32)
    target[0, 1, 1], target[0, 1, 2], target[1, 3, 4], target[1, 0, 0] = 1.0, 0.6, 0.8, 0.05
    assert np.argwhere(places.dense(target)).tolist() == [[0, 1, 1]]  # median of 1 and 0.8 is 0.9
    graded = np.arange(40, dtype=np.float32).reshape(2, 4, 5)
    assert np.argwhere(places.empty(graded)).tolist() == [
        [0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1],
    ]  # fmt: skip


def test_projection_by_density_takes_cells_from_dense_places_of_different_images():
    config = tiny_config(project_by_density=True, distinct="image", n_prototypes=2)
    extractor, stage = build_stages(config)
    data = {"labelled": varied()}
    before = extractor.init(jax.random.key(1), data, {})
    variables = stage.init(jax.random.key(2), data, {csrnet.NAME: before})
    rows = stage.prepare(data, variables.frozen)
    after = stage.finish(variables, jax.device_put(rows))
    at = tuple(np.asarray(after.extras[n]) for n in ("image", "row", "column"))
    target = np.asarray(rows["labelled"]["target"])
    assert places.dense(target)[at].tolist() == [True, False]
    assert places.empty(target)[at].tolist() == [False, True]
    assert len(set(at[0].tolist())) == 2


def test_separate_places_and_distances_are_what_the_loss_is_made_of(made):
    config = tiny_config(places="separate", diversity="distance", margin=3.0)
    stage, batch = build_stages(config)[1], made.batch()
    inputs = step_input(made.variables, batch)
    _, (_, parts) = stage.loss(made.variables.trained, inputs)
    maps = method.head_of(config.prototypes).apply(
        {"params": made.variables.trained}, batch["labelled"]["image"]
    )
    cell, background = losses.prototype_to_peaks(
        maps["distances"], batch["labelled"]["target"], n_cell=2, key=inputs.key
    )
    vectors = made.variables.trained["prototypes"]
    apart = losses.prototype_separation(vectors, n_cell=2, margin=3.0)
    np.testing.assert_allclose(parts["cell_loss"], cell, rtol=1e-5)
    np.testing.assert_allclose(parts["background_loss"], background, rtol=1e-5)
    np.testing.assert_allclose(parts["diversity_loss"], apart, rtol=1e-5)


@pytest.mark.parametrize("kind", ["all", "additive"])
def test_other_density_layers_add_up_too(kind):
    options = tiny_config(density_inputs=kind).prototypes
    head = method.head_of(options)
    features = jax.random.uniform(jax.random.key(0), (1, 2, 2, 4))
    params = head.init(jax.random.key(1), features)["params"]
    weights, bias = method.density_weights(params, options)
    maps = head.apply({"params": params}, features)
    np.testing.assert_allclose(maps["similarity"] @ weights, maps["density"], rtol=1e-4)
    assert bias == 0.0
    assert np.count_nonzero(weights) == (4 if kind == "all" else 2)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"n_prototypes": 5}, r"^config\.prototypes\.n_prototypes is 5; it must be even.*$"),
        ({"n_prototypes": 0}, r"at least 2"),
        ({"density_inputs": "half"}, r"density_inputs is 'half'; it is one of cell_half, pos"),
        ({"reduction": "max"}, r"reduction is 'max'; it is one of sum, mean"),
    ],
)
def test_bad_settings_are_told_before_anything_is_trained(changes, line):
    with pytest.raises(ValueError, match=line):
        build_stages(tiny_config(**changes))


def test_stored_features_are_not_augmented():
    config = tiny_config()
    config.stages.prototypes.flips = True
    with pytest.raises(ValueError, match=r"^config\.stages\.prototypes\.flips is True.*$"):
        build_stages(config)

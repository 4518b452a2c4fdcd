"""Prototypes against reference pairs, slow loops and identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax import losses
from cellcount_jax.models.prototypes import (
    PrototypeHead,
    project,
    similarity,
    squared_distances,
)
from cellcount_jax.models.prototypes.distances import contrasted
from cellcount_jax.models.prototypes.projection import (
    project_finish,
    project_merge,
    project_start,
    project_update,
)
from tests.golden_pairs import assert_close, case


def head_params(pairs, density):
    """Parameters of `PrototypeHead` from the arrays of a golden case."""
    return {
        "process": {"kernel": pairs["conv_kernel"], "bias": pairs["conv_bias"]},
        "prototypes": pairs["prototypes"],
        "density": density,
    }


# --- distances and similarity ---


def test_similarity_at_known_distances():
    got = similarity(np.array([0.0, 1.0, 5.0, 64.0]))
    exact = np.log((np.array([0, 1, 5, 64]) + 1) / (np.array([0, 1, 5, 64]) + 1e-4))
    np.testing.assert_allclose(got, exact, rtol=3e-7)
    np.testing.assert_allclose(got[:3], [9.2103, 0.69305, 0.18230], atol=5e-5)


def test_distance_to_itself_is_zero_and_half_precision_is_lifted():
    features = jnp.asarray(np.random.default_rng(0).random((1, 2, 3, 64)), jnp.bfloat16)
    distances = squared_distances(features, features[0, 1])
    assert distances.dtype == jnp.float32
    np.testing.assert_array_equal(np.diagonal(distances[0, 1]), 0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 8), (2, 3, 4, 7), (3, 4, 8)])
def test_squared_distances_wrong_shape_is_one_line(shape):
    with pytest.raises(ValueError, match=r"image|fit") as error:
        squared_distances(jnp.zeros(shape), jnp.zeros((6, 8)))
    assert str(shape) in str(error.value)
    assert "\n" not in str(error.value)


# --- head ---


@pytest.mark.parametrize("name", ["main", "small"])
def test_head_golden(golden, name):
    pairs = case(golden("prototype_head"), name)
    n_prototypes = len(pairs["prototypes"])
    features = pairs["features"]
    assert float(pairs["epsilon"]) == pytest.approx(1e-4)

    def run(density_inputs, density):
        head = PrototypeHead(n_prototypes, density_inputs=density_inputs)
        return jax.jit(head.apply)({"params": head_params(pairs, density)}, features)

    kernel, bias = pairs["density_kernel_cell"], pairs["density_bias_cell"]
    cell = run("cell_half", {"kernel": kernel, "bias": bias})
    assert_close(cell["processed"], pairs["expected_processed"], 1e-6)
    assert_close(cell["distances"], pairs["expected_distances"], 1e-5)
    assert_close(cell["similarity"], pairs["expected_similarities"], 1e-4)
    assert_close(cell["density"], pairs["expected_density_cell"][..., 0], 1e-4)
    assert_close(cell["contribution"], pairs["expected_contributions_cell"], 1e-4)
    assert_close(cell["density"].sum((1, 2)), pairs["expected_count_cell"], 1e-4)
    for prototype, *place in pairs["coincident"]:
        np.testing.assert_allclose(cell["similarity"][(*place, prototype)], 9.2103, atol=1e-3)
    every = run("all", {"kernel": pairs["density_kernel_all"]})
    assert_close(every["density"], pairs["expected_density_all"][..., 0], 1e-4)
    assert_close(every["density"].sum((1, 2)), pairs["expected_count_all"], 1e-4)


def test_total_loss_and_gradients_golden(golden):
    pairs = case(golden("prototype_losses"), "total")
    head = PrototypeHead(len(pairs["prototypes"]))
    assert float(pairs["epsilon"]) == pytest.approx(1e-4)
    density = {"kernel": pairs["density_kernel"], "bias": pairs["density_bias"]}
    target, n_cell = pairs["target"][..., 0], int(pairs["n_cell"])

    def total(params):
        maps = head.apply({"params": params}, pairs["features"])
        fit = losses.density_mse(maps["density"], target, scale=float(pairs["density_scale"]))
        cell, background = losses.prototype_to_feature(maps["distances"], target, n_cell=n_cell)
        diversity = losses.prototype_diversity(
            params["prototypes"], n_cell=n_cell, tau=float(pairs["tau"])
        )
        weights = pairs["weights"]
        loss = weights[0] * fit + weights[1] * (cell + background) + weights[2] * diversity
        return loss, (fit, cell, background, diversity)

    (value, parts), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(
        head_params(pairs, density)
    )
    assert_close(value, pairs["expected_total"], 1e-5, relative=True)
    names = ("density_loss", "cell_sum", "background_sum", "diversity")
    for part, name in zip(parts, names, strict=True):
        assert_close(part, pairs[f"expected_{name}"], 1e-5, relative=True)
    for got, name in [
        (gradient["process"]["kernel"], "conv_kernel"),
        (gradient["process"]["bias"], "conv_bias"),
        (gradient["prototypes"], "prototypes"),
        (gradient["density"]["kernel"], "density_kernel"),
        (gradient["density"]["bias"], "density_bias"),
    ]:
        assert_close(got, pairs[f"expected_grad_{name}"], 1e-5, relative=True)


@pytest.mark.parametrize(
    ("density_inputs", "n_density", "n_inputs"),
    [("cell_half", 4, 3), ("positive", 4, 3), ("all", 6, 6), ("additive", 3, 3)],
)
def test_head_parameters_and_contributions(density_inputs, n_density, n_inputs):
    head = PrototypeHead(6, density_inputs=density_inputs)
    features = jax.random.normal(jax.random.key(1), (2, 3, 4, 64))
    maps, variables = jax.jit(head.init_with_output)(jax.random.key(0), features)
    params = variables["params"]
    count = {key: sum(x.size for x in jax.tree.leaves(value)) for key, value in params.items()}
    assert count == {"process": 4160, "prototypes": 384, "density": n_density}
    # The default of PyTorch: uniform within 1 / sqrt(fan in), for the bias as well.
    for leaf in jax.tree.leaves(params["process"]):
        assert 0.1 < np.abs(leaf).max() <= 0.125
    assert params["prototypes"].min() >= 0
    assert params["prototypes"].max() < 1
    assert maps["contribution"].shape == (2, 3, 4, n_inputs)
    bias = params["density"].get("bias", np.zeros(1))[0]
    np.testing.assert_allclose(maps["density"], maps["contribution"].sum(-1) + bias, atol=1e-5)


def test_space_of_the_prototypes_may_be_wider_than_that_of_the_features():
    head = PrototypeHead(4, channels=64)
    maps, variables = head.init_with_output(jax.random.key(0), jnp.ones((1, 2, 2, 16)))
    assert maps["processed"].shape == (1, 2, 2, 64)
    assert variables["params"]["prototypes"].shape == (4, 64)


@pytest.mark.parametrize("density_inputs", ["positive", "additive"])
def test_heads_of_weights_that_cannot_be_negative_never_subtract_and_learn(density_inputs):
    head = PrototypeHead(4, density_inputs=density_inputs)
    features = jax.random.normal(jax.random.key(1), (1, 3, 4, 8))
    params = head.init(jax.random.key(0), features)["params"]
    params["density"]["kernel"] = jnp.array([-3.0, 2.0]).reshape(1, 1, 2, 1)

    def count(params):
        maps = head.apply({"params": params}, features)
        return maps["density"].sum(), maps["contribution"]

    (_, contribution), gradient = jax.jit(jax.value_and_grad(count, has_aux=True))(params)
    assert float(contribution.min()) >= 0
    assert float(np.abs(gradient["density"]["kernel"]).min()) > 0


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ({"n_prototypes": 5}, (1, 2, 2, 8), "n_prototypes is 5"),
        ({"n_prototypes": 0}, (1, 2, 2, 8), "n_prototypes is 0"),
        ({"density_inputs": "none"}, (1, 2, 2, 8), "'none'"),
        ({}, (1, 2, 2, 2, 8), r"\(1, 2, 2, 2, 8\)"),
    ],
)
def test_head_says_what_is_wrong_in_one_line(options, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        PrototypeHead(**options).init(jax.random.key(0), jnp.zeros(shape))
    assert "\n" not in str(error.value)


def test_the_gradient_of_distances_is_exact_also_of_a_prototype_on_a_feature():
    features = jax.random.uniform(jax.random.key(0), (2, 3, 4, 8))
    prototypes = jnp.concatenate([features[0, 0, :2], jnp.ones((1, 8))])
    pull = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))

    def plain(x, p):
        return jnp.square(x[..., None, :] - p[None, None, None]).sum(-1)

    def slope(distances):
        return jax.grad(lambda x, p: (similarity(distances(x, p)) * pull).sum(), (0, 1))

    found, expected = (
        slope(squared_distances)(features, prototypes),
        slope(plain)(features, prototypes),
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


# --- projection ---


@pytest.mark.parametrize("name", ["main", "ties"])
def test_project_golden(golden, name):
    pairs = case(golden("prototype_projection"), name)
    features = pairs["processed_features"]
    projected, origin = project(pairs["prototypes"], features)
    np.testing.assert_array_equal(projected, pairs["expected_prototypes"])
    for key, expected in [("image", "image"), ("row", "row"), ("column", "col")]:
        np.testing.assert_array_equal(origin[key], pairs[f"expected_{expected}"])
    assert_close(origin["distance"], pairs["expected_distance"], 1e-5)
    # Projected prototypes lie on training features: the distance is 0, the similarity highest.
    nearest = squared_distances(features, projected).min(axis=(0, 1, 2))
    np.testing.assert_array_equal(nearest, 0)


def sixteenths(seed, shape):
    """Random multiples of 1/16: squared distances are exact, so ties are true ties."""
    return np.random.default_rng(seed).integers(0, 4, shape).astype(np.float32) / 16


def slow_project(prototypes, features, unique):
    """The definition, written as loops: pairs in order of distance, prototype, place."""
    pairs = []
    for k, prototype in enumerate(prototypes):
        for place in np.ndindex(features.shape[:3]):
            pairs.append((float(((features[place] - prototype) ** 2).sum()), k, place))
    result, used = {}, set()
    for distance, k, place in sorted(pairs):
        vector = features[place].tobytes()
        taken = {"": False, "vector": vector in used, "image": place[0] in used}
        if k not in result and not taken[unique]:
            result[k] = (distance, *place)
            used |= {vector, place[0]}
    return result


@pytest.mark.parametrize("unique", ["", "vector", "image"])
def test_project_fold_equals_whole_equals_loops(unique):
    # Two channels of four values: 16 vectors for 84 places, so places share vectors.
    # No prototype lies on one of them.
    features, prototypes = sixteenths(0, (7, 3, 4, 2)), sixteenths(1, (6, 2)) + 1 / 64
    prototypes[1] = prototypes[0]
    whole, origin = project(prototypes, features, unique=unique)

    expected = slow_project(prototypes, features, unique)
    names = ("distance", "image", "row", "column")
    for k, place in expected.items():
        assert tuple(float(origin[name][k]) for name in names) == place
        np.testing.assert_array_equal(whole[k], features[place[1:]])
    assert len(expected) == 6
    if unique == "vector":
        assert len(np.unique(whole, axis=0)) == 6
    assert (len(np.unique(origin["image"])) == 6) == (unique == "image")

    # Batches of 2 in disorder, the last filled up with a row that would win if it counted.
    def fold(batches):
        best = project_start(prototypes, unique=unique)
        for ids, mask in batches:
            real = np.array(mask)
            batch = np.where(real[:, None, None, None], features[ids], prototypes[0])
            best = project_update(best, prototypes, batch, np.array(ids), mask=real, unique=unique)
        return best

    folded = fold([([4, 1], [1, 1]), ([6, 5], [1, 1]), ([3, 0], [1, 1]), ([2, 2], [1, 0])])
    first = fold([([2, 3], [1, 1]), ([4, 4], [1, 0])])
    second = fold([([1, 0], [1, 1]), ([5, 6], [1, 1])])
    halves = project_merge(first, second, unique=unique)
    for best in (folded, halves):
        again, again_origin = project_finish(best, prototypes, unique=unique)
        np.testing.assert_array_equal(again, whole)
        for name in names:
            np.testing.assert_array_equal(again_origin[name], origin[name])


def test_project_takes_only_positions_that_are_allowed():
    features, prototypes = sixteenths(5, (3, 3, 4, 2)), sixteenths(6, (4, 2))
    allowed = np.random.default_rng(0).random((3, 3, 4, 4)) < 0.2
    best = project_update(
        project_start(prototypes), prototypes, features, np.arange(3), allowed=allowed
    )
    _, origin = project_finish(best, prototypes)
    for k, prototype in enumerate(prototypes):
        distances = np.square(features - prototype).sum(axis=-1)
        expected = np.where(allowed[..., k], distances, np.inf)
        place = np.unravel_index(expected.argmin(), expected.shape)
        assert tuple(int(origin[n][k]) for n in ("image", "row", "column")) == place


def test_contrasted_similarity_is_zero_where_the_other_group_is_nearer():
    similar = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    got = contrasted(similar, n_cell=2)
    for at in np.ndindex(2, 3, 4):
        own = similar[at]
        expected = [max(0.0, v - own[2:].max()) for v in own[:2]]
        expected += [max(0.0, v - own[:2].max()) for v in own[2:]]
        np.testing.assert_array_equal(got[at], np.array(expected, np.float32))


def test_project_leaves_a_prototype_without_a_place():
    features, prototypes = sixteenths(3, (1, 1, 2, 2)), sixteenths(4, (6, 2))
    projected, origin = project(prototypes, features, unique="vector")
    left = np.asarray(origin["image"]) < 0
    assert left.sum() == 4
    np.testing.assert_array_equal(np.asarray(projected)[left], prototypes[left])
    for name, expected in [("row", -1), ("column", -1), ("distance", np.inf)]:
        np.testing.assert_array_equal(np.asarray(origin[name])[left], expected)


def test_unique_project_with_fewer_vectors_than_prototypes():
    features = np.zeros((5, 3, 4, 2), np.float32)
    features[1:] = 0.5
    prototypes = sixteenths(5, (6, 2))
    _, origin = project(prototypes, features, unique="vector")
    assert sorted(np.asarray(origin["image"])) == [-1, -1, -1, -1, 0, 1]


def test_project_says_what_is_wrong():
    features, prototypes = jnp.zeros((5, 3, 4, 2)), jnp.zeros((6, 2))
    with pytest.raises(ValueError, match=r"\(4,\).*\(5, 3, 4, 2\)"):
        project_update(project_start(prototypes), prototypes, features, jnp.arange(4))
    with pytest.raises(ValueError, match="volume"):
        project(prototypes, jnp.zeros((5, 3, 4, 4, 2)))

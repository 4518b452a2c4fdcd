"""Losses against reference pairs, slow loops and identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cellcount_jax import losses
from tests.golden_pairs import assert_close, case

# Compiled once per shape: eager calls would compile every operation by itself.
count_l1 = jax.jit(losses.count_l1)
density_mse = jax.jit(losses.density_mse)
prototype_to_feature = jax.jit(losses.prototype_to_feature, static_argnames=("n_cell", "reduction"))
prototype_diversity = jax.jit(losses.prototype_diversity, static_argnames=("n_cell",))
focal_weight = jax.jit(losses.focal_weight, static_argnames=("peak_threshold",))
focal_consistency = jax.jit(
    losses.focal_consistency, static_argnames=("normalise", "peak_threshold")
)


# --- count ---


def test_count_l1_golden(golden):
    pairs = golden("count_l1")
    assert_close(count_l1(pairs["z"], np.zeros(4)), pairs["expected_count"], 1e-5)
    per_image = count_l1(pairs["z"], pairs["counts"])
    assert_close(per_image, pairs["expected_loss_per_image"], 1e-5)
    mean, gradient = jax.jit(jax.value_and_grad(lambda z: count_l1(z, pairs["counts"]).mean()))(
        pairs["z"]
    )
    assert_close(mean, pairs["expected_loss_mean"], 1e-5)
    assert_close(gradient, pairs["expected_grad_z_of_mean"], 1e-5)


def test_count_l1_is_blind_to_sign_and_zero_at_the_true_count():
    z = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    count = np.array([3, 0, 100])
    np.testing.assert_array_equal(count_l1(z, count), count_l1(-z, count))
    np.testing.assert_allclose(count_l1(z, np.abs(z).sum((1, 2))), 0, atol=1e-5)


def test_count_l1_sums_bfloat16_in_float32():
    z = jnp.full((2, 64, 63, 1), 0.1, jnp.bfloat16)
    loss = count_l1(z, jnp.array([0, 400]))
    assert loss.dtype == jnp.float32
    exact = 64 * 63 * float(z[0, 0, 0, 0])
    np.testing.assert_allclose(loss, [exact, abs(exact - 400)], rtol=1e-5)


@pytest.mark.parametrize(
    ("z", "count"), [((4, 5, 6), (3,)), ((4, 5, 6, 2), (4,)), ((4, 5), (4,)), ((4, 5, 6), (4, 1))]
)
def test_count_l1_wrong_shape_names_both(z, count):
    with pytest.raises(ValueError, match="count_l1") as error:
        count_l1(jnp.zeros(z), jnp.zeros(count))
    assert str(z) in str(error.value)
    assert str(count) in str(error.value)


# --- density ---


@pytest.mark.parametrize("scale", [1, 100])
def test_density_mse_golden(golden, scale):
    pairs = case(golden("prototype_losses"), "density")
    loss = density_mse(pairs["prediction"], pairs["target"], scale=scale)
    assert_close(loss, pairs[f"expected_scale{scale}"], 1e-5, relative=True)


def test_density_mse_weighs_positions():
    rng = np.random.default_rng(0)
    predicted, target = rng.random((2, 3, 5, 4)).astype(np.float32)
    weight = rng.integers(1, 5, (3, 5, 4)).astype(np.float32)
    found = density_mse(predicted, target, weight=weight)
    np.testing.assert_allclose(found, (weight * (predicted - target) ** 2).mean(), rtol=1e-6)
    plain = density_mse(predicted, target)
    np.testing.assert_allclose(density_mse(predicted, target, weight=np.ones_like(weight)), plain)
    with pytest.raises(ValueError, match=r"weight \(3, 5\) and target \(3, 5, 4\)"):
        density_mse(predicted, target, weight=weight[..., 0])


def test_density_mse_masks_padding_and_refuses_a_stray_axis():
    predicted = jnp.arange(24.0).reshape(3, 2, 4)
    target = jnp.zeros((3, 2, 4))
    masked = density_mse(predicted, target, scale=2.0, mask=jnp.array([1, 1, 0]))
    np.testing.assert_allclose(masked, density_mse(predicted[:2], target[:2], scale=2.0))
    with pytest.raises(ValueError, match=r"\(3, 2, 4\).*\(3, 2, 4, 1\)"):
        density_mse(predicted, target[..., None], scale=1.0)
    with pytest.raises(ValueError, match=r"\(2,\).*batch of 3"):
        density_mse(predicted, target, scale=1.0, mask=jnp.ones(2))


# --- prototypes ---


@pytest.mark.parametrize("name", ["p2f", "p2f_unequal"])
def test_prototype_to_feature_golden(golden, name):
    pairs = case(golden("prototype_losses"), name)
    distances, density, n_cell = pairs["distances"], pairs["target"][..., 0], int(pairs["n_cell"])
    for reduction in ("sum", "mean"):
        cell, background = prototype_to_feature(
            distances, density, n_cell=n_cell, reduction=reduction
        )
        assert_close(cell, pairs[f"expected_cell_{reduction}"], 1e-5, relative=True)
        assert_close(background, pairs[f"expected_background_{reduction}"], 1e-5, relative=True)
    gradient = jax.jit(jax.grad(lambda d: sum(prototype_to_feature(d, density, n_cell=n_cell))))(
        distances
    )
    assert_close(gradient, pairs["expected_grad_distances_sum"], 1e-5, relative=True)
    # The gradient touches exactly the places of the reference.
    places = np.asarray(gradient).reshape(len(density), -1, distances.shape[-1])
    np.testing.assert_array_equal(places[..., 0].argmax(1), pairs["expected_cell_index"])
    np.testing.assert_array_equal(places[..., -1].argmax(1), pairs["expected_background_index"])


def test_prototype_to_feature_leaves_padding_out():
    random = np.random.default_rng(1)
    distances, density = random.random((3, 4, 5, 4)), random.random((3, 4, 5))
    real = prototype_to_feature(distances[:2], density[:2], n_cell=2)
    padded = prototype_to_feature(distances, density, n_cell=2, mask=jnp.array([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(padded, real, rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"density": np.zeros((2, 3, 5))}, r"\(2, 3, 4, 6\).*\(2, 3, 5\)"),
        ({"distances": np.zeros((2, 3, 4, 4, 6))}, r"\(2, 3, 4, 4, 6\)"),
        ({"n_cell": 6}, "n_cell is 6"),
        ({"n_cell": 0}, "n_cell is 0"),
        ({"reduction": "max"}, "'max'"),
    ],
)
def test_prototype_to_feature_says_what_is_wrong(change, message):
    arguments = {"distances": np.zeros((2, 3, 4, 6)), "density": np.zeros((2, 3, 4)), "n_cell": 3}
    with pytest.raises(ValueError, match=message):
        prototype_to_feature(**{**arguments, **change})


@pytest.mark.parametrize("name", ["diversity", "diversity_unequal"])
@pytest.mark.parametrize(("tau", "label"), [(0.8, "tau08"), (0.0, "tau00")])
def test_prototype_diversity_golden(golden, name, tau, label):
    pairs = case(golden("prototype_losses"), name)
    n_cell = int(pairs["n_cell"])
    value, gradient = jax.jit(
        jax.value_and_grad(lambda p: prototype_diversity(p, n_cell=n_cell, tau=tau))
    )(pairs["prototypes"])
    assert_close(value, pairs[f"expected_{label}"], 1e-5, relative=True)
    assert_close(gradient, pairs[f"expected_grad_{label}"], 1e-5, relative=True)


def test_prototype_diversity_of_single_prototypes_is_zero(golden):
    prototypes = case(golden("prototype_losses"), "diversity_k2")["prototypes"]
    for tau in (0.8, 0.0):
        assert prototype_diversity(prototypes, n_cell=1, tau=tau) == 0


def test_prototype_diversity_identities():
    orthogonal = jnp.eye(6)
    assert prototype_diversity(orthogonal, n_cell=3, tau=0.0) == 0
    twins = orthogonal.at[1].set(7 * orthogonal[0])
    value = prototype_diversity(twins, n_cell=3, tau=0.8)
    np.testing.assert_allclose(value, 2 / (3 * 2) * (1 - 0.8) / 2, rtol=1e-5)
    # A cell and a background prototype may be alike.
    across = orthogonal.at[3].set(orthogonal[0])
    assert prototype_diversity(across, n_cell=3, tau=0.0) == 0
    gradient = jax.jit(jax.grad(lambda p: prototype_diversity(p, n_cell=2, tau=0.0)))(
        jnp.zeros((4, 3))
    )
    np.testing.assert_array_equal(gradient, 0)


def test_prototype_diversity_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\)"):
        prototype_diversity(jnp.zeros((2, 3, 4)), n_cell=1, tau=0.8)
    with pytest.raises(ValueError, match=r"n_cell is 5.*\(4, 3\)"):
        prototype_diversity(jnp.zeros((4, 3)), n_cell=5, tau=0.8)


# --- consistency ---

FOCAL_CASES = ["plateau2d", "lone2d", "random2d", "plateau3d", "lone3d"]


@pytest.mark.parametrize("name", FOCAL_CASES)
def test_focal_consistency_golden(golden, name):
    pairs = case(golden("focal_consistency"), name)
    student, teacher = pairs["student"][..., 0], pairs["teacher"][..., 0]

    @jax.jit
    def everything(student, teacher):
        nonzero, gradient = jax.value_and_grad(focal_consistency)(student, teacher)
        pixels = focal_consistency(student, teacher, normalise="pixels")
        return focal_weight(teacher), nonzero, pixels, gradient

    alpha, nonzero, pixels, gradient = everything(student, teacher)
    assert_close(alpha, pairs["expected_alpha"][..., 0], 1e-6)
    assert int((alpha > 0).sum()) == int(pairs["expected_nonzero_count"])
    assert_close(nonzero, pairs["expected_loss_nonzero"], 1e-5, relative=True)
    assert_close(pixels, pairs["expected_loss_pixels"], 1e-5, relative=True)
    expected = pairs["expected_grad_student_nonzero"][..., 0]
    assert_close(gradient, expected, 1e-5, relative=True)


@pytest.mark.parametrize(("ndim", "highest"), [(2, 0.1621), (3, 0.0653)])
def test_focal_weight_of_a_lone_peak_sums_to_one(ndim, highest):
    # A slope keeps the rest of the map from being a plateau.
    ramp = sum(np.meshgrid(*[np.arange(11.0)] * ndim, indexing="ij")) / 100
    teacher = ramp.copy()
    teacher[(5,) * ndim] = 10
    alpha = focal_weight(jnp.asarray(teacher)[None], peak_threshold=0.5)
    np.testing.assert_allclose(alpha.sum(), 1, rtol=1e-6)
    np.testing.assert_allclose(alpha.max(), highest, atol=5e-5)
    assert float(alpha[(0, *(5,) * ndim)]) == float(alpha.max())


def test_focal_weight_of_an_empty_map():
    teacher = jnp.zeros((1, 9, 10))
    np.testing.assert_allclose(focal_weight(teacher)[0, 2:-2, 2:-2], 1, rtol=1e-6)
    np.testing.assert_array_equal(focal_weight(teacher, peak_threshold=0.1), 0)
    student = jnp.ones_like(teacher)
    assert focal_consistency(student, teacher, peak_threshold=0.1) == 0


def test_focal_weight_does_not_depend_on_the_level_of_the_map():
    teacher = np.random.default_rng(5).integers(0, 9, (1, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(focal_weight(teacher), focal_weight(teacher - 100))


def test_focal_weight_threshold_is_a_share_of_each_image():
    teacher = np.zeros((2, 9, 20), np.float32)
    teacher[:, 4, 4], teacher[:, 4, 15] = 1.0, 0.3
    teacher[1] *= 100
    both = focal_weight(teacher, peak_threshold=0.2).sum(axis=(1, 2))
    one = focal_weight(teacher, peak_threshold=0.4).sum(axis=(1, 2))
    np.testing.assert_allclose(both, 2, rtol=1e-6)
    np.testing.assert_allclose(one, 1, rtol=1e-6)


def test_focal_consistency_gives_the_teacher_no_gradient():
    random = np.random.default_rng(2)
    student, teacher = random.random((2, 1, 6, 7)).astype(np.float32)
    gradient = jax.jit(jax.grad(focal_consistency, argnums=1))(student, teacher)
    np.testing.assert_array_equal(gradient, 0)


def test_focal_consistency_leaves_padding_out():
    random = np.random.default_rng(3)
    student, teacher = random.random((2, 3, 6, 7)).astype(np.float32)
    mask = jnp.array([1, 1, 0])
    for normalise in ("nonzero", "pixels", "weight"):
        real = focal_consistency(student[:2], teacher[:2], normalise=normalise)
        padded = focal_consistency(student, teacher, normalise=normalise, mask=mask)
        np.testing.assert_allclose(padded, real, rtol=1e-6)


def test_focal_consistency_by_weight_is_a_weighted_mean():
    """A difference that is the same everywhere comes out as its square, whatever the peaks."""
    teacher = np.random.default_rng(6).random((2, 9, 10)).astype(np.float32)
    for threshold in (None, 0.9):
        found = focal_consistency(
            teacher + 0.5, teacher, normalise="weight", peak_threshold=threshold
        )
        np.testing.assert_allclose(found, 0.25, rtol=1e-5)


def test_focal_consistency_says_what_is_wrong():
    maps = jnp.zeros((2, 5, 6))
    with pytest.raises(ValueError, match=r"\(2, 5, 6\).*\(2, 5, 7\)"):
        focal_consistency(maps, jnp.zeros((2, 5, 7)))
    with pytest.raises(ValueError, match="'mean'"):
        focal_consistency(maps, maps, normalise="mean")
    with pytest.raises(ValueError, match=r"\(2, 5, 6, 1\).*channels"):
        focal_weight(maps[..., None])


@pytest.mark.parametrize("prefix", ["", "alt__"])
def test_consistency_ramp_golden(golden, prefix):
    pairs = golden("consistency_ramp")
    steps, ramp_steps = pairs[prefix + "steps"], int(pairs[prefix + "ramp_steps"])
    weight = losses.consistency_ramp(steps, ramp_steps=ramp_steps)
    assert_close(weight, pairs[prefix + "expected_weight"], 1e-6)
    squared = losses.consistency_ramp(steps, ramp_steps=ramp_steps, shape="squared")
    assert_close(squared, pairs[prefix + "expected_weight_squared"], 1e-6)


def test_consistency_ramp_ends_at_one_and_takes_a_traced_step():
    ramp = jax.jit(lambda step: losses.consistency_ramp(step, ramp_steps=150))
    np.testing.assert_allclose([ramp(0), ramp(75)], [0.006738, 0.082085], rtol=1e-4)
    assert ramp(150) == ramp(10_000) == 1
    with pytest.raises(ValueError, match="ramp_steps is 0"):
        losses.consistency_ramp(0, ramp_steps=0)
    with pytest.raises(ValueError, match="'linear'"):
        losses.consistency_ramp(0, ramp_steps=10, shape="linear")


# --- all ---


def test_jit_changes_nothing():
    random = np.random.default_rng(4)
    maps = random.random((2, 2, 6, 7)).astype(np.float32)
    distances = random.random((2, 6, 7, 4)).astype(np.float32)
    prototypes = random.random((4, 5)).astype(np.float32)
    pairs = [
        (losses.count_l1, count_l1, (maps[0], np.ones(2)), {}),
        (losses.density_mse, density_mse, tuple(maps), {"scale": 100.0}),
        (losses.prototype_to_feature, prototype_to_feature, (distances, maps[0]), {"n_cell": 2}),
        (losses.prototype_diversity, prototype_diversity, (prototypes,), {"n_cell": 2, "tau": 0.1}),
        (losses.focal_consistency, focal_consistency, tuple(maps), {}),
    ]
    for plain, compiled, arrays, options in pairs:
        np.testing.assert_allclose(
            plain(*arrays, **options), compiled(*arrays, **options), rtol=1e-5, err_msg=str(plain)
        )


def _loop_over_peaks(distances, density, n_cell):
    """Least sum over all ways to give each cell prototype one of the highest separate peaks."""
    total = 0.0
    for cost, target in zip(distances, density, strict=True):
        padded = np.pad(target, 1, constant_values=-np.inf)
        peaks = [
            (-target[y, x], y, x)
            for y, x in np.ndindex(target.shape)
            if target[y, x] == padded[y : y + 3, x : x + 3].max()
        ]
        chosen = [(y, x) for _, y, x in sorted(peaks)[:n_cell]]
        total += min(
            sum(cost[place][k] for place, k in zip(chosen, order, strict=True))
            for order in itertools.permutations(range(n_cell))
        )
    return total / len(distances)


def test_each_cell_prototype_is_sent_to_a_peak_of_its_own():
    random = np.random.default_rng(0)
    distances = random.random((3, 9, 10, 5)).astype(np.float32)
    density = random.random((3, 9, 10)).astype(np.float32)
    cell, background = losses.prototype_to_peaks(
        distances, density, n_cell=3, key=jax.random.key(0)
    )
    assert float(cell) == pytest.approx(_loop_over_peaks(distances, density, 3), rel=1e-5)
    assert background > 0
    one, _ = losses.prototype_to_peaks(distances, density, n_cell=1, key=jax.random.key(0))
    usual, _ = prototype_to_feature(distances, density, n_cell=1)
    assert float(one) == pytest.approx(float(usual), rel=1e-6)


def test_background_prototypes_are_sent_to_different_empty_places():
    density = np.random.default_rng(0).random((2, 10, 10)).astype(np.float32)

    def background(distances, seed):
        return losses.prototype_to_peaks(distances, density, n_cell=1, key=jax.random.key(seed))[1]

    distances = jnp.ones((2, 10, 10, 4))
    found = [np.asarray(jax.grad(background)(distances, seed)) for seed in (0, 1)]
    for gradient in found:
        places = gradient > 0
        assert not places[..., 0].any()
        assert (places.sum(axis=(1, 2))[:, 1:] == 1).all()  # a place for each
        assert (places.sum(axis=3) <= 1).all()  # and none shared
        assert density[places.any(axis=3)].max() <= np.quantile(density, 0.2)
    assert (found[0] != found[1]).any()


def test_prototypes_nearer_than_the_margin_are_parted_even_where_they_coincide():
    apart = jnp.eye(4, 6) * 10
    assert losses.prototype_separation(apart, n_cell=2, margin=2.0) == 0
    near = jnp.zeros((4, 6)).at[1, 5].set(0.5).at[3, 4].set(9.0)
    value = losses.prototype_separation(near, n_cell=2, margin=4.0)
    assert float(value) == pytest.approx((1 - 0.5 / 2) / 2, rel=1e-4)
    gradient = jax.grad(lambda p: losses.prototype_separation(p, n_cell=2, margin=4.0))
    for distance in (0.0, 1e-4, 0.1):
        prototypes = jnp.full((4, 6), 0.5).at[1, 5].add(distance)
        found = np.asarray(gradient(prototypes))
        assert np.linalg.norm(found[0]) == pytest.approx(1 / 4, rel=1e-3)
        np.testing.assert_allclose(found[0], -found[1], atol=1e-6)
    assert losses.prototype_separation(near, n_cell=1, margin=1e-6) == 0

"""The mutations of `mutations`: a line of maths, a wrong one in its place, tests that must notice.

Each breaks one thing that no exception would show: a sign, a factor, a border, an order, a norm.
"""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One wrong line.

    Attributes:
      name: Name for `--only`.
      file: Path in the repository.
      old: Text that occurs in the file exactly once.
      new: Text in its place.
      tests: Paths or node ids for pytest.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _mutations(file: str, *tests: str, **changes: tuple[str, str]) -> list[Mutation]:
    """Mutations of one file with the same tests; keywords are names, `_` for `-`."""
    return [
        Mutation(name.replace("_", "-"), f"cellcount_jax/{file}", old, new, tests)
        for name, (old, new) in changes.items()
    ]


LOSSES = [
    *_mutations(
        "losses/count.py",
        "tests/losses",
        count_l1_signed=("jnp.abs(z.astype(jnp.float32)).sum", "z.astype(jnp.float32).sum"),
    ),
    *_mutations(
        "losses/density.py",
        "tests/losses",
        density_scale=("- scale * target.astype", "- target.astype"),
    ),
    *_mutations(
        "losses/masked.py",
        "tests/losses",
        mean_counts_padding=("jnp.maximum(mask.sum(), 1.0)", "float(per_image.shape[0])"),
    ),
    *_mutations(
        "losses/prototypes.py",
        "tests/losses",
        background_at_densest=("density.argmin(axis=1)", "density.argmax(axis=1)"),
        diversity_with_itself=(" * (1.0 - jnp.eye(size))", ""),
        diversity_number_of_pairs=("(size * (size - 1))", "(size * size)"),
    ),
    *_mutations(
        "losses/consistency.py",
        "tests/losses",
        focal_sigma=("sigma=1.0, radius=2", "sigma=2.0, radius=2"),
        focal_border=('border="zeros"', 'border="edge"'),
        focal_divisor=(
            '"nonzero": (alpha > 0).astype(jnp.float32)',
            '"nonzero": jnp.ones_like(alpha)',
        ),
        teacher_has_gradient=(
            "teacher = jax.lax.stop_gradient(teacher.astype(jnp.float32))",
            "teacher = teacher.astype(jnp.float32)",
        ),
        ramp_rate=("jnp.exp(-5.0 * left)", "jnp.exp(-4.0 * left)"),
    ),
]

TARGETS = [
    *_mutations(
        "data/targets.py",
        "tests/data/test_targets.py",
        inverse_distance_slope=("power = 0.02 * part + 0.75", "power = 0.03 * part + 0.75"),
        density_loses_mass_at_border=(
            "return first, kernel / kernel.sum(axis=1, keepdims=True)",
            "return first, kernel / np.sqrt(np.pi * spread)",
        ),
        adaptive_sigma_of_nearest=("beta * distances.mean(axis=1)", "beta * distances.min(axis=1)"),
        pool_means=("return pooled.sum(axis=tuple(", "return pooled.mean(axis=tuple("),
    ),
    *_mutations(
        "data/distance_transform.py",
        "tests/data/test_targets.py",
        anisotropy_inverse=("return sizes / sizes[-1]", "return sizes[-1] / sizes"),
    ),
    *_mutations(
        "data/infer_settings.py",
        "tests/data/test_infer_settings.py",
        radius_third_of_spacing=(
            "np.clip(spacing / 2, 2.0, 15.0)",
            "np.clip(spacing / 3, 2.0, 15.0)",
        ),
        sigma_sixth_of_spacing=("np.clip(spacing / 8, 1.0, 4.0)", "np.clip(spacing / 6, 1.0, 4.0)"),
    ),
    *_mutations(
        "data/augment.py",
        "tests/data/test_augment.py",
        contrast_only_up=("minval=1 - contrast", "minval=1.0"),
        offset_only_up=("minval=-offset", "minval=0.0"),
    ),
    *_mutations(
        "data/cell_diameter.py",
        "tests/data/test_cell_diameter.py",
        diameter_of_square=("2 * np.sqrt(areas / np.pi)", "np.sqrt(areas)"),
    ),
    *_mutations(
        "data/resampling.py",
        "tests/data/test_resampling.py",
        pixel_size_inverse=("[float(s) / t for s, t in", "[t / float(s) for s, t in"),
    ),
]

EVALUATION = [
    *_mutations(
        "evaluation/metrics.py",
        "tests/evaluation/test_metrics.py",
        bias_sign=("counted - real, real > 0", "real - counted, real > 0"),
        limits_of_agreement=("spread = 1.96 *", "spread = 1.0 *"),
        limits_population_sd=("difference.std(ddof=1)", "difference.std()"),
        mape_of_mean=("/ real[filled]", "/ real[filled].mean()"),
        game_cancels=("float(np.abs(errors).sum())", "float(np.abs(errors.sum()))"),
        f1_jaccard=("2 * tp / (2 * tp + fp + fn)", "tp / (tp + fp + fn)"),
    ),
    *_mutations(
        "evaluation/matching.py",
        "tests/evaluation/test_matching.py",
        radius_exclusive=("inside = distances <= radius", "inside = distances < radius"),
        fewer_pairs=("dear = raised + (min(n, m) + 1) * longest", "dear = raised"),
        matching_in_voxels=("found * weights, dots * weights", "found, dots"),
        several_points_in_a_mask=("int((cells > 1).sum()) + empty", "empty"),
    ),
    *_mutations(
        "reporting/figures.py",
        "tests/reporting/test_figures.py",
        drawn_limits=(
            'low, high = errors["limits_of_agreement"] or (bias, bias)',
            'low, high = bias + (np.array(errors["limits_of_agreement"]) - bias) / 1.96',
        ),
    ),
]

INFERENCE = [
    *_mutations(
        "inference/detect.py",
        "tests/inference/test_detect.py",
        plateaus_lost=("flat[at] >= flat[at + step]", "flat[at] > flat[at + step]"),
        threshold_absolute=(
            "find_peaks(values, threshold * top)",
            "find_peaks(values, threshold)",
        ),
    ),
    *_mutations(
        "inference/tiling.py",
        "tests/inference/test_tiling.py",
        border_without_halo=("middle = (left + window + right) // 2", "middle = left + window"),
    ),
    *_mutations(
        "inference/readout.py",
        "tests/inference/test_readout.py",
        points_half_a_pixel_off=(
            "((points + 0.5) / np.asarray(scale) - 0.5)",
            "(points / np.asarray(scale))",
        ),
    ),
]

MODELS = [
    *_mutations(
        "models/message_passing.py",
        "tests/models/test_message_passing.py",
        axes_swapped=(
            '[self._embed(x, rows, "v"), self._embed(x, columns, "u")]',
            '[self._embed(x, columns, "u"), self._embed(x, rows, "v")]',
        ),
        sum_of_samples=("(total / positions.shape[3])", "total"),
    ),
    *_mutations(
        "models/bilinear.py",
        "tests/models/test_message_passing.py",
        fractions_swapped=(
            "((y, 1.0 - y_fraction), (y + 1, y_fraction))",
            "((y, y_fraction), (y + 1, 1.0 - y_fraction))",
        ),
        gradient_at_the_limit=(
            "jnp.where((coordinate > low) & (coordinate < high), coordinate, limited)",
            "jnp.clip(coordinate, low, high)",
        ),
    ),
    *_mutations(
        "models/prototypes/distances.py",
        "tests/models/prototypes",
        similarity_offset=(
            "(1.0 - epsilon) / (distances + epsilon)",
            "1.0 / (distances + epsilon)",
        ),
        prototype_gradient_halved=(
            "return 2.0 * to_features, 2.0 * to_prototypes",
            "return 2.0 * to_features, to_prototypes",
        ),
    ),
    *_mutations(
        "models/prototypes/head.py",
        "tests/models/prototypes",
        background_prototypes_count=("similar[..., :n_inputs]", "similar[..., -n_inputs:]"),
        weights_may_be_negative=("nn.softplus(self.param(", "(self.param("),
    ),
    *_mutations(
        "models/attention.py",
        "tests/models/test_attention.py",
        scores_scaled=(
            "jax.nn.softmax(scores, axis=-1)",
            "jax.nn.softmax(scores / query.shape[-1] ** 0.5, axis=-1)",
        ),
        dropout_not_scaled=("weights / (1 - dropout)", "weights"),
    ),
    *_mutations(
        "models/sau_net.py",
        "tests/models/test_sau_net.py",
        skip_after_upsampled=(
            "[features[level], up(x, train=train, mask=mask)]",
            "[up(x, train=train, mask=mask), features[level]]",
        ),
        noise_added=("x * (1 + amplitude * noise)", "(x + amplitude * noise)"),
    ),
    *_mutations(
        "models/layers.py",
        "tests/models/test_layers.py",
        upsampling_half_a_pixel_off=("(phase + 0.5) / factor - 0.5", "phase / factor"),
        pool_gradient_to_both=("jnp.where(chosen, none, gradient)", "gradient"),
    ),
    *_mutations(
        "models/unet.py",
        "tests/models/test_unet.py",
        halo=("reach = 2 * reach + 1 + 2", "reach = 2 * reach + 2"),
    ),
]

TRAINING = [
    *_mutations(
        "training/optimizer.py",
        "tests/training/test_optimizer.py",
        cycles_grow_by_addition=("lengths[-1] * multiplier", "lengths[-1] + multiplier"),
        decay_of_adam_doubled=(
            "optax.add_decayed_weights(weight_decay)",
            "optax.add_decayed_weights(2 * weight_decay)",
        ),
    ),
    *_mutations(
        "training/step.py",
        "tests/training/test_step.py::test_moving_average_of_the_weights_predicts",
        ema=("rate * old + (1.0 - rate) * new", "rate * new + (1.0 - rate) * old"),
    ),
    *_mutations(
        "training/step.py",
        "tests/training/test_step.py::test_microbatches_give_the_step_of_the_whole_batch",
        padding_weighs_in_microbatches=(
            "weights /= jnp.maximum(weights.sum(), 1.0)",
            "weights = jnp.full_like(weights, 1 / n)",
        ),
    ),
    *_mutations(
        "training/model_selection.py",
        "tests/training/test_model_selection.py",
        calibration_inverse=(
            "readout.count_scale * total / true",
            "readout.count_scale * true / total",
        ),
    ),
]

METHODS = [
    *_mutations(
        "methods/dcl.py",
        "tests/methods/test_dcl.py",
        coarse_map_times_stride=("[..., None], STRIDE) / STRIDE**2", "[..., None], STRIDE)"),
    ),
    *_mutations(
        "methods/postprocess.py",
        "tests/methods/test_postprocess.py",
        views_not_turned_back=(
            "changed(output, view, order[::-1])",
            "changed(output, view, order)",
        ),
        ripples_as_high_as_peaks=(
            "jnp.maximum(map - blurred, 0.0) * map",
            "jnp.maximum(map - blurred, 0.0)",
        ),
    ),
]

MUTATIONS = (*LOSSES, *TARGETS, *EVALUATION, *INFERENCE, *MODELS, *TRAINING, *METHODS)

"""A counter with four hand-made prototypes of intensity: bright places are cells."""

import functools

import jax.numpy as jnp
import numpy as np

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.sample import Sample
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Readout, Stage, Variables
from cellcount_jax.methods.countxplain import method as countxplain
from cellcount_jax.models.prototypes import similarity, squared_distances

STRIDE = 8
VECTORS = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.0, 1.0]], np.float32)
WEIGHTS, BIAS = np.array([0.2, -0.05]), -0.02


def predict(variables, images):
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // STRIDE, STRIDE, width // STRIDE, STRIDE, channels)
    bright = blocks.mean(axis=(2, 4, 5))
    features = jnp.stack([bright, 1 - bright], axis=-1)
    similar = similarity(squared_distances(features, jnp.asarray(variables.trained["prototypes"])))
    density = variables.trained["density"]
    contribution = similar[..., :2] * jnp.asarray(density["kernel"]).reshape(1, 1, 1, 2)
    return {
        "similarity": similar,
        "contribution": contribution,
        "density": contribution.sum(axis=-1) + density["bias"][0],
        "extractor_density": bright,
    }


def counter(n_prototypes: int = 4) -> Counter:
    rng = np.random.default_rng(0)
    intensity = rng.random((60, 1)).astype(np.float32)
    extras = {
        "image": np.array([3, 0, 1, -1]),
        "row": np.array([0, 1, 2, -1]),
        "column": np.array([4, 3, 2, -1]),
        "distance": np.array([0.01, 0.02, 0.03, np.inf], np.float32),
        "unprojected": VECTORS + np.float32(0.05),
        "unprojected_density_kernel": 2 * WEIGHTS.reshape(1, 1, 2, 1),
        "unprojected_density_bias": np.array([BIAS]),
        "top_image": np.tile([0, 2, 1], (4, 1)),
        "top_similarity": np.tile(np.float32([9.2, 5.0, 3.0]), (4, 1)),
        "top_patch": rng.random((4, 3, 8, 8, 3)).astype(np.float32),
        "top_corner": np.zeros((4, 3, 2), np.int32),
        "sample": np.concatenate([intensity, 1 - intensity], axis=1),
        "sample_density": intensity[:, 0],
    }
    density = {"kernel": WEIGHTS.reshape(1, 1, 2, 1), "bias": np.array([BIAS])}
    options = {"n_prototypes": n_prototypes, "density_inputs": "cell_half"}
    stage = Stage(
        name="prototypes",
        init=None,
        loss=None,
        predict=predict,
        readout=Readout(count_map="density"),
        stride=STRIDE,
        window=64,
        explain=functools.partial(countxplain.explain, options=options, stride=STRIDE),
    )
    return Counter(
        stage=stage,
        variables=Variables({"prototypes": VECTORS, "density": density}, {}, {}, extras),
        preprocessing=Preprocessing(channels=3),
        batch_size=2,
        facts={"method": "countxplain", "config": {"prototypes": options}},
    )


def sample(seed: int = 0, *, shape: tuple[int, int] = (88, 120), cells: int = 12) -> Sample:
    """Dark background with bright squares of one map position, a dot in the middle of each."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 20, (*shape, 3)).astype(np.uint8)
    rows, columns = shape[0] // STRIDE, shape[1] // STRIDE
    flat = rng.choice(rows * columns, cells, replace=False)
    corners = np.stack(np.divmod(flat, columns), axis=-1) * STRIDE
    for y, x in corners:
        image[y : y + STRIDE, x : x + STRIDE] = rng.integers(200, 240)
    return Sample(f"made {seed}", image, (corners + 3.4).astype(np.float32))

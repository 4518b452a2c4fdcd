"""How often an image like those a model was trained on is refused or remarked on, and one unlike.

    python -m benchmarks.exactness.unlike_training [--record]

Of each of seven public sets 20 images are described as training images are, and 20 others are
compared with them as `predict` does, by percentiles (the command `cellcount train`) and by the
range of their type (configs): first as they are, where a refusal or a remark is a false alarm, then
changed, where none is a miss.
"""

import argparse
import collections
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.accuracy.misplaced_dots import SETS
from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.data import trained_on
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.resize import resize_array
from cellcount_jax.data.sample import Sample
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.prediction.remarks import remarks_of

N_TRAINED = N_NEW = 20
REDUCED = 0.4
Normalise = Literal["percentile", "dtype"]
NORMALISATIONS: tuple[Normalise, ...] = ("percentile", "dtype")

Change = Callable[[np.ndarray], np.ndarray]


def _in_16_bits(share: float) -> Change:
    """8 bits as a camera of 16 bits takes them, at a share of the brightness."""
    return lambda image: (image.astype(np.float32) * (257 * share)).astype(np.uint16)


def _reduced(image: np.ndarray) -> np.ndarray:
    sides = [round(REDUCED * side) for side in image.shape[:2]]
    return np.rint(resize_array(image, sides)).astype(image.dtype)


def _other_colour(image: np.ndarray) -> np.ndarray:
    """Grey of a colour image, colours of a grey one: the same stain saved as blue and green."""
    grey = image.mean(axis=-1, keepdims=True).astype(image.dtype)
    is_grey = image.shape[-1] == 1 or not np.ptp(image, axis=-1).any()
    return np.concatenate([0 * grey, grey // 2, grey], axis=-1) if is_grey else grey


CHANGES: Mapping[str, Change] = {
    "unchanged": lambda image: image,
    "of 16 bits, a third as bright": _in_16_bits(1 / 3),
    "in other colours": _other_colour,
    "as a volume": lambda image: np.stack([image] * 5),
    f"reduced to {REDUCED}": _reduced,
}


def outcome(image: np.ndarray, facts: Mapping[str, Any], normalise: Normalise) -> tuple[str, str]:
    """refused, remark or nothing; and the words."""
    preprocessing = Preprocessing(channels=facts["channels"], normalise=normalise)
    with remarks_of(Path("image"), None) as remarks:
        try:
            trained_on.fit(image, facts, preprocessing)
        except ValueError as error:
            return "refused", str(error)
        Resampling().compare(image, facts, 1.0)
    return ("remark", "; ".join(remarks)) if remarks else ("nothing", "")


def compare(trained: Sequence[np.ndarray], new: Sequence[np.ndarray]) -> dict[str, Any]:
    """Number of images of each outcome, by change and normalisation; and words of false alarms."""
    facts = trained_on.describe([Sample(str(i), image, None) for i, image in enumerate(trained)])
    found: dict[str, Any] = {"images": len(new), "false alarms": []}
    for change, changed in CHANGES.items():
        for normalise in NORMALISATIONS:
            outcomes = [outcome(changed(image), facts, normalise) for image in new]
            counted = collections.Counter(kind for kind, _ in outcomes)
            found[f"{change}, {normalise}"] = dict(counted)
            if change == "unchanged":
                found["false alarms"] += [words for kind, words in outcomes if kind != "nothing"]
    return found


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Refused and remarked images of all sets together."""
    total = sum(found["images"] for found in figures.values())
    rows = []
    for change in CHANGES:
        for normalise in NORMALISATIONS:
            key = f"{change}, {normalise}"
            sums = [sum(f[key].get(k, 0) for f in figures.values()) for k in ("refused", "remark")]
            rows.append([change, normalise, *map(str, sums), str(total)])
    return markdown(["image", "normalised by", "refused", "with a remark", "of"], rows)


def main() -> None:
    """Prints a table over all sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the choice of images")
    add_arguments(parser)
    options = parser.parse_args()
    root, figures = Path(os.environ["CELLCOUNT_RAW_DIR"]), {}
    for name in SETS:
        images = [np.asarray(sample.image) for sample in BENCHMARKS[name].read(root / name)]
        order = np.random.default_rng(options.seed).permutation(len(images))
        chosen = [images[i] for i in order[: N_TRAINED + N_NEW]]
        figures[name] = compare(chosen[:N_TRAINED], chosen[N_TRAINED:])
        print(name, figures[name], flush=True)
    finish(options, "unlike_training", {"seed": options.seed, "sets": figures}, table(figures))


if __name__ == "__main__":
    main()

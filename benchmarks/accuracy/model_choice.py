"""Which bundled model each image of the public datasets would be counted with.

    python -m benchmarks.accuracy.model_choice --record

Every image is looked at alone, as `cellcount predict` looks at images where no model is named; of
volumes the middle plane. The limits were set while looking at these images: no independent test.
"""

import argparse
import collections
import os
from pathlib import Path

from benchmarks.output import add_arguments, finish, markdown
from cellcount_jax.datasets.registry import BENCHMARKS
from cellcount_jax.prediction.choose_model import kind_of_pixels

SETS = (
    *("dsb2018", "vgg_cells", "dsb2018_stained", "usiigaci", "chula_rbc12", "bbbc050", "mbm"),
    "adi",
)


def main() -> None:
    """Counts the kinds of each set, as published and, of colour images, averaged to grey."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    options = parser.parse_args()
    figures: dict[str, dict[str, int]] = {}
    for name in SETS:
        kinds: collections.Counter[str] = collections.Counter()
        greys: collections.Counter[str] = collections.Counter()
        for sample in BENCHMARKS[name].read(Path(os.environ["CELLCOUNT_RAW_DIR"]) / name):
            image = sample.image if sample.image.ndim == 3 else sample.image[len(sample.image) // 2]
            kinds[kind_of_pixels(image) or "nothing"] += 1
            if image.shape[-1] == 3:
                greys[kind_of_pixels(image.mean(axis=-1, keepdims=True)) or "nothing"] += 1
        figures[name] = dict(kinds)
        if greys:
            figures[f"{name}, grey"] = dict(greys)
    rows = [[name, ", ".join(f"{k}: {n}" for k, n in f.items())] for name, f in figures.items()]
    finish(options, "model_choice", figures, markdown(["images", "kinds"], rows))


if __name__ == "__main__":
    main()

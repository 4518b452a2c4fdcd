"""A trained counter: images of any size in, counts and points out."""

import dataclasses
import functools
import importlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax.data.cell_diameter import scale_to
from cellcount_jax.data.patches import network_scale, resize_image
from cellcount_jax.data.pixel_size import Scale, scale_between
from cellcount_jax.data.preprocess import Preprocessing, preprocess
from cellcount_jax.inference import bundled, out_of_core
from cellcount_jax.inference.batched_predict import Network
from cellcount_jax.inference.in_memory import predict_all
from cellcount_jax.inference.readout import Count, nothing, read_out
from cellcount_jax.io.images.image import LazyImage
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Readout, Stage, Variables

__all__ = ["Count", "Counter", "as_variables", "read_out", "to_channels_last"]

MODEL_ENDING = ".cellcount"
"""Of a model in a single file."""


@dataclasses.dataclass(frozen=True)
class Counter:
    """A stage with its variables and preprocessing.

    Attributes:
      stage: predicts and reads out.
      variables: of the stage.
      preprocessing: from a file's pixels to the network's input.
      patches: rule of `data.patches.cut` by which the network's images were made; others are
        resized by it first.
      scale: images are resized by this factor, too.
      cell_diameter: images are resized so that their cells, by an estimate, are about so many
        pixels wide (`cell_size.scale_to`); None: they are not.
      predict: jitted `stage.predict`; given so that one compilation serves many counters.
      batch_size: windows that are computed together.
      facts: what the checkpoint says of itself.
    """

    stage: Stage
    variables: Variables
    preprocessing: Preprocessing
    patches: Mapping[str, Any] | None = None
    scale: float = 1.0
    cell_diameter: float | None = None
    predict: Callable[[Variables, jax.Array], dict[str, jax.Array]] | None = None
    batch_size: int = 8
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, *, stage: str | None = None) -> "Counter":
        """The counter of a finished run, of a model file, or one that comes with the package.

        Args:
          path: folder of the run, a `.cellcount` file, or a name of `box.NAMES`: "nuclei".
          stage: of the run's method; the last one if not given.

        Raises:
          CheckpointError: the folder holds no finished run.
          ValueError: the model file is damaged or of a newer format.
        """
        path = bundled.resolve(path)
        if str(path).endswith(MODEL_ENDING):
            return importlib.import_module("cellcount_jax.export.model_file").load(Path(path))
        return _load_run(path, stage)

    @functools.cached_property
    def network(self) -> Network:
        """The network with its variables on the local devices, placed there once."""
        return Network(self.stage, self.variables, predict=self.predict, batch_size=self.batch_size)

    def count(
        self,
        image: np.ndarray,
        *,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Count:
        """Counts one image.

        Args:
          image: [H, W], [H, W, C] or [D, H, W, C] as read from a file (not yet normalised).
          axes: order of the axes if it is another one, such as "CYX".
          spacing: micrometres per pixel; images are rescaled to the network's if that is known.

        Returns:
          The count, the points and the maps.

        Raises:
          ValueError: the image does not fit the network.
        """
        return next(self.count_all([to_channels_last(image, axes)], spacing=spacing))

    def count_all(
        self, images: Iterable[np.ndarray], *, spacing: Sequence[float] | None = None
    ) -> Iterator[Count]:
        """Counts images [*space, C] one after the other; windows of several share a batch.

        An image of one value throughout holds no cell, whatever a network makes of it.
        """
        waiting: deque[tuple[Scale, bool]] = deque()

        def prepare(image: np.ndarray) -> np.ndarray:
            _check(image.shape)
            scale = self.scale_for(image, spacing)
            prepared = preprocess(resize_image(image, scale), self.preprocessing)
            waiting.append((scale, bool(image.min() == image.max())))
            return prepared

        for maps in predict_all(self.network, map(prepare, images)):
            scale, blank = waiting.popleft()
            yield read_out(nothing(maps) if blank else maps, self.stage.readout, scale)

    def count_lazily(
        self,
        image: LazyImage,
        *,
        spacing: Sequence[float] | None = None,
        on_part: out_of_core.OnPart | None = None,
        start_density: out_of_core.StartDensity | None = None,
    ) -> Count:
        """Counts an open image that may be larger than memory; see `lazy.count_by_parts`."""
        _check(image.shape)
        return out_of_core.count_by_parts(
            self.network,
            image,
            self.preprocessing,
            scale=self.scale_for(image, spacing),
            on_part=on_part,
            start_density=start_density,
        )

    def count_files(
        self, paths: str | Path | Sequence[str | Path], *, out: str | Path, **options: Any
    ) -> list[dict[str, str]]:
        """Counts files and folders into a table, as `cellcount predict` does.

        Args:
          paths: files, folders or patterns.
          out: folder for `counts.csv` and `points/`; a second call goes on where the first ended.
          **options: of `predict.predict_files`, such as `voxel_size` or `density`.

        Returns:
          The rows of `counts.csv`, values as text; a file that could not be counted has a status
          that begins with "error:".
        """
        return importlib.import_module("cellcount_jax.prediction.predict_files").count_files(
            self, paths, Path(out), **options
        )

    def scale_for(
        self, image: np.ndarray | LazyImage, spacing: Sequence[float] | None = None
    ) -> Scale:
        """By which an image is resized before the network sees it."""
        known = spacing and self.preprocessing.pixel_size
        if self.cell_diameter and not known:
            return scale_to(self.cell_diameter, image)
        return self.scale_of(image.shape[:-1], spacing)

    def scale_of(self, shape: Sequence[int], spacing: Sequence[float] | None = None) -> Scale:
        """As `scale_for`, by size and voxel size alone, for an image of space shape `shape`."""
        if spacing and self.preprocessing.pixel_size:
            return scale_between(spacing, self.preprocessing.pixel_size)
        return self.scale * network_scale(self.patches, shape)

    def at_own_scale(self) -> "Counter":
        """The same counter for images that have been resized and cut already."""
        return dataclasses.replace(self, scale=1.0, patches=None, cell_diameter=None)


def _beside(name: str) -> ModuleType:
    """A module of this room that builds on this one, and so cannot be imported above."""
    return importlib.import_module(f"cellcount_jax.inference.{name}")


def _load_run(workdir: str | Path, stage: str | None) -> Counter:
    # Orbax takes its time, and a model file does without.
    from etils import epath

    from cellcount_jax.runtime import checkpoint

    stages, names = epath.Path(workdir) / "checkpoints", []
    if stages.exists():
        names = [p.name for p in stages.iterdir() if checkpoint.is_finished(p)]
    if not names:
        raise checkpoint.CheckpointError(
            f"{workdir}: no finished training here; give the workdir of a run that ended"
        )
    first = checkpoint.load_final(stages / names[0])
    order = [s for s in first[1]["stages"] if s in names]
    chosen = stage or order[-1]
    if chosen not in order:
        raise checkpoint.CheckpointError(
            f"{workdir}: no finished stage {chosen!r}; there are {order}"
        )
    same = chosen == names[0]
    variables, facts = first if same else checkpoint.load_final(stages / chosen)
    return from_facts(facts, as_variables(variables))


def from_facts(facts: dict[str, Any], variables: Variables) -> Counter:
    """A counter from what a checkpoint says of itself, and its variables."""
    config = ConfigDict(facts["config"])
    base = next(s for s in build_stages(config) if s.name == facts["stage"])
    readout = Readout(**{**facts["readout"], "candidates": ()})
    return Counter(
        stage=dataclasses.replace(base, readout=readout),
        variables=variables,
        preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
        patches=facts["patches"],
        scale=facts["scale"],
        cell_diameter=(config.data.get("same_size") or {}).get("diameter"),
        facts=facts,
    )


def as_variables(tree: dict[str, Any]) -> Variables:
    """Variables from the nested dicts of a checkpoint, which leaves empty dicts out."""
    return Variables(*(tree.get(name) or {} for name in Variables._fields))


def to_channels_last(image: np.ndarray, axes: str | None) -> np.ndarray:
    """[*space, C] of an image whose axes are named, or guessed: two axes have no channel yet."""
    if axes is None:
        return image[..., None] if image.ndim == 2 else image
    if len(axes) != image.ndim or not set(axes) <= set("ZYXC") or "YX" not in axes.replace("C", ""):
        raise ValueError(f"axes={axes!r} does not fit an image of shape {image.shape}")
    if "C" not in axes:
        return image[..., None]
    return np.moveaxis(image, axes.index("C"), -1)


def _check(shape: Sequence[int]) -> None:
    if len(shape) not in (3, 4) or 0 in shape:
        raise ValueError(
            f"an image of shape {tuple(shape)} must be [H, W, C] or [D, H, W, C] with pixels in it"
        )

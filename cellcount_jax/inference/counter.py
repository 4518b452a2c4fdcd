"""A trained counter: takes images of any size, returns counts and points."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from cellcount_jax.data import trained_on
from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.data.resize import Scale
from cellcount_jax.inference import bundled, model_file
from cellcount_jax.inference.batched_predict import BatchedPredictor
from cellcount_jax.inference.count import Count
from cellcount_jax.inference.image_argument import to_image
from cellcount_jax.inference.readout import OpenDensity, RunningCount
from cellcount_jax.inference.window_pass import (
    NetworkInput,
    OnWindow,
    count_images,
    fits_in_memory,
    from_array,
    from_reader,
)
from cellcount_jax.io.images.axes import Channels
from cellcount_jax.io.images.image import open_lazy
from cellcount_jax.io.images.readable import Readable
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.base import Readout, Stage, Variables


@dataclasses.dataclass(frozen=True, repr=False)
class Counter:
    """A stage with its variables and preprocessing.

    Attributes:
      stage: Stage that predicts and reads out.
      variables: Variables of the stage.
      preprocessing: How a file's pixels become the network's input.
      resampling: How images are resized before that.
      predict: Jitted `stage.predict`, passed in so that several counters share one compilation.
      batch_size: Number of windows per batch.
      max_window: Longest side of a window in pixels if images can be cut anywhere; None: the
        stage's, or `tiling.MAX_WINDOW`.
      name: What was given to `load`; the column `model` of tables.
      facts: Metadata of the checkpoint: method, config, training data and how it was trained.
    """

    stage: Stage
    variables: Variables
    preprocessing: Preprocessing
    resampling: Resampling = dataclasses.field(default_factory=Resampling)
    predict: Callable[[Variables, jax.Array], dict[str, jax.Array]] | None = None
    batch_size: int = 8
    max_window: int | None = None
    name: str = ""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        dataset = self.facts.get("config", {}).get("data", {}).get("name")
        known = {
            "name": self.name,
            "method": self.facts.get("method", self.stage.name),
            "dataset": None if dataset is None else Path(dataset).name,
            "version": model_file.writer_version(self.facts),
            "n_weights": sum(np.size(leaf) for leaf in jax.tree.leaves(self.variables)),
        }
        return f"Counter({', '.join(f'{k}={v!r}' for k, v in known.items() if v)})"

    @classmethod
    def load(cls, path: str | Path, *, stage: str | None = None) -> "Counter":
        """Loads the counter of a finished run or of a model file, or a bundled one.

        Args:
          path: Folder of the run, a `.cellcount` file, or a name of `bundled.MODELS`.
          stage: Name of a stage of the run's method; the last one if not given.

        Raises:
          CheckpointError: The folder holds no finished run.
          ModelFileError: The model file is damaged or has a newer format.
        """
        source = bundled.resolve(path)
        if str(source).endswith(model_file.MODEL_SUFFIX):
            tree, facts = model_file.read(Path(source))
        else:
            from cellcount_jax.runtime import checkpoint  # imports Orbax, which is slow

            tree, facts = checkpoint.load_stage(source, stage)
        try:
            counter = from_facts(facts, Variables.from_tree(tree))
        except Exception as error:  # settings of another version may lack any field
            raise model_file.build_error(source, facts, error) from error
        return dataclasses.replace(counter, name=str(path))

    @functools.cached_property
    def predictor(self) -> BatchedPredictor:
        """Predictor of batches of windows, its variables placed on the local devices once."""
        return BatchedPredictor(
            self.stage,
            self.variables,
            predict=self.predict,
            batch_size=self.batch_size,
            max_window=self.max_window,
        )

    def count(
        self,
        image: Any,
        *,
        axes: str | None = None,
        channels: Channels | None = None,
        scene: int | None = None,
        index: Mapping[str, int] | None = None,
        spacing: Sequence[float] | None = None,
        diameter: float | None = None,
    ) -> Count:
        """Counts one image.

        Args:
          image: Path of a file, or an array as read from one (not normalised): [H, W], [H, W, C]
            or [D, H, W, C], from NumPy, zarr, dask or the like. Above 2^25 pixels, files and
            arrays other than NumPy's are counted window by window, not in memory.
          axes: Order of the axes if it differs, such as "CYX"; for a file, overrides its metadata.
          channels: Channels of a file, by index or name; all if not given.
          scene: Index of the image in a file that holds several, from 0.
          index: Positions along the other axes of a file, such as {"T": 0}.
          spacing: Micrometres per pixel, (y, x) or (z, y, x); images are resized to the network's
            pixel size if that is known. By default read from the file.
          diameter: Cell diameter in pixels of this image, for counters that were trained on cells
            of one size; estimated if not given.

        Returns:
          The count and the points; also the maps if the image was counted in memory.

        Raises:
          TypeError: `image` is neither a path nor an array.
          ValueError: The image does not fit the network, or `diameter` does not fit the counter.
        """
        counter = self if diameter is None else self.with_cell_diameter(diameter)
        if isinstance(image, str | os.PathLike):
            with open_lazy(
                Path(image), axes=axes, channels=channels, scene=scene, index=index
            ) as opened:
                known = opened.spacing if spacing is None else spacing
                return counter.count_open(opened, spacing=known)
        if any(choice is not None for choice in (channels, scene, index)):
            raise ValueError("channels, scene and index choose parts of files; cut the array")
        given = to_image(image, axes)
        if isinstance(given, np.ndarray):
            return next(counter.count_all([given], spacing=spacing))
        return counter.count_open(given, spacing=spacing)

    def prepare(self, image: np.ndarray, *, spacing: Sequence[float] | None = None) -> NetworkInput:
        """Resizes and normalises an image in memory, of the shapes of `count`, for the network."""
        stored = to_image(image, None)
        return self._prepare(stored if isinstance(stored, np.ndarray) else stored.read(), spacing)

    def _prepare(
        self, image: np.ndarray, spacing: Sequence[float] | None, names: Sequence[str] = ()
    ) -> NetworkInput:
        image, scale = self._fit(image, spacing, names)
        return from_array(image, self.preprocessing, scale=scale)

    def _fit(
        self, image: Any, spacing: Sequence[float] | None, names: Sequence[str]
    ) -> tuple[Any, Scale]:
        """The image adapted to the training images, and how it is resized for the network."""
        trained = self.facts.get("trained_on")
        image = trained_on.fit(image, trained, self.preprocessing, names=names)
        scale = self.resampling.scale_for(image, spacing)
        self.resampling.compare(image, trained, scale, spacing)
        return image, scale

    def count_all(
        self, images: Iterable[np.ndarray], *, spacing: Sequence[float] | None = None
    ) -> Iterator[Count]:
        """Counts images in order; windows of several images share a batch.

        Args:
          images: Arrays [H, W], [H, W, C] or [D, H, W, C] as read from files (not normalised).
          spacing: Micrometres per pixel of all of them, (y, x) or (z, y, x).

        Raises:
          TypeError: An image is not an array.
          ValueError: An image does not fit the network.
        """
        prepared = (self.prepare(image, spacing=spacing) for image in images)
        return count_images(self.predictor, prepared)

    def count_open(
        self,
        image: Readable,
        *,
        spacing: Sequence[float] | None = None,
        in_memory: bool | None = None,
        on_window: OnWindow | None = None,
        open_density: Sequence[OpenDensity] = (),
    ) -> Count:
        """Counts an open image, in memory or window by window.

        Args:
          image: Image [*space, C], such as a `LazyImage`.
          spacing: Micrometres per pixel, (y, x) or (z, y, x).
          in_memory: Whether to hold the image and its maps; by default up to 2^25 pixels. Otherwise
            its windows are read in raster order, and the next two arguments are used.
          on_window: Called after each window with the number of windows done and their total.
          open_density: Receives the density box by box, see `readout.OpenDensity`.

        Returns:
          The count and the points; also the maps if they are held.

        Raises:
          ValueError: The image is damaged or does not fit the network.
        """
        if len(image.shape) not in (3, 4) or 0 in image.shape:
            raise ValueError(
                f"an image of shape {tuple(image.shape)} must be [H, W, C] or [D, H, W, C] with "
                "pixels in it"
            )
        names = getattr(image, "channel_names", ())
        if fits_in_memory(image) if in_memory is None else in_memory:
            whole = image.read(tuple(slice(0, n) for n in image.shape))
            return next(count_images(self.predictor, [self._prepare(whole, spacing, names)]))
        image, scale = self._fit(image, spacing, names)
        prepared = from_reader(image, self.preprocessing, scale=scale)
        sink = functools.partial(RunningCount, open_density=open_density)
        return next(count_images(self.predictor, [prepared], new_sink=sink, on_window=on_window))

    def count_files(
        self, paths: str | Path | Sequence[str | Path], *, out: str | Path, **options: Any
    ) -> list[dict[str, str]]:
        """Counts files and folders into a table, as `cellcount predict` does.

        Args:
          paths: Files, folders or patterns.
          out: Folder for `counts.csv` and `points/`; a second call resumes an interrupted one.
          **options: Fields of `prediction.options.Options`, such as `voxel_size` or `density`;
            `pattern` of files in folders; `model`, the name to write into the table.

        Returns:
          The rows of `counts.csv`, values as text; a file that could not be counted has a status
          that begins with "error:".

        Raises:
          ValueError: No images are found, or an option has a wrong value or does not fit the
            counter.
        """
        from cellcount_jax.prediction import predict_files  # imports this module

        return predict_files.count_files(self, paths, Path(out), **options)

    def with_cell_diameter(self, diameter: float) -> "Counter":
        """A copy that takes the cells' diameter as given and does not estimate it.

        Args:
          diameter: Cell diameter in pixels of the images.

        Raises:
          ValueError: The diameter is not positive, or the counter was not trained on cells of one
            size.
        """
        return dataclasses.replace(self, resampling=self.resampling.with_cell_diameter(diameter))

    def without_resampling(self) -> "Counter":
        """A copy for images that have been resized and cut already, so cells are not measured."""
        trained = {**(self.facts.get("trained_on") or {}), "cell_size": None}
        known = {"trained_on": trained} if self.facts.get("trained_on") else {}
        return dataclasses.replace(self, resampling=Resampling(), facts={**self.facts, **known})


def from_facts(facts: Mapping[str, Any], variables: Variables) -> Counter:
    """A counter from a checkpoint's metadata and variables.

    Raises:
      ValueError: The metadata have a newer schema or name no known method.
    """
    facts = model_file.current_facts(facts)
    stages = build_stages(ConfigDict(facts["config"]))
    base = next(s for s in stages if s.name == facts["stage"])
    readout = Readout(**{**facts["readout"], "candidates": ()})
    window = facts.get("window") or base.window
    window = tuple(window) if isinstance(window, list) else window  # JSON has no tuples
    return Counter(
        stage=dataclasses.replace(base, readout=readout, window=window),
        variables=variables,
        preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
        resampling=Resampling.from_dict(facts["resampling"]),
        facts=facts,
    )

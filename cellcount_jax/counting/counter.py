"""A trained counter: pictures of any size in, counts and points out."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from cellcount_jax.counting import points as decode
from cellcount_jax.counting import tiling
from cellcount_jax.data.patches import network_scale, resize_image
from cellcount_jax.data.preprocess import Preprocessing, preprocess
from cellcount_jax.methods import build_stages
from cellcount_jax.methods.stage import Readout, Stage, Variables
from cellcount_jax.runtime import checkpoint

DEFAULT_WINDOW = {2: 256, 3: 64}
"""Side of the windows of networks that can be tiled anywhere, by number of space axes."""


@dataclasses.dataclass(frozen=True)
class Count:
    """What was found in one picture.

    Attributes:
      count: number of cells by the method's own count.
      points: [N, ndim] float32, (y, x) or (z, y, x) in pixels of the picture; None if the method
        gives no points.
      scores: [N] height of the map at each point, in its own unit; None without points.
      density: cells per map position, [*space / stride]; None if no map sums to the count.
      maps: all maps of the stage by name.
      scale: pixels of the maps' picture per pixel of the picture given.
    """

    count: float
    points: np.ndarray | None
    scores: np.ndarray | None
    density: np.ndarray | None
    maps: dict[str, np.ndarray]
    scale: float = 1.0


@dataclasses.dataclass(frozen=True)
class Counter:
    """A stage with its variables and preprocessing.

    Attributes:
      stage: predicts and reads out.
      variables: of the stage.
      preprocessing: from a file's pixels to the network's input.
      patches: rule of `data.patches.cut` by which the network's pictures were made; others are
        resized by it first.
      scale: pictures are resized by this factor, too.
      predict: jitted `stage.predict`; given so that one compilation serves many counters.
      batch_size: windows that are computed together.
      facts: what the checkpoint says of itself.
    """

    stage: Stage
    variables: Variables
    preprocessing: Preprocessing
    patches: Mapping[str, Any] | None = None
    scale: float = 1.0
    predict: Callable[[Variables, jax.Array], dict[str, jax.Array]] | None = None
    batch_size: int = 8
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def load(cls, workdir: str | Path, *, stage: str | None = None) -> "Counter":
        """The counter of a finished run.

        Args:
          workdir: folder of the run.
          stage: of the method; the last one if not given.

        Raises:
          CheckpointError: the folder holds no finished run.
        """
        stages, names = epath.Path(workdir) / "checkpoints", []
        if stages.exists():
            names = [p.name for p in stages.iterdir() if checkpoint.is_finished(p)]
        if not names:
            raise checkpoint.CheckpointError(
                f"{workdir}: no finished training here; give the workdir of a run that ended"
            )
        facts = checkpoint.load_final(stages / names[0])[1]
        order = [s for s in facts["stages"] if s in names]
        chosen = stage or order[-1]
        if chosen not in order:
            raise checkpoint.CheckpointError(
                f"{workdir}: no finished stage {chosen!r}; there are {order}"
            )
        variables, facts = checkpoint.load_final(stages / chosen)
        config = ConfigDict(facts["config"])
        base = next(s for s in build_stages(config) if s.name == chosen)
        readout = Readout(**{**facts["readout"], "candidates": ()})
        return cls(
            stage=dataclasses.replace(base, readout=readout),
            variables=as_variables(variables),
            preprocessing=Preprocessing.from_dict(facts["preprocessing"]),
            patches=facts["patches"],
            scale=facts["scale"],
            facts=facts,
        )

    def count(
        self,
        image: np.ndarray,
        *,
        axes: str | None = None,
        spacing: Sequence[float] | None = None,
    ) -> Count:
        """Counts one picture.

        Args:
          image: [H, W], [H, W, C] or [D, H, W, C] as read from a file (not yet normalised).
          axes: order of the axes if it is another one, such as "CYX".
          spacing: micrometres per pixel; pictures are rescaled to the network's if that is known.

        Returns:
          The count, the points and the maps.

        Raises:
          ValueError: the picture does not fit the network.
        """
        return next(self.count_all([to_channels_last(image, axes)], spacing=spacing))

    def count_all(
        self, images: Iterable[np.ndarray], *, spacing: Sequence[float] | None = None
    ) -> Iterator[Count]:
        """Counts pictures [*space, C] one after the other; windows of several share a batch."""
        scales: list[float] = []

        def prepare(image: np.ndarray) -> np.ndarray:
            scales.append(self.scale_of(image.shape[:-1], spacing))
            return preprocess(resize_image(image, scales[-1]), self.preprocessing)

        for i, maps in enumerate(predict_all(self, map(prepare, images))):
            yield read_out(maps, self.stage.readout, scales[i])

    def scale_of(self, shape: Sequence[int], spacing: Sequence[float] | None = None) -> float:
        """By which a picture of space shape `shape` is resized before the network sees it."""
        if spacing and self.preprocessing.pixel_size:
            return float(spacing[-1]) / self.preprocessing.pixel_size
        return self.scale * network_scale(self.patches, shape)

    def at_own_scale(self) -> "Counter":
        """The same counter for pictures that have been resized and cut already."""
        return dataclasses.replace(self, scale=1.0, patches=None)


def as_variables(tree: dict[str, Any]) -> Variables:
    """Variables from the nested dicts of a checkpoint, which leaves empty dicts out."""
    return Variables(*(tree.get(name) or {} for name in Variables._fields))


def to_channels_last(image: np.ndarray, axes: str | None) -> np.ndarray:
    """[*space, C] of a picture whose axes are named, or guessed: two axes have no channel yet."""
    if axes is None:
        return image[..., None] if image.ndim == 2 else image
    if len(axes) != image.ndim or not set(axes) <= set("ZYXC") or "YX" not in axes.replace("C", ""):
        raise ValueError(f"axes={axes!r} does not fit a picture of shape {image.shape}")
    if "C" not in axes:
        return image[..., None]
    return np.moveaxis(image, axes.index("C"), -1)


def predict_all(counter: Counter, images: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Maps of normalised pictures [*space, C], in order, cropped to the picture."""
    predict = counter.predict or jax.jit(counter.stage.predict)
    waiting: list[_Picture] = []
    queue: list[tuple[_Picture, tiling.Window]] = []
    for image in images:
        picture = _Picture(counter.stage, image)
        waiting.append(picture)
        queue += [(picture, window) for window in picture.windows]
        while len(queue) >= counter.batch_size:
            _run(predict, counter, queue[: counter.batch_size])
            queue = queue[counter.batch_size :]
        while waiting and not waiting[0].left:
            yield waiting.pop(0).maps()
    if queue:
        _run(predict, counter, queue)
    yield from (picture.maps() for picture in waiting)


class _Picture:
    """A picture whose windows are being computed."""

    def __init__(self, stage: Stage, image: np.ndarray):
        ndim = image.ndim - 1
        window = [stage.window or DEFAULT_WINDOW[ndim]] * ndim
        self.space = image.shape[:-1]
        self.padded = tiling.padded_shape(self.space, window, stage.stride)
        self.image = tiling.pad_to(image, self.padded)
        halo = stage.halo or 0
        self.windows = tiling.windows(self.padded, window, halo=halo, stride=stage.stride)
        self.left = len(self.windows)
        self.whole: dict[str, np.ndarray] = {}

    def place(self, name: str, part: np.ndarray, window: tiling.Window) -> None:
        side = window.read[0].stop - window.read[0].start
        stride = side // part.shape[0]
        if name not in self.whole:
            shape = [n // stride for n in self.padded]
            self.whole[name] = np.zeros((*shape, *part.shape[len(shape) :]), np.float32)
        tiling.place(self.whole[name], part, window, stride=stride)

    def maps(self) -> dict[str, np.ndarray]:
        cropped = {}
        for name, value in self.whole.items():
            stride = self.padded[0] // value.shape[0]
            cropped[name] = value[tuple(slice(0, -(-n // stride)) for n in self.space)]
        return cropped


def _run(predict: Callable, counter: Counter, jobs: list[tuple[_Picture, tiling.Window]]) -> None:
    """Computes up to a batch of windows, filled with zeros to a power of two: few compilations."""
    rows = [picture.image[window.read] for picture, window in jobs]
    size = min(counter.batch_size, 1 << (len(rows) - 1).bit_length())
    batch = np.zeros((size, *rows[0].shape), np.float32)
    batch[: len(rows)] = rows
    maps = jax.device_get(predict(counter.variables, batch))
    for row, (picture, window) in enumerate(jobs):
        for name, value in maps.items():
            picture.place(name, value[row], window)
        picture.left -= 1


def read_out(maps: dict[str, np.ndarray], readout: Readout, scale: float = 1.0) -> Count:
    """Count and points of one picture's maps.

    Args:
      maps: named maps of the whole picture.
      readout: of the stage.
      scale: by which the picture was resized; points are given in pixels before that.
    """
    points = scores = density = None
    if readout.points_map is not None:
        points, scores = decode.find_points(
            maps[readout.points_map],
            decoder=readout.decoder,
            threshold=readout.threshold,
            reference=readout.reference,
        )
        points = ((points + 0.5) / scale - 0.5).astype(np.float32)
    if readout.count in ("components", "peaks"):
        if points is None:
            raise ValueError(f"readout {readout.count!r} counts points but names no points_map")
        return Count(float(len(points)), points, scores, None, maps, scale)
    density = maps[readout.count_map].astype(np.float64) / readout.count_scale
    density = np.abs(density) if readout.count == "l1" else density
    return Count(float(density.sum()), points, scores, density.astype(np.float32), maps, scale)

"""What was found in one image, with its table, figure and notebook view."""

import base64
import dataclasses
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from cellcount_jax.data.resize import Scale

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

THUMBNAIL_SIDE = 256
"""Longest side in pixels of the density in a notebook."""


@dataclasses.dataclass(frozen=True, repr=False)
class Count:
    """What was found in one image.

    Attributes:
      count: Number of cells by the method's own count.
      points: Positions [N, ndim] float32, (y, x) or (z, y, x) in pixels of the image; None if the
        method gives no points.
      scores: Value [N] of the map at each point, in the map's unit; None without points.
      density: Cells per map position, [*space / stride]; None if no map sums to the count, or if
        the image is too large to keep its maps.
      maps: All maps of the stage by name; empty if the image is too large to keep them.
      scale: Factor by which the image was resized before the maps were made; one number, or one
        per axis.
      density_sum: Sum of the density map, in cells; None if there is none.
    """

    count: float
    points: np.ndarray | None
    scores: np.ndarray | None
    density: np.ndarray | None
    maps: dict[str, np.ndarray]
    scale: Scale = 1.0
    density_sum: float | None = None

    def __repr__(self) -> str:
        return f"Count(count={self.count:.6g}, n_points={self._n_points()})"

    def to_dataframe(self) -> "pandas.DataFrame":
        """The points as a table.

        Returns:
          Columns `[z,]y,x` in pixels and `score`, as in `points/<name>.csv`.

        Raises:
          ImportError: Pandas is not installed.
          ValueError: The method gives no points.
        """
        if self.points is None:
            raise ValueError("this counter gives a count and no points, so there is no table")
        try:
            import pandas
        except ImportError as error:
            raise ImportError(
                "Count.to_dataframe needs pandas, which is not installed; install it with: "
                "pip install pandas"
            ) from error
        axes = "zyx"[-self.points.shape[1] :]
        columns = dict(zip(axes, self.points.T, strict=True))
        scores = {} if self.scores is None else {"score": self.scores}
        return pandas.DataFrame(columns | scores)

    def plot(self, image: np.ndarray | None = None) -> "Figure":
        """Draws the points, on the image if it is given.

        Args:
          image: Image that was counted, [H, W], [H, W, C] or [D, H, W, C]; shown as a maximum
            projection over channels and planes.

        Returns:
          A Matplotlib figure: a notebook shows it, `savefig` writes it.
        """
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(layout="constrained")
        pyplot.close(figure)  # otherwise a notebook shows it twice
        axes.set_aspect("equal")
        axes.yaxis.set_inverted(True)
        if image is not None:
            stored = image[..., None] if image.ndim == 2 else image
            shown = stored.max(axis=(*range(stored.ndim - 3), stored.ndim - 1))
            axes.imshow(shown, cmap="gray")
        if self.points is not None:
            axes.plot(self.points[:, -1], self.points[:, -2], "+", color="red")
        axes.set_title(repr(self))
        return figure

    def _repr_html_(self) -> str:
        """For notebooks: the numbers and, if there is one, the density."""
        sums = "" if self.density_sum is None else f"{self.density_sum:.6g}"
        rows = {"count": f"{self.count:.6g}", "points": self._n_points(), "density sum": sums}
        cells = "".join(f"<tr><th>{k}</th><td>{v}</td></tr>" for k, v in rows.items())
        return f"<table>{cells}</table>{self._thumbnail()}"

    def _n_points(self) -> int | None:
        return None if self.points is None else len(self.points)

    def _thumbnail(self) -> str:
        """The density, summed along z, as an HTML image; empty without one."""
        if self.density is None:
            return ""
        plane = self.density.sum(axis=tuple(range(self.density.ndim - 2)))
        grey = np.rint(255 * np.clip(plane / max(plane.max(), 1e-30), 0, 1)).astype(np.uint8)
        scale = THUMBNAIL_SIDE / max(grey.shape)
        height, width = (max(1, round(n * scale)) for n in grey.shape)
        stream = io.BytesIO()
        Image.fromarray(grey).resize((width, height)).save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode()
        return f'<img alt="density" src="data:image/png;base64,{data}">'

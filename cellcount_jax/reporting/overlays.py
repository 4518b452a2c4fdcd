"""Images with the points that were found drawn over them, as files."""

from collections.abc import Callable
from pathlib import Path

from cellcount_jax.inference.counter import Count
from cellcount_jax.io.images.image import Image
from cellcount_jax.reporting import figures, run_report


def writer(folder: Path) -> Callable[[str, Image, Count], None]:
    """A function that writes `folder/<name>.png` for each counted image."""

    def write(name: str, image: Image, found: Count) -> None:
        number = "" if found.points is None else f", {len(found.points)} points"
        cells = f"{found.count:.0f}" if float(found.count).is_integer() else f"{found.count:.1f}"
        title = f"{figures.shortened(name)}\n{cells} cells{number}"
        figure = figures.overlay(image.pixels, found.points, title=title)
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(run_report.png(figure, dpi=150))

    return write

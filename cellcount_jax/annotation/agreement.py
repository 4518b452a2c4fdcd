"""How well two observers agree who marked the same images without seeing each other's dots."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cellcount_jax.annotation.folder import Project, open_project
from cellcount_jax.data.infer_settings import nearest_spacing
from cellcount_jax.data.sample import Sample
from cellcount_jax.evaluation.matching import match_points
from cellcount_jax.evaluation.metrics import count_errors, localisation, precision_recall_f1
from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import open_lazy
from cellcount_jax.reporting import figures, html
from cellcount_jax.runtime.replace_file import replacing


@dataclasses.dataclass(frozen=True, eq=False)
class Pair:
    """One image with the dots of two observers.

    Attributes:
      name: Name of the image.
      first: [N, ndim] pixels.
      second: [M, ndim] pixels.
      spacing: Voxel size, if the file says.
    """

    name: str
    first: np.ndarray
    second: np.ndarray
    spacing: tuple[float, ...] | None = None


def pairs_of(first: Project, second: Project) -> list[Pair]:
    """The images that both observers have saved dots of.

    Raises:
      ValueError: There are none, or a file cannot be read.
    """
    both = [image for image in first.images if image in first.dots and image in second.dots]
    if not both:
        raise ValueError(
            f"{first.folder}: no image has dots of both observers ({first.who}, {second.who})"
        )
    pairs = []
    for image in both:
        with open_lazy(image) as opened:
            shape, spacing = opened.space_shape, opened.spacing
        one, other = (
            read_dots(p.dots[image], image_shape=shape, pixel_size=spacing).points
            for p in (first, second)
        )
        pairs.append(Pair(first.key(image), one, other, spacing))
    return pairs


def compare(pairs: Sequence[Pair], *, radius: float) -> dict[str, Any]:
    """Counts and dots of two observers; neither is taken as ground truth.

    Args:
      pairs: Pairs from `pairs_of`.
      radius: Matching radius in pixels of the last axis.

    Returns:
      `n_images`, `first` and `second` (all dots), `bias` = mean of first - second and
      `limits_of_agreement` per image, `mean_difference` (mean of absolute differences), `f1` of
      all dots, `matched`, `only_first`, `only_second`, `radius`, and `images`: the same per image.
    """
    matches = [match_points(p.first, p.second, radius=radius, spacing=p.spacing) for p in pairs]
    errors = count_errors([len(p.first) for p in pairs], [len(p.second) for p in pairs])
    sums = localisation(matches)
    rows = [
        {
            "image": pair.name,
            "first": len(pair.first),
            "second": len(pair.second),
            "difference": len(pair.first) - len(pair.second),
            "f1": precision_recall_f1(*match)["f1"],
        }
        for pair, match in zip(pairs, matches, strict=True)
    ]
    return {
        "n_images": len(pairs),
        "first": sum(row["first"] for row in rows),
        "second": sum(row["second"] for row in rows),
        "bias": errors["bias"],
        "limits_of_agreement": errors["limits_of_agreement"],
        "mean_difference": errors["mae"],
        "f1": sums["f1"],
        "matched": sums["tp"],
        "only_first": sums["fp"],
        "only_second": sums["fn"],
        "radius": radius,
        "images": rows,
    }


def radius_of(pairs: Sequence[Pair]) -> float:
    """A matching radius from the first observer's dots: half the lower quartile of their distances.

    Raises:
      ValueError: No image has two dots.
    """
    if max(len(p.first) for p in pairs) < 2:
        raise ValueError("too few dots to tell a matching radius from; give --radius PIXELS")
    return nearest_spacing([Sample(p.name, np.zeros(0), p.first) for p in pairs]) / 2


def page(found: dict[str, Any], names: tuple[str, str]) -> str:
    """A self-contained HTML page of `compare`.

    Args:
      found: Result of `compare`.
      names: Names of the observers.
    """
    first, second = (html.text(name) for name in names)
    rows, limits = found["images"], found["limits_of_agreement"]
    counts = ([r["first"] for r in rows], [r["second"] for r in rows])
    between = "-" if limits is None else f"{limits[0]:+.1f} to {limits[1]:+.1f}"
    summary = [
        [f"dots of {first}", str(found["first"])],
        [f"dots of {second}", str(found["second"])],
        ["mean difference (bias), cells per image", f"{found['bias']:+.2f}"],
        ["95 % limits of agreement, cells per image", between],
        ["mean absolute difference, cells per image", f"{found['mean_difference']:.2f}"],
        [f"F1 of the dots at {found['radius']:.1f} px", f"{found['f1']:.3f}"],
        [f"marked by {first} alone", str(found["only_first"])],
        [f"marked by {second} alone", str(found["only_second"])],
    ]
    figure = figures.limits_of_agreement(*counts, "image", names=names)
    listed = [
        [html.text(r["image"]), *(str(r[k]) for k in ("first", "second", "difference")),
         f"{r['f1']:.3f}"]
        for r in rows
    ]  # fmt: skip
    return html.page(
        f"Agreement of {names[0]} and {names[1]}",
        [
            "<h1>Agreement of two observers</h1>",
            html.note(f"{found['n_images']} images that {first} and {second} marked separately."),
            html.table(["", ""], summary),
            html.note(
                "Neither observer is ground truth. The difference is first minus second; 95 % "
                "of the differences of single images are expected within the limits of "
                "agreement (bias &plusmn; 1.96 standard deviations; Bland and Altman 1986). F1 "
                "counts dots of the two that lie within the radius of each other, one to one: 1 "
                "is full agreement. A counter need not agree better with an observer than "
                "observers do with each other."
            ),
            html.image(figure, alt="difference against mean of the two observers' counts"),
            "<h2>Images</h2>",
            html.table(["image", first, second, "difference", "F1"], listed),
        ],
    )


def write_page(
    folder: Path, *, observer: str | None = None, radius: float | None = None
) -> tuple[Path, dict[str, Any]]:
    """Compares the first observer of a folder with another one and writes `agreement.html`.

    Args:
      folder: Folder that both have annotated.
      observer: The other one; not needed if there is only one.
      radius: Matching radius in pixels; by default `radius_of`.

    Returns:
      The page, and `compare`.

    Raises:
      ValueError: There is no such observer, or several, or nothing to compare.
    """
    place = folder / "observers"
    names = sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []
    if observer is None and len(names) == 1:
        observer = names[0]
    if observer not in names:
        listed = ", ".join(names) or "nobody"
        raise ValueError(f"{folder}: name one of the other observers ({listed} so far)")
    first, second = open_project(folder), open_project(folder, observer=observer)
    pairs = pairs_of(first, second)
    found = compare(pairs, radius=radius_of(pairs) if radius is None else radius)
    path = folder / "annotation" / "agreement.html"
    path.parent.mkdir(exist_ok=True)
    with replacing(path, encoding="utf-8") as file:
        file.write(page(found, ("first observer", str(observer))))
    return path, found

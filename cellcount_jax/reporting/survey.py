"""A survey: a page that asks raters what the regions most similar to prototypes show, and its key.

`survey.html` works offline and holds nothing but the images, their boxes and the questions, in
random order. Only `key.json` says to which group, prototype and image a question belongs.
"""

import base64
import hashlib
import io
import json
import logging
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from cellcount_jax.evaluation.survey_files import KEY_FORMAT, VERSION
from cellcount_jax.explanation import prototypes as explanations
from cellcount_jax.explanation import survey_regions
from cellcount_jax.explanation.prototypes import Explanation
from cellcount_jax.explanation.survey_regions import Region
from cellcount_jax.inference.counter import Counter
from cellcount_jax.io.images.image import Image
from cellcount_jax.reporting.explanation_report import Subject
from cellcount_jax.reporting.overlays import displayable
from cellcount_jax.runtime.error_text import one_line
from cellcount_jax.runtime.replace_file import write_file

log = logging.getLogger(__name__)

PAGE, KEY = "survey.html", "key.json"

VIEW, SURROUNDINGS = 32, 8
"""Positions of the map along a side of what is shown of an image, and of the enlarged part."""


def write_survey(
    counter: Counter,
    subjects: Sequence[Subject],
    out: Path,
    *,
    number: int = 24,
    n_random: int = 0,
    strongest: bool = True,
    seed: int = 0,
) -> int:
    """Writes the page and the key of a survey; earlier ones in the folder are kept beside.

    Args:
      counter: Counter with prototypes.
      subjects: Images; as many as there are questions are used, at random.
      out: Folder, made if missing.
      number: Number of questions about regions of prototypes; even, half of them for each group.
      n_random: Number of questions about random regions.
      strongest: Ask about the strongest region of a prototype in an image; otherwise about any.
      seed: Seed of the choice and the order.

    Returns:
      Number of images that could not be used; the log names them.

    Raises:
      ValueError: An odd or negative number, no prototypes, or too few regions.
    """
    if number < 2 or number % 2 or n_random < 0:
        raise ValueError(
            f"--number {number} --random {n_random}: the first must be even and at least 2, half "
            "for cells and half for background, the second at least 0"
        )
    prototypes, rng = explanations.prototypes_of(counter), np.random.default_rng(seed)
    order = rng.permutation(len(subjects)).tolist()
    images, found, failed = _explained(counter, subjects, order, most=number + n_random)
    explained = {i: (found[i], images[i].pixels.shape[-3:-1]) for i in images}
    regions = survey_regions.choose(
        explained,
        prototypes,
        n_prototypes=number,
        n_random=n_random,
        strongest=strongest,
        rng=rng,
    )
    questions = [_question(images[r.image].pixels, r, found[r.image].pixels) for r in regions]
    survey = hashlib.sha256(json.dumps(questions).encode()).hexdigest()[:12]
    key = {
        "format": KEY_FORMAT,
        "version": VERSION,
        "survey": survey,
        "model": counter.name,
        "seed": seed,
        "regions": "strongest" if strongest else "any",
        "questions": _key_rows(regions, subjects),
    }
    write_file(out / PAGE, _page(survey, questions), keep=True)
    write_file(out / KEY, json.dumps(key, indent=1) + "\n", keep=True)
    return failed


def _explained(
    counter: Counter, subjects: Sequence[Subject], order: Sequence[int], *, most: int
) -> tuple[dict[int, Image], dict[int, Explanation], int]:
    """The first images of an order that can be explained, by index; how many before could not.

    Raises:
      ValueError: No image can be; the log says why.
    """
    images: dict[int, Image] = {}
    found: dict[int, Explanation] = {}
    failed = 0
    for index in order:
        if len(images) == most:
            break
        try:
            image = subjects[index].read()
            found[index] = explanations.explain(counter, image.pixels, spacing=image.spacing)
        except (ValueError, OSError, MemoryError) as error:
            failed += 1
            log.error("%s: %s", subjects[index].name, one_line(error))
        else:
            images[index] = image
    if not images:
        raise ValueError("not one image could be used; the lines above say why")
    return images, found, failed


def _question(pixels: np.ndarray, region: Region, per_position: float) -> dict[str, Any]:
    """What the page contains about a region: the image around it as PNG, and the box, in pixels.

    Args:
      pixels: [H, W, C] image.
      region: Region in it.
      per_position: Pixels of the image per position of the map.
    """
    top, left, bottom, right = region.box
    box = np.array([[top, bottom], [left, right]])
    longest = int((box[:, 1] - box[:, 0]).max())
    side = max(round(VIEW * per_position), 2 * longest)
    shape = np.array(pixels.shape[:2])
    start = np.clip(box.mean(axis=1).astype(int) - side // 2, 0, np.maximum(shape - side, 0))
    stop = np.minimum(start + side, shape)
    shown = displayable(pixels)[start[0] : stop[0], start[1] : stop[1]]
    height, width = shown.shape[:2]
    return {
        "image": f"data:image/png;base64,{base64.b64encode(_png(shown)).decode()}",
        "size": [width, height],
        "box": [int(left - start[1]), int(top - start[0]), right - left, bottom - top],
        "surroundings": max(round(SURROUNDINGS * per_position), 2 * longest),
    }


def _png(image: np.ndarray) -> bytes:
    """PNG of [H, W, 3] in 0..1, without any metadata."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(np.rint(255 * image).astype(np.uint8)).save(buffer, format="png")
    return buffer.getvalue()


def _key_rows(regions: Sequence[Region], subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """What the page does not reveal, by question number."""
    sides = ("top", "left", "bottom", "right")
    return [
        {
            "question": i + 1,
            "group": region.group,
            "prototype": region.prototype,
            "image": subjects[region.image].name,
            "box": dict(zip(sides, region.box, strict=True)),
        }
        for i, region in enumerate(regions)
    ]


def _page(survey: str, questions: Sequence[dict[str, Any]]) -> str:
    """The whole page; its data are JSON in which no tag can end."""
    template = string.Template(Path(__file__).with_name("survey.html").read_text(encoding="utf-8"))
    data = json.dumps({"survey": survey, "questions": questions}).replace("<", "\\u003c")
    return template.substitute(SURVEY=data)

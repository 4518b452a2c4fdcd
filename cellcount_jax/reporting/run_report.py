"""The page about a run: one HTML file with its images inside."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellcount_jax.evaluation.evaluate import Evaluation
from cellcount_jax.reporting import figures, html
from cellcount_jax.reporting.examples import counting_maps, example_overlays
from cellcount_jax.reporting.verdict import in_words, meaning, terms, verdict

BASELINES = {
    "mean": "mean of the training counts",
    "intensity": "straight line through total intensity",
    "histogram": "ridge regression on the intensity histogram",
}

POINT_WORDS = ("F1", "precision", "recall")


def run_report(
    results: Mapping[str, Any], evaluation: Evaluation, metrics: Sequence[Mapping[str, Any]]
) -> str:
    """HTML of a finished run.

    Args:
      results: Content of `results.json`.
      evaluation: Evaluation of the evaluated split.
      metrics: Lines of `metrics.jsonl`.

    Returns:
      A self-contained page.
    """
    split, title = html.text(results["split"]), f"{results['method']} on {results['dataset']}"
    pixels = {s.name: s.image for s in evaluation.samples}
    examples = example_overlays(evaluation.images, lambda image: pixels[image.name])
    return html.page(
        title,
        [
            f"<h1>{html.text(results['method']).upper()} on {html.text(results['dataset'])}</h1>",
            html.note(
                f"protocol {html.text(results['protocol'])}, seed {results['seed']}, "
                f"{results['n_images']} {split} images (split {results['split_hash']}), "
                f"{html.text(results['device'])}"
            ),
            _fallback(results),
            "<h2>In short</h2>",
            html.listed([*verdict(results), *in_words(results)]),
            f"<h2>Result on the {split} split</h2>",
            _results_table(results),
            terms(["MAE", "RMSE", "bias", *BASELINES.values(), *POINT_WORDS]),
            "<h2>Counts</h2>",
            figures_of_counts(evaluation.images, "patch" if "patch_mae" in results else "image"),
            f"<h2>Best, median and worst {split} images</h2>",
            html.note(
                "Rings: annotated cells. Crosses: predicted points."
                if "f1" in results
                else "Rings: annotated cells. This method gives no points."
            ),
            html.row(*(html.image(figure, alt=alt) for alt, figure in examples.items())),
            _counting_maps(evaluation),
            _left_out(results),
            "<h2>Training</h2>",
            _training_curves(metrics),
            "<h2>All figures</h2>",
            _all_figures(results),
        ],
    )


def _counting_maps(evaluation: Evaluation) -> str:
    """The maps that sum to the counts of some images; empty where points are counted."""
    counts = {image.name: c for image, c in zip(evaluation.images, evaluation.counts, strict=True)}
    pixels = {s.name: s.image for s in evaluation.samples}
    drawn = counting_maps(
        evaluation.images,
        lambda image: pixels[image.name],
        lambda image: counts[image.name].density,
    )
    if not drawn:
        return ""
    text = "Cells per position of the map that counts; their sum is the count."
    shown = (html.image(figure, alt=alt) for alt, figure in drawn.items())
    return "<h2>Counting maps</h2>" + html.note(text) + html.row(*shown)


def figures_of_counts(images: Sequence[Any], unit: str) -> str:
    """Predicted against true counts, and the limits of agreement, beside each other."""
    counts = [image.predicted for image in images], [image.true for image in images]
    return html.row(
        html.image(
            figures.predicted_against_true(*counts, unit), alt="predicted against true counts"
        ),
        html.image(
            figures.limits_of_agreement(*counts, unit), alt="differences against mean counts"
        ),
    )


def _training_curves(metrics: Sequence[Mapping[str, Any]]) -> str:
    stages = dict.fromkeys(line["stage"] for line in metrics)
    curves = {f"training curves of {stage}": figures.curves(metrics, stage) for stage in stages}
    return html.row(*(html.image(figure, alt=alt) for alt, figure in curves.items()))


def _all_figures(results: Mapping[str, Any]) -> str:
    """Every value of `results.json` with its meaning."""
    shown = {name: value for name, value in results.items() if name != "left_out"}
    rows = [[html.text(name), html.number(value), meaning(name)] for name, value in shown.items()]
    return html.table(["", "", "meaning"], rows)


def _left_out(results: Mapping[str, Any]) -> str:
    """Each file that could not be used, with the reason."""
    files = results.get("left_out", ())
    return "<h2>Left out</h2>" + html.listed(each["why"] for each in files) if files else ""


def _fallback(results: Mapping[str, Any]) -> str:
    if not results["dataset_is_fallback"]:
        return ""
    return (
        "<p class=warning><b>Simulated cells.</b> The real images were not found, so this run "
        "was trained and tested on simulated ones. Its figures say nothing about the published "
        "dataset.</p>"
    )


def _results_table(results: Mapping[str, Any]) -> str:
    """Errors of the counter above those of the baselines, and how well its points match."""
    keys = ["mae", "rmse", "bias"] + (["patch_mae"] if "patch_mae" in results else [])
    rows = [["<b>this counter</b>", *(html.number(results.get(key)) for key in keys)]]
    for name, label in BASELINES.items():
        found = [results.get(f"baseline_{name}_{key}", "") for key in keys]
        rows.append([label, *(html.number(value) for value in found)])
    head = {"mae": "MAE", "rmse": "RMSE", "bias": "bias", "patch_mae": "MAE per patch"}
    points = ""
    if results.get("f1") is not None:
        points = (
            f"<p>Points within {results['radius']:.3g} px, one to one: F1 {results['f1']:.3f}, "
            f"precision {results['precision']:.3f}, recall {results['recall']:.3f}; "
            f"number of points: MAE {results['n_points_mae']:.1f}.</p>"
        )
    return html.table(["", *(head[key] for key in keys)], rows) + points

"""The figures of CountXplain's paper: what is drawn of which runs, and Table 2."""

import dataclasses
import json

import numpy as np
import pytest

from benchmarks.accuracy import prototype_figures
from cellcount_jax.explanation import prototypes as explanations
from tests.explanation import made_prototypes

CONFIG = "configs/countxplain_vgg.py:quick"


def result(k: int, seed: int = 0, **figures) -> dict:
    squared = {
        f"{prefix}squared_distance_{group}_{word}": None if k == 2 else k / 10
        for prefix in ("", "unprojected_")
        for group in ("cell", "background")
        for word in ("min", "mean")
    }
    errors = {"projected_mae": 3.0 + seed, "unprojected_mae": 2.5, "extractor_mae": 4.0}
    purity = {"box_purity_cell": k / 20, "box_purity_background": 1.0}
    return {"seed": seed, **squared, **errors, **purity, **figures}


def test_the_sweep_has_a_curve_of_means_and_a_dot_per_run():
    results = {f"K = {k}": [result(k, 0), result(k, 1)] for k in (2, 4, 6)}
    error, purity = prototype_figures.sweep({**results, "default": [result(6)]}).axes
    curves = {line.get_label(): line.get_xydata() for line in error.lines}
    np.testing.assert_array_equal(
        curves["after the last projection"], [[2, 3.5], [4, 3.5], [6, 3.5]]
    )
    assert curves["its CSRNet"][0, 1] == 4.0
    assert error.get_ylim()[0] == 0
    assert error.get_ylim()[1] > 4.0
    cells = next(line for line in purity.lines if line.get_label() == "cell prototypes")
    np.testing.assert_allclose(cells.get_ydata(), [0.1, 0.2, 0.3])
    dots = [line for line in error.lines if line.get_linestyle() == "None"]
    assert sorted(y for line in dots for y in line.get_ydata()) == [2.5] * 6 + [3.0] * 3 + [4.0] * 3


def test_table_2_compares_the_same_figures_with_and_without_diversity():
    off = result(6, unprojected_squared_distance_background_mean=0.01)
    results = {"no diversity loss": [off], "default": [result(6), result(4, 1)]}
    lines = prototype_figures.distances(results).splitlines()
    assert lines[2] == "| off, before the last projection | 0.60 | 0.60 | 0.60 | 0.01 |"
    assert lines[3].startswith("| on, before the last projection | 0.50 ± 0.14 |")
    assert lines[4].startswith("| off, after it | 0.60 |")
    assert lines[6] == "| off, paper | 0.69 | 1.09 | 0.01 | 0.01 |"


def test_recorded_runs_are_those_of_the_config_the_last_of_each_seed(tmp_path):
    path = tmp_path / "lines.jsonl"
    runs = [(CONFIG, "K = 2", 0, 1.0), (CONFIG, "K = 2", 1, 2.0), (CONFIG, "K = 2", 0, 3.0)]
    runs.append(("configs/countxplain_mbm.py:quick", "K = 2", 0, 9.0))
    lines = [
        json.dumps({"config": c, "figures": {"variant": v, "seed": s, "projected_mae": mae}})
        for c, v, s, mae in runs
    ]
    path.write_text("\n".join(lines) + "\n")
    found = prototype_figures.recorded(path, CONFIG)
    assert {r["seed"]: r["projected_mae"] for r in found["K = 2"]} == {0: 3.0, 1: 2.0}
    with pytest.raises(ValueError, match="holds no runs of configs/other"):
        prototype_figures.recorded(path, "configs/other.py")


def test_planes_are_of_one_scale_and_show_prototypes_before_and_after():
    made = explanations.prototypes_of(made_prototypes.counter())
    wide = dataclasses.replace(made, vectors=made.vectors + 3)
    first, second = prototype_figures.principal_planes({"a": made, "b": wide}).axes[:2]
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    # Features of two dimensions: distances in the plane are those of the features.
    after = np.array([line.get_xydata()[0] for line in first.lines[1::2]])
    np.testing.assert_allclose(
        np.linalg.norm(after[0] - after[1]), np.linalg.norm(made.vectors[0] - made.vectors[1])
    )
    before = np.array([line.get_xydata()[0] for line in first.lines[::2]])
    np.testing.assert_allclose(np.linalg.norm(before - after, axis=1), np.sqrt(2) * 0.05, rtol=1e-4)
    assert first.get_title() == "a\nleast d²: 0.08, 0.02"


def test_similarity_maps_of_two_counters_share_their_scale():
    counter, sample = made_prototypes.counter(), made_prototypes.sample()
    figure = prototype_figures.similarity_maps({"off": counter, "on": counter}, sample)
    images = [axes.images[0] for axes in figure.axes[:10]]
    found = explanations.explain(counter, sample.image)
    np.testing.assert_array_equal(images[1].get_array(), found.similarity[..., 0])
    np.testing.assert_array_equal(images[9].get_array(), found.similarity[..., 3])
    limits = {image.get_clim() for image in (*images[1:5], *images[6:])}
    assert limits == {(0, found.similarity.max())}

"""The ablation of CountXplain: which variants are trained, its table and its plot."""

import pytest

from benchmarks.accuracy import ablation, prototype_ablation
from configs import countxplain_vgg


@pytest.mark.parametrize(
    ("name", "changes"),
    [("K = 6", False), ("tau = 0.8", False), ("K = 2", True), ("tau = 0", True)],
)
def test_only_variants_that_differ_from_the_config_are_trained(name, changes):
    config = countxplain_vgg.get_config("quick")
    fields = prototype_ablation.VARIANTS[name]
    assert prototype_ablation.changed_fields(config, fields) == (list(fields) if changes else [])


def test_the_table_has_means_and_deviations_and_dashes_for_missing_figures():
    results = {"default": [{"mae": 2.0}, {"mae": 4.0}], "K = 2": [{"mae": 3.0}]}
    lines = ablation.table(results, prototype_ablation.COLUMNS).splitlines()
    assert lines[2].startswith("| default | 3.00 ± 1.41 | - |")
    assert lines[3].startswith("| K = 2 | 3.00 | - |")


def test_the_plot_has_a_dot_for_each_seed_and_no_distance_below_its_scale():
    key = "unprojected_squared_distance_background_min"
    results = {
        "default": [{"projected_mae": 2.0, key: 1.5}, {"projected_mae": 3.0, key: 0.7}],
        "no diversity loss": [{"projected_mae": 2.0, key: 0.0}],
    }
    error, distance, purity = prototype_ablation.plot(results).axes
    assert [len(line.get_xdata()) for line in error.lines] == [2, 1]
    assert distance.lines[1].get_xdata()[0] == prototype_ablation.MIN_DISTANCE
    assert not purity.lines

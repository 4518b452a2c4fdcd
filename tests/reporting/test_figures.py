"""What plots of counts show."""

import numpy as np
import pytest

from cellcount_jax.reporting import figures


def test_limits_of_agreement_lie_196_standard_deviations_from_the_bias():
    predicted, true = [12.0, 7.0, 30.0], [10.0, 8.0, 25.0]
    axes = figures.limits_of_agreement(predicted, true, "image").axes[0]
    spread = 1.96 * np.std([2.0, -1.0, 5.0], ddof=1)
    levels = [line.get_ydata()[0] for line in axes.lines]
    assert levels == pytest.approx([2.0, 2.0 - spread, 2.0 + spread, 0.0])
    points = axes.collections[0].get_offsets()
    np.testing.assert_allclose(points, [(11.0, 2.0), (7.5, -1.0), (27.5, 5.0)])
    assert axes.texts[2].get_text() == f"+1.96 SD {2.0 + spread:+.1f}"

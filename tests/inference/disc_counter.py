"""A counter of bright discs that was trained, so it says, on cells of one diameter."""

from cellcount_jax.data.preprocess import Preprocessing
from cellcount_jax.data.resampling import Resampling
from cellcount_jax.inference.counter import Counter
from cellcount_jax.methods.base import Readout, Stage, Variables


def disc_counter(cell_diameter, **facts):
    """Finds bright pixels; says at what size of cells it was trained."""
    stage = Stage(
        name="bright",
        init=None,
        loss=None,
        predict=lambda variables, images: {"density": images[..., 0]},
        readout=Readout("density", points_map="density", count="peaks", threshold=0.6),
        stride=1,
        halo=2,
    )
    by_range = Preprocessing(channels=1, normalise="minmax")
    nothing = Variables({}, {}, {}, {})
    return Counter(
        stage, nothing, by_range, resampling=Resampling(cell_diameter=cell_diameter), facts=facts
    )

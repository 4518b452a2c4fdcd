"""Simulated cells: exact dots, identical bits everywhere, the statistics of the real set."""

import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest
from PIL import Image

from cellcount_jax.io.annotations.dots import read_dots
from cellcount_jax.io.images.image import read_image
from cellcount_jax.simulation import camera, placement, render_cells
from cellcount_jax.simulation.presets import PRESETS, draw_count
from cellcount_jax.simulation.simulate import simulate_cells, simulate_dataset, write_simulated

SMALL = {"vgg": (48, 64), "light_sheet": (16, 48, 40)}


def digest(*arrays):
    together = hashlib.sha256()
    for a in arrays:
        together.update(f"{a.dtype}{a.shape}".encode())
        together.update(np.ascontiguousarray(a).tobytes())
    return together.hexdigest()[:16]


@pytest.mark.parametrize(
    ("preset", "expected"), [("vgg", "38d4b82c1d638464"), ("light_sheet", "57702c2ff961d749")]
)
def test_images_are_bitwise_reproducible(preset, expected):
    # Change these only together with a note that simulated datasets have changed.
    got = digest(*simulate_cells(7, SMALL[preset], 9, preset=preset))
    assert got == expected


@pytest.mark.parametrize("preset", SMALL)
def test_the_seed_determines_everything(preset):
    first = simulate_cells(3, SMALL[preset], preset=preset)
    again = simulate_cells(3, SMALL[preset], preset=preset)
    other = simulate_cells(4, SMALL[preset], preset=preset)
    assert digest(*first) == digest(*again)
    assert digest(*first) != digest(*other)


@pytest.mark.parametrize(
    ("preset", "shape", "count"),
    [
        ("vgg", (48, 64), 0),
        ("vgg", (48, 64), 1),
        ("vgg", (31, 45), 60),
        ("vgg", (1, 7), 3),
        ("light_sheet", (16, 48, 40), 0),
        ("light_sheet", (9, 33, 21), 12),
    ],
)
def test_as_many_dots_as_requested_all_inside(preset, shape, count):
    image, dots, labels = simulate_cells(1, shape, count, preset=preset, return_labels=True)
    channels, dtype = {"vgg": (3, np.uint8), "light_sheet": (1, np.uint16)}[preset]
    assert image.shape == (*shape, channels)
    assert image.dtype == dtype
    assert dots.shape == (count, len(shape))
    assert dots.dtype == np.float32
    assert (dots >= 0).all()
    assert (dots <= np.array(shape) - 1).all()
    assert labels.shape == shape
    assert labels.max() <= count


@pytest.mark.parametrize("preset", SMALL)
def test_dots_lie_on_cells(preset):
    shape = {"vgg": (128, 128), "light_sheet": (24, 80, 80)}[preset]
    image, dots, labels = simulate_cells(0, shape, 25, preset=preset, return_labels=True)
    at = tuple(np.rint(dots).astype(int).T)
    bright = image.max(axis=-1).astype(float)
    assert bright[at].mean() > 1.5 * bright[labels == 0].mean()
    assert (labels[at] > 0).all()
    # the centroid of a label lies at its dot, for a cell that is whole and isolated
    whole = simulate_cells(0, shape, 1, preset=preset, return_labels=True)
    centre = np.argwhere(whole[2] == 1).mean(axis=0)
    assert np.abs(centre - whole[1][0]).max() < 1.0


def test_labels_are_numbered_like_the_dots():
    _, dots, labels = simulate_cells(2, (24, 96, 96), 60, preset="light_sheet", return_labels=True)
    at = tuple(np.rint(dots).astype(int).T)
    assert (labels[at] == np.arange(1, 61)).mean() > 0.95
    _, dots, labels = simulate_cells(2, (128, 128), 30, overlap=0.0, return_labels=True)
    assert (labels[tuple(np.rint(dots).astype(int).T)] == np.arange(1, 31)).all()


def test_labels_do_not_change_the_image():
    for preset, shape in SMALL.items():
        plain = simulate_cells(5, shape, 8, preset=preset)
        labelled = simulate_cells(5, shape, 8, preset=preset, return_labels=True)
        assert digest(*plain) == digest(*labelled[:2])


@pytest.mark.parametrize("preset", PRESETS)
def test_counts_follow_the_published_distribution(preset):
    settings = PRESETS[preset]
    rng = np.random.default_rng(0)
    drawn = np.array([draw_count(rng, settings, settings.reference_shape) for _ in range(4000)])
    low, high = settings.count_range
    assert low <= drawn.min()
    assert drawn.max() <= high
    assert drawn.mean() == pytest.approx(settings.count_mean, rel=0.03)
    assert drawn.std() == pytest.approx(settings.count_std, rel=0.05)


def test_count_keeps_the_density():
    settings = PRESETS["vgg"]
    whole = [draw_count(np.random.default_rng(i), settings, (256, 256)) for i in range(20)]
    half = [draw_count(np.random.default_rng(i), settings, (256, 128)) for i in range(20)]
    np.testing.assert_allclose(half, np.array(whole) / 2, atol=0.5)


def test_presets_have_the_published_counts():
    assert (PRESETS["vgg"].count_mean, PRESETS["vgg"].count_std) == (174, 64)
    assert (PRESETS["light_sheet"].count_mean, PRESETS["light_sheet"].count_std) == (861, 256)
    assert PRESETS["light_sheet"].reference_shape == (64, 224, 224)


def test_each_sample_depends_only_on_seed_and_index():
    few = list(simulate_dataset(11, 3, (32, 32), "vgg"))
    more = list(itertools.islice(simulate_dataset(11, 100, (32, 32), "vgg"), 3))
    assert [s.name for s in few] == ["sim_000000", "sim_000001", "sim_000002"]
    for a, b in zip(few, more, strict=True):
        assert digest(a.image, a.dots) == digest(b.image, b.dots)
    assert digest(few[0].image) != digest(few[1].image)
    assert few[0].count == len(few[0].dots)
    volume = next(simulate_dataset(0, 1, (8, 24, 24), "light_sheet"))
    assert volume.spacing == (2.5, 0.75, 0.75)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "confocal"}, "confocal.*choose one of vgg, light_sheet"),
        ({"shape": (8, 32, 32)}, r"\(8, 32, 32\) does not suit preset 'vgg'"),
        ({"shape": (32, 32), "preset": "light_sheet"}, r"needs \(D, H, W\)"),
        ({"shape": (32, 0)}, "does not suit"),
        ({"count": -1}, "count -1"),
        ({"count": 2.5}, "count 2.5"),
        ({"count": 10**9}, "more cells than pixels"),
        ({"count": 900, "overlap": 0.0}, "do not fit"),
        ({"count": 60, "overlap": 0.0, "shape": (64, 64)}, "do not fit"),
        ({"blurr": 1.0}, "no parameter 'blurr'.*blur"),
        ({"radius": -1.0}, "radius=-1.0"),
        ({"overlap": 1.5}, "overlap=1.5"),
        ({"read_noise": float("nan")}, "read_noise"),
        ({"blur": (3.0, 1.0)}, "blur"),
        ({"count_mean": 10.0}, "count_mean"),
    ],
)
def test_bad_arguments_give_one_clear_line(arguments, message):
    shape = arguments.pop("shape", (64, 64))
    with pytest.raises(ValueError, match=message) as caught:
        simulate_cells(0, shape, arguments.pop("count", 5), **arguments)
    assert "\n" not in str(caught.value)


def test_a_data_set_raises_before_the_first_sample():
    with pytest.raises(ValueError, match="does not suit"):
        simulate_dataset(0, 5, (8, 8, 8), "vgg")
    with pytest.raises(ValueError, match="-1"):
        simulate_dataset(0, -1)


def test_every_parameter_changes_the_image():
    shape, n = (64, 64), 20
    plain = simulate_cells(0, shape, n)[0]
    for field in dataclasses.fields(PRESETS["vgg"]):
        if field.name.startswith(("count_", "reference", "spacing", "cluster_")):
            continue
        value = getattr(PRESETS["vgg"], field.name)
        other = {
            "overlap": 0.2,
            "clustered": 0.5,
            "blur": (2.0, 4.0),
            "photons": 1.0,
            "illumination": 0.5,
            "shared_focus": False,
            "chroma_subsampling": False,
        }.get(field.name, value * 1.5 if isinstance(value, float) else None)
        assert digest(simulate_cells(0, shape, n, **{field.name: other})[0]) != digest(plain)


# --- components --------------------------------------------------------------------------------


@pytest.mark.parametrize("ndim", [2, 3])
def test_placed_centres_keep_their_distance(ndim):
    shape, apart = ((90, 70), (8.0, 8.0)) if ndim == 2 else ((20, 40, 40), (3.0, 9.0, 9.0))
    rng = np.random.default_rng(0)
    points = placement.place_cells(
        rng, placement.uniform_positions(shape), 40, shape, min_distance=apart
    )
    gap = (points[:, None] - points) / np.array(apart)
    distance = np.sqrt((gap**2).sum(-1)) + 9 * np.eye(len(points))
    assert len(points) == 40
    assert distance.min() >= 1
    # not a lattice: many are almost as close as allowed
    assert (distance.min(axis=1) < 1.3).mean() > 0.3


def test_clusters_are_clustered():
    rng = np.random.default_rng(0)
    plain = simulate_cells(0, (200, 200), 120, crowding=0.0, centring=0.0)[1]
    clustered = simulate_cells(0, (200, 200), 120, clustered=0.9, cluster_spread=6.0)[1]

    def nearest(points):
        d = np.hypot(*(points[:, None] - points).transpose(2, 0, 1)) + 1e3 * np.eye(len(points))
        return d.min(axis=1).mean()

    assert nearest(clustered) < 0.7 * nearest(plain)
    folded = placement.cluster_positions(rng, (20, 30), 50, size=5, spread=40.0)(rng, 500)
    assert (folded >= 0).all()
    assert (folded <= [19, 29]).all()


def test_touching_groups_are_connected_components():
    # 0 and 2 overlap, 2 and 1 overlap, 3 is alone
    centres = np.array([[10.0, 10.0], [10.0, 22.0], [10.0, 16.0], [30.0, 30.0]])
    corner, (dy, dx) = render_cells.offsets(centres, (5, 5))
    cover = (np.hypot(dy, dx) < 4).astype(float)
    index, inside = render_cells.pixel_index(corner, cover.shape[1:], (40, 40))
    groups = render_cells.touching_groups((40, 40), index, inside, cover)
    np.testing.assert_array_equal(groups, [0, 0, 0, 3])


def test_the_cell_in_front_hides_the_one_behind():
    centres = np.array([[10.0, 10.0], [10.0, 12.0]])
    corner, (dy, dx) = render_cells.offsets(centres, (5, 5))
    cover = (np.hypot(dy, dx) < 4).astype(float)
    index, inside = render_cells.pixel_index(corner, cover.shape[1:], (20, 20))
    labels, seen = render_cells.occlude((20, 20), index, inside, cover)
    total = np.zeros((20, 20))
    render_cells.add_boxes(total, index, inside, seen)
    np.testing.assert_array_equal(total, labels > 0)
    assert labels[10, 11] == labels[10, 15] == 2
    assert labels[10, 7] == 1


def test_a_cell_at_the_border_is_cropped_not_wrapped():
    corner, (dy, _) = render_cells.offsets(np.array([[0.0, 19.0]]), (2, 2))
    index, inside = render_cells.pixel_index(corner, (5, 5), (20, 20))
    total = np.zeros((20, 20))
    render_cells.add_boxes(total, index, inside, np.ones((1, 5, 5)))
    assert dy.shape == (1, 5, 1)
    assert total.sum() == 9
    assert total[:3, 17:].all()


def test_illumination_field_has_mean_one_and_the_given_minimum():
    field = camera.illumination_field(np.random.default_rng(0), (40, 60), depth=0.7, variety=0.5)
    assert field.mean() == pytest.approx(1)
    assert field.min() == pytest.approx(0.3)
    even = camera.illumination_field(np.random.default_rng(0), (40, 60), depth=0.0, variety=0.5)
    assert np.ptp(even) == 0


def test_uniform_blue_survives_the_colour_coding():
    for level in (0, 7, 100, 240):
        image = camera.add_chroma_subsampling(np.full((5, 7), float(level)))
        assert np.abs(image.astype(int) - [0, 0, level]).max() <= 1


def test_brightness_falls_with_depth():
    image, _ = simulate_cells(
        0, (48, 40, 40), 90, preset="light_sheet", crowding=0.0, attenuation=0.8, background=0.0
    )
    slices = image.reshape(48, -1).mean(axis=1)
    assert slices[-12:].mean() < 0.7 * slices[:12].mean()


# --- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("preset", "format"),
    [("vgg", "png"), *itertools.product(["vgg", "light_sheet"], ["tiff", "zarr", None])],
)
def test_written_folders_read_back(tmp_path, preset, format):
    write_simulated(tmp_path, 2, seed=5, shape=SMALL[preset], preset=preset, format=format)
    truth = list(simulate_dataset(5, 2, SMALL[preset], preset))
    images = sorted((tmp_path / "images").iterdir())
    assert [p.name.split(".")[0] for p in images] == [s.name for s in truth]
    for path, sample in zip(images, truth, strict=True):
        image = read_image(path)
        np.testing.assert_array_equal(image.pixels, sample.image)
        if sample.spacing:
            assert image.spacing == pytest.approx(sample.spacing)
        table = tmp_path / "dots" / f"{sample.name}.csv"
        header = "index,axis-0,axis-1" + ",axis-2" * (preset == "light_sheet")
        assert table.read_text().splitlines()[0] == header
        np.testing.assert_array_equal(read_dots(table).points, sample.dots)
    record = json.loads((tmp_path / "simulation.json").read_text())
    assert (record["seed"], record["preset"]) == (5, preset)


def test_images_without_cells_are_written(tmp_path):
    write_simulated(tmp_path, 1, shape=(32, 32), count=0)
    assert (tmp_path / "dots" / "sim_000000.csv").read_text().splitlines() == [
        "index,axis-0,axis-1"
    ]


def test_writing_refuses_impossible_formats_and_full_folders(tmp_path):
    with pytest.raises(ValueError, match="PNG cannot hold a volume"):
        write_simulated(tmp_path, 1, preset="light_sheet", format="png")
    with pytest.raises(ValueError, match="'bmp'"):
        write_simulated(tmp_path, 1, format="bmp")
    assert not list(tmp_path.iterdir())
    write_simulated(tmp_path, 1, shape=(32, 32))
    with pytest.raises(ValueError, match="not empty"):
        write_simulated(tmp_path, 1, shape=(32, 32))


# --- compared with the real images --------------------------------------------------------------


def band_power(blue):
    """Power in three frequency bands: cells, their edges and texture, noise."""
    window = np.hanning(256)[:, None] * np.hanning(256)
    blue = blue - blue.mean(axis=(1, 2), keepdims=True)
    power = (np.abs(np.fft.fft2(blue * window)) ** 2).mean(axis=0)
    f = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256))
    return [
        power[(f >= low) & (f < high)].mean()
        for low, high in [(0.02, 0.06), (0.1, 0.2), (0.4, 0.5)]
    ]


def test_preset_vgg_has_the_statistics_of_the_vgg_set(raw_dir):
    paths = sorted((raw_dir / "vgg_cells").glob("*cell.png"))[::8]
    if not paths:
        pytest.skip("vgg_cells is missing")
    real = np.stack([np.asarray(Image.open(p).convert("RGB")) for p in paths])
    marks = [np.asarray(Image.open(str(p).replace("cell.png", "dots.png"))) for p in paths]
    counts = [int((m[..., 0] == 255).sum()) for m in marks]
    simulated = np.stack([simulate_cells([1, i], None, n)[0] for i, n in enumerate(counts)])
    assert simulated.shape == real.shape

    blue, blue_real = (a[..., 2].astype(float) for a in (simulated, real))
    assert blue.mean() == pytest.approx(blue_real.mean(), rel=0.04)
    assert blue.std() == pytest.approx(blue_real.std(), rel=0.06)
    shares = [5, 25, 50, 75, 95]
    np.testing.assert_allclose(
        np.percentile(blue, shares), np.percentile(blue_real, shares), atol=6, rtol=0.04
    )
    # brightness grows with the count as in the real set
    slope, slope_real = (np.polyfit(counts, b.mean(axis=(1, 2)), 1)[0] for b in (blue, blue_real))
    assert slope == pytest.approx(slope_real, rel=0.12)
    np.testing.assert_allclose(band_power(blue), band_power(blue_real), rtol=0.3)
    for channel in (0, 1):
        assert abs(simulated[..., channel].mean() - real[..., channel].mean()) < 0.2

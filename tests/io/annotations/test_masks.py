"""Dots images, label masks and Cellpose files, among them those of the public sets."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from scipy import ndimage

from cellcount_jax.io.annotations.centroids import label_centroids
from cellcount_jax.io.annotations.dots import detect_format, read_dots, write_dots


def _png(path: Path, values: np.ndarray) -> Path:
    PIL.Image.fromarray(values).save(path)
    return path


def _blobs(numbers=(1, 2, 7)) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint16)
    mask[2:6, 3:8], mask[2:6, 8:12], mask[10:19, 20:23] = numbers
    return mask


# Means of the three cells of `_blobs`.
_CENTRES = np.array([[3.5, 5], [3.5, 9.5], [14, 21]], np.float32)


def test_marked_pixels_are_counted_even_if_they_touch(tmp_path):
    where = [(0, 0), (5, 6), (5, 7), (6, 7), (19, 29), (12, 3), (14, 3)]
    colour = np.zeros((20, 30, 3), np.uint8)
    colour[tuple(np.transpose(where))] = 255, 0, 0
    bits = colour[..., 0] > 0
    files = [
        _png(tmp_path / "vgg.png", colour),
        _png(tmp_path / "mbm.png", bits),
        _png(tmp_path / "grey.png", colour[..., 0]),
        _png(
            tmp_path / "white.png",
            np.where(bits[..., None], np.uint8([255, 0, 0]), np.uint8([0, 9, 9])),
        ),
    ]
    tifffile.imwrite(tmp_path / "dots.tif", bits.astype(np.uint8))
    for path in [*files, tmp_path / "dots.tif"]:
        assert detect_format(path) == "dots_image"
        np.testing.assert_array_equal(read_dots(path).points, sorted(where))


def test_jpeg_marks_are_above_half(tmp_path):
    pixels = np.zeros((24, 24, 3), np.uint8)
    pixels[3:21:6, 3:21:6] = 255, 0, 0
    path = tmp_path / "dots.jpeg"
    PIL.Image.fromarray(pixels).save(path, quality=100, subsampling=0)
    np.testing.assert_array_equal(read_dots(path).points, np.argwhere(pixels[..., 0]))


def test_label_masks_give_centroids(tmp_path):
    mask = _blobs()
    tifffile.imwrite(tmp_path / "a.tif", mask, compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", mask.astype(np.float32))
    np.save(tmp_path / "c.npy", mask.astype(np.int32))
    _png(tmp_path / "d.png", mask)
    palette = PIL.Image.fromarray(mask.astype(np.uint8))
    palette.putpalette(list(range(256)) * 3)
    palette.save(tmp_path / "e.png")
    np.save(tmp_path / "f.npy", mask[..., None])
    for name in ("a.tif", "b.tif", "c.npy", "d.png", "e.png", "f.npy"):
        assert detect_format(tmp_path / name) == "label_mask"
        np.testing.assert_array_equal(read_dots(tmp_path / name).points, _CENTRES)
        with pytest.raises(ValueError, match="20x30 pixels, but this one has 30x20"):
            read_dots(tmp_path / name, image_shape=(30, 20))


def test_one_cell_and_no_cell(tmp_path):
    one = (_blobs() == 7).astype(np.uint8)
    np.testing.assert_array_equal(read_dots(_png(tmp_path / "one.png", one)).points, _CENTRES[2:])
    assert len(read_dots(_png(tmp_path / "none.png", one * 0))) == 0


def test_volumes(tmp_path):
    volume = np.stack([_blobs()] * 3)
    tifffile.imwrite(tmp_path / "v.tif", volume, photometric="minisblack")
    expected = np.concatenate([np.ones((3, 1)), _CENTRES], axis=1)
    np.testing.assert_array_equal(read_dots(tmp_path / "v.tif").points, expected)


def test_images_of_neither_kind_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    photo = _png(tmp_path / "photo.png", rng.integers(0, 255, (40, 40), dtype=np.uint8))
    colour = _png(tmp_path / "rgb.png", rng.integers(0, 255, (40, 40, 3), dtype=np.uint8))
    binary = _png(tmp_path / "binary.png", (_blobs() > 0).astype(np.uint8) * 255)
    for path, words in (
        (photo, "photograph"),
        (colour, "photograph"),
        (binary, "Number the cells"),
    ):
        with pytest.raises(ValueError, match=words):
            read_dots(path)
    with pytest.raises(ValueError, match="Number the cells"):
        read_dots(binary, format="label_mask")
    np.save(tmp_path / "half.npy", np.full((4, 4), 0.5))
    with pytest.raises(ValueError, match="not whole numbers"):
        read_dots(tmp_path / "half.npy")


def test_a_png_with_a_wrong_checksum_is_refused(tmp_path):
    path = _png(tmp_path / "a.png", _blobs())
    data = bytearray(path.read_bytes())
    data[data.index(b"IEND") - 5] ^= 1  # the last byte of the pixels' checksum
    path.write_bytes(data)
    with pytest.raises(ValueError, match="wrong checksum"):
        read_dots(path)


def test_a_tiff_without_its_pixels_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, _blobs())
    with tifffile.TiffFile(path, mode="r+b") as file:
        file.pages[0].tags["StripByteCounts"].overwrite(0)
    with pytest.raises(ValueError, match="pixels are missing"):
        read_dots(path)


def test_centroids_agree_with_scipy():
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 40, (6, 25, 30)) * 3
    ids = np.unique(mask[mask > 0])
    expected = ndimage.center_of_mass(mask > 0, mask, ids)
    np.testing.assert_allclose(label_centroids(mask), expected, atol=1e-5)
    huge = np.where(mask > 0, mask.astype(np.int64) + (1 << 30), 0)
    np.testing.assert_allclose(label_centroids(huge), expected, atol=1e-5)
    assert label_centroids(mask * 0).shape == (0, 3)


def _cellpose(path: Path, masks: np.ndarray, **more) -> Path:
    content = {
        "outlines": masks,
        "masks": masks,
        "chan_choose": [0, 0],
        "ismanual": np.zeros(3, bool),
        "filename": "a.tif",
        "flows": [[np.zeros((2, 2), np.float32)], None],
        "diameter": np.float64(30.5),
        "est_diam": 1.5,
    }
    np.save(path, content | more, allow_pickle=True)
    return path


def test_cellpose(tmp_path):
    path = _cellpose(tmp_path / "a_seg.npy", _blobs())
    assert detect_format(path) == "label_mask"
    np.testing.assert_array_equal(read_dots(path).points, _CENTRES)
    path = _cellpose(tmp_path / "f_seg.npy", np.asfortranarray(_blobs()[None].astype(">i4")))
    np.testing.assert_array_equal(read_dots(path).points, _CENTRES)


@pytest.mark.parametrize("protocol", [3, 4, 5])  # np.save under Python 3 never wrote others
def test_cellpose_of_any_pickle_protocol(tmp_path, protocol):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (), "fortran_order": False, "descr": "|O"}
    )
    path = tmp_path / "p_seg.npy"
    content = np.array({"masks": _blobs()}, dtype=object)
    path.write_bytes(header.getvalue() + pickle.dumps(content, protocol=protocol))
    np.testing.assert_array_equal(read_dots(path).points, _CENTRES)


class _Trap:
    """Its pickle makes a folder when it is executed."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_pickles_are_never_executed(tmp_path):
    sprung = tmp_path / "sprung"
    beside = _cellpose(tmp_path / "beside.npy", _blobs(), extra=_Trap(sprung))
    np.testing.assert_array_equal(read_dots(beside).points, _CENTRES)
    instead = _cellpose(tmp_path / "instead.npy", _Trap(sprung))
    with pytest.raises(ValueError, match="not a readable Cellpose file"):
        read_dots(instead)
    assert not sprung.exists()
    np.load(beside, allow_pickle=True)
    assert sprung.exists()  # the trap was real


def test_images_to_write(tmp_path):
    points = np.array([[1.2, 2.7], [5, 6]])
    with pytest.raises(ValueError, match="needs image_shape"):
        write_dots(tmp_path / "a.png", points, format="dots_image")
    with pytest.raises(ValueError, match="one pixel"):
        write_dots(tmp_path / "a.png", points * 0, format="dots_image", image_shape=(9, 9))
    with pytest.raises(ValueError, match="outside"):
        write_dots(tmp_path / "a.png", points, format="label_mask", image_shape=(4, 4))
    write_dots(tmp_path / "a.png", points, format="dots_image", image_shape=(9, 9))
    assert np.argwhere(np.array(PIL.Image.open(tmp_path / "a.png"))).tolist() == [[1, 3], [5, 6]]


# The public sets, as far as they are present.


def _some(folder: Path, pattern: str, count: int) -> list[Path]:
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    files = sorted(folder.glob(pattern))
    return files[:: max(1, len(files) // count)]


@pytest.mark.parametrize(
    ("pattern", "mean", "deviation"),
    [
        ("vgg_cells/*dots.png", 176.0, 61.2),
        ("mbm/*dots*.png", 126.2, 33.1),
        ("adi/annotations/*.jpeg", 155.1, 35.9),
    ],
)
def test_public_dots_images(raw_dir, pattern, mean, deviation):
    files = _some(raw_dir / pattern.split("/")[0], pattern.split("/", 1)[1], 1000)
    counts = [len(read_dots(path)) for path in files]
    assert round(float(np.mean(counts)), 1) == mean
    assert abs(np.std(counts) - deviation) < 0.1


@pytest.mark.parametrize("pattern", ["dsb2018/labels/*.png", "bbbc050/labels/*.tif"])
def test_public_label_masks(raw_dir, pattern):
    folder, files = pattern.rsplit("/", 1)
    for path in _some(raw_dir / folder, files, 6):
        mask = tifffile.imread(path) if path.suffix == ".tif" else np.array(PIL.Image.open(path))
        read = read_dots(path, image_shape=mask.shape)
        assert len(read) == len(np.unique(mask)) - 1
        ids = np.unique(mask)[1:]
        np.testing.assert_allclose(
            read.points, ndimage.center_of_mass(mask > 0, mask, ids), atol=1e-4
        )


def test_public_volume_and_image(raw_dir):
    folder = raw_dir / "stardist3d"
    if not folder.exists():
        pytest.skip(f"{folder} is missing")
    assert read_dots(folder / "mask3d.tif").points.shape == (51, 3)
    assert read_dots(folder / "mask2d.tif").points.shape == (125, 2)
    for name in ("img2d.tif", "img3d.tif"):
        with pytest.raises(ValueError, match=r"photograph|whole numbers"):
            read_dots(folder / name)


@pytest.mark.parametrize("background", [1, 2])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 9])
def test_a_segmentation_into_classes_is_no_label_mask(tmp_path, n, background):
    classes = np.full((40, 100), background, np.uint8)
    for i in range(n):
        classes[2:8, 2 + 10 * i : 8 + 10 * i] = 3 - background
    tifffile.imwrite(tmp_path / "a.tif", classes)
    with pytest.raises(ValueError, match=rf"numbers every pixel, and .* them {background}: "):
        read_dots(tmp_path / "a.tif")


def test_cells_that_fill_the_image_are_a_label_mask(tmp_path):
    labels = np.repeat(np.repeat(np.arange(1, 26, dtype=np.uint8).reshape(5, 5), 8, 0), 8, 1)
    tifffile.imwrite(tmp_path / "a.tif", labels)
    assert len(read_dots(tmp_path / "a.tif")) == 25

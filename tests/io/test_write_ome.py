"""OME-TIFF files of equal images are equal."""

import numpy as np

from cellcount_jax.io.images.image import read_image
from cellcount_jax.io.write_ome import write_ome_tiff


def test_equal_images_are_equal_files_and_others_have_another_id(tmp_path):
    pixels = np.arange(30, dtype=np.float32).reshape(5, 6)
    found = []
    for name, image, spacing in (("a", pixels, (0.5, 0.5)), ("b", pixels, (0.5, 0.5)),
                                 ("c", pixels + 1, (0.5, 0.5)), ("d", pixels, None)):  # fmt: skip
        path = tmp_path / f"{name}.ome.tif"
        write_ome_tiff(path, image, axes="yx", spacing=spacing)
        np.testing.assert_array_equal(read_image(path).pixels[..., 0], image)
        found.append(path.read_bytes().partition(b"urn:uuid:")[2][:36])
    assert (tmp_path / "a.ome.tif").read_bytes() == (tmp_path / "b.ome.tif").read_bytes()
    assert len(set(found)) == 3

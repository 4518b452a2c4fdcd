"""Images that were replaced are counted again, whatever their time says."""

import os

from PIL import Image

from cellcount_jax.prediction import contents, predict_files
from tests.inference.made_counters import bright_counter, cells


def test_an_image_replaced_by_an_older_one_is_counted_again(tmp_path):
    counter, path, out = bright_counter(), tmp_path / "a.png", tmp_path / "out"
    Image.fromarray(cells((40, 32), 1)).save(path)
    before = predict_files.count_files(counter, path, out)
    Image.fromarray(cells((40, 32), 5)).save(path)
    os.utime(path, (1, 1))
    after = predict_files.count_files(counter, path, out)
    alone = predict_files.count_files(counter, path, tmp_path / "alone")
    assert after[0]["count"] == alone[0]["count"] != before[0]["count"]


def test_a_fingerprint_sees_every_byte_of_small_files_and_the_ends_of_large_ones(tmp_path):
    path, seen = tmp_path / "a", set()
    for data in (b"", b"a", b"b", b"ab"):
        path.write_bytes(data)
        seen.add(contents.fingerprint(path))
    for at in (0, 20_000_000):
        data = bytearray(20_000_001)
        data[at] = 1
        path.write_bytes(data)
        seen.add(contents.fingerprint(path))
    assert len(seen) == 6

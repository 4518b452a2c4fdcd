"""Remarks of a row, and the file's name in the line on the screen."""

import logging
from pathlib import Path

from cellcount_jax.prediction.remarks import remarks_of

log = logging.getLogger("cellcount_jax.anything")


def test_remarks_are_without_the_name_and_lines_with_it(caplog):
    with remarks_of(Path("lab/a.tif"), set()) as remarks:
        log.warning("is %s", "dark")
        log.warning("lab/a.tif: has %d scenes", 2)
        log.warning("is dark")
    with remarks_of(Path("lab/a.tif"), None) as again:
        log.warning("is dark")
    assert again == ["is dark"]
    log.warning("is of no file")
    assert remarks == ["is dark", "has 2 scenes"]
    assert caplog.messages == [
        *("lab/a.tif: is dark", "lab/a.tif: has 2 scenes", "is of no file"),
    ]

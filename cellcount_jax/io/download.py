"""Downloads, only on request: HTTPS, checked against a known checksum, kept in a cache folder."""

import logging
import os
import urllib.parse
from pathlib import Path

from cellcount_jax.runtime.error_text import one_line

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
CHUNK_BYTES = 1 << 20
TIMEOUT = 30.0
"""Seconds without data after which a download fails."""

log = logging.getLogger(__name__)


def cache_folder(name: str) -> Path:
    """Folder `name` in $CELLCOUNT_CACHE, else in the user's cache folder."""
    import pooch

    root = os.environ.get("CELLCOUNT_CACHE") or pooch.os_cache("cellcount_jax")
    return Path(root).expanduser() / name


def fetch(url: str, folder: str | Path, *, sha256: str | None, advice: str) -> Path:
    """A published file, from the folder or downloaded into it.

    Args:
      url: An HTTPS address; HTTP for this machine only.
      folder: Folder in which the file is kept under its name on the server; created if missing.
      sha256: Checksum of the file, checked at each use: a disk error would only show as a poor
        result. None: whatever the server gives.
      advice: Says what to do if it cannot be downloaded; ends the error message.

    Returns:
      Path of the checked file.

    Raises:
      ValueError: It cannot be downloaded, or its checksum differs.
    """
    import pooch

    responses = []

    def refuse_insecure_redirect(response, **_) -> None:
        responses.append(response)
        if response.is_redirect:
            target = response.headers["location"]
            _require_https(urllib.parse.urljoin(response.url, target))

    folder, name = Path(folder).expanduser(), url.rpartition("/")[2]
    pooch.get_logger().setLevel(logging.WARNING)  # it would print; this module logs instead
    get = pooch.HTTPDownloader(
        chunk_size=CHUNK_BYTES, timeout=TIMEOUT, hooks={"response": refuse_insecure_redirect}
    )

    def download(url: str, output_file, _) -> None:
        _require_https(url)
        log.info("downloading %s to %s", url, folder / name)
        get(url, output_file, None)
        os.chmod(output_file, 0o644)  # not for the user alone, as temporary files are

    try:
        path = pooch.retrieve(url, sha256, fname=name, path=folder, downloader=download)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise ValueError(f"{url}: cannot be downloaded ({one_line(error)}); {advice}") from error
    finally:
        for response in responses:
            response.close()
    return Path(path)


def _require_https(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOCAL_HOSTS):
        raise ValueError(f"{url} is not an HTTPS address")

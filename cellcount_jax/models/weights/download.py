"""Download of published weights, on request only: HTTPS, checked, kept in a user's cache folder."""

import contextlib
import hashlib
import http.client
import logging
import os
import re
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO

TORCHVISION_URL = "https://download.pytorch.org/models/"
"""Where torchvision's weights are published."""

_LOCAL = ("localhost", "127.0.0.1", "::1")
_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Folder of downloaded weights: in $CELLCOUNT_CACHE, else in the user's cache folder."""
    root = os.environ.get("CELLCOUNT_CACHE")
    if root:
        return Path(root).expanduser() / "weights"
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "cellcount_jax" / "weights"


def fetch(
    name: str, *, base_url: str = TORCHVISION_URL, cache_dir: str | Path | None = None
) -> Path:
    """A published file, from the cache or downloaded into it.

    Args:
      name: of the file, ending in the first hex digits of its SHA-256: `vgg19-dcbb9e9d.pth`.
      base_url: folder of the file on the server; HTTPS, but for this machine.
      cache_dir: where to keep it; None: `cache_folder()`.

    Returns:
      Path of the checked file.

    Raises:
      ValueError: it cannot be had, or its checksum differs; the line names the alternatives.
    """
    match = re.fullmatch(r".+-([0-9a-f]{8,64})\.\w+", name)
    if not match:
        raise ValueError(f"{name}: no checksum in the name, expected NAME-HEXDIGITS.pth")
    checksum = match[1]
    path = Path(cache_dir).expanduser() / name if cache_dir else cache_folder() / name
    url = base_url.rstrip("/") + "/" + name
    try:
        # Checked again at each use: a disk error would only show as a poor result.
        if path.is_file() and _digest(path).startswith(checksum):
            return path
        _require_secure(url)
        _log.info("downloading %s to %s", url, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(url, path, checksum)
    except urllib.error.HTTPError as error:
        with contextlib.closing(error):
            raise _unavailable(url, f"HTTP {error.code} {error.reason}", name) from error
    except urllib.error.URLError as error:
        raise _unavailable(url, str(error.reason), name) from error
    except (OSError, http.client.HTTPException, _BadDownloadError) as error:
        raise _unavailable(url, str(error) or type(error).__name__, name) from error
    return path


class _BadDownloadError(Exception):
    """The server was reached, but what it gave must not be used."""


class _SecureRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where a download may come from in the first place."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        try:
            _require_secure(newurl)
        except _BadDownloadError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_secure(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL):
        return
    raise _BadDownloadError(f"{url} is no HTTPS address")


def _download(url: str, path: Path, checksum: str) -> None:
    """Beside its place first, so that a broken download never lies under the file's name."""
    opener = urllib.request.build_opener(_SecureRedirects())
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as part:
        try:
            with opener.open(url, timeout=_TIMEOUT) as response:
                digest = _copy(response, part)
            if not digest.startswith(checksum):
                raise _BadDownloadError(
                    f"its SHA-256 begins with {digest[: len(checksum)]}, not {checksum}"
                )
            part.close()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unavailable(url: str, reason: str, name: str) -> ValueError:
    reason = " ".join(reason.split())
    return ValueError(
        f"{url}: weights not available ({reason}); use a local file with "
        f"model.pretrained=/path/to/{name}, or train from scratch with model.pretrained=None"
    )

"""Downloads, against a server on this machine."""

import hashlib
import http.server
import logging
import socket
import threading

import pytest

from cellcount_jax.models.weights import download
from cellcount_jax.models.weights.download import cache_folder, fetch

CONTENT = b"weights " * 1000
NAME = f"vgg-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
ADVICE = (
    rf"use a local file with model\.pretrained=/path/to/{NAME}, "
    r"or train from scratch with model\.pretrained=None$"
)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        kind = self.path.split("/")[1]
        if kind == "missing":
            self.send_error(404)
        elif kind == "moved":
            self.answer(302, b"", Location=f"/good/{NAME}")
        elif kind == "insecure":
            self.answer(302, b"", Location=f"http://example.invalid/{NAME}")
        elif kind == "wrong":
            self.answer(200, b"other " * 1000)
        elif kind == "cut":
            self.answer(200, CONTENT[:100], length=len(CONTENT))
        else:
            self.answer(200, CONTENT)

    def answer(self, code, body, length=None, **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = 0
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["good", "good/", "moved"])
def test_download_once(server, tmp_path, kind, caplog):
    folder = tmp_path / "deep" / "cache"
    with caplog.at_level(logging.INFO):
        path = fetch(NAME, base_url=f"{server.url}/{kind}", cache_dir=folder)
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == [NAME]
    assert f"downloading {server.url}" in caplog.text
    n_requests = server.requests
    assert fetch(NAME, base_url=f"{server.url}/{kind}", cache_dir=folder) == path
    assert server.requests == n_requests


def test_a_damaged_file_of_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:50])
    assert fetch(NAME, base_url=f"{server.url}/good", cache_dir=tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "HTTP 404 Not Found"),
        ("wrong", rf"its SHA-256 begins with [0-9a-f]{{8}}, not {NAME[4:12]}"),
        ("cut", "its SHA-256 begins with|IncompleteRead"),
        ("insecure", "http://example.invalid/.* is no HTTPS address"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(server, tmp_path, kind, reason):
    with pytest.raises(ValueError, match=rf"{NAME}: weights not available \({reason}.*") as caught:
        fetch(NAME, base_url=f"{server.url}/{kind}", cache_dir=tmp_path)
    assert caught.match(ADVICE)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match="Connection refused") as caught:
            fetch(NAME, base_url=url, cache_dir=tmp_path)
    assert caught.match(ADVICE)


@pytest.mark.parametrize("url", ["http://example.invalid/", "ftp://127.0.0.1/", "file:///tmp/"])
def test_only_https_beyond_this_machine(tmp_path, url):
    with pytest.raises(ValueError, match="is no HTTPS address"):
        fetch(NAME, base_url=url, cache_dir=tmp_path)


def test_a_cache_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="weights not available"):
        fetch(NAME, base_url=f"{server.url}/good", cache_dir=tmp_path / "file" / "cache")


def test_a_name_without_checksum_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"vgg\.pth: no checksum in the name"):
        fetch("vgg.pth", cache_dir=tmp_path)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CELLCOUNT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own" / "weights"
    monkeypatch.delenv("CELLCOUNT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "cellcount_jax" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "cellcount_jax" / "weights"


def test_default_address_is_secure():
    assert download.TORCHVISION_URL.startswith("https://")

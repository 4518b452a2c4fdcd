"""Downloads, against a server on this machine."""

import hashlib
import http.server
import logging
import socket
import sys
import threading

import pytest

from cellcount_jax.io import download
from cellcount_jax.io.download import cache_folder

CONTENT = b"weights " * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "vgg.pth"
ADVICE = "use a local file"


def fetch(url, folder, sha256=SHA256):
    return download.fetch(url, folder, sha256=sha256, advice=ADVICE)


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


@pytest.mark.parametrize("sha256", [SHA256, None])
@pytest.mark.parametrize("kind", ["good", "moved"])
def test_download_once(server, tmp_path, kind, sha256, caplog, capfd):
    folder = tmp_path / "deep" / "cache"
    with caplog.at_level(logging.INFO):
        path = fetch(f"{server.url}/{kind}/{NAME}", folder, sha256)
    assert path == folder / NAME
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in folder.iterdir()] == [NAME]
    assert f"downloading {server.url}" in caplog.text
    assert capfd.readouterr().out == ""
    n_requests = server.requests
    assert fetch(f"{server.url}/{kind}/{NAME}", folder, sha256) == path
    assert server.requests == n_requests


def test_a_damaged_file_in_the_cache_is_downloaded_again(server, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:50])
    assert fetch(f"{server.url}/good/{NAME}", tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "404 Client Error: Not Found"),
        ("wrong", rf"SHA256 hash .* does not match the known hash: expected {SHA256} but got"),
        ("cut", ".*IncompleteRead"),
        ("insecure", "http://example.invalid/.* is not an HTTPS address"),
    ],
)
def test_a_bad_answer_leaves_nothing_behind(server, tmp_path, kind, reason):
    with pytest.raises(
        ValueError, match=rf"{NAME}: cannot be downloaded \({reason}.*\); {ADVICE}$"
    ) as caught:
        fetch(f"{server.url}/{kind}/{NAME}", tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/{NAME}"
        with pytest.raises(ValueError, match=f"Connection refused.*; {ADVICE}$"):
            fetch(url, tmp_path)


@pytest.mark.parametrize("url", ["http://example.invalid/", "ftp://127.0.0.1/", "file:///tmp/"])
def test_only_https_beyond_this_machine(tmp_path, url):
    with pytest.raises(ValueError, match="is not an HTTPS address"):
        fetch(url + NAME, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be downloaded"):
        fetch(f"{server.url}/good/{NAME}", tmp_path / "file" / "cache")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CELLCOUNT_CACHE", str(tmp_path / "own"))
    assert cache_folder("weights") == tmp_path / "own" / "weights"
    monkeypatch.delenv("CELLCOUNT_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder("weights") == tmp_path / "cellcount_jax" / "weights"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache_folder("weights") == tmp_path / ".cache" / "cellcount_jax" / "weights"

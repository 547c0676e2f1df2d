"""Downloads against a server on this machine."""

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latentree.download import download
from latentree.errors import InputError

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/atlas.h5ad")
            self.end_headers()
        elif self.path == "/slow":
            time.sleep(1.5)
        elif self.path in ("/atlas.h5ad", "/short"):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT if self.path == "/atlas.h5ad" else CONTENT[:1000])
        else:
            self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize("address", ["/atlas.h5ad", "/moved"])
def test_downloads_the_file_that_was_meant(server: str, tmp_path: Path, address: str) -> None:
    path = tmp_path / "new folder" / "atlas.h5ad"
    download(server + address, path, SHA256.upper())
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_another_checksum_shows_both_and_keeps_nothing(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        download(f"{server}/atlas.h5ad", tmp_path / "atlas.h5ad", "0" * 64)
    assert SHA256 in str(caught.value)
    assert "0" * 64 in str(caught.value)
    assert f"{server}/atlas.h5ad" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_download_leaves_the_older_file(server: str, tmp_path: Path) -> None:
    path = tmp_path / "atlas.h5ad"
    path.write_text("older")
    with pytest.raises(InputError):
        download(f"{server}/atlas.h5ad", path, "0" * 64)
    assert path.read_text() == "older"


@pytest.mark.parametrize(
    ("address", "words"),
    [("/absent", "404"), ("/short", "IncompleteRead"), ("/slow", "no answer within 0.5 s")],
)
def test_what_goes_wrong_at_the_server_names_the_address(
    server: str, tmp_path: Path, address: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        download(server + address, tmp_path / "atlas.h5ad", SHA256, timeout=0.5)
    assert words in str(caught.value)
    assert server + address in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://127.0.0.1:1/x.h5ad", "cannot be reached"),
        ("http://[/x.h5ad", "download failed"),
        ("ftp://127.0.0.1/x.h5ad", "not an http"),
    ],
)
def test_an_address_that_leads_nowhere_is_named(tmp_path: Path, address: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        download(address, tmp_path / "atlas.h5ad", SHA256, timeout=2)
    assert words in str(caught.value)
    assert address in str(caught.value)
    assert list(tmp_path.iterdir()) == []

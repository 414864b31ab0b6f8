"""Inputs at a URL: what is requested, and what goes wrong."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest

from benchmarks.sparse import write_sparse_stream
from hvmctx.errors import InputError
from hvmctx.files.opening import open_source
from hvmctx.files.remote import has_wildcards, is_url, listed
from hvmctx.image.image import open_image
from hvmctx.restore.image import would_restore
from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.web import serving

fsspec = pytest.importorskip("fsspec")
pytest.importorskip("aiohttp")


def test_an_image_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "guest.save").write_bytes(EXAMPLE.read_bytes())
    with serving(tmp_path) as served:
        url = f"{served.url}/guest.save"
        with open_image(url) as image, open_image(EXAMPLE) as local:
            assert image.source.name == url and image.source.seekable
            assert image.source.access is None, "who may read it is not known"
            assert image.context.to_bytes() == local.context.to_bytes()
            assert image.config == local.config and image.policy.leaves == local.policy.leaves
    assert all(asked for _, _, asked in served.requests), "ranges only"


def test_little_of_a_large_image_is_requested(tmp_path: Path) -> None:
    """1 % of 1 GiB at most, for a verdict too."""
    path = tmp_path / "stream"
    write_sparse_stream(str(path), 1, context_bytes())
    with serving(tmp_path) as served, open_image(f"{served.url}/stream") as image:
        assert image.complete and len(image.records) == 256 + 3
        assert would_restore(image, "4.17").accepted
    assert served.bytes <= path.stat().st_size // 100
    assert len(served.requests) < 2 * 300


def test_a_server_without_ranges(tmp_path: Path) -> None:
    (tmp_path / "guest.save").write_bytes(EXAMPLE.read_bytes())
    with serving(tmp_path, ranges=False) as served, open_image(f"{served.url}/guest.save") as image:
        assert not image.source.seekable and image.context.vcpus.ids == [0]
    assert served.bytes == EXAMPLE.stat().st_size


def test_compressed(tmp_path: Path, run: Run) -> None:
    """What is stored so, not what the server does on the way. As every command takes it."""
    (tmp_path / "guest.gz").write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    with serving(tmp_path) as served:
        with open_image(f"{served.url}/guest.gz") as image:
            assert image.compression == "gzip" and image.context.vcpus.ids == [0]
        out = tmp_path / "out"
        assert run("strip", f"{served.url}/guest.gz", "-o", out).status == 0
        assert out.stat().st_mode & 0o777 == 0o600
        assert run("info", f"{served.url}/guest.gz").status == 0


def test_what_is_not_there(tmp_path: Path, run: Run) -> None:
    with serving(tmp_path) as served:
        url = f"{served.url}/none"
        assert run("info", url) == (1, ("", f"hvmctx: {url}: not found\n"))
    result = run("info", url)  # nobody listens any more
    assert result.status == 1 and result.err.startswith(f"hvmctx: {url}: ")
    assert run("info", "nope://host/x") == (
        1, ("", "hvmctx: nope://host/x: Protocol not known: nope\n"),
    )  # fmt: skip


def test_other_stores() -> None:
    with fsspec.open("memory://guests/a.save", "wb") as file:
        file.write(EXAMPLE.read_bytes())
    with fsspec.open("memory://guests/b.save", "wb") as file:
        file.write(EXAMPLE.read_bytes())
    with open_image("memory://guests/a.save") as image:
        assert image.context.vcpus.ids == [0]
    assert listed("memory://guests/") == ["memory:///guests/a.save", "memory:///guests/b.save"]
    assert listed("memory://guests/[b]*") == ["memory:///guests/b.save"]
    with pytest.raises(InputError, match="matches nothing"):
        listed("memory://guests/*.xc")


def test_listed_by_a_web_server(tmp_path: Path) -> None:
    (tmp_path / "b.save").touch()
    (tmp_path / "folder").mkdir()
    with serving(tmp_path) as served:
        assert f"{served.url}/b.save" in listed(f"{served.url}/*.save")


def test_a_file_that_looks_like_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.makedirs("http:/host")
    Path("http:/host/x").write_bytes(EXAMPLE.read_bytes())
    with open_image("http://host/x") as image:
        assert image.complete
    for name in ("/no/such://file", "./a://b"):
        with pytest.raises(InputError, match="No such file"):
            open_source(name)


def test_names() -> None:
    assert is_url("S3://b/x") and is_url("zip://a::http://b/c") and not is_url("3s://x")
    assert not is_url("a" + "::" * 1000)
    assert [has_wildcards(name) for name in ("a*", "a?", "[a]", "a")] == [True, True, True, False]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    result = run("info", "http://127.0.0.1:1/x")
    assert result.status == 1 and "needs `pip install hvmctx[remote]`" in result.err


@pytest.mark.parametrize("answer", [b"more than was asked for", None])
def test_a_server_that_lies(answer: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives more than it was asked for, or an error in the middle."""
    from fsspec.implementations.memory import MemoryFile

    with fsspec.open("memory://liar", "wb") as file:
        file.write(EXAMPLE.read_bytes()[:100])

    def read(self: object, count: int) -> bytes:
        if answer is None:
            raise RuntimeError("a backend's own error")
        return answer * 100

    monkeypatch.setattr(MemoryFile, "read", read)
    with pytest.raises(InputError, match=r"memory://liar: (gave 2300 bytes|a backend's own error)"):
        open_image("memory://liar")

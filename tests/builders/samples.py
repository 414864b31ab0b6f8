"""The samples in tests/data: where they come from is in tests/data/README.md."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
DATA = ROOT / "tests" / "data"
EXAMPLE = ROOT / "examples" / "hvm1.save"
CONTEXTS = sorted((DATA / "hvmctx").rglob("*.bin"))
STREAMS = sorted((DATA / "streams").glob("*.xc"))
IMAGES = sorted((DATA / "images").glob("*.save"))


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def expected_text(context: Path) -> str:
    """What the genuine xen-hvmctx printed on stdout for a context of tests/data/hvmctx."""
    for suffix in (".stdout.txt", ".txt"):
        text = context.with_name(context.name.removesuffix(".bin") + suffix)
        if text.exists():
            return text.read_text()
    raise AssertionError(f"no text beside {context}")


def release_of(context: Path) -> str:
    """The release whose tool printed it."""
    return context.relative_to(DATA / "hvmctx").parts[0].removeprefix("debian-")


def domid_of(text: str) -> int:
    return int(text.partition("\n")[0].rpartition(" ")[2])


def texts_by_release() -> Iterator[tuple[str, str, bytes, str]]:
    """(name, release, the context, the text of that release's own tool for domain 7)."""
    files = _unpacked(DATA / "text-by-release.tar.xz")
    for name, data in files.items():
        if name.endswith(".bin"):
            text = files[f"{name.removesuffix('.bin')}.stdout.txt"].decode()
            yield name, name.partition("/")[0], data, text


def _unpacked(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name: file.read()
            for member in archive.getmembers()
            if (file := archive.extractfile(member)) is not None
        }


def context_bytes() -> bytes:
    """A genuine context of one vcpu: 4112 bytes, 18 records."""
    return (DATA / "images" / "hvm1.hvmctx.bin").read_bytes()


def _altered() -> Iterator[tuple[dict[str, Any], bytes]]:
    archive = _unpacked(DATA / "streams" / "bad.tar.xz")
    files = {name.rpartition("/")[2]: data for name, data in archive.items()}
    for entry in json.loads(files["index.json"]):
        yield entry, files[f"{entry['name']}.xc"]


def altered() -> list[tuple[str, bool, bytes]]:
    """(what was done, whether Debian's Xen 4.17 took it, the stream)."""
    return [(entry["what"], entry["accepted"], data) for entry, data in _altered()]


def altered_said() -> list[tuple[str, bool, bytes]]:
    """(what was done, whether Debian's verifier refused it, the stream)."""
    return [(entry["what"], entry["verify_exit"] != 0, data) for entry, data in _altered()]

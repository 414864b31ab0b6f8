"""The row of an image: its columns, the hash of what was read, verdicts, and damage."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from hvmctx.edit.editor import edit
from hvmctx.errors import UsageError
from hvmctx.image.image import open_image
from hvmctx.limits import Limits
from hvmctx.restore.host import Host
from hvmctx.scan import row as module
from hvmctx.scan.row import COLUMNS, VERDICT, WORST, Asked, empty_row, row_of, rows
from hvmctx.stream.xlfile import config_to_bytes
from tests.builders.hosts import CPUID, INFO
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import hvm, libxl, page_data, pv, word, xl_head
from tools.policies import held

HOST = Host.from_text(CPUID, INFO)


def row(path: Path | bytes, tmp_path: Path, **asked: Any) -> dict[str, Any]:
    if isinstance(path, bytes):
        data, path = path, tmp_path / "image"
        path.write_bytes(data)
    return row_of(str(path), Asked(asked.pop("releases", ["4.17"]), **asked))


def altered(tmp_path: Path, *steps: tuple[str, int]) -> Path:
    path = tmp_path / "altered.save"
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        for place, value in steps:
            editor.set(place, value)
        editor.write(str(path), force=True)
    return path


def test_the_example(tmp_path: Path) -> None:
    found = row(EXAMPLE, tmp_path)
    digest, policy = found.pop("digest"), found.pop("policy_digest")
    assert len(digest) == 64 and len(policy) == 64
    assert found == {
        "input": str(EXAMPLE), "error": None, "size": 62469, "compression": None,
        "layers": ["xl", "libxl", "libxc"], "complete": True, "content_sha256": None,
        "guest_name": "hvm1", "guest_uuid": "3e5e5ef5-72ee-4468-8835-90bbbbc93959",
        "guest_type": "hvm", "xen": "4.17", "vcpus": 1,
        "devices": ["PIC", "IOAPIC", "PCI_IRQ", "ISA_IRQ", "PCI_LINK", "PIT", "RTC", "HPET",
                    "PMTIMER"],
        "device_models": ["qemu-upstream"], "worst": None,
        "verdicts": [
            {"release": "4.17", "host": None, "verdict": "accept", "errno": None, "rule": None,
             "layer": None, "record": None, "offset": None, "text": None, "lacks": None},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("path", [EXAMPLE, DATA / "streams" / "legacy_hvm_w64.in.bin", Path("no")])
def test_every_row_has_every_column(path: Path, tmp_path: Path) -> None:
    found = row(path, tmp_path, strict=True, hosts={"one": HOST})
    assert list(found) == list(COLUMNS)
    kinds = {str: (str,), int: (int,), bool: (bool,)}
    for name, kind in COLUMNS.items():
        value = found[name]
        if isinstance(kind, list):
            assert isinstance(value, list)
        elif value is not None:
            assert isinstance(value, dict if isinstance(kind, dict) else kinds[kind])  # type: ignore[index]
    for verdict in found["verdicts"]:
        assert list(verdict) == list(VERDICT)
    assert found["worst"] is None or set(found["worst"]) == set(WORST)


def test_releases(tmp_path: Path) -> None:
    """By default the one that wrote it, and all newer ones."""
    found = row(EXAMPLE, tmp_path, releases=())
    assert [each["release"] for each in found["verdicts"]] == [
        "4.17", "4.18", "4.19", "4.20", "4.21", "4.22", "newest",
    ]  # fmt: skip
    found = row(EXAMPLE, tmp_path, releases=["4.6", "4.20"])
    old, new = found["verdicts"]
    assert old["verdict"] == "refuse" and old["rule"] == "libxc-version" and old["offset"] == 1213
    assert new["verdict"] == "accept"
    assert found["worst"]["rule"] == "libxc-version"
    assert found["worst"]["text"].endswith("; Xen 4.6 refuses it")


def test_hosts(tmp_path: Path) -> None:
    """Each with the release that runs there, and what its CPU lacks."""
    there, here = held()[0].host, Host(policies={})
    found = row(EXAMPLE, tmp_path, hosts={"one": HOST, "two": there, "three": here})
    first, one, two, three = found["verdicts"]
    assert (first["release"], first["host"], first["lacks"]) == ("4.17", None, None)
    assert (one["release"], one["host"], one["verdict"]) == ("4.20", "one", "refuse")
    assert (two["release"], two["host"]) == (str(there.release), "two")
    assert (three["release"], three["verdict"]) == ("newest", "unreadable")
    assert found["worst"]["text"].endswith("one (Xen 4.20) refuses it")
    found = row(EXAMPLE, tmp_path, hosts={"two": there}, releases=())
    assert len(found["verdicts"]) == 8


def test_a_violation_is_the_worst(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hvmctx.restore.verdict import Verdict

    said = iter([Verdict("refuse", rule="one"), Verdict("violation", rule="two")])
    monkeypatch.setattr(module, "would_restore", lambda *_, **__: next(said))
    found = row(EXAMPLE, tmp_path, releases=["4.6", "4.17"])
    assert found["worst"]["rule"] == "two"
    assert found["worst"]["text"].endswith("Xen 4.17 accesses memory that it must not")


def test_strict(tmp_path: Path) -> None:
    """What is questionable in a context that all accept; a refusal is worse."""
    path = altered(tmp_path, ("CPU/0.msr_lstar", 1 << 47))
    assert row(path, tmp_path)["worst"] is None
    found = row(path, tmp_path, strict=True)["worst"]
    assert found["rule"] == "cpu-canonical" and found["record"] == "CPU/0"
    assert found["offset"] > 50000, "from the start of the image"
    path = altered(tmp_path, ("CPU/0.msr_lstar", 1 << 47), ("CPU/0.cr4", 1 << 40))
    assert row(path, tmp_path, strict=True)["worst"]["rule"] == "cpu-cr4"


def test_content(tmp_path: Path) -> None:
    """Of the bytes as they are stored."""
    path = tmp_path / "image.gz"
    path.write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    found = row(path, tmp_path, content=True)
    assert found["content_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found["size"] == path.stat().st_size and found["compression"] == "gzip"
    assert found["digest"] == row(EXAMPLE, tmp_path)["digest"]


def test_the_digest_is_of_all_but_pages(tmp_path: Path) -> None:
    found = {
        row(hvm(page_data(word(1), fill=fill), end=True), tmp_path)["digest"] for fill in (1, 2)
    }
    assert len(found) == 1 and None not in found
    found.add(row(hvm(page_data(word(2))), tmp_path)["digest"])
    assert len(found) == 2, "which pages there are counts"
    example = row(EXAMPLE, tmp_path)
    changed = row(altered(tmp_path, ("CPU/0.rip", 1)), tmp_path)
    assert example["digest"] != changed["digest"]
    assert example["policy_digest"] == changed["policy_digest"]


def test_other_guests(tmp_path: Path) -> None:
    found = row(pv(), tmp_path)
    assert found["guest_type"] == "pv" and found["devices"] == [] and found["vcpus"] is not None
    with open_image(EXAMPLE) as image:
        bare = image.context.to_bytes()
    found = row(bare, tmp_path)
    assert found["layers"] == ["context"] and found["vcpus"] == 1 and found["xen"] is None
    assert found["digest"] == hashlib.sha256(bare).hexdigest()


@pytest.mark.parametrize("cut", [0, 100, 1200, 1300, 20000, 52100, 62000])
def test_damage(cut: int, tmp_path: Path) -> None:
    found = row(EXAMPLE.read_bytes()[:cut], tmp_path)
    assert found["error"] and not found["complete"] and found["size"] == cut
    assert all(each["verdict"] == "refuse" for each in found["verdicts"])
    assert found["worst"]["severity"] == "error"
    assert (found["guest_name"] == "hvm1") == (cut >= 1200)


def test_altered_bytes_make_rows(tmp_path: Path) -> None:
    rng = random.Random(3)
    data = EXAMPLE.read_bytes()
    for _ in range(60):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 4, 30))):
            mutant[rng.choice((rng.randrange(1300), rng.randrange(len(data))))] = rng.randrange(256)
        found = row(bytes(mutant), tmp_path, strict=True, hosts={"one": HOST})
        assert list(found) == list(COLUMNS)


def test_what_cannot_be_judged(tmp_path: Path) -> None:
    """Limits, and legacy streams."""
    found = row(EXAMPLE, tmp_path, limits=Limits(context_records=3))
    (verdict,) = found["verdicts"]
    assert verdict["verdict"] == "unreadable" and "context_records" in verdict["text"]
    assert "context_records" in found["error"] and found["guest_name"] == "hvm1"
    found = row(DATA / "streams" / "legacy_hvm_w64.in.bin", tmp_path)
    assert "convert it first" in found["error"]
    assert found["verdicts"][0]["verdict"] == "unreadable"


def test_what_is_no_file(tmp_path: Path) -> None:
    """Nobody waits for a FIFO."""
    os.mkfifo(tmp_path / "fifo")
    assert row(tmp_path / "fifo", tmp_path)["error"] == f"{tmp_path / 'fifo'}: not a file"
    assert row(tmp_path, tmp_path)["error"] == f"{tmp_path}: Is a directory"
    assert "No such file" in row(tmp_path / "none", tmp_path)["error"]
    assert row_of("a\0b", Asked())["error"]


def test_out_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(module, "open_image", full)
    assert row(EXAMPLE, tmp_path)["error"] == "out of memory"


def test_long_names_are_cut(tmp_path: Path) -> None:
    config = json.dumps({"c_info": {"name": "x" * 5000, "uuid": 7, "type": "pvh"}}).encode()
    found = row(xl_head(config_to_bytes(config)) + libxl(), tmp_path)
    assert found["guest_name"] == "x" * 200 and found["guest_uuid"] is None
    assert found["guest_type"] == "pvh"


def test_what_is_asked_survives_the_way() -> None:
    asked = Asked(["4.17", "newest"], {"one": HOST}, strict=True, content=True,
                  limits=Limits(kept=5))  # fmt: skip
    again = Asked.from_text(asked.to_text())
    assert again.to_text() == asked.to_text()
    assert again.strict and again.content and again.limits.kept == 5
    assert rows(asked.to_text(), [str(EXAMPLE)]) == [row_of(str(EXAMPLE), asked)]
    with pytest.raises(UsageError, match="unknown Xen release"):
        Asked(["5.0"])


def test_earlier_rows(tmp_path: Path) -> None:
    """--resume does not mix what was asked differently."""
    one = row(EXAMPLE, tmp_path, hosts={"one": HOST})
    Asked(["4.17"], {"one": HOST}).check(one)
    Asked((), {"one": HOST}).check(one)
    Asked(["4.18"]).check(empty_row("x", "damaged"))
    for other in (Asked(["4.17"]), Asked(["4.18"], {"one": HOST}), Asked(["4.17"], {"2": HOST})):
        with pytest.raises(UsageError, match="about other releases or hosts"):
            other.check(one)

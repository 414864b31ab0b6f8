"""What becomes of an image in each release, and what would mend it."""

from __future__ import annotations

import io

from hvmctx.abi.releases import Release
from hvmctx.edit.editor import edit
from hvmctx.image.image import open_image
from hvmctx.mend.outlook import outlooks
from hvmctx.restore.host import Host
from tests.builders.hosts import CPUID
from tests.builders.samples import DATA, EXAMPLE

LEGACY = DATA / "streams" / "legacy_hvm_w64.in.bin"


def changed(**fields: int) -> bytes:
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        for name, value in fields.items():
            editor.set(f"CPU/0.{name}", value)
        editor.write(out)
    return out.getvalue()


def test_by_default_the_writer_and_all_newer_releases() -> None:
    with open_image(EXAMPLE) as image:
        found = outlooks(image)
        assert [each["where"] for each in found] == [str(r) for r in image.release.and_newer()]
    for each in found:
        assert each["verdict"] == "accept" and each["edits"] == [] and each["after"] is None


def test_what_mends_a_refusal() -> None:
    with open_image(changed(cr4=1 << 31)) as image:
        (found,) = outlooks(image, [Release("4.17")])
    assert (found["verdict"], found["rule"], found["record"]) == ("refuse", "cpu-cr4", "CPU/0")
    (step,) = found["edits"]
    assert step["rule"] == "cpu-cr4" and "bit 31" in step["text"] and step["reason"]
    assert step["command"].endswith("CPU/0.cr4=0x0 -o OUT  # was 0x80000000")
    assert found["after"]["verdict"] == "accept"


def test_what_nothing_mends() -> None:
    with open_image(EXAMPLE) as image:
        (found,) = outlooks(image, [Release("4.6")])
    assert found["verdict"] == "refuse" and found["edits"] == []
    assert found["after"]["rule"] == found["rule"]


def test_a_host() -> None:
    with open_image(EXAMPLE) as image:
        found = outlooks(image, [Release("4.20")], {"blue": Host.read(CPUID)})
    assert [each["where"] for each in found] == ["4.20", "blue"]
    assert found[1]["rule"] == "cpuid-policy-extended" and found[1]["edits"]


def test_what_cannot_be_judged() -> None:
    with open_image(LEGACY) as image:
        found = outlooks(image, [Release("4.20")])
    assert found[0]["verdict"] == "unreadable" and "legacy" in found[0]["text"]
    assert found[0]["after"] is None

"""An operator has a guest that will not restore.

The guest was saved by Xen 4.17; the host runs 4.20 now, and `xl restore` says nothing but
"Invalid argument". What is wrong, and can the guest be saved?
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stories.conftest import Shell


@pytest.fixture
def stuck(folder: Path, hvmctx: Shell) -> None:
    """A PIT with a value that 4.17 takes without a look, and 4.19 and later refuse."""
    assert hvmctx("set guest.save PIT.speaker_data_on=2 -o stuck.save").status == 0


def test_a_guest_that_the_new_host_refuses(stuck: None, hvmctx: Shell, folder: Path) -> None:
    # What is it?
    seen = hvmctx("info stuck.save")
    assert seen.status == 0
    assert "x86 HVM 'hvm1'" in seen.out and "from Xen 4.17" in seen.out

    # Is it damaged? As a file no; but not every Xen takes it.
    seen = hvmctx("verify stuck.save")
    assert seen.status == 1
    assert "PIT/0" in seen.out and "Xen 4.19 to newest refuses it [pit-range]" in seen.out

    # So it is the new host, not the image: the old one would have taken it.
    assert hvmctx("restore stuck.save --release 4.17").out.startswith(
        "accept, with 1 hazard: Xen 4.17"
    )
    seen = hvmctx("restore stuck.save --release 4.20")
    assert seen.status == 1 and seen.out.startswith("refuse: Xen 4.20: EDOM: ")

    # What does that rule say, and what is the value?
    assert "4.19 and later" in hvmctx("restore --explain pit-range").out
    assert hvmctx("get stuck.save PIT.speaker_data_on").out == "0x2\n"

    # It is a flag, so 0 or 1. Mend it in a copy.
    assert hvmctx("set stuck.save PIT.speaker_data_on=0 -o mended.save") == (0, ("", ""))
    assert hvmctx("diff stuck.save mended.save").out == "PIT/0.speaker_data_on: 0x2 -> 0x0\n"

    # And ask again. Nothing was written over on the way.
    assert hvmctx("verify mended.save").out == (
        "no findings: the streams of the xl image and its HVM context, as restored by Xen 4.17 to "
        "newest\n"
    )
    assert hvmctx("restore mended.save --release 4.20").out.startswith("accept: Xen 4.20")
    assert hvmctx("set stuck.save PIT.speaker_data_on=0 -o stuck.save").status == 1
    assert hvmctx("get stuck.save PIT.speaker_data_on").out == "0x2\n"


def test_a_file_that_was_not_written_to_its_end(hvmctx: Shell, folder: Path) -> None:
    """The disk was full. What there is of it can be read; no host restores it."""
    whole = (folder / "guest.save").read_bytes()
    (folder / "cut.save").write_bytes(whole[:57000])

    # Everything that is there, and what is not.
    seen = hvmctx("info cut.save")
    assert seen.status == 1
    assert "x86 HVM 'hvm1'" in seen.out
    assert "EMULATOR_CONTEXT: the input ends within the body" in seen.out

    # No Xen takes it, and that is said with the place where it ends.
    seen = hvmctx("restore cut.save --release 4.17")
    assert seen.status == 1 and seen.out.startswith("refuse: Xen 4.17: ")
    assert "[stream-damaged]" in seen.out

    # The vcpu's state is in it all the same, up to the last register: taken out, another
    # guest can be built around it.
    assert hvmctx("get cut.save CPU/0.rip").out == "0xb7b9\n"
    hvmctx("extract cut.save -o saved.hvm")
    assert hvmctx("restore saved.hvm --release 4.17").out.startswith("accept: Xen 4.17")


def test_an_image_for_a_mailing_list(stuck: None, hvmctx: Shell, folder: Path) -> None:
    """Somebody there is to look at it; nobody there is to see whose guest it is."""
    assert hvmctx(
        "set stuck.save config.c_info.name=payroll -o named.save "
        "--add 'config.b_info[\"type.hvm\"].vnc.passwd=hunter2' "
        "--add 'VMPORT.guestinfo[\"guestinfo.ip\"]=\"10.0.0.1\"'"
    ).status == 0  # fmt: skip

    # Without its memory it is small, but it still says whose it is: strip warns.
    seen = hvmctx("strip named.save -o small.save")
    assert seen.status == 0 and "--redact leaves them out" in seen.err
    assert b"hunter2" in (folder / "small.save").read_bytes()

    # So without all that. What remains is said.
    seen = hvmctx("strip named.save --redact --redact-registers -o public.save")
    assert seen.status == 0
    assert "redacted: 3 values of the configuration" in seen.err
    assert "still in it: the device model's file" in seen.err
    public = (folder / "public.save").read_bytes()
    for secret in (b"payroll", b"hunter2", b"10.0.0.1", b"3e5e5ef5-72ee-4468-8835-90bbbbc93959"):
        assert secret in (folder / "named.save").read_bytes() and secret not in public
    changed = hvmctx("diff named.save public.save").out
    assert 'config.c_info.name: "payroll" -> "redacted"' in changed
    assert 'VMPORT/0.guestinfo["guestinfo.ip"]: "10.0.0.1" -> "xxxxxxxx"' in changed

    # And it is refused for the same reason, in the same place.
    before, after = (
        hvmctx(f"restore {name} --release 4.20 --format json").out
        for name in ("named.save", "public.save")
    )
    one, two = json.loads(before), json.loads(after)
    assert one["rule"] == two["rule"] and one["record"] == two["record"]
    assert hvmctx("get public.save PIT.speaker_data_on").out == "0x2\n"

    # The reader of the list finds the place by its offset, and the other way round.
    place = hvmctx("locate public.save PIT.speaker_data_on").out.split()[2].rstrip(",")
    assert "PIT/0.speaker_data_on, byte 0 of 4" in hvmctx(f"locate public.save {place}").out

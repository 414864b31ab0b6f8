from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import pytest

from hvmctx.files.access import Access


@pytest.mark.parametrize(
    ("mode", "group", "expected"),
    [
        (0o640, 7, 0o640), (0o640, 8, 0o600), (0o644, 8, 0o644), (0o664, 8, 0o644),
        (0o604, 8, 0o600), (0o4755, 7, 0o755), (0o600, 7, 0o600), (0o400, 8, 0o400),
    ],
)  # fmt: skip
def test_what_a_file_of_a_group_may_have(mode: int, group: int, expected: int) -> None:
    assert Access(5, 7, mode).bits(group) == expected


def test_who_reads() -> None:
    assert Access(5, 7, 0o600).readable_by(5) and Access(5, 7, 0o644).readable_by(6)
    assert not Access(5, 7, 0o640).readable_by(6) and not Access(5, 7, 0o604).readable_by(6)


def test_of_what_is_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    path.chmod(0o640)
    with open(path, "rb") as file:
        access = Access.of(file)
        assert repr(access) == f"<Access 0640 of {os.getuid()}:{path.stat().st_gid}>"
        assert repr(Access.of(file.fileno())) == repr(access)
    assert Access.of(io.BytesIO()) is None and Access.of(file) is None and Access.of(9999) is None
    with open("/dev/null", "rb") as device:
        assert Access.of(device) is None


def test_an_acl_makes_the_group_bits_say_something_else(tmp_path: Path) -> None:
    """user::rw-, user:1234:rw-, group::---, mask::rw-, other::r--: ls shows rw-rw-r--."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    nobody = 0xFFFFFFFF
    entries = [(1, 6, nobody), (2, 6, 1234), (4, 0, nobody), (16, 6, nobody), (32, 4, nobody)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError:  # a file system without: nothing to be misled by
        return
    assert path.stat().st_mode & 0o777 == 0o664
    with open(path, "rb") as file:
        access = Access.of(file)
        assert access is not None and access.mode == 0o604

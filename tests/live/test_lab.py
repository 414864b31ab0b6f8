"""A domain to try things on, of a made-up xl."""

from __future__ import annotations

from pathlib import Path

import pytest

from hvmctx.live.lab import lab
from hvmctx.live.libraries import XenError


def made(place: Path, body: str) -> None:
    program = place / "xl"
    program.write_text(f'#!/bin/sh\necho "$*" >> {place}/heard\n{body}\n')
    program.chmod(0o755)


def test_it_is_made_and_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, f'[ "$1" = create ] && cp "$3" {tmp_path}/cfg; [ "$1" = domid ] && echo 12; :')
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(KeyError), lab(vcpus=3) as domid:
        assert domid == 12
        raise KeyError
    assert "vcpus = 3\n" in (tmp_path / "cfg").read_text()
    heard = (tmp_path / "heard").read_text().splitlines()
    assert [line.split()[0] for line in heard] == ["create", "domid", "destroy"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("echo no memory >&2; exit 1", "xl create -p .*: no memory"),
        ("exit 3", "xl create -p .*: failed"),
        ('[ "$1" = domid ] && echo what; :', "no number came back"),
    ],
)
def test_it_cannot_be_made(
    body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, body)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(XenError, match=words), lab():
        raise AssertionError

"""`hvmctx save`, over the stand-in for a running Xen."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hvmctx.image.image import open_image
from hvmctx.live import domain, qmp
from tests.builders.running import TOOL, Run, no_disposition_of_ours
from tests.builders.samples import context_bytes
from tests.builders.standin import HAP, HVM, PAGES, PAUSED, FakeQemu, StandIn

CONFIG = b'{\n    "c_info": {\n        "type": "pvh"\n    }\n}\n'


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(domain, "configuration", lambda domid: CONFIG)


def assert_whole(path: Path, made: StandIn) -> None:
    with open_image(path) as image:
        assert not image.problems and image.context_bytes() == context_bytes()
        assert all(image.memory.read(pfn << 12, 4096) == made.memory(pfn) for pfn in range(PAGES))


@pytest.mark.parametrize("live", [[], ["--live"]])
@pytest.mark.parametrize("stream", ["xl", "libxc"])
def test_save(stand_in: StandIn, run: Run, tmp_path: Path, live: list[str], stream: str) -> None:
    stand_in.state.writes = 1
    path = tmp_path / "image"
    done = run("save", "7", *live, "--stream", stream, "-o", path)
    assert done.status == 0 and not done.out
    assert re.fullmatch(
        r"hvmctx: domain 7: \d+ pages in \d+ pass(es)?, \d+ bytes; the guest is paused\n", done.err
    )
    assert stand_in.state.flags == HVM | HAP | PAUSED
    assert path.stat().st_mode & 0o777 == 0o600
    assert_whole(path, stand_in)
    with open_image(path) as image:
        assert image.format == stream and (stream == "libxc" or image.config_text == CONFIG + b"\0")
    assert run("verify", path, "--as", "verifier").status == 0


def test_checkpoint(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    done = run("save", "7", "--checkpoint", "-o", tmp_path / "image")
    assert done.status == 0 and done.err.endswith("; the guest runs on\n")
    assert stand_in.state.flags == HVM | HAP
    stand_in.state.flags |= PAUSED
    done = run("save", "7", "--checkpoint", "-o", tmp_path / "image", "--force")
    assert done.status == 0 and done.err.endswith("; the guest stands still, as before\n")
    assert stand_in.state.flags == HVM | HAP | PAUSED


def test_hvm_guest(
    stand_in: StandIn, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in.state.type = b"hvm"
    monkeypatch.setattr(qmp, "_PLACES", (str(tmp_path),))
    done = run("save", "7", "-o", tmp_path / "image")
    assert done.status == 1 and "no device model can be asked for its state" in done.err
    qemu = FakeQemu(tmp_path / "qmp-libxl-7")
    qemu.start()
    monkeypatch.setenv("STAND_IN_PHYSMAP", "1")
    done = run("save", "7", "--live", "-o", tmp_path / "image")
    qemu.close()
    assert done.status == 0 and qemu.running and not qemu.logging
    with open_image(tmp_path / "image") as image:
        assert bytes(image.emulators[-1].payload) == qemu.state
        assert any(record.name == "EMULATOR_XENSTORE_DATA" for record in image.records)


def test_compressed(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("zstandard")
    path = tmp_path / "image.zst"
    assert run("save", "7", "--live", "--compress", "zstd", "-o", path).status == 0
    assert path.read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    assert run("info", path).status == 0


def test_a_guest_that_does_not_suspend(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    stand_in.state.answers = 0
    path = tmp_path / "image"
    done = run("save", "7", "--timeout", "0.05", "-o", path)
    assert done.status == 1 and "was asked to suspend and has not taken notice" in done.err
    assert stand_in.state.flags == HVM | HAP and not list(tmp_path.glob("*image*"))
    done = run("save", "7", "--timeout", "0.05", "--on-timeout", "pause", "-o", path)
    assert done.status == 0 and stand_in.state.flags == HVM | HAP | PAUSED
    assert_whole(path, stand_in)


def test_progress(
    stand_in: StandIn, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal: how far it is, over and over."""
    monkeypatch.setattr("hvmctx.messages.watched", lambda: True)
    monkeypatch.setattr("hvmctx.commands.save._TICK", -1)
    stand_in.state.writes = 1
    done = run("save", "7", "--live", "-o", tmp_path / "image")
    shown = done.err.rpartition("\n\n")[0] or done.err
    said = [part for part in shown.replace("\n", "\r").split("\r") if part.startswith("pass ")]
    pattern = r"pass (\d), \d+ MiB, [\d.]+ MiB/s, at most (\d+) pages left "
    seen = [match.groups() for part in said if (match := re.fullmatch(pattern, part))]
    assert len(seen) == len(said) > 3
    assert {number for number, _ in seen} >= {"1", "2"} and ("1", "157") in seen
    assert done.err.endswith("; the guest is paused\n")


def test_usage(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "image"
    assert run("save", "seven", "-o", path).status == 2
    assert run("save", "7", "--timeout", "-1", "-o", path).status == 2
    assert run("save", "7", "--timeout", "nan", "-o", path).status == 2
    done = run("save", "6", "-o", path)
    assert done.status == 1 and "no such domain" in done.err
    stand_in.state.flags = 0
    done = run("save", "7", "-o", path)
    assert done.status == 2 and "is a PV guest" in done.err
    path.touch()
    stand_in.state.flags = HVM
    assert run("save", "7", "--stream", "libxc", "-o", path).status == 1
    assert not stand_in.state.maps and stand_in.state.flags == HVM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_killed(stand_in: StandIn, libraries: Path, tmp_path: Path, number: signal.Signals) -> None:
    """At any moment: nothing is logged, the guest runs, and there is no file of that name."""
    stand_in.state.writes, stand_in.state.slow = 1, 200_000
    place = tmp_path / "place"
    place.mkdir()
    child = subprocess.Popen(
        [sys.executable, TOOL, "save", "7", "--live", "--stream", "libxc", "-o", str(place / "x")],
        env={**os.environ, **stand_in.environment(libraries)}, stderr=subprocess.DEVNULL,
        preexec_fn=no_disposition_of_ours,  # noqa: PLW1509 - no threads when it starts
    )  # fmt: skip
    while not stand_in.state.maps:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(number)
    assert child.wait(60) in (-number, 130, 128 + number)
    for _ in range(1000):  # the keeper's time
        if stand_in.state.flags == HVM | HAP and not stand_in.state.logging:
            break
        time.sleep(0.01)
    assert stand_in.state.flags == HVM | HAP and not stand_in.state.logging
    left = [path.name for path in place.iterdir()]
    assert not left or (number == signal.SIGKILL and "x" not in left)

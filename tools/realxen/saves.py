#!/usr/bin/env python3
"""Saves real guests with hvmctx, and has the real xl restore them. To be run in a dom0, which may
break: `saves.py GUESTS [PART...]`, with the folder that guests/make.sh filled, and hvmctx to be
imported; pvh or hvm among the parts for one guest only. A line each of what was found; the exit
status is 1 if anything was not as it should be.

Parts: still (paused guests: the same file as xl's but for TSC; restored), live (guests that write
to their memory: restored), kill (ten saves that are killed on the way).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from hvmctx.edit.diff import diff
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.live.qmp import DeviceModel, socket_of
from hvmctx.live.xen import Store, Xen

PVH = """name = "pvh"
type = "pvh"
memory = 8
vcpus = 2
kernel = "{guests}/dirty.elf"
on_crash = "preserve"
"""
HVM = """name = "hvm"
type = "hvm"
memory = 16
vcpus = 2
viridian = 1
vga = "none"
vnc = 0
sdl = 0
usb = 0
serial = "none"
device_model_args = ["-drive", "file={guests}/boot.img,format=raw,if=ide,index=0"]
on_crash = "preserve"
"""
GUESTS = {"pvh": (PVH, 0x400, 30), "hvm": (HVM, 0x10, 180)}
"""Configuration, a page that it counts in, seconds within which it does."""
CLOCKS = ("tsc", "tmr_val", "cmos_data", "time_ref_count")
PIT = {"PIT/0.channels[1].mode", "PIT/0.channels[2].mode"}
"""What a restore of xl's own file changes as well (Xen 4.20)."""
TICKS = ("PIC/0.irr", "PIC/0.int_output", "ISA_IRQ/0.i")
"""What a timer of the restored guest's devices sets, as they run although it is paused."""
PLACE = Path(tempfile.mkdtemp(prefix="saves-"))
failures: list[str] = []


def tell(good: bool, text: str) -> None:
    if not good:
        failures.append(text)
    print(f"{'ok ' if good else 'NOT'} {text}", flush=True)


def xl(*words: object, check: bool = True) -> str:
    done = subprocess.run(["xl", *map(str, words)], capture_output=True, text=True, check=False)
    if check and done.returncode:
        print(f"xl {' '.join(map(str, words))}: {done.stderr}", flush=True)
    return done.stdout.strip()


def hvmctx(*words: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "hvmctx", *map(str, words)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stderr.strip()


def counter(xen: Xen, domid: int, pfn: int) -> int:
    mapping = xen.map_pages(domid, [pfn])
    try:
        return int.from_bytes(b"".join(mapping.copy())[:4], "little")
    finally:
        mapping.close()


def runs(xen: Xen, domid: int, pfn: int, seconds: float = 10) -> bool:
    """Whether its counter moves, and its devices run."""
    with suppress(HvmctxError):
        first = counter(xen, domid, pfn)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.3)
            if counter(xen, domid, pfn) != first:
                path = socket_of(domid)
                if path is None:
                    return True
                with DeviceModel(path) as model:
                    return model.running
    return False


def logs(xen: Xen, domid: int) -> bool:
    """Whether its writes are logged: then they cannot begin to be."""
    try:
        xen._shadow(domid, 32, "try")
    except HvmctxError:
        return True
    xen._shadow(domid, 0, "try")
    return False


def create(xen: Xen, guests: str, name: str) -> int:
    text, pfn, seconds = GUESTS[name]
    path = PLACE / f"{name}.cfg"
    path.write_text(text.format(guests=guests))
    xl("create", path)
    domid = int(xl("domid", name))
    tell(runs(xen, domid, pfn, seconds), f"{name}: created as domain {domid}, and runs")
    return domid


class Answer(threading.Thread):
    """The guest's side of a request to suspend, for guests that have no drivers."""

    def __init__(self, domid: int) -> None:
        super().__init__(daemon=True)
        self.domid = domid
        self.over = False

    def run(self) -> None:
        with Xen() as xen:
            store = Store(xen.libraries)
            path = f"/local/domain/{self.domid}/control/shutdown"
            while not self.over:
                if store.read(path) == b"suspend":
                    store.write(path, b"")
                    xen.suspend(self.domid)
                    break
                time.sleep(0.05)
            store.close()

    def __enter__(self) -> Answer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.join()


def compare(ours: Path, theirs: Path) -> None:
    """Record by record, and then what differs in the contexts."""
    with open_image(str(ours)) as one, open_image(str(theirs)) as other:
        same = one.source.read_at(0, 48) == other.source.read_at(0, 48)
        tell(
            same and one.config_text == other.config_text, f"{ours.name}: xl header, configuration"
        )
        tell(len(one.records) == len(other.records), f"{ours.name}: {len(one.records)} records")
        differ: dict[str, int] = {}
        for mine, genuine in zip(one.records, other.records):
            a, b = bytes(one.body(mine)), bytes(other.body(genuine))
            if a != b or mine.type != genuine.type:
                count = sum(x != y for x, y in zip(a, b)) + abs(len(a) - len(b))
                differ[mine.name] = differ.get(mine.name, 0) + count
        sizes = f"{ours.stat().st_size} and {theirs.stat().st_size} bytes"
        allowed = {"X86_TSC_INFO", "HVM_CONTEXT", "EMULATOR_CONTEXT"}
        tell(set(differ) <= allowed, f"{ours.name}: {sizes}, bytes that differ: {differ}")
        fields = [str(change) for change in diff(one, other)]
        paths = {line.split(":")[0].split(" ")[0] for line in fields}
        tell(
            all(clock(path) for path in paths), f"{ours.name}: fields that differ: {sorted(paths)}"
        )


def clock(path: str) -> bool:
    """Whether a field goes on by itself; QEMU's state holds some of its own."""
    name = path.partition(".")[2].partition("[")[0]
    return path.startswith(("X86_TSC_INFO", "EMULATOR_CONTEXT")) or name in CLOCKS


def restore(xen: Xen, name: str, path: Path, *, like: set[str] | None = None) -> set[str]:
    """xl restores it; the context of the restored guest is that of the file; it runs. `like`:
    what may differ as well, as it does after a restore of xl's own file. Returns what does."""
    print(xl("restore", "-p", path)[-200:])
    domid = xl("domid", name, check=False)
    tell(bool(domid), f"{name}: xl restore takes {path.name}")
    if not domid:
        return set()
    with open_image(str(path)) as image:
        context = bytes(image.context_bytes())
    now = xen.context(int(domid))
    (PLACE / "now").write_bytes(now)
    (PLACE / "then").write_bytes(context)
    with open_image(str(PLACE / "then")) as one, open_image(str(PLACE / "now")) as other:
        changes = {str(change).split(":")[0].split(" ")[0] for change in diff(one, other)}
    odd = {path for path in changes if not clock(path) and not path.startswith(TICKS)}
    if like is None:
        print(f"    {name}: after a restore of xl's own file differ: {sorted(odd)}", flush=True)
    else:
        tell(odd <= like, f"{name}: context after the restore differs in: {sorted(changes)}")
    xl("unpause", domid)
    tell(runs(xen, int(domid), GUESTS[name][1]), f"{name}: the restored guest runs")
    xl("destroy", domid)
    return odd


def still(xen: Xen, guests: str, name: str) -> None:
    domid = create(xen, guests, name)
    xl("pause", domid)
    ours, theirs = PLACE / f"{name}.ours", PLACE / f"{name}.xl"
    before = xen.context(domid)
    start = time.monotonic()
    status, said = hvmctx("save", domid, "-o", ours)
    tell(status == 0, f"{name}: save of a paused guest, {time.monotonic() - start:.1f} s: {said}")
    tell(xen.state(domid).paused, f"{name}: it is paused, as before")
    start = time.monotonic()
    with Answer(domid):
        xl("save", "-p", domid, theirs)
    print(f"    xl save: {time.monotonic() - start:.1f} s", flush=True)
    compare(ours, theirs)
    with open_image(str(ours)) as image:
        context = bytes(image.context_bytes())
    (PLACE / "now").write_bytes(before)
    (PLACE / "then").write_bytes(context)
    with open_image(str(PLACE / "now")) as one, open_image(str(PLACE / "then")) as other:
        changes = sorted({str(change).split(":")[0].split(" ")[0] for change in diff(one, other)})
    tell(all(map(clock, changes)), f"{name}: context before and in the file: {changes}")
    xl("destroy", domid)
    like = restore(xen, name, theirs)
    restore(xen, name, ours, like=like)


def live(xen: Xen, guests: str, name: str, *words: str, answer: bool) -> None:
    domid = create(xen, guests, name)
    path = PLACE / f"{name}.live"
    answers = Answer(domid)
    start = time.monotonic()
    if answer:
        with answers:
            status, said = hvmctx("save", domid, "--live", "--checkpoint", *words, "-o", path)
    else:
        status, said = hvmctx("save", domid, "--live", "--checkpoint", *words, "-o", path)
    seconds = time.monotonic() - start
    tell(status == 0, f"{name}: live {' '.join(words)}, {seconds:.1f} s: {said}")
    tell(runs(xen, domid, GUESTS[name][1]), f"{name}: it runs on")
    tell(not logs(xen, domid), f"{name}: log-dirty is off")
    if status == 0:
        status = subprocess.run(
            ["verify-stream-v2", "-f", "xl", "-i", str(path)], capture_output=True, check=False
        ).returncode
        tell(status == 0, f"{name}: Xen's own verifier takes it")
        xl("destroy", domid)
        restore(xen, name, path, like=PIT)
    path.unlink(missing_ok=True)


def kill(xen: Xen, guests: str, name: str, times: int) -> None:
    """Killed at random moments of a live save: the guest runs, nothing logs, no file."""
    domid = create(xen, guests, name)
    rng = random.Random(name)
    place = PLACE / f"{name}-kill"
    place.mkdir()
    pfn = GUESTS[name][1]
    for turn in range(times):
        sign = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[turn % 3]
        after = rng.uniform(0, 15)
        words = ["save", str(domid), "--live", "--checkpoint", "--stop", "pause"]
        child = subprocess.Popen(
            [sys.executable, "-m", "hvmctx", *words, "-o", str(place / "file"), "--force"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        while child.poll() is None and not any(entry.stat().st_size for entry in place.iterdir()):
            time.sleep(0.1)  # it starts
        with suppress(subprocess.TimeoutExpired):
            child.wait(after)
        ended = child.poll() is not None
        child.send_signal(sign)
        said = (child.communicate()[1] or "").strip()
        for _ in range(40):  # after SIGKILL the keeper does it
            if not xen.state(domid).stopped and not logs(xen, domid):
                break
            time.sleep(0.25)
        left = [entry.name for entry in place.iterdir()]
        how = "had ended" if ended else f"{sign.name} {after:.1f} s after its first byte"
        good = not logs(xen, domid) and runs(xen, domid, pfn)
        whole = left == ["file"] if ended else "file" not in left
        if sign != signal.SIGKILL and not ended:
            whole = not left
        tell(good and whole, f"{name}: {how}: status {child.returncode}, left {left} {said[-90:]}")
        for entry in place.iterdir():
            entry.unlink()
    xl("destroy", domid)


def main(guests: str, parts: list[str]) -> int:
    with Xen() as xen:
        print(f"Xen {xen.version}", flush=True)
        for name in [name for name in GUESTS if name in parts] or GUESTS:
            if "still" in parts:
                still(xen, guests, name)
            if "live" in parts:
                live(xen, guests, name, answer=name == "pvh")
            if "kill" in parts:
                kill(xen, guests, name, 5)
        if "live" in parts and "hvm" not in parts:
            live(xen, guests, "pvh", "--timeout", "2", "--on-timeout", "pause", answer=False)
    print(f"{len(failures)} failures", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    os.chdir("/")
    sys.exit(main(os.path.abspath(sys.argv[1]), sys.argv[2:] or ["still", "live", "kill"]))

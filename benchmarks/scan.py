"""`hvmctx scan` of 10,000 stripped copies of the example, with verdicts for one release, on two
processes: images a second, and that memory stays flat. What of an image of 1 GiB is requested
over HTTP is in tests/files/test_remote.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import alternating, peak
from hvmctx.image.image import open_image
from hvmctx.scan.row import Asked, row_of

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
EXAMPLE = os.path.join(HERE, "examples", "hvm1.save")
SCAN = [sys.executable, os.path.join(HERE, "tools", "xen-hvmctx.py"), "scan"]
MANY = 10_000


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        for number in range(MANY):
            shutil.copyfile(EXAMPLE, os.path.join(place, f"{number}.save"))
        arguments = ["--release", "4.17", "--jobs", "2", "-o", os.path.join(place, "rows")]
        start, before = time.perf_counter(), os.times()
        subprocess.run([*SCAN, place, *arguments, "--force"], check=True)
        seconds, after = time.perf_counter() - start, os.times()
        busy = sum(after[2:4]) - sum(before[2:4])
        print(
            f"scan of {MANY} images by two processes: {MANY / seconds:.0f} a second "
            f"({2 * MANY / busy:.0f} with two processors for itself)"
        )
        for most in ("1??.save", "*.save"):
            used = peak([*SCAN, os.path.join(place, most), *arguments, "--force"])
            print(f"scan of {most}: {used:.0f} MiB at the most in a process")
    asked = Asked(["4.17"])

    def opened() -> None:
        with open_image(EXAMPLE) as image:
            assert image.context and image.params

    whole, part = alternating(lambda: row_of(EXAMPLE, asked), opened, 300)
    print(
        f"one row: {whole * 1e3:.2f} ms, {whole / part:.1f} times opening with context and "
        f"parameters ({part * 1e3:.2f} ms)"
    )


if __name__ == "__main__":
    main()

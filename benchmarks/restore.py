"""`hvmctx restore` of thousands of contexts in one call, beside a call for each, start-up
included."""

from __future__ import annotations

import os
import random
import tempfile
from itertools import islice

from benchmarks.measure import best_of, command, peak
from benchmarks.walk import CONTEXT, TOOL
from hvmctx.fuzz.generate import variants

_MANY, _SINGLE = 5000, 20


def main() -> None:
    with open(CONTEXT, "rb") as file:
        made = variants([file.read()], "context", random.Random(1))
    with tempfile.TemporaryDirectory() as place:
        paths = [os.path.join(place, f"{number:06}.bin") for number in range(_MANY)]
        for path, (data, _) in zip(paths, islice(made, _MANY)):
            with open(path, "wb") as file:
                file.write(data)
        arguments = [*TOOL, "restore", "--release", "4.17"]
        many = [*arguments, place, "--format", "ndjson"]
        together = best_of(command(many), 3) / _MANY
        singles = [command([*arguments, path]) for path in paths[:_SINGLE]]
        alone = best_of(lambda: [call() for call in singles], 3) / _SINGLE
        print(
            f"restore of {_MANY} contexts in one call: {1 / together:.0f} a second, "
            f"{peak(many):.0f} MiB; a call for each: {1 / alone:.0f} a second; "
            f"{alone / together:.0f} times as fast"
        )


if __name__ == "__main__":
    main()

from __future__ import annotations

import gzip
import json
import os
import random
import threading
from pathlib import Path
from typing import Any

import pytest

from hvmctx.cli import main
from hvmctx.errors import InputError, UsageError
from hvmctx.fuzz.generate import bases_of, generate, loads_of, variants
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE, IMAGES, context_bytes


def manifest(place: Path) -> list[Any]:
    return [json.loads(line) for line in (place / "manifest.jsonl").read_text().splitlines()]


def test_contexts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "made"
    how = ["--base", str(EXAMPLE), "--policy", str(EXAMPLE), "--vcpus", "2", "--release", "4.17"]
    assert main(["fuzz", "generate", "--count", "60", "-o", str(place), *how]) == 0
    assert "4.17: 60 files, " in capfd.readouterr().err
    entries = manifest(place)
    with open_image(str(EXAMPLE)) as image:
        loads = loads_of(["4.17"], Guest.of_image(image, 2))
    contents = [(place / entry["name"]).read_bytes() for entry in entries]
    assert len(set(contents)) == 60 and context_bytes() not in contents
    for entry, data in zip(entries, contents):
        verdict = load(data, *loads["4.17"])
        expected = {"verdict": verdict.verdict, "errno": verdict.errno, "rule": verdict.rule}
        assert entry["expected"] == {"4.17": expected} and entry["changed"]
    assert len({entry["expected"]["4.17"]["rule"] for entry in entries}) > 5


def test_images(tmp_path: Path) -> None:
    place = tmp_path / "made"
    assert main(["fuzz", "generate", "--kind", "image", "--count", "30", "-o", str(place)]) == 0
    entries = manifest(place)
    assert {*entries[0]["expected"]} == {"4.17", "4.20", "newest"}
    verdicts = {entry["expected"]["newest"]["verdict"] for entry in entries}
    assert verdicts == {"accept", "refuse"}


def test_the_seed_decides(tmp_path: Path) -> None:
    bases = bases_of([str(EXAMPLE)], "context")
    loads = loads_of(["4.17"])
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate(str(tmp_path / name), 10, random.Random(seed), bases, loads=loads)
    a, b, c = (manifest(tmp_path / name) for name in "abc")
    assert a == b != c


def test_bases() -> None:
    (stream,) = bases_of([str(IMAGES[0])], "image")
    assert stream.startswith(b"\xff" * 8)
    with pytest.raises(UsageError, match="no complete libxc stream"):
        bases_of([str(IMAGES[0].with_name("hvm1.hvmctx.bin"))], "image")


@pytest.mark.parametrize("kind", ["context", "image"])
def test_bases_that_are_read_once(kind: str, tmp_path: Path) -> None:
    data = EXAMPLE.read_bytes()
    packed, fifo = tmp_path / "packed", tmp_path / "fifo"
    packed.write_bytes(gzip.compress(data))
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(data,))
    writer.start()
    try:
        plain = bases_of([str(EXAMPLE)], kind)
        assert bases_of([str(packed)], kind) == bases_of([str(fifo)], kind) == plain
    finally:
        writer.join()


@pytest.mark.parametrize("action", ["generate", "diff"])
def test_a_policy_without_a_policy(action: str, tmp_path: Path, run: Run) -> None:
    """A raw context has none: nothing would be refused for it. `restore` says so too."""
    path = DATA / "images" / "hvm1.hvmctx.bin"
    how = ["--against", "command:true", "--kind", "context"] if action == "diff" else []
    status, said = run("fuzz", action, *how, "--policy", path, "-o", tmp_path / "made")
    assert (status, said.out) == (2, "") and not (tmp_path / "made").exists()
    assert said.err == f"hvmctx: fuzz {action} --policy: {path} has no CPU policy\n"


def test_what_fails(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    loads = loads_of(["4.17"])
    rng = random.Random(1)
    with pytest.raises(InputError, match="not empty"):
        generate(str(tmp_path), 1, rng, [context_bytes()], loads=loads)
    with pytest.raises(InputError, match=r"Not a directory|File exists"):
        generate(str(tmp_path / "there"), 1, rng, [context_bytes()], loads=loads)
    with pytest.raises(UsageError, match="needs a base"):
        generate(str(tmp_path / "n"), 1, rng, [], loads=loads)
    with pytest.raises(UsageError, match="unknown kind"):
        generate(str(tmp_path / "n"), 1, rng, [b""], kind="x", loads=loads)
    for arguments in (["--count", "0"], ["--vcpus", "0"], ["--release", "9"]):
        assert main(["fuzz", "generate", "-o", str(tmp_path / "m"), *arguments]) == 2


def test_variants_are_different() -> None:
    found = variants([context_bytes()], "context", random.Random(1))
    made = [next(found)[0] for _ in range(200)]
    assert len(set(made)) == 200

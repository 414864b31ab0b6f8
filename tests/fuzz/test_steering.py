"""Variants of contexts reach the rules of a release evenly."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from hvmctx.abi.releases import Release
from hvmctx.errors import UsageError
from hvmctx.fuzz.generate import generate, loads_of, valid_bases
from hvmctx.fuzz.steering import Steering
from hvmctx.image.image import open_image
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from tests.builders.examples import one_in
from tests.builders.running import Run
from tests.builders.samples import DATA, EXAMPLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.fuzz.generate import Loads
    from hvmctx.fuzz.steering import Verdicts

COUNT = 500
OUT_OF_REACH = {
    "cpu-xsave-host",  # the machine has XSAVE
    "cpu-xsave-cut", "cpu-msr-cut",  # since 4.19 context-bounds comes first
    "cpu-msr-mask",  # of MSRs that Intel's hosts do not load
    "cpu-cr3-page",  # needs a guest without hap
}  # fmt: skip


def guest_of(path: Path, vcpus: int | None = None) -> Guest:
    with open_image(str(path)) as image:
        return Guest.of_image(image, vcpus)


def reached_by(tmp_path: Path, seed: int, loads: Loads) -> Steering:
    rng = random.Random(seed)
    return generate(str(tmp_path / "made"), COUNT, rng, valid_bases(rng, loads), loads=loads)


@pytest.mark.parametrize(
    "load",
    one_in(3, [("4.1", "amd", 1), ("4.5", "intel", 2), ("4.9", "amd", 3), ("4.17", "amd", 77417),
               ("4.17", "intel", 4), ("4.20", "intel", 5), ("newest", "amd", 6)]),
    ids=lambda load: "-".join(map(str, load)),
)  # fmt: skip
def test_each_rule_about_equally(load: tuple[str, str, int], tmp_path: Path) -> None:
    release, vendor, seed = load
    steering = reached_by(tmp_path, seed, loads_of([release], Guest(vcpus=2), vendor))
    counts = {rule: count for (_, rule), count in steering.reached.items()}
    assert sum(counts.values()) == COUNT and max(counts.values()) < COUNT / 6
    assert all(count >= 3 for count in counts.values()), counts
    unknown = {  # rules about records that the release does not know
        rule for rule, record in steering.rules[release].items()
        if record.isupper() and is_unknown(release, record)
    }  # fmt: skip
    missed = {rule for rule in steering.missed(release) if not rule.endswith("-device")}
    assert missed - unknown <= OUT_OF_REACH


def is_unknown(release: str, record: str) -> bool:
    return record not in Release(release).sizes()


def test_a_guest_without_devices(tmp_path: Path) -> None:
    guest = guest_of(DATA / "images" / "pvhx.save")
    steering = reached_by(tmp_path, 1, loads_of(["4.20"], guest))
    assert steering.reached["4.20", ""] > 10
    assert min(steering.reached["4.20", f"{name}-device"] for name in ("pic", "pit", "rtc")) > 2


def test_bases_fit_the_guest() -> None:
    for vcpus in (1, 2, 128):
        loads = loads_of(["4.17", "newest"], guest_of(EXAMPLE, vcpus))
        for seed in range(20):
            for base in valid_bases(random.Random(seed), loads):
                assert load(base, *loads["4.17"]).accepted


def test_command(run: Run, tmp_path: Path) -> None:
    """The seed that made contexts for three vcpus."""
    arguments = ["--count", "100", "--vcpus", "2", "--seed", "77417", "--release", "4.17"]
    status, said = run("fuzz", "generate", *arguments, "-o", tmp_path / "a")
    assert status == 0 and said.err.startswith("hvmctx: 4.17: 100 files, ")
    assert " rules reached; not " in said.err and "pic-device" in said.err
    assert run("fuzz", "generate", *arguments, "-o", tmp_path / "b").err == said.err
    made = [sorted((tmp_path / name).iterdir()) for name in "ab"]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*made))
    judged = run("restore", tmp_path / "a", "--vcpus", "2", "--release", "4.17")
    assert judged.out.count("cpu-vcpu]") < 10


def test_rules_about_records_of_later_releases_do_not_count(run: Run, tmp_path: Path) -> None:
    """4.0 knows neither CPU_XSAVE nor CPU_MSR, and 4.2 no TSC_ADJUST."""
    arguments = ["--count", "5", "--release", "4.0", "--release", "4.2", "-o", tmp_path / "a"]
    of_4_0, of_4_2 = run("fuzz", "generate", *arguments)[1].err.splitlines()[:2]
    assert "cpu-xsave" not in of_4_0 and "vmce" not in of_4_0 and "cpu-msr" not in of_4_0
    assert "vmce-vcpu-caps" in of_4_2 and "cpu-msr" not in of_4_2 and "tsc-adjust" not in of_4_2


def verdicts(data: bytes) -> Verdicts:
    return {"r": {"rule": {b"a": "", b"b": "one"}.get(data[:1], "two")}}


def test_the_rarest_first() -> None:
    rng = random.Random(1)

    def make(record: str | None = None) -> tuple[bytes, str]:
        letter = rng.choice(b"aaaaaaaaaaaaab") if record != "X" else b"c"[0]
        return bytes((letter, *rng.randbytes(3))), "a letter"

    steering = Steering(
        make, verdicts, {"r": {"one": "*", "two": "X", "never": "*"}}, rng, tries=30
    )
    made = list(islice(steering, 120))
    counts = Counter(expected["r"]["rule"] for _, _, expected in made)
    assert all(abs(count - 40) <= 1 for count in counts.values()) and len(counts) == 3
    assert steering.missed("r") == ["never"] and len({data for data, _, _ in made}) == 120


def test_no_further_variants() -> None:
    steering = Steering(
        lambda record=None: (b"a", "same"), verdicts, {"r": {}}, random.Random(1), tries=2
    )
    with pytest.raises(UsageError, match="no further variants"):
        list(islice(steering, 2))

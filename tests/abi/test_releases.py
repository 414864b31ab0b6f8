from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi import releases as abi_releases
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import (
    CPU_COMPAT_REFUSED,
    LATEST,
    NEWEST,
    RELEASES,
    SPAN,
    VARIABLE,
    ZERO_EXTEND_SINCE,
    Release,
    Window,
    emission_order,
)
from hvmctx.errors import UsageError
from hvmctx.image.image import open_image
from tests.builders.samples import DATA, EXAMPLE, IMAGES, load

LAYOUTS = load(DATA / "layouts.json")
BRANCHES = [name for name in LAYOUTS["code_max"] if name != "HEAD"]


@pytest.mark.parametrize("branch", [*BRANCHES, "HEAD"])
def test_sizes_of_branch_tips(branch: str) -> None:
    expected = {}
    for key, sizes in LAYOUTS["branch_tips"].items():
        name = (
            key.split()[1].replace("VIRIDIAN", "VIRIDIAN_DOMAIN")
            if key.endswith(" VIRIDIAN")
            else key.split()[1]
        )
        if sizes[branch] is not None:
            expected[name] = sizes[branch]
    assert Release(branch).sizes() == expected


TAGS = [(tag.removeprefix("RELEASE-"), group) for group in LAYOUTS["tags"] for tag in group["tags"]]


@pytest.mark.parametrize(("tag", "group"), TAGS, ids=[tag for tag, _ in TAGS])
def test_sizes_of_tags(tag: str, group: dict[str, Any]) -> None:
    sizes: dict[str, int] = dict(group["sizes"])
    if "VIRIDIAN" in sizes:
        sizes["VIRIDIAN_DOMAIN"] = sizes.pop("VIRIDIAN")
    release = Release(tag)
    assert release.sizes() == sizes
    assert (tag in CPU_COMPAT_REFUSED) == (group["cpu_compat_size"] is None)


@pytest.mark.parametrize("branch", BRANCHES)
def test_highest_typecode(branch: str) -> None:
    sizes = Release(branch).sizes()
    known = [record.typecode for record in record_types() if record.name in sizes]
    assert max(known) == LAYOUTS["code_max"][branch]


def test_length_rules() -> None:
    """`strict 4.0; zero-extend 4.1+` and the like, in the words of the layouts."""
    for name, rule in LAYOUTS["length_rules"].items():
        assert ("own variable-length rule" in rule) == (name in VARIABLE)
        since = ZERO_EXTEND_SINCE.get(name)
        assert ("zero-extend" in rule) == (since is not None)
        if since is not None:
            assert f"{since}+" in rule
            assert Release(since).zero_extends(name)
            before = list(RELEASES)[list(RELEASES).index(since) - 1]
            assert not Release(before).zero_extends(name)


@pytest.mark.parametrize("alias", ["HEAD", "staging", "unstable", NEWEST])
def test_newest(alias: str) -> None:
    assert Release(alias) == Release(NEWEST)
    assert hash(Release(alias)) == hash(Release(NEWEST))


@pytest.mark.parametrize("name", ["", "4", "3.4", "4.99", "4.17.x", "4.17.1.2", "four", "4.17."])
def test_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="unknown Xen release"):
        Release(name)


def test_order_and_names() -> None:
    assert Release("4.10").since("4.9")
    assert not Release("4.9").since("4.10")
    assert str(Release("4.18.3")) == "4.18.3"
    assert Release("4.18.3").size_of("LAPIC") == 24
    assert Release("4.18.5").size_of("LAPIC") == 32
    assert Release("4.17").size_of("NO_SUCH") is None
    assert str(Release.of_version(4, 17)) == "4.17"
    assert Release.of_version(9, 9) == Release(NEWEST)


@pytest.mark.parametrize("name", [name for name in RELEASES if name != NEWEST])
def test_version_is_the_inverse_of_of_version(name: str) -> None:
    assert Release.of_version(*Release(name).version) == Release(name)
    assert Release(f"{name}.1").version == Release(name).version


def test_the_newest_has_the_last_version() -> None:
    assert Release(NEWEST).version == Release(LATEST).version == (4, 22)
    assert SPAN == "4.0 to 4.22"


def test_and_newer() -> None:
    names = [str(release) for release in Release("4.20.1").and_newer()]
    assert names == ["4.20.1", "4.21", "4.22", "newest"]
    assert Release(NEWEST).and_newer() == [Release(NEWEST)]


@pytest.mark.parametrize(
    ("window", "names", "words"),
    [
        (Window(), list(RELEASES), "every release"),
        (Window("4.21"), ["4.21", "4.22", NEWEST], "4.21 and later"),
        (Window("4.0", "4.1"), ["4.0", "4.1"], "up to 4.1"),
        (Window("4.2", "4.2"), ["4.2"], "4.2 to 4.2"),
        (Window("4.6", oldest="4.6"), list(RELEASES)[6:], "every release"),
        (Window(oldest="4.21"), ["4.21", "4.22", NEWEST], "every release"),
    ],
)
def test_window(window: Window, names: list[str], words: str) -> None:
    assert [name for name in RELEASES if Release(name) in window] == names
    assert str(window) == words


def test_emission_order() -> None:
    """That of the contexts that Xen itself wrote."""
    for path in (*IMAGES, EXAMPLE):
        with open_image(path) as image:
            written = [(r.typecode, r.instance) for r in image.context.entries]
        assert written == sorted(written, key=lambda key: emission_order(*key))


NEXT = "4.23"
FOLLOWS = """
import sys
from hvmctx import cli
from hvmctx.abi.releases import LATEST, NEWEST, SPAN, Release
from hvmctx.render.text import TextDialect
from hvmctx.restore.stream import reader_kind
from hvmctx.verify.registry import rules

new, before = Release("4.23"), Release("4.22")
assert LATEST == "4.23" and SPAN == "4.0 to 4.23"
assert new.sizes() == {**before.sizes(), "TSC_ADJUST": 12}
assert new.version == Release(NEWEST).version == (4, 23)
assert Release.of_version(4, 23) == new
assert before.and_newer() == [before, new, Release(NEWEST)]
for rule in rules():
    assert (new in rule.releases) == (before in rule.releases), rule.id
assert reader_kind(new) == reader_kind(before)
for command in ("dump", "restore", "verify"):
    try:
        cli.main([command, "--help"])
    except SystemExit:
        pass
print("--", flush=True)
image = sys.argv[1]
assert cli.main([image, "--release", "4.23", "--record", "CPU"]) == 0
assert cli.main(["restore", image, "--release", "4.23"]) == 1
assert cli.main(["verify", image]) == 1
"""


def test_the_next_release_is_one_row(tmp_path: Path) -> None:
    """Help, versions, dialects, rules and findings all follow from the table."""
    package = Path(abi_releases.__file__).parent.parent
    shutil.copytree(package, tmp_path / "hvmctx", ignore=shutil.ignore_patterns("__pycache__"))
    table = tmp_path / "hvmctx" / "abi" / "releases.py"
    row = f'    "{NEXT}": {{"TSC_ADJUST": 12}},\n    NEWEST: {{}},\n'
    text = table.read_text()
    assert text.count("    NEWEST: {},\n") == 1
    table.write_text(text.replace("    NEWEST: {},\n", row))
    done = subprocess.run(
        [sys.executable, "-c", FOLLOWS, str(EXAMPLE)],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    help_text, _, said = done.stdout.partition("--\n")
    assert help_text.count("4.0 to 4.23") == 3 and "4.22" not in help_text
    assert "refuse: Xen 4.23: EINVAL" in said and "[tsc-adjust-length]" in said
    assert "Xen 4.23 to newest refuses it [tsc-adjust-length]" in said


def test_releases_order_by_age() -> None:
    names = ["4.0", "4.9", "4.10", "4.17.0", "4.17.3", "4.17", "4.22", "newest"]
    releases = [Release(name) for name in names]
    assert sorted([*releases[4:], *releases[:4]]) == releases
    for at, one in enumerate(releases):
        same = Release(names[at])
        assert one <= same and one >= same and not one < same and not one > same
        assert all(one < other and other > one for other in releases[at + 1 :])
    assert Release(Release("4.17.3")) == Release("4.17.3")
    with pytest.raises(UsageError, match=r"unknown Xen release '3\.9'"):
        Release("3.9")


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("4.16", True), ("4.16.0", True), ("newest", True), ("4.15", True), ("4.15.0", False),
        ("4.15.1", True), ("4.14.2", False), ("4.14.3", True), ("4.14", True), ("4.13", False),
        ("4.13.9", False), ("4.0", False), ("RELEASE-4.14.6", True), ("4.1.6.1", False),
    ],
)  # fmt: skip
def test_backports(name: str, has: bool) -> None:
    """What came with 4.16, and was put into two older branches."""
    first = "4.16 4.15.1 4.14.3"
    assert Release(name).since(first) == (Release(name) in Window(first)) == has
    assert str(Window(first)) == "4.16 and later (also 4.15.1, 4.14.3 and later of their branches)"


def test_every_tag_is_a_release() -> None:
    for tag, _ in TAGS:
        assert Release(tag) == Release(f"RELEASE-{tag}") and str(Release(tag)) == tag


@pytest.mark.parametrize("name", [4.20, 4, None, b"4.17"])
def test_releases_are_named_by_text(name: object) -> None:
    """4.20 as a number is 4.2."""
    with pytest.raises(UsageError, match="expected a release as text"):
        Release(name)  # type: ignore[arg-type]

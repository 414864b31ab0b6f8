from __future__ import annotations

import pytest

from hvmctx.abi.declare import record_types
from hvmctx.abi.releases import (
    CPU_COMPAT_REFUSED,
    NEWEST,
    RELEASES,
    VARIABLE,
    ZERO_EXTEND_SINCE,
    Release,
)
from hvmctx.errors import UsageError
from tests.samples import DATA, load

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
def test_sizes_of_tags(tag: str, group: dict[str, object]) -> None:
    sizes = dict(group["sizes"])  # type: ignore[call-overload]
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
    assert Release(alias).is_newest
    assert Release(alias) == Release(NEWEST)
    assert hash(Release(alias)) == hash(Release(NEWEST))


@pytest.mark.parametrize("name", ["", "4", "3.4", "4.99", "4.17.x", "4.17.1.2", "four", "4.17."])
def test_unknown(name: str) -> None:
    with pytest.raises(UsageError, match="no Xen release"):
        Release(name)


def test_order_and_names() -> None:
    assert Release("4.10").since("4.9")
    assert not Release("4.9").since("4.10")
    assert str(Release("4.18.3")) == "4.18.3"
    assert Release("4.18.3").size_of("LAPIC") == 24
    assert Release("4.18.5").size_of("LAPIC") == 32
    assert Release("4.17").size_of("NO_SUCH") is None
    assert str(Release.of_version(4, 17)) == "4.17"
    assert Release.of_version(9, 9).is_newest

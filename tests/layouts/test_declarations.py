from __future__ import annotations

from ctypes import sizeof

import pytest

from hvmctx.abi import streams
from hvmctx.abi.fields import Layout
from hvmctx.abi.registry import record_types
from hvmctx.abi.releases import RELEASES, Release
from hvmctx.layouts.declarations import (
    MAGICS,
    Declarations,
    code_of,
    constants,
    identifier,
)
from hvmctx.stream.body import BODIES
from hvmctx.stream.detect import detect

DECLARED = Declarations()


def test_names_are_names_in_every_language() -> None:
    names = [shape.name for shape in DECLARED.shapes]
    assert len(set(names)) == len(names) and all(name.isidentifier() for name in names)
    for shape in DECLARED.shapes:
        fields = [identifier(field.name) for field in shape.fields]
        assert len(set(fields)) == len(fields), shape
        assert all(name.isidentifier() and name[0].isalpha() for name in fields)
    for numbers in constants().values():
        named = [identifier(name) for name in numbers.values()]
        assert len(set(named)) == len(named) and all(name[0].isalpha() for name in named)


def test_everything_that_is_declared_is_there() -> None:
    assert [saved.kind for saved in DECLARED.saved] == list(record_types())
    for saved in DECLARED.saved:
        assert saved.kind.size == (saved.shape.size if saved.shape else 0)
    bodies = {place for place in BODIES if place[1] in streams.RECORDS.get(place[0], ())}
    assert DECLARED.bodies.keys() == bodies and len(bodies) > 15
    assert DECLARED.headers.keys() == streams.HEADERS.keys()
    for body, head in DECLARED.bodies.values():
        assert (head.size if head else 0) == body.head.size


def test_each_comes_after_what_it_holds() -> None:
    seen: set[str] = set()
    for shape in DECLARED.shapes:
        for field in shape.fields:
            if not code_of(field):
                assert DECLARED.shape_of(field.element).name in seen
        seen.add(shape.name)


def test_members_are_all_fields() -> None:
    """Once each; the bytes of those that share them are within the first's."""
    for shape in DECLARED.shapes:
        found = []
        for first, others in shape.members():
            found += [first, *(field for fields in others for field in fields)]
            for field in (field for fields in others for field in fields):
                assert first.offset <= field.offset
                assert field.offset + field.size <= first.offset + first.size
        assert found == list(shape.fields)


@pytest.mark.parametrize("name", [*RELEASES, "4.1.0", "4.18.4"])
def test_of_a_release(name: str) -> None:
    """Every record that it has ends where a field does."""
    release = Release(name)
    declared = Declarations(release)
    sizes = {saved.kind.name: saved.shape.size if saved.shape else 0 for saved in declared.saved}
    vmport = sizes.pop("VMPORT")
    assert vmport and sizes == release.sizes()
    for saved in declared.saved:
        if saved.shape is not None:
            assert saved.shape.least == saved.shape.size and saved.shape.padding == 0
            assert Layout.of(saved.kind.struct).size == sizeof(saved.kind.struct)


def test_magics_are_those_that_inputs_are_told_by() -> None:
    for layer, magic in MAGICS.items():
        assert detect(magic.ljust(64, b"\0")) == layer

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from hvmctx.edit.editor import edit
from hvmctx.edit.location import of_path
from hvmctx.errors import FieldError, HvmctxError, MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders.wrappers import SWTPM, VARSTORED, VM, WRAPPED, XENOPS, XML


def changed(data: bytes, *settings: tuple[str, str]) -> bytes:
    out = io.BytesIO()
    with open_image(data) as image:
        editor = edit(image)
        for path, value in settings:
            editor.set(path, value)
            assert editor.get(path) == value
        editor.write(out)
    return out.getvalue()


def got(data: bytes, path: str) -> object:
    with open_image(data) as image:
        return edit(image).get(path)


@pytest.mark.parametrize(
    ("wrapper", "path", "value"),
    [
        ("libvirt", "XML.name", "web one"), ("libvirt", "XML.@id", "7"),
        ("libvirt", "xml.devices.disk[1].target@bus", "xen"), ("xapi", "XENOPS.word_size", "64"),
        ("xapi", "XENOPS.time", "20261129T00:00:00Z"), ("xapi", "xenops.vm.name", "web one"),
        ("xapi", "XENOPS.vm.ty[1].boot_order", "c"), ("xapi", "XENOPS.vm_str", VM.decode()),
        ("xapi", "XENOPS.vm.platformdata.viridian", "false"),
    ],
)  # fmt: skip
def test_values(wrapper: str, path: str, value: str) -> None:
    """Set to what they are they change nothing; set to something else, only that."""
    data = WRAPPED[wrapper]
    assert got(data, path) == value
    if path != "XENOPS.vm_str":
        made = changed(data, (path, 'an "other" <&> (one)'))
        assert got(made, path) == 'an "other" <&> (one)' and made != data
        with open_image(made) as image:
            assert image.complete and not image.problems
        assert changed(made, (path, value)).replace(b'"web one"', b"web one") == (
            data.replace(b'"web one"', b"web one")
        )
    assert changed(data, (path, value)) == data


PARTS = (
    ("libvirt", "xml", XML, XML.replace(b"web one", b"another guest")),
    ("xapi", "xenops", XENOPS, XENOPS.replace(b"(word_size 64)", b"(word_size 32)") + b" "),
    ("xapi", "varstored", VARSTORED, VARSTORED[:-1]),
    ("xapi", "swtpm", SWTPM, SWTPM * 2),
    ("xapi", "swtpm/0", SWTPM, b""),
    ("xapi", "record:QEMU_TRAD", b"QEVM\0\0\0\3\0", b"QEVM\0\0\0\3\0\0"),
    ("xapi", "record:xapi:0xf00", b"QEVM\0\0\0\3\0", b"QEVM"),
    ("xapi", "emulator", b"QEVM\0\0\0\3\0", b"QEVM\0\0\0\3"),
)


@pytest.mark.parametrize(("wrapper", "what", "before", "after"), PARTS)
def test_parts(wrapper: str, what: str, before: bytes, after: bytes) -> None:
    data, out = WRAPPED[wrapper], io.BytesIO()
    with open_image(data) as image:
        editor = edit(image)
        assert editor.take(what) == before
        editor.put(what, before)
        editor.write(out)
        assert out.getvalue() == data
        editor.put(what, after)
        assert editor.take(what) == after
        editor.write(out := io.BytesIO())
    made = out.getvalue()
    assert len(made) == len(data) + len(after) - len(before)
    with open_image(made) as image:
        assert image.complete and edit(image).take(what) == after


@pytest.mark.parametrize(
    ("wrapper", "path", "value", "error"),
    [
        ("xl", "XML.name", "a", MissingRecordError), ("xapi", "XML.name", "a", MissingRecordError),
        ("libvirt", "XENOPS.time", "a", MissingRecordError), ("libvirt", "XML.a", "b", UsageError),
        ("xapi", "XENOPS.vm.a", "b", UsageError), ("xapi", "XENOPS.a", "b", UsageError),
        ("libvirt", "XML.name", "\0", FieldError),
    ],
)  # fmt: skip
def test_what_is_not_there(wrapper: str, path: str, value: str, error: type[HvmctxError]) -> None:
    with open_image(WRAPPED[wrapper]) as image, pytest.raises(error):
        edit(image).set(path, value)


def test_values_are_text() -> None:
    with open_image(WRAPPED["libvirt"]) as image, pytest.raises(FieldError, match="takes text"):
        edit(image).set("XML.vcpu", 3)


@pytest.mark.parametrize("what", ["record:LIBXC", "record:END_OF_IMAGE"])
def test_what_has_no_body(what: str) -> None:
    with open_image(WRAPPED["xapi"]) as image:
        editor = edit(image)
        editor.put(what, b"")
        editor.put(what, b"a")
        with pytest.raises(UsageError, match="have no body"):
            editor.write(io.BytesIO())


def test_an_odd_length_stays() -> None:
    """That of a record without a body, whatever is changed beside it."""
    odd: Callable[[bytes], bytes] = lambda data: data[:-8] + b"\5" + bytes(7)  # noqa: E731
    data = odd(WRAPPED["xapi"])
    assert changed(data, ("XENOPS.time", "x")) == odd(
        changed(WRAPPED["xapi"], ("XENOPS.time", "x"))
    )


def test_patterns() -> None:
    for wrapper, pattern, found in (
        ("libvirt", "XML.devices.disk[1].*", ["target@dev", "target@bus"]),
        ("libvirt", "xml.vcpu*", ["XML.vcpu@placement", "XML.vcpu@current", "XML.vcpu"]),
        ("xapi", "XENOPS.*", ["XENOPS.time", "XENOPS.word_size", "XENOPS.vm.id"]),
        ("xapi", "XENOPS.vm.platformdata", ["featureset", "viridian"]),
    ):
        with open_image(WRAPPED[wrapper]) as image:
            paths = list(edit(image).paths(pattern))
            assert all(path.endswith(end) for path, end in zip(paths, found)), paths
            assert len(paths) >= len(found) and all(
                isinstance(edit(image).get(each), str) for each in paths
            )


@pytest.mark.parametrize(("wrapper", "hint"), [("libvirt", "XML.name"), ("xapi", "XENOPS.vm.name")])
def test_what_there_is_in_place_of_a_configuration(wrapper: str, hint: str) -> None:
    with open_image(WRAPPED[wrapper]) as image:
        assert edit(image).get("config.c_info.name") == "web one"
        with pytest.raises(MissingRecordError, match=f"only an xl file has one.*{hint}"):
            edit(image).set("config.c_info.name", "b")


@pytest.mark.parametrize(
    ("wrapper", "path", "held"),
    [
        ("libvirt", "XML.name", b"web one"), ("libvirt", "XML.vcpu@placement", b"static"),
        ("libvirt", "XML", XML), ("xapi", "XENOPS.time", b"20261129T00:00:00Z"),
        ("xapi", "XENOPS", XENOPS), ("xapi", "XENOPS.vm.name", b'"((id 434d'),
    ],
)  # fmt: skip
def test_where_they_stand(wrapper: str, path: str, held: bytes) -> None:
    data = WRAPPED[wrapper]
    with open_image(data) as image:
        found = of_path(image, path)
    assert data[found.offset : found.offset + found.length].startswith(held)
    assert found.length == len(held) or path == "XENOPS.vm.name"

from __future__ import annotations

import pytest

from hvmctx.context.hvm_context import HvmContext
from hvmctx.edit.editor import edit
from hvmctx.edit.payloads import is_not_kept
from hvmctx.errors import FormatError, HvmctxError, MissingRecordError, UsageError
from hvmctx.image.image import open_image
from tests.builders.samples import context_bytes
from tests.builders.streams import CONTEXT, SMALL, TSC, libxc_stream

NAMES = (
    "hvm-context", "emulator", "record:CPU/0", "record:cpu", "record:2/0", "record:context:2",
    "record:X86_TSC_INFO", "record:libxc:8/0", "record:EMULATOR_CONTEXT", "record:libxl:0x3",
    "record:PAGE_DATA/0",
)  # fmt: skip


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("size", [None, 5, 4000])
def test_what_is_put_is_what_is_taken(what: str, size: int | None) -> None:
    """And all else stays; put as it was, the image is the same."""
    with open_image(SMALL) as image:
        editor = edit(image)
        before = bytes(editor.take(what))
        payload = before if size is None else bytes(n * 5 & 0xFF for n in range(size))
        editor.put(what, payload)
        assert editor.take(what) == payload
        ((start, end, data),) = editor.edits()
    changed = SMALL[:start] + data + SMALL[end:]
    if size is None:
        assert changed == SMALL
        return
    with open_image(changed) as image:
        assert bytes(edit(image).take(what)) == payload
    assert changed[:start] == SMALL[:start] and changed.endswith(SMALL[end:])


def test_the_same_under_other_names() -> None:
    with open_image(SMALL) as image:
        take = edit(image).take
        cpu = [bytes(take(what)) for what in NAMES[2:6]]
        assert len(set(cpu)) == 1 and cpu[0] == bytes(image.context.record("CPU").body)
        assert take("record:X86_TSC_INFO") == take("record:libxc:8/0") == bytes(24)
        assert bytes(take("record:libxl:3"))[8:] == bytes(take("emulator"))
        assert take("hvm-context") == context_bytes()


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        ("nothing", UsageError), ("record:", UsageError), ("record:NOPE", UsageError),
        ("record:CPU/x", UsageError), ("record:libxm:1", UsageError),
        ("record:libxc:one", UsageError), ("record:libxc:-1", UsageError),
        ("record:END", HvmctxError), ("record:CPU/7", MissingRecordError),
        ("record:PAGE_DATA/1", MissingRecordError), ("record:libxc:0x55", MissingRecordError),
        ("record:context:99", MissingRecordError),
    ],
)  # fmt: skip
def test_what_is_not_there(what: str, kind: type[HvmctxError]) -> None:
    with open_image(SMALL) as image:
        editor = edit(image)
        for work in (lambda: editor.take(what), lambda: editor.put(what, b"")):
            if what == "record:END":
                work()  # of the context: the streams' are no payload
                continue
            with pytest.raises(kind):
                work()


def test_an_image_without_them() -> None:
    with open_image(libxc_stream()) as image:
        for what in ("emulator", "hvm-context"):
            with pytest.raises(MissingRecordError):
                edit(image).take(what)


def test_what_is_cut_off_is_not_replaced() -> None:
    whole = libxc_stream(TSC, CONTEXT)
    cut = whole[: whole.index(context_bytes()) + 300]
    with open_image(cut) as image:
        assert len(image.context.entries) == 1
        for what in ("hvm-context", "record:CPU/0", "record:HVM_CONTEXT"):
            with pytest.raises((FormatError, MissingRecordError)):
                editor = edit(image)
                editor.put(what, HvmContext().to_bytes())
                editor.edits()
        editor = edit(image)
        editor.put("record:X86_TSC_INFO", bytes(24))
        assert [data for _, _, data in editor.edits()] == [bytes(24)]


def test_which_of_them_a_pipe_does_not_keep() -> None:
    """Page data, and what nobody knows."""
    assert is_not_kept("record:PAGE_DATA/3") and is_not_kept("record:libxc:1")
    assert is_not_kept("record:libxc:0x80000055") and not is_not_kept("record:context:99")
    assert not any(map(is_not_kept, ("hvm-context", "emulator", "record:CPU", "record:1")))

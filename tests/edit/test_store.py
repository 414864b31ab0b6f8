"""Parts that are added and removed: where a writer puts them, and all else as it was."""

from __future__ import annotations

import io
import struct

import pytest

from hvmctx.abi import streams
from hvmctx.edit.editor import Editor, edit
from hvmctx.errors import FormatError, MissingRecordError, UsageError
from hvmctx.image.image import Image, open_image
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.streams import SMALL, libxc_head, record


def written(editor: Editor) -> bytes:
    out = io.BytesIO()
    editor.write(out)
    return out.getvalue()


def names(image: Image) -> list[str]:
    return [record.name for record in image.records]


def test_where_records_go() -> None:
    with open_image(EXAMPLE) as image:
        editor, before = edit(image), names(image)
        editor.remove("X86_CPUID_POLICY")
        editor.remove("EMULATOR_CONTEXT")
        editor.remove("X86_TSC_INFO/0")
        data = written(editor)
    with open_image(data) as image:
        assert image.complete and not image.problems and len(image.records) == len(before) - 3
        editor = edit(image)
        editor.set("EMULATOR_CONTEXT/0", bytes(12), add=True)
        editor.add("X86_TSC_INFO", bytes(24))
        editor.add("CPUID[1].eax", 5)
        editor.add("CPUID[7,0]", "1 2 3 4")
        data = written(editor)
    with open_image(data) as image:
        assert image.complete and not image.problems
        assert image.policy.leaves == [(1, 0xFFFFFFFF, 5, 0, 0, 0), (7, 0, 1, 2, 3, 4)]
        found = names(image)
        assert sorted(found) == sorted(before)
        assert found.index("X86_CPUID_POLICY") < found.index("STATIC_DATA_END")
        assert found[-2:] == ["EMULATOR_CONTEXT", "END"]


def test_what_was_added_can_be_changed_and_removed() -> None:
    with open_image(libxc_head() + record(16) + record(0)) as image:
        editor = edit(image)
        editor.add("HVM_PARAMS.17", 5)
        editor.add("HVM_PARAMS.9", 6)
        editor.set("HVM_PARAMS.17", 7)
        editor.add("HVM_CONTEXT", context_bytes())
        editor.set("CPU/0.rip", 9)
        editor.add("libxc:0x80000055", b"a")
        editor.add("libxc:0x80000056", b"b")
        editor.remove("libxc:0x80000055")
        data = written(editor)
    with open_image(data) as image:
        assert image.params == {17: 7, 9: 6} and image.context.vcpus[0].cpu.rip == 9
        assert names(image)[1:] == ["HVM_PARAMS", "HVM_CONTEXT", "type 0x80000056", "END"]
    with open_image(data) as image:
        editor = edit(image)
        editor.remove("HVM_CONTEXT")
        with pytest.raises(MissingRecordError, match="removed"):
            editor.get("CPU/0.rip")
        editor.remove("HVM_PARAMS")
        editor.remove("libxc:0x80000056/0")
        assert written(editor) == libxc_head() + record(16) + record(0)


def test_before_the_last_checkpoint() -> None:
    """What follows it is no part of what a restore acts on."""
    checkpoint = record(streams.LIBXC_CHECKPOINT)
    with open_image(libxc_head() + record(16) + checkpoint + record(0)) as image:
        editor = edit(image)
        editor.add("HVM_PARAMS.17", 5)
        data = written(editor)
    assert data.index(checkpoint) > data.index(struct.pack("<QQ", 17, 5))
    with open_image(data) as image:
        assert image.params == {17: 5}


def test_where_there_is_no_place() -> None:
    for data, path, kind in (
        (context_bytes(), "HVM_PARAMS.17", MissingRecordError),
        (libxc_head() + record(16) + record(0), "EMULATOR_CONTEXT", MissingRecordError),
        (libxc_head() + record(16), "HVM_PARAMS.17", FormatError),
        (SMALL, "X86_TSC_INFO", UsageError),
        (SMALL, "X86_TSC_INFO.khz", UsageError),
        (SMALL, "HVM_CONTEXT", UsageError),
    ):
        with open_image(data) as image, pytest.raises(kind):
            edit(image).add(path, 1 if "17" in path or "khz" in path else b"")


def test_the_configuration() -> None:
    """Its length and the header's follow; what comes after it in the optional data stays."""
    data = EXAMPLE.read_bytes()
    with open_image(EXAMPLE) as image:
        editor, text = edit(image), image.config_text
        editor.put("config", text)
        assert written(editor) == data
        editor.set("config.c_info.name", "longer than before")
        assert editor.get("config.c_info.name") == "longer than before"
        changed = written(editor)
    with open_image(changed) as image:
        assert image.complete and not image.problems and not image.notes
        assert image.config_text == text.replace(b'"hvm1"', b'"longer than before"')
    with open_image(SMALL) as image, pytest.raises(MissingRecordError):
        edit(image).set("config.x", 1)
    with (
        open_image(context_bytes()) as image,
        pytest.raises(MissingRecordError, match="only an xl file"),
    ):
        edit(image).take("config")

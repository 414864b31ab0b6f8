"""Paths into a device model's file."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from hvmctx.context.vmport import VmportState, save
from hvmctx.edit.editor import edit
from hvmctx.errors import FieldError, HvmctxError, LimitError, MissingRecordError, UsageError
from hvmctx.image import handlers
from hvmctx.image.image import open_image
from hvmctx.limits import Limits
from tests.builders.emulators import MOUSE, VMPORT, with_model
from tests.builders.plugin import blocks
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.vmport import busy_state


def changed(payload: bytes, path: str, value: int | bytes | str) -> tuple[bytes, Any]:
    """The device model's file with that value, and the value that is got then."""
    with open_image(with_model(payload)) as image:
        editor = edit(image)
        editor.set(path, value)
        assert not editor.changes_context
        return bytes(editor.take("emulator")), editor.get(path)


def test_a_section_of_qemus_file() -> None:
    made, value = changed(MOUSE, "EMULATOR_CONTEXT.vmmouse.status", "0xabcd")
    assert value == 0xABCD
    differs = [at for at, (one, other) in enumerate(zip(made, MOUSE)) if one != other]
    assert len(made) == len(MOUSE) and differs[-1] - differs[0] < 2


def test_a_vmport_record() -> None:
    path = 'EMULATOR_CONTEXT.VMPORT.guestinfo["new"]'
    made, value = changed(VMPORT, path, b"v")
    state = busy_state()
    state.guestinfo[b"new"] = b"v"
    assert value == b"v" and made == save(state)
    with open_image(with_model(made)) as image:
        editor = edit(image)
        editor.remove(path)
        assert editor.take("emulator") == VMPORT
        with pytest.raises(MissingRecordError):
            editor.get(path)


def test_a_whole_context() -> None:
    made, value = changed(context_bytes(), "EMULATOR_CONTEXT.CPU/0.rip", 0x1234)
    assert value == 0x1234 and len(made) == len(context_bytes())
    with open_image(with_model(made)) as image:
        assert image.context.vcpus[0].cpu.rip != 0x1234, "the guest's own stays"


@pytest.mark.parametrize(
    ("payload", "limits", "path"),
    [
        (MOUSE, Limits(sections=1), "EMULATOR_CONTEXT.vmmouse.status"),
        (context_bytes(), Limits(context_records=3), "EMULATOR_CONTEXT.CPU/0.rip"),
    ],
)
def test_the_limits_of_the_image_count_inside(payload: bytes, limits: Limits, path: str) -> None:
    with open_image(with_model(payload), limits=limits) as image, pytest.raises(LimitError):
        edit(image).get(path)


@pytest.mark.parametrize(
    ("payload", "path", "value", "kind"),
    [
        (MOUSE, "EMULATOR_CONTEXT.vmmouse.bogus", 1, UsageError),
        (MOUSE, "EMULATOR_CONTEXT.vmmouse", 1, FieldError),
        (MOUSE, "EMULATOR_CONTEXT.timer.x", 1, UsageError),
        (MOUSE, "EMULATOR_CONTEXT.none.x", 1, UsageError),
        (MOUSE, "EMULATOR_CONTEXT.vmmouse.status", "soon", FieldError),
        (MOUSE, "EMULATOR_CONTEXT.vmmouse.status", 1 << 16, FieldError),
        (b"unknown", "EMULATOR_CONTEXT.x", 1, UsageError),
        (VMPORT, "EMULATOR_CONTEXT.CPU.rip", 1, MissingRecordError),
    ],
)
def test_paths_that_fail(payload: bytes, path: str, value: Any, kind: type[HvmctxError]) -> None:
    with pytest.raises(kind):
        changed(payload, path, value)
    with (
        open_image(with_model(MOUSE)) as image,
        pytest.raises(UsageError, match="from an HVM"),
    ):
        edit(image).remove("EMULATOR_CONTEXT.vmmouse")


def test_what_a_handler_decodes(monkeypatch: pytest.MonkeyPatch) -> None:
    module: dict[str, Any] = {}
    exec(blocks()[0], module)
    monkeypatch.setattr(handlers, "_handlers", {})
    with open_image(EXAMPLE) as image:
        number = image.emulators[0].emulator_id
    handlers.register(handlers.EMULATOR, number, module["Ticket"]())
    made, value = changed(struct.pack("<II", 1, 1) + b"a", "EMULATOR_CONTEXT.text", "b")
    assert (made, value) == (struct.pack("<II", 1, 1) + b"b", "b")
    with pytest.raises(FieldError, match="is no int"):
        changed(made, "EMULATOR_CONTEXT.number", "many")
    with pytest.raises(HvmctxError, match="handler failed"):
        changed(made, "EMULATOR_CONTEXT.number", -5)
    assert VmportState.from_bytes(VMPORT[8:]) == busy_state()

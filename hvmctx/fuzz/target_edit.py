"""The target `edit`: any `PATH=VALUE` set in any context."""

from __future__ import annotations

from contextlib import suppress

from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import HvmctxError
from hvmctx.files.opening import is_compressed
from hvmctx.fuzz.contexts import mutate_context, valid_context
from hvmctx.fuzz.target import Target
from hvmctx.fuzz.values import edit_bytes
from hvmctx.image.image import open_image
from hvmctx.restore.context_rules import RULES

TYPE_CHECKING = False
if TYPE_CHECKING:
    import random

__all__ = ["EDIT"]


def _run(data: bytes) -> set[str]:
    """PATH=VALUE, a NUL, and a context: get returns what was set, and nothing else changes."""
    from hvmctx.edit.editor import edit

    setting, _, context = data.partition(b"\0")
    if is_compressed(context):
        return set()
    path, _, value = setting.decode("utf-8", "surrogateescape").partition("=")
    with open_image(context, layer="context") as image:
        editor = edit(image)
        try:
            before = editor.get(path)
            editor.set(path, value)
        except HvmctxError as error:
            return {type(error).__name__}
        after = editor.get(path)
        made = editor.context.to_bytes()
        assert not isinstance(after, str), "only what other packages decode has text"
        editor.set(path, f"{after:#x}" if isinstance(after, int) else after.hex())
        assert editor.get(path) == after, "get returns what was set, and it can be set again"
        assert editor.context.to_bytes() == made
    with suppress(ValueError):
        assert isinstance(after, bytes) or after == int(value, 0)
    changed = HvmContext.from_bytes(made, damaged=True)
    assert changed.to_bytes() == made
    if "." in path and not path.upper().startswith("VMPORT"):  # else it may be any length
        assert len(made) == len(context)
        changes = [at for at, (one, other) in enumerate(zip(made, context)) if one != other]
        assert not changes or changes[-1] - changes[0] < _slot_size(path)
    if before == after:
        assert made == context
    return {"set" if before != after else "same"}


def _slot_size(path: str) -> int:
    """The size in bytes of what a path names, at most 16 in a variable part."""
    from hvmctx.abi.registry import by_name

    head, _, name = path.partition(".")
    try:
        return by_name(head.partition("/")[0]).layout.locate(name).size
    except HvmctxError:
        return 16


def _seeds(rng: random.Random) -> list[bytes]:
    context = valid_context(rng).to_bytes()
    settings = (
        "CPU/0.rip=0x1000", "LAPIC_REGS/0.data[0x20:+4]=7", "PIT.channels[1].mode=3",
        "PCI_LINK.route=01020304", "MTRR/0.msr_mtrr_fixed[10]=-1", "PIC/1.elcr=256",
        'VMPORT.guestinfo["k"]="v"',
    )  # fmt: skip
    return [setting.encode() + b"\0" + context for setting in settings]


def _mutate(data: bytes, rng: random.Random) -> bytes:
    setting, _, context = data.partition(b"\0")
    kind = rng.randrange(4)
    if kind == 0:
        setting = edit_bytes(setting, rng)
    elif kind == 1:
        names = list(dict.fromkeys(rule.record for rule in RULES))
        from hvmctx.abi.registry import by_name

        known = by_name(rng.choice(names))
        path = rng.choice(list(known.layout.paths()))
        setting = f"{known.name}/{rng.choice((0, 1))}.{path}={rng.getrandbits(70):#x}".encode()
    elif kind == 2:
        setting = setting.partition(b"=")[0] + b"=" + str(rng.getrandbits(33)).encode()
    else:
        context, _ = mutate_context(context, rng)
    return setting + b"\0" + context


_KNOWN = ("set", "same", "FieldError", "UsageError", "MissingRecordError")
EDIT = Target("edit", _run, _KNOWN, _seeds, _mutate)

"""An image that a release refuses, with the smallest edits that make it take it: `repair`.

The remedies stand beside the rules (`restore.remedies`). Here they are applied one after the
other, each to the image as the ones before have left it, until the model of the restore accepts
it or has no remedy for what it refuses.
"""

from __future__ import annotations

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.edit.editor import Editor, edit
from hvmctx.edit.splice import Spliced
from hvmctx.errors import HvmctxError
from hvmctx.image.image import open_image
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import remedy, would_restore
from hvmctx.restore.rules import ADD, REMOVE, SET, Change
from hvmctx.stream.reader import CONTEXT, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable
    from typing import BinaryIO

    from hvmctx.files.access import Access
    from hvmctx.image.image import Image
    from hvmctx.restore.host import Host
    from hvmctx.restore.machine import Machine
    from hvmctx.restore.policy_rules import Outcome
    from hvmctx.restore.verdict import Verdict

    Value = int | bytes | str

__all__ = ["MOST_ROUNDS", "Repair", "RepairEdit", "as_command", "repair"]

MOST_ROUNDS = 1000
"""Each mends one record; an image that needs more is not one that Xen has written."""


class RepairEdit:
    """A step, and why: the `change` as `Editor` takes it, what was there `before` (None for
    what was not, or has no value of its own), the id of the `rule` that asks for it with its
    `text`, and the `reason`: what the step does, and what is lost."""

    __slots__ = ("before", "change", "reason", "rule", "text")

    def __init__(
        self, change: Change, before: Value | None, rule: str, reason: str, text: str = ""
    ) -> None:
        self.change = change
        self.before = before
        self.rule = rule
        self.reason = reason
        self.text = text

    def __str__(self) -> str:
        return str(self.change)

    def __repr__(self) -> str:
        return f"<{self.change} [{self.rule}]>"

    @property
    def where(self) -> str:
        """The record, `CPU/0`, or what else the step is about."""
        return self.change.path.partition(".")[0]

    @property
    def was(self) -> str:
        """What was there before, as a comment to the command."""
        if not isinstance(self.before, int):
            return ""
        return f"  # was {self.before:#x}"

    def as_dict(self) -> dict[str, str | int | None]:
        """For JSON; bytes in hex."""
        change = self.change
        return {
            "verb": change.verb, "path": change.path, "before": _plain(self.before),
            "value": _plain(change.value), "rule": self.rule, "reason": self.reason,
        }  # fmt: skip


def as_command(change: Change, image: str) -> str:
    """The command that makes one change alone, for a shell."""
    from shlex import quote

    step = str(change).removeprefix(f"{change.verb} ")
    option = "" if change.verb == SET else f"--{change.verb} "
    return f"hvmctx set {quote(image)} {option}{quote(step)} -o OUT"


def _plain(value: Value | None) -> str | int | None:
    return value.hex() if isinstance(value, bytes) else value


class Repair(list[RepairEdit]):
    """The edits, in order, the verdict on the image `before` and with them (`verdict`): accept,
    or the refusal that nothing mends. `write` writes that image."""

    def __init__(
        self, editor: Editor, edits: Iterable[RepairEdit], before: Verdict, verdict: Verdict
    ) -> None:
        super().__init__(edits)
        self.before = before
        self.verdict = verdict
        self._editor = editor

    def write(
        self,
        out: BinaryIO | str | os.PathLike[str],
        *,
        force: bool = False,
        like: Iterable[Access | None] = (),
    ) -> None:
        """As `Editor.write`."""
        self._editor.write(out, force=force, like=like)


def repair(
    image: Image,
    release: Release | str,
    machine: Machine | None = None,
    *,
    host: Host | None = None,
    guest_of: Callable[[Image], Guest] = Guest.of_image,
    rounds: int = MOST_ROUNDS,
) -> Repair:
    """The edits with which this release restores an image on a machine, or on a `host` as
    `restore.placing.place` judges it, and loses least; the image itself stays as it is. No edits
    if it is accepted as it is, or if nothing mends it: `verdict` tells. After `rounds` refusals
    it gives up. `guest_of` and what is raised are as for `would_restore`. The image must be
    seekable.

    >>> from hvmctx import edit, open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     editor = edit(image)
    ...     editor.set("CPU/0.msr_tsc_aux", 1 << 40 | 3)
    ...     editor.write("refused.save")
    >>> with open_image("refused.save") as image:
    ...     mended = repair(image, "4.17")
    >>> print(*mended, mended.verdict)
    CPU/0.msr_tsc_aux=0x3 accept
    """
    release = Release(release)
    editor, edits = edit(image), list[RepairEdit]()
    judge = _Judge(release, machine, guest_of) if host is None else _Place(release, host, guest_of)
    verdict = first = judge.verdict(image)
    now, before = image, set[int]()
    for _ in range(rounds):
        if verdict.accepted:
            break
        try:
            changes, reason = _repeated(now, verdict), _REPEATED
            if not changes:
                found = judge.remedy(now)
                if found is None:
                    break
                reason, changes = found
            rule, text = verdict.rule, verdict.text
            done = [RepairEdit(c, _apply(editor, c), rule, reason, text) for c in changes]
            spliced = editor.edits()
            now = open_image(Spliced(image.source, spliced), layer=image.format)
            verdict = judge.verdict(now)
        except HvmctxError:
            break
        edits += done
        if (state := hash(tuple(spliced))) in before:  # one remedy undoes another
            break
        before.add(state)
    return Repair(editor, edits, first, verdict)


class _Judge:
    """Who accepts an image, or says what mends it."""

    def __init__(
        self, release: Release, machine: Machine | None, guest_of: Callable[[Image], Guest]
    ) -> None:
        self._release = release
        self._machine = machine
        self._guest_of = guest_of

    def verdict(self, image: Image) -> Verdict:
        return would_restore(image, self._release, self._machine, guest_of=self._guest_of)

    def remedy(self, image: Image) -> tuple[str, list[Change]] | None:
        return remedy(image, self._release, self._machine, guest_of=self._guest_of)


class _Place(_Judge):
    """On a host, where the policy is set first, and the context judged with what is left of it."""

    def __init__(self, release: Release, host: Host, guest_of: Callable[[Image], Guest]) -> None:
        super().__init__(release, host.machine(), guest_of)
        self._host = host
        self._outcome: Outcome | None = None

    def verdict(self, image: Image) -> Verdict:
        from hvmctx.restore.placing import place

        placed = place(image, self._host, self._release, guest_of=self._guest_of)
        self._outcome = placed.outcome
        return placed.verdict

    def remedy(self, image: Image) -> tuple[str, list[Change]] | None:
        """Of the policy, or of what was judged with what the last verdict made of it."""
        outcome = self._outcome
        if outcome is None:
            return super().remedy(image)
        if outcome.rule is not None:
            words = outcome.rule.remedy.words if outcome.rule.remedy else ""
            return (words, outcome.remedy) if outcome.remedy else None
        policy = outcome.policy
        return remedy(
            image, self._release, self._machine,
            guest_of=lambda now: self._guest_of(now).with_policy(policy.leaves(), policy.msrs()),
        )  # fmt: skip


_REPEATED = "removes the record: another of its kind follows, and the last one counts"


def _repeated(image: Image, verdict: Verdict) -> list[Change]:
    """Of a record that comes again, only the last must be such that it is loaded; but MSRs add
    up."""
    if verdict.layer != CONTEXT or verdict.instance is None or verdict.record == "CPU_MSR":
        return []
    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    at = verdict.offset - (record.body_offset if record else 0)
    entries = image.read_context().entries
    found = next((each for each in entries if each.offset == at), None)
    if found is None or found.type is None:
        return []
    alike = [e for e in entries if (e.typecode, e.instance) == (found.typecode, found.instance)]
    if found is alike[-1]:
        return []
    place = next(number for number, each in enumerate(alike, 1) if each is found)
    return [Change(REMOVE, f"{found.name}/{found.instance}#{place}")]


def _apply(editor: Editor, change: Change) -> Value | None:
    """Returns what was there."""
    if change.verb == REMOVE:
        body = _body(editor, change.path.partition("#")[0])
        editor.remove(change.path)
        return body
    assert change.value is not None
    if change.verb == ADD:
        editor.add(change.path, change.value)
        return None
    before = editor.get(change.path)
    editor.set(change.path, change.value)
    return before


def _body(editor: Editor, path: str) -> bytes | None:
    try:
        return bytes(editor.take(f"record:{path}"))
    except HvmctxError:
        return None

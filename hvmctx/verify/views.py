"""The three views of `verify`: what the genuine verifier says, what a restore refuses, and
everything that is questionable. One pass over the input, pipes included; page contents are
read only after a VERIFY record, and only by the strict view."""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.abi.streams import LIBXC_HVM_CONTEXT
from hvmctx.context.hvm_context import HvmContext
from hvmctx.errors import FormatError, HvmctxError, LimitError, UsageError
from hvmctx.findings import ERROR, SEVERITIES, Finding
from hvmctx.image.image import Image, open_image
from hvmctx.image.indexing import Watcher, Watchers
from hvmctx.restore.image import what_is_judged
from hvmctx.restore.machine import Machine
from hvmctx.restore.stream import replay
from hvmctx.stream.reader import CONTEXT, LEGACY, LIBXC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.abi.vmport import VmportProfile
    from hvmctx.files.opening import Target
    from hvmctx.limits import Limits
    from hvmctx.restore.host import Host

VERIFIER, RESTORE, STRICT = "verifier", "restore", "strict"
VIEWS = (VERIFIER, RESTORE, STRICT)


class Judged:
    """The findings about an input, in the order of their offsets, and what they are about: the
    `view`, the `releases` that were to restore it (none for the verifier's view), and `what` of
    the input was looked at, in words; offsets are those of what is in an input with `compression`.
    As text the line that `hvmctx verify` ends with."""

    __slots__ = ("compression", "findings", "releases", "view", "what")

    def __init__(
        self, findings: list[Finding], view: str, releases: Sequence[Release], what: str,
        compression: str = "",
    ) -> None:  # fmt: skip
        self.findings = findings
        self.view = view
        self.releases = releases
        self.what = what
        self.compression = compression

    def __str__(self) -> str:
        from hvmctx.verify.restoring import span

        if self.view == VERIFIER:
            return f"{self._counts}: {self.what}, as Xen's verify-stream-v2 checks them"
        more = " and all that is questionable" if self.view == STRICT else ""
        return f"{self._counts}: {self.what}, as restored by Xen {span(self.releases)}{more}"

    @property
    def _counts(self) -> str:
        """`no findings`, `1 error, 2 warnings`."""
        of = [finding.severity for finding in self.findings]
        counts = [(of.count(severity), severity) for severity in reversed(SEVERITIES)]
        words = [f"{number} {name}{'s' * (number > 1)}" for number, name in counts if number]
        return ", ".join(words) or "no findings"


def verify(
    target: Image | HvmContext | Target,
    view: str = RESTORE,
    *,
    releases: Sequence[Release | str] | None = None,
    layer: str | None = None,
    vcpus: int | None = None,
    checkpointed: bool = False,
    vmport: VmportProfile | None = None,
    host: Host | None = None,
    limits: Limits | None = None,
) -> list[Finding]:
    """The findings about an input, in the order of their offsets.

    `target`, `layer` and `limits` are as for `open_image`; the target may also be a context, or
    an open image whose input can be read twice, and it stays open. `releases` are those that
    are to restore it (default: the one that wrote the image, and all newer ones). `vcpus` is
    the number of vcpus to restore into, by default the image's own; `checkpointed` says that a
    checkpointed stream is expected; `vmport` is the profile of a Xen with the VMPORT patch.
    `host` is where it is to be restored, by default somewhere that has everything; the releases
    are then by default what runs there.

    Raises InputError and FormatError for an input that cannot be opened or that Xen does not
    save, and UsageError for an unknown view or an open image that cannot be read again. What
    is wrong further in is a finding.

    >>> with open_image("examples/hvm1.save") as image:
    ...     verify(image), [finding.rule for finding in verify(image, "strict")]
    ([], ['pages-missing'])
    """
    return judge(
        target, view, releases=releases, layer=layer, vcpus=vcpus, checkpointed=checkpointed,
        vmport=vmport, host=host, limits=limits,
    ).findings  # fmt: skip


def judge(
    target: Image | HvmContext | Target,
    view: str = RESTORE,
    *,
    releases: Sequence[Release | str] | None = None,
    layer: str | None = None,
    vcpus: int | None = None,
    checkpointed: bool = False,
    vmport: VmportProfile | None = None,
    host: Host | None = None,
    limits: Limits | None = None,
) -> Judged:
    """As `verify`, with what was judged, and for which releases."""
    if view not in VIEWS:
        raise UsageError(f"unknown view {view!r}; expected {', '.join(VIEWS)}")
    watchers: list[Watcher] = []
    verifier = restoring = strict = None
    if view != RESTORE:
        from hvmctx.verify.verifier import Verifier

        watchers.append(verifier := Verifier())
    if view != VERIFIER:
        from hvmctx.verify.restoring import Restoring

        if releases is None and host is not None and host.release is not None:
            releases = [host.release]
        asked = None if releases is None else [Release(release) for release in releases]
        watchers.append(restoring := Restoring(asked, checkpointed=checkpointed))
    if view == STRICT:
        from hvmctx.verify.strict_stream import StrictStream

        watchers.append(strict := StrictStream())
    watcher = watchers[0] if len(watchers) == 1 else Watchers(watchers)

    def end(image: Image) -> Judged:
        """What the watchers make of an image, all of which they have seen."""
        if image.format == LEGACY:
            image.raise_stopped()
        findings = _damage(image, view)
        if verifier is not None:
            findings += verifier.findings
        if restoring is not None:
            try:
                machine = Machine(vmport=vmport)
                findings += restoring.end(image, vcpus=vcpus, machine=machine, host=host)
            except FormatError as error:  # in what a restore depends on but does not read itself
                findings.append(_of_error(error))
        if strict is not None:
            strict.end(image)
            findings += strict.findings + _context(image, vmport)
        if view != VERIFIER:
            from hvmctx.verify.contents import findings_of

            findings += findings_of(image, vmport, strict=view == STRICT)
        most = image.limits.findings
        if len(findings) > most:
            over = image.limits.over("findings", "findings", layer=image.format, offset=image.end)
            findings[most:] = [_of_error(over)]
        judged = [] if restoring is None else restoring.releases_of(image)
        findings = _measured(image, _once(findings))
        return Judged(findings, view, judged, _what(image, view), image.compression)

    if isinstance(target, HvmContext):
        target, layer = target.to_bytes(), CONTEXT
    if not isinstance(target, Image):
        with open_image(target, layer=layer, watcher=watcher, limits=limits) as image:
            return end(image)
    if target.records and not target.source.seekable:
        raise UsageError(
            f"{target.source.name} cannot be read twice: give verify its path instead of an open image"
        )
    replay(target, watcher)
    return end(target)


def _what(image: Image, view: str) -> str:
    """What of an input a view looks at, in words."""
    if view != VERIFIER:
        return what_is_judged(image)
    return "nothing of an HVM context" if image.format == CONTEXT else "the streams"


def _measured(image: Image, findings: list[Finding]) -> list[Finding]:
    """With their lengths. Most images have none, and need not wait for what measures them."""
    if findings:
        from hvmctx.verify.extents import measure

        measure(image, findings)
    return findings


def _damage(image: Image, view: str) -> list[Finding]:
    """Where reading had to stop. Other problems of the index are up to the tables, and what a
    restore does with a damaged context is up to its model."""
    found = []
    if image.stopped is not None and not (image.format == CONTEXT and view == RESTORE):
        found.append(_of_error(image.stopped))
    if image.source.trouble is not None:
        found.append(_of_error(image.source.trouble))
    return found


def _of_error(error: FormatError) -> Finding:
    text = error.problem
    if error.found or error.expected:
        text += f": found {error.found}, expected {error.expected}"
    return Finding(
        ERROR, "stream-damaged", text, layer=error.layer, offset=error.offset, record=error.record
    )


def _context(image: Image, vmport: VmportProfile | None) -> list[Finding]:
    from hvmctx.verify.strict_context import findings_of

    record = image.last(LIBXC, LIBXC_HVM_CONTEXT)
    if image.format != CONTEXT and record is None:
        return []
    try:
        context = image.read_context()
    except LimitError as error:
        return [_of_error(error)]
    except HvmctxError:  # longer than any reader accepts: the tables have a finding
        return []
    base = 0 if record is None else record.body_offset
    findings = findings_of(context, base, vmport, image.limits)
    if context.damage is not None and context.damage is not image.stopped:
        findings.append(_of_error(context.damage))
    return findings


def _once(findings: list[Finding]) -> list[Finding]:
    """The findings by offset; of two with the same rule in the same place, the more severe."""
    kept: dict[tuple[str, int, str], Finding] = {}
    for finding in findings:
        rule = finding.rule
        same = (rule, finding.offset, "" if rule == "stream-damaged" else finding.text)
        known = kept.get(same)
        if known is None or _weight(finding) > _weight(known):
            kept[same] = finding
    return sorted(kept.values(), key=lambda finding: finding.offset)


def _weight(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)


__all__ = ["RESTORE", "STRICT", "VERIFIER", "VIEWS", "Judged", "judge", "verify"]

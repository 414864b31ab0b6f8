"""What the restores of several releases refuse, as findings: one for each reason, with its
releases."""

from __future__ import annotations

from functools import cache, partial

from hvmctx.abi.releases import RELEASES, Release
from hvmctx.findings import ERROR, Finding
from hvmctx.image.indexing import Watcher
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.stream import StreamJudge, reader_kind
from hvmctx.restore.verdict import VIOLATION, Hazard, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hvmctx.image.image import Image
    from hvmctx.image.index import Index, IndexedRecord
    from hvmctx.restore.host import Host
    from hvmctx.restore.machine import Machine
    from hvmctx.stream.reader import Header


class Restoring(Watcher):
    """The stream readers of all releases in question, one for each kind of reader, while an
    image is being opened. Without `releases` they are the one that wrote the image and all
    newer ones."""

    def __init__(self, releases: Sequence[Release] | None, *, checkpointed: bool = False) -> None:
        self._releases = releases
        asked = releases or [Release(name) for name in RELEASES]
        self._kinds: dict[object, StreamJudge] = {}
        self._judge_of: dict[str, StreamJudge] = {}
        for release in asked:
            kind = reader_kind(release)
            if kind not in self._kinds:
                self._kinds[kind] = StreamJudge(release, checkpointed=checkpointed)
            self._judge_of[str(release)] = self._kinds[kind]

    def header(self, index: Index, header: Header) -> None:
        for judge in self._kinds.values():
            judge.header(index, header)
        if self._releases is None and header.name == "domain header":
            version = header.fields["xen_major"], header.fields["xen_minor"]
            self._drop(Release.of_version(*version).and_newer())

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        for judge in self._kinds.values():
            judge.record(index, record, whole)

    def _drop(self, releases: Sequence[Release]) -> None:
        """Keep only the readers of these releases."""
        wanted = {id(self._judge_of[str(release)]) for release in releases}
        self._kinds = {k: judge for k, judge in self._kinds.items() if id(judge) in wanted}

    def releases_of(self, image: Image) -> Sequence[Release]:
        """Those that were asked about, or the one that wrote the image and all newer ones."""
        return self._releases or image.release.and_newer()

    def reader(self, release: Release) -> StreamJudge:
        """That of one of the releases."""
        return self._judge_of[str(release)]

    def end(
        self,
        image: Image,
        *,
        vcpus: int | None = None,
        machine: Machine | None = None,
        host: Host | None = None,
    ) -> list[Finding]:
        """The findings, once all of the input has been read: what the releases refuse, and as
        warnings what they load and suffer by. The guest is read from it once.
        With a host they are those of a restore there."""
        guest_of = cache(partial(Guest.of_image, vcpus=vcpus))
        reasons: dict[tuple[object, ...], tuple[Verdict, list[Release]]] = {}
        harms: dict[tuple[object, ...], tuple[Hazard, list[Release]]] = {}
        there: list[Finding] = []
        for release in self.releases_of(image):
            reader = self._judge_of[str(release)]
            if host is None:
                verdict = would_restore(image, release, machine, guest_of=guest_of, reader=reader)
            else:
                from hvmctx.restore.placing import place

                vmport = machine.vmport if machine else None
                placement = place(
                    image, host, release, guest_of=guest_of, reader=reader, vmport=vmport
                )
                verdict = placement.verdict
                there += placement.findings
            if not verdict.accepted:
                key = verdict.errno, verdict.rule, verdict.offset, verdict.text
                reasons.setdefault(key, (verdict, []))[1].append(release)
            for hazard in verdict.hazards:
                where = hazard.rule, hazard.offset, hazard.text
                harms.setdefault(where, (hazard, []))[1].append(release)
        there += [_finding(verdict, releases) for verdict, releases in reasons.values()]
        return there + [_warning(hazard, releases) for hazard, releases in harms.values()]


def _finding(verdict: Verdict, releases: list[Release]) -> Finding:
    violation = verdict.verdict == VIOLATION
    verb = "accesses memory that it must not" if violation else "refuses it"
    return Finding(
        ERROR,
        verdict.rule,
        f"{verdict.reason}; Xen {span(releases)} {verb}",
        layer=verdict.layer,
        offset=verdict.offset,
        record=verdict.where,
        errno=verdict.errno,
        releases=[str(release) for release in releases],
    )


def _warning(hazard: Hazard, releases: list[Release]) -> Finding:
    return Finding(
        hazard.severity,
        hazard.rule,
        f"{hazard.text}; Xen {span(releases)} loads it all the same; {hazard.mended}",
        layer=hazard.layer,
        offset=hazard.offset,
        record=hazard.record,
        releases=[str(release) for release in releases],
    )


def span(releases: Sequence[Release]) -> str:
    """`4.17`, `4.14 to 4.17`, `4.6 to 4.9, 4.14`: releases in the order of the table."""
    groups: list[list[Release]] = []
    for release in releases:
        if groups and groups[-1][-1].number + 1 == release.number:
            groups[-1].append(release)
        else:
            groups.append([release])
    return ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]} to {g[-1]}" for g in groups)


__all__ = ["Restoring", "span"]

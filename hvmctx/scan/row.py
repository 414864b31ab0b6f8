"""The row of one image: `COLUMNS`, what to ask (`Asked`), and `rows`, which the workers call.

Of an image the headers are read, the words of its page batches, and the small records, the context
among them; no pages.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from contextlib import contextmanager, suppress
from functools import cache, lru_cache

from hvmctx.abi import streams
from hvmctx.abi.declare import DOMAIN
from hvmctx.abi.releases import NEWEST, RELEASES, Release
from hvmctx.errors import FormatError, HvmctxError, InputError, MissingRecordError, UsageError
from hvmctx.files.ahead import AheadSource
from hvmctx.files.opening import open_stored, unpacked
from hvmctx.files.source import CHUNK, FileSource
from hvmctx.findings import ERROR, SEVERITIES, Finding
from hvmctx.image.image import Image, open_image
from hvmctx.image.index import LARGEST_HEAD
from hvmctx.image.indexing import Watcher, Watchers
from hvmctx.limits import DEFAULT, Limits
from hvmctx.restore.guest import Guest
from hvmctx.restore.host import Host
from hvmctx.restore.image import would_restore
from hvmctx.restore.placing import place
from hvmctx.restore.verdict import UNREADABLE, VIOLATION, Verdict
from hvmctx.stream.reader import CONTEXT, LIBXC, LIBXL, Header
from hvmctx.verify.restoring import Restoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from hvmctx.context.record import Record
    from hvmctx.image.index import Index, IndexedRecord

    Row = dict[str, Any]

__all__ = [
    "COLUMNS",
    "UNREADABLE",
    "VERDICT",
    "WORST",
    "Asked",
    "empty_row",
    "key_of",
    "row_of",
    "rows",
]

VERDICT = {
    "release": str, "host": str, "verdict": str, "errno": str, "rule": str, "layer": str,
    "record": str, "offset": int, "text": str, "lacks": str,
}  # fmt: skip
"""The members of a verdict. `host` and `lacks` are null where nothing is assumed of the machine; of
an accept, what says why not is."""
WORST = {
    "severity": str, "rule": str, "layer": str, "record": str, "offset": int, "text": str,
}  # fmt: skip
"""The members of the worst finding, as `verify --format json` has them."""
COLUMNS: dict[str, object] = {
    "input": str, "error": str, "size": int, "compression": str, "layers": [str],
    "complete": bool, "digest": str, "content_sha256": str, "guest_name": str, "guest_uuid": str,
    "guest_type": str, "xen": str, "vcpus": int, "devices": [str], "device_models": [str],
    "policy_digest": str, "verdicts": [VERDICT], "worst": WORST,
}  # fmt: skip
"""The members of a row and their types; all but lists may be null. docs/scan.md says what they
are."""

_AHEAD = 64 << 10
"""Bytes read at once of a file: all of a stripped image."""
_LONGEST = 200
"""Characters of what an image says of itself."""
_TYPES = {streams.GUEST_X86_PV: "pv", streams.GUEST_X86_HVM: "hvm"}
_MOST_DEVICES = 64


def key_of(name: str) -> str:
    """What an input is known by: Parquet keeps no halves of surrogate pairs, which file names that
    are not UTF-8 have."""
    return name.encode("utf-8", "backslashreplace").decode()


class Asked:
    """What every image is asked: `releases` (none: the one that wrote it and all newer ones),
    `hosts` by name, whether to look for what is questionable, too (`strict`), whether to hash the
    `content`; `limits`. Goes from process to process as text."""

    __slots__ = ("content", "hosts", "limits", "releases", "strict")

    def __init__(
        self,
        releases: Iterable[Release | str] = (),
        hosts: Mapping[str, Host] | None = None,
        *,
        strict: bool = False,
        content: bool = False,
        limits: Limits = DEFAULT,
    ) -> None:
        self.releases = [Release(release) for release in releases]
        self.hosts = dict(hosts or {})
        self.strict = strict
        self.content = content
        self.limits = limits

    def to_text(self) -> str:
        return json.dumps({
            "releases": [str(release) for release in self.releases],
            "hosts": {name: host.as_dict() for name, host in self.hosts.items()},
            "strict": self.strict, "content": self.content, "limits": self.limits.as_dict(),
        })  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> Asked:
        plain = json.loads(text)
        hosts = {name: Host.from_dict(host) for name, host in plain["hosts"].items()}
        return cls(
            plain["releases"], hosts, strict=plain["strict"], content=plain["content"],
            limits=Limits(**plain["limits"]),
        )  # fmt: skip

    def check(self, row: Row) -> None:
        """Raises UsageError for an earlier row that was asked something else."""
        verdicts = row.get("verdicts") or []
        releases = {verdict["release"] for verdict in verdicts if verdict["host"] is None}
        hosts = {verdict["host"] for verdict in verdicts} - {None}
        same = not self.releases or releases == {str(release) for release in self.releases}
        if verdicts and not (same and hosts == set(self.hosts)):
            raise UsageError(
                f"scan: the row of {row['input']} is about other releases or hosts: --resume "
                "takes the options of the scan that it goes on with"
            )


_asked = lru_cache(1)(Asked.from_text)


def rows(asked: str, names: list[str]) -> list[Row]:
    """A row for each input. `asked` is what `Asked.to_text` gives."""
    return [row_of(name, _asked(asked)) for name in names]


def row_of(name: str, asked: Asked) -> Row:
    """The row of one input, whatever becomes of it."""
    row = empty_row(name)
    with _noting(row):
        _fill(row, name, asked)
    return row


@contextmanager
def _noting(row: Row) -> Iterator[None]:
    """What cannot be read is noted; the first such thing is told."""
    try:
        yield
    except (HvmctxError, OSError, MemoryError) as error:
        row["error"] = row["error"] or str(error) or "out of memory"
        if row["worst"] is None and isinstance(error, FormatError):
            row["worst"] = _damage(error)


def empty_row(name: str, error: str | None = None) -> Row:
    """One in which nothing is known but that."""
    row: Row = {name: [] if isinstance(kind, list) else None for name, kind in COLUMNS.items()}
    row["input"] = name
    row["error"] = error
    return row


def _fill(row: Row, name: str, asked: Asked) -> None:
    _refuse_what_waits(name)
    source = open_stored(name)
    if isinstance(source, FileSource):
        source = AheadSource(source, _AHEAD)
    row["size"] = source.size
    if asked.content:
        row["content_sha256"] = _content(name)
    read, judges = _Read(), Restoring(_releases(asked))
    source = unpacked(source, asked.limits)
    watcher = Watchers([judges, read])
    with open_image(source, watcher=watcher, keep_words=True, limits=asked.limits) as image:
        row["compression"] = image.compression or None
        row["layers"] = list(dict.fromkeys([image.format, *(h.layer for h in image.headers)]))
        row["complete"] = image.complete
        row["error"] = str(image.problems[0]) if image.problems else None
        if image.stopped is not None:
            row["worst"] = _damage(image.stopped)
        if image.xen_version is not None:
            row["xen"] = "{}.{}".format(*image.xen_version)
        for part in (_config, _context, _records):
            with _noting(row):
                part(row, image)
        _verdicts(row, image, judges, asked)
        with _noting(row):
            row["digest"] = read.digest(image)
            if asked.strict and row["worst"] is None:
                _strictly(row, image)


def _refuse_what_waits(name: str) -> None:
    """Raises InputError for a FIFO or a device that may have nothing to read, ever. What cannot
    be looked at may be a URL."""
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        raise InputError(f"{name}: not a file")


def _content(name: str) -> str:
    """SHA-256 of the bytes as they are stored."""
    made = hashlib.sha256()
    with open_stored(name) as source:
        while data := source.read(CHUNK):
            made.update(data)
    return made.hexdigest()


def _releases(asked: Asked) -> list[Release] | None:
    """Those whose readers are to look at the stream; None for the default of `Restoring`."""
    if not asked.hosts:
        return asked.releases or None
    there = [host.release or Release(NEWEST) for host in asked.hosts.values()]
    return [*(asked.releases or map(Release, RELEASES)), *there]


class _Read(Watcher):
    """The hash of what is read: all headers; bodies up to 4096 bytes and the context, of longer
    ones the first 4096 bytes; of page batches the words, which say which pages there are."""

    def __init__(self) -> None:
        self._made = hashlib.sha256()

    def header(self, index: Index, header: Header) -> None:
        self._made.update(header.layer.encode() + header.raw)

    def record(self, index: Index, record: IndexedRecord, whole: bool) -> None:
        self._made.update(record.layer.encode() + record.raw)
        if not whole:
            return
        if record.count >= 0:
            self._made.update(index.words(record))
        elif record.layer == LIBXC and record.type == streams.LIBXC_HVM_CONTEXT:
            self._made.update(index.body(record))
        else:
            self._made.update(index.start_of(record, LARGEST_HEAD))

    def digest(self, image: Image) -> str:
        """After everything has been read: the configuration counts too."""
        self._made.update(image.context_bytes() if image.format == CONTEXT else image.config_text)
        return self._made.hexdigest()


def _context(row: Row, image: Image) -> None:
    if image.guest_type == streams.GUEST_X86_PV:
        vcpus = image.effective_records(LIBXC, streams.LIBXC_X86_PV_VCPU_BASIC)
        row["vcpus"] = len(vcpus)
        return
    try:
        context = image.context
    except MissingRecordError:
        return
    row["vcpus"] = len(context.vcpus.ids)
    names = (record.name for record in context.entries if _is_device(record))
    row["devices"] = list(dict.fromkeys(names))[:_MOST_DEVICES]


def _is_device(record: Record) -> bool:
    return record.type is not None and record.type.scope == DOMAIN


def _config(row: Row, image: Image) -> None:
    config = image.config
    created = config.get("c_info") if isinstance(config, dict) else None
    for name in ("name", "uuid", "type"):
        value = created.get(name) if isinstance(created, dict) else None
        if isinstance(value, str):
            row[f"guest_{name}"] = value[:_LONGEST]
    row["guest_type"] = row["guest_type"] or _TYPES.get(image.guest_type or 0)


def _records(row: Row, image: Image) -> None:
    models = image.effective_records(LIBXL, streams.LIBXL_EMULATOR_CONTEXT)
    for record in models[:_MOST_DEVICES]:
        number = int.from_bytes(image.start_of(record, 4), "little")
        row["device_models"].append(streams.EMULATORS.get(number, f"emulator {number}"))
    made, policies = hashlib.sha256(), 0
    for number in (streams.LIBXC_X86_CPUID_POLICY, streams.LIBXC_X86_MSR_POLICY):
        policy = image.last(LIBXC, number)
        if policy is not None:
            policies += 1
            made.update(image.body(policy))
    row["policy_digest"] = made.hexdigest() if policies else None


def _verdicts(row: Row, image: Image, judges: Restoring, asked: Asked) -> None:
    """Of each release, then of each host with the release that runs there."""
    guest_of = cache(Guest.of_image)
    releases = asked.releases or image.release.and_newer()
    wanted: list[tuple[Release, str | None, Host | None]] = [
        *((release, None, None) for release in releases),
        *((host.release or Release(NEWEST), name, host) for name, host in asked.hosts.items()),
    ]
    for release, name, host in wanted:
        reader, lacks = judges.reader(release), None
        try:
            if host is None:
                verdict = would_restore(image, release, guest_of=guest_of, reader=reader)
            else:
                there = place(image, host, release, guest_of=guest_of, reader=reader)
                verdict, lacks = there.verdict, there.in_short or None
        except HvmctxError as error:
            verdict = Verdict(UNREADABLE, text=str(error), layer="")
        said: dict[str, object] = {"verdict": verdict.verdict}
        if not verdict.accepted:
            said = {**verdict.as_dict(), "record": verdict.where}
        said.update(release=str(release), host=name, lacks=lacks)
        row["verdicts"].append({member: said.get(member) for member in VERDICT})
        if not verdict.accepted and (row["worst"] is None or verdict.verdict == VIOLATION):
            row["worst"] = _refusal(
                verdict, f"{name} (Xen {release})" if name else f"Xen {release}"
            )


def _strictly(row: Row, image: Image) -> None:
    """The gravest finding about a context that everybody would load."""
    from hvmctx.verify.strict_context import findings_of

    record = image.last(LIBXC, streams.LIBXC_HVM_CONTEXT)
    base = 0 if record is None else record.body_offset
    with suppress(MissingRecordError):
        found = findings_of(image.context, base, None, image.limits)
        if found:
            worst = max(found, key=lambda finding: SEVERITIES.index(finding.severity))
            row["worst"] = worst.as_dict()


def _refusal(verdict: Verdict, who: str) -> dict[str, str | int | None]:
    verb = "accesses memory that it must not" if verdict.verdict == VIOLATION else "refuses it"
    return Finding(
        ERROR, verdict.rule, f"{verdict.reason}; {who} {verb}", layer=verdict.layer,
        offset=verdict.offset, record=verdict.where,
    ).as_dict()  # fmt: skip


def _damage(error: FormatError) -> dict[str, str | int | None]:
    """The finding of an input that cannot be read on."""
    return Finding(
        ERROR, "stream-damaged", error.problem, layer=error.layer, offset=error.offset,
        record=error.record,
    ).as_dict()  # fmt: skip

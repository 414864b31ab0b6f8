"""The page about one image, `report_page`: everything that `info`, `dump --decode`, `verify` and
`repair` say of it, and what differs from another.

What an image may claim or hold without end is cut: rows and characters are counted for the
whole page (`render.paper`), which says what was left out. `render.html` makes text safe.
"""

from __future__ import annotations

from hvmctx.abi import vmport as vmport_abi
from hvmctx.abi.declare import DOMAIN, VCPU, VMPORT_TYPECODE
from hvmctx.errors import HvmctxError
from hvmctx.findings import ACCEPT, REFUSE, SEVERITIES, VIOLATION
from hvmctx.render.describe import describe
from hvmctx.render.describe_text import layer_in_words, size_in_words, summary
from hvmctx.render.paper import MOST_ROWS, Paper, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from hvmctx.context.hvm_context import HvmContext
    from hvmctx.context.record import Record
    from hvmctx.findings import Finding
    from hvmctx.image.image import Image
    from hvmctx.render.paper import Cells

    Plain = dict[str, Any]

__all__ = ["report_page"]

_MOST_VCPUS = 128
_MOST_RECORDS = 64
"""Of one vcpu, or of the devices."""
_COLOURS = 7
"""Parts of a bar that have a colour of their own."""
_PARTS_OF_PAGES = 0.8
"""From which share of an image the rest has a bar of its own."""
_TOLD = ("params", "device model", "policies", "xenstore", "decoded")
"""What has a section of its own."""


def report_page(
    image: Image,
    outlooks: list[Plain],
    findings: list[Finding],
    *,
    judged: str = "",
    other: str = "",
    differences: Iterable[tuple[str, Any]] | None = None,
) -> str:
    """In HTML. `outlooks` are those of `mend.outlook`, `findings` those of `verify`, which
    `judged` sums up in words; `differences` are those of `edit.diff` from the image called
    `other`, each after the name of its record.
    The image must be seekable. Raises UsageError if Jinja2 is not installed."""
    from hvmctx.render.html import page

    paper = Paper()
    facts = describe(image, policy=True)
    context = _attempt(lambda: image.context)
    regions, batches = _memory(image)
    return page(
        "report.html",
        searchable=True,
        title=_title(facts),
        facts=facts,
        size=None if facts["size"] is None else size_in_words(facts["size"]),
        glance=paper.rows(_glance(facts)),
        problems=paper.rows((text,) for text in facts["problems"]),
        notes=paper.rows((text,) for text in facts["notes"]),
        layers=paper.rows(_layers(facts)),
        bars=_bars(facts),
        kinds=paper.rows(_parts(facts)),
        outlooks=outlooks,
        accepted=sum(each["verdict"] == ACCEPT for each in outlooks),
        reasons=paper.rows(
            (each["where"], each["verdict"], _why(each)) for each in outlooks
        ),
        matrix=_matrix(outlooks, paper),
        remedies=_remedies(outlooks, paper),
        hazards=paper.rows(_hazards(outlooks)),
        judged=judged,
        findings=paper.rows(_findings(findings)),
        severities={name: sum(f.severity == name for f in findings) for name in SEVERITIES[::-1]},
        regions=regions,
        batches=batches,
        pages=_pages(regions),
        registers=paper.rows(_registers(facts)),
        vcpus=list(_vcpus(context, paper)),
        pv=paper.rows(_pv(facts)),
        devices=_records(_of_scope(context, DOMAIN), paper),
        unknown=paper.rows(_unknown(context)),
        models=paper.rows(_models(facts)),
        decoded=paper.rows((item["name"], f"{item['offset']:#x}", item["payload"])
                           for item in facts["decoded"] or ()),
        params=paper.rows((name, f"{value:#x}") for name, value in (facts["params"] or {}).items()),
        xenstore=paper.rows(tuple(pair) for pair in facts["xenstore"] or ()),
        policy=_policy(facts["policy"], paper),
        vmport=_vmport(context, paper),
        other=other,
        groups=None if differences is None else _groups(differences, paper),
    )  # fmt: skip


def _attempt(part: Callable[[], HvmContext]) -> HvmContext | None:
    """What is wrong with it is among the problems of the description."""
    try:
        return part()
    except HvmctxError:
        return None


def _title(facts: Plain) -> str:
    name = (facts["config"] or {}).get("name")
    return f"Saved guest {name}" if name else "A saved guest"


def _glance(facts: Plain) -> Iterator[Cells]:
    for name, words in summary(facts):
        if name not in _TOLD and not name.startswith("vcpu "):
            yield name, words


def _layers(facts: Plain) -> Iterator[Cells]:
    for layer in facts["layers"]:
        yield f"{layer['offset']:#x}", layer["layer"], layer_in_words(layer)


def _kinds(facts: Plain) -> list[tuple[str, Plain | None, int]]:
    """(class of its colour, the kind of record or None for all headers, bytes), in file order."""
    records = facts["records"]
    most = sorted((record["bytes"] for record in records), reverse=True)[:_COLOURS]
    kinds: list[tuple[str, Plain | None, int]] = []
    used = 0
    for record in records:
        own = used < _COLOURS and record["bytes"] >= max(1, most[-1])
        kinds.append((f"part{used}" if own else "rest", record, record["bytes"]))
        used += own
    if facts["size"] is not None:
        rest = facts["size"] - sum(record["bytes"] for record in records)
        kinds.append(("rest", None, max(0, rest)))
    return kinds


def _bars(facts: Plain) -> list[Plain]:
    """Of the whole image, and where nearly all of it are pages, of the rest."""
    kinds = _kinds(facts)
    total = sum(size for _, _, size in kinds)
    pages = sum(size for _, record, size in kinds if _has_pages(record))
    if not total:
        return []
    bars = [{"words": "The whole image", "parts": _joined(kinds), "bytes": total}]
    if total > pages > total * _PARTS_OF_PAGES:
        rest = [kind for kind in kinds if not _has_pages(kind[1])]
        bars.append({
            "words": "Without PAGE_DATA", "parts": _joined(rest), "bytes": total - pages,
        })  # fmt: skip
    return bars


def _has_pages(record: Plain | None) -> bool:
    return record is not None and record["name"] == "PAGE_DATA"


def _joined(kinds: list[tuple[str, Plain | None, int]]) -> list[tuple[str, int]]:
    """Parts next to each other without a colour of their own are one, as those are many."""
    joined: list[tuple[str, int]] = []
    for name, _, size in kinds:
        if joined and joined[-1][0] == name:
            joined[-1] = name, joined[-1][1] + size
        else:
            joined.append((name, size))
    return joined


def _parts(facts: Plain) -> Iterator[Cells]:
    kinds = _kinds(facts)
    total = sum(size for _, _, size in kinds) or 1
    for colour, record, size in kinds:
        share = f"{100 * size / total:.1f} %"
        if record is None:
            yield colour, "", "headers and framing", "", size, share
        else:
            name = record["name"] + (" (optional)" if record["optional"] else "")
            yield colour, record["layer"], name, record["count"], size, share


def _why(outlook: Plain) -> str:
    if outlook["verdict"] == ACCEPT:
        number = len(outlook["hazards"])
        hazards = f"with {number} hazard{'s' * (number > 1)}" if number else ""
        return "; ".join(filter(None, (outlook["lacks"], hazards)))
    where = f"{outlook['record']}: " if outlook["record"] else ""
    rule = f" [{outlook['rule']}]" if outlook["rule"] else ""
    return f"{where}{outlook['reason'] or outlook['text']}{rule}"


def _matrix(outlooks: list[Plain], paper: Paper) -> Plain:
    """A row for each rule by which some release refuses the image, as it is or with what mends
    it so far, or suffers; a cell for each release: what it does about it, None where the rule
    does not fire. `texts` has what each rule says, and what mends it."""
    rules: dict[str, Plain] = {}

    def note(at: int, kind: str, rule: str, where: str, text: str, remedy: str = "") -> None:
        row = rules.setdefault(rule, {
            "rule": rule, "where": where, "text": text, "remedies": [],
            "cells": [None] * len(outlooks),
        })  # fmt: skip
        row["cells"][at] = row["cells"][at] or kind
        row["text"] = row["text"] or text
        if remedy and remedy not in row["remedies"]:
            row["remedies"].append(remedy)

    for at, each in enumerate(outlooks):
        if each["verdict"] != ACCEPT and each["rule"]:
            note(at, each["verdict"], each["rule"], each["record"], each["text"])
        for edit in each["edits"]:
            note(at, REFUSE, edit["rule"], edit["where"], edit["text"], edit["reason"])
        after = each["after"]
        if after is not None and after["verdict"] in (REFUSE, VIOLATION):
            note(at, after["verdict"], after["rule"], after["record"] or "", after["text"])
        for hazard in each["hazards"]:
            note(at, "hazard", hazard["rule"], hazard["record"], hazard["text"])
    return {
        "verdicts": [each["verdict"] for each in outlooks],
        "where": [cut(each["where"]) for each in outlooks],
        "rows": paper.rows((row["rule"], *row["cells"]) for row in rules.values()),
        "texts": paper.rows(
            (row["rule"], row["where"], row["text"], "; ".join(row["remedies"]) or _unmended(row))
            for row in rules.values()
        ),
    }


def _unmended(row: Plain) -> str:
    return "" if set(row["cells"]) <= {None, "hazard"} else "nothing that is known"


def _remedies(outlooks: list[Plain], paper: Paper) -> list[Plain]:
    """What mends it, each list of edits once with the releases that it is for."""
    groups: dict[tuple[object, ...], Plain] = {}
    for each in outlooks:
        if each["after"] is None:
            continue
        after = each["after"]
        accepted = after["verdict"] == ACCEPT
        why = "" if accepted else f"{after['text']} [{after['rule']}]"
        key = (accepted, why, *(edit["command"] for edit in each["edits"]))
        group = groups.setdefault(
            key, {"where": [], "accepted": accepted, "why": why, "edits": each["edits"]}
        )
        group["where"].append(cut(each["where"]))
    return [
        {
            **group,
            "edits": paper.rows(
                (edit["where"], edit["rule"], edit["reason"], edit["command"])
                for edit in group["edits"]
            ),
        }
        for group in groups.values()
    ]


def _hazards(outlooks: list[Plain]) -> Iterator[Cells]:
    """Each once, with where it is one."""
    found: dict[tuple[str, ...], tuple[Plain, list[str]]] = {}
    for each in outlooks:
        for hazard in each["hazards"]:
            key = hazard["rule"], hazard["record"], hazard["text"]
            found.setdefault(key, (hazard, []))[1].append(each["where"])
    for hazard, where in found.values():
        safe = f"{hazard['safe']} ({hazard['commit']})" if hazard["safe"] else "no release"
        yield (
            hazard["rule"], hazard["record"], hazard["text"], hazard["harms"], ", ".join(where),
            safe, hazard["cve"] or "",
        )  # fmt: skip


def _findings(findings: list[Finding]) -> Iterator[Cells]:
    """The gravest first."""
    by_weight = sorted(findings, key=lambda one: -SEVERITIES.index(one.severity))
    for one in by_weight:
        yield one.severity, f"{one.offset:#x}", one.layer, one.record, one.text, one.rule


def _memory(image: Image) -> tuple[list[Plain], Plain | None]:
    """The pictures; none where the words of the pages cannot be had, or are too many."""
    from hvmctx.render.memory_picture import batches_of, regions_of

    try:
        regions = regions_of(image.memory)  # which the description has made
        return regions, batches_of(image, regions)
    except HvmctxError:
        return [], None


def _pages(regions: list[Plain]) -> list[tuple[str, str, int, str]]:
    """(class, words, pages, as bytes) of each kind that there is."""
    from hvmctx.render.memory_picture import KINDS

    sums = {kind: sum(region["pages"][kind] for region in regions) for kind in KINDS}
    return [
        (kind, KINDS[kind], count, size_in_words(count << 12))
        for kind, count in sums.items()
        if count
    ]


def _registers(facts: Plain) -> Iterator[Cells]:
    for name, words in summary(facts):
        if name.startswith("vcpu "):
            yield name.removeprefix("vcpu "), words


def _of_scope(context: HvmContext | None, scope: str) -> Iterator[Record]:
    if context is not None:
        for record in context.entries:
            kind = record.type
            if kind is not None and kind.scope == scope and record.typecode != VMPORT_TYPECODE:
                yield record


def _records(records: Iterable[Record], paper: Paper) -> Plain:
    """Records and their rows, and how many were left out."""
    from hvmctx.render.decode import decoded

    shown: list[Plain] = []
    left = 0
    for record in records:
        if paper.is_full or len(shown) >= _MOST_RECORDS:
            left += 1
            continue
        rows = paper.rows((row.path, row.shown, row.words) for row in decoded(record))
        shown.append({
            "name": f"{record.name}/{record.instance}", "length": record.length,
            "offset": record.offset, "rows": rows,
        })  # fmt: skip
    return {"shown": shown, "left": left}


def _vcpus(context: HvmContext | None, paper: Paper) -> Iterator[Plain]:
    """The vcpus by instance; of the last few words where there are too many."""
    of: dict[int, list[Record]] = {}
    for record in _of_scope(context, VCPU):
        of.setdefault(record.instance, []).append(record)
    for number, (instance, records) in enumerate(sorted(of.items())):
        if number >= _MOST_VCPUS or paper.is_full:
            yield {"instance": None, "left": len(of) - number}
            return
        yield {"instance": instance, **_records(records, paper)}


def _pv(facts: Plain) -> Iterator[Cells]:
    for vcpu in (facts["pv"] or {}).get("vcpus", ()):
        yield vcpu["vcpu"], *(f"{vcpu[name]:#x}" for name in ("ip", "sp", "page_table"))


def _unknown(context: HvmContext | None) -> Iterator[Cells]:
    for record in context.entries if context is not None else ():
        if record.type is None:
            head = bytes(record.body[:32]).hex()
            more = "..." if record.length > 32 else ""
            yield record.typecode, record.instance, record.length, head + more


def _models(facts: Plain) -> Iterator[Cells]:
    """Each device model, and after one in QEMU's format its sections."""
    for model in facts["device_models"] or ():
        qemu = model["qemu"]
        if qemu is None:
            said = model.get("decoded") or ", ".join(model.get("context", ()))
            yield model["emulator"], model["size"], said or "not in QEMU's format"
            continue
        machine = f", machine {qemu['machine']}" if qemu["machine"] else ""
        yield (
            model["emulator"],
            model["size"],
            f"QEVM version {qemu['version']}{machine}, {len(qemu['sections'])} sections",
        )
        for name in qemu["sections"]:
            yield f"section {name}", "", qemu["devices"].get(name, "")


def _policy(policy: Plain | None, paper: Paper) -> Plain | None:
    if policy is None:
        return None
    from hvmctx.abi.cpuid import NO_SUBLEAF
    from hvmctx.abi.msrs import msr_name
    from hvmctx.render.policy import policy_lines

    lines = policy_lines(*(map(tuple, policy[part]) for part in ("cpuid", "msrs")))
    facts: list[tuple[str, str]] = []
    features: list[tuple[str, str]] = []
    for line in lines:
        name, _, words = line.partition(": ")
        if words:  # else a row of the table of leaves
            (features if name.startswith("CPUID ") and "." in name else facts).append((name, words))
    return {
        "facts": paper.rows(facts),
        "features": paper.rows((name, *words.split(", ")) for name, words in features),
        "leaves": paper.rows(
            (f"{leaf:x}", "" if subleaf == NO_SUBLEAF else f"{subleaf:x}",
             *(f"{value:08x}" for value in values))
            for leaf, subleaf, *values in policy["cpuid"]
        ),
        "msrs": paper.rows(
            (f"{index:#x}", msr_name(index), f"{value:#x}") for index, _, value in policy["msrs"]
        ),
    }  # fmt: skip


def _vmport(context: HvmContext | None, paper: Paper) -> list[Plain]:
    """Of each VMPORT record its head, the channels that are open, and guestinfo."""
    from hvmctx.context.vmport import Parts, VmportState
    from hvmctx.context.vmport_slots import as_text

    if context is None:
        return []
    profile = vmport_abi.used()
    found: list[Plain] = []
    for record in context.records(VMPORT_TYPECODE)[:_MOST_RECORDS]:
        if paper.is_full:
            break
        body = bytes(record.body)
        state = VmportState.from_bytes(body, profile)
        parts = Parts(body, profile) if state.unparsed is None else None
        found.append({
            "name": f"VMPORT/{record.instance}",
            "length": record.length,
            "head": paper.rows(
                (name, f"{value:#x}")
                for name, value in (parts.head if parts else {}).items()
                if not name.startswith("_")
            ),
            "channels": paper.rows(
                (number, channel.chan_id, channel.protocol, f"{channel.cookie:#x}",
                 channel.active_time, channel.send.claimed(),
                 sum(buffer.claimed() for buffer in channel.recv), channel.jumbo_recv.claimed())
                for number, channel in enumerate(state.channels)
                if channel.proto_num != vmport_abi.PROTO_CLOSED
            ),
            "entries": paper.rows(
                ("jumbo" if entry.jumbo else "guestinfo", as_text(entry.key), as_text(entry.value))
                for entry in (parts.entries if parts else ())
            ),
        })  # fmt: skip
    return found


def _groups(differences: Iterable[tuple[str, Any]], paper: Paper) -> Plain:
    """The differences by the record that they are in, the counts first; or the error after which
    nothing could be compared."""
    groups: dict[str, list[Cells]] = {}
    counts: dict[str, int] = {}
    over: dict[str, int] = {}
    error = ""
    try:
        for record, one in differences:
            known = record in counts or len(counts) < MOST_ROWS
            name = record if known else "others"
            counts[name] = counts.get(name, 0) + one.count
            rows = groups.setdefault(name, [])
            if len(rows) < MOST_ROWS:
                changed = f"{one.changed} bytes differ" if one.changed else one.bits
                rows.append((cut(one.path), _side(one.before), _side(one.after), changed))
            else:
                over[name] = over.get(name, 0) + 1
    except HvmctxError as problem:
        error = str(problem)
    shown = []
    for name, rows in groups.items():
        kept = paper.rows(rows)
        kept.left += over.get(name, 0)
        shown.append({"name": cut(name), "count": counts[name], "rows": kept})
    return {"shown": shown, "total": sum(counts.values()), "error": error}


def _side(value: str | None) -> str:
    return "not there" if value is None else cut(value)

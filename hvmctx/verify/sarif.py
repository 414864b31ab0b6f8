"""Findings as SARIF 2.1.0 (OASIS, Static Analysis Results Interchange Format), which dashboards and
code hosts take: a log with one run, about one input.

Text that an input may have chosen is data for whatever shows the log. It is made safe as for a
terminal, and cannot become a link or a placeholder of SARIF's.
"""

from __future__ import annotations

import os
from hashlib import sha256

from hvmctx.abi.fields import decimal
from hvmctx.messages import printable
from hvmctx.revision import HOME
from hvmctx.verify.explain import explain, link_of
from hvmctx.verify.registry import rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.findings import Finding
    from hvmctx.stream.xlfile import Json
    from hvmctx.verify.views import Judged

__all__ = ["SCHEMA", "log", "message", "uri_of"]

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def log(judged: Judged, name: str, version: str) -> dict[str, Json]:
    """The log, as a plain object. `name` is that of the input as `verify` takes it, `version` that
    of hvmctx.

    >>> from hvmctx.verify.views import judge
    >>> made = log(judge("examples/hvm1.save", "strict"), "examples/hvm1.save", "0.1.0")
    >>> made["runs"][0]["results"][0]["ruleId"]
    'pages-missing'
    """
    names = sorted({one.rule for one in judged.findings})
    run: dict[str, Json] = {
        "tool": {
            "driver": {
                "name": "hvmctx", "version": version, "informationUri": HOME,
                "rules": [_descriptor(name, version) for name in names],
            }
        },
        "automationDetails": {"id": f"hvmctx/{judged.view}/"},
        "invocations": [{"executionSuccessful": True}],
        "results": _results(judged, names, uri_of(name)),
        "properties": {
            "view": judged.view, "releases": [str(one) for one in judged.releases],
            "summary": str(judged), "compression": judged.compression,
        },
    }  # fmt: skip
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def uri_of(name: str) -> str:
    """An input's name as a URI reference: a relative path stays relative, to the folder that the
    reader of the log takes for the root.

    >>> uri_of("images/web 1.save"), uri_of("/srv/a.save"), uri_of("-"), uri_of("7")
    ('images/web%201.save', 'file:///srv/a.save', 'stdin', 'domain/7')
    """
    from urllib.parse import quote

    from hvmctx.files.remote import is_url

    if name == "-":
        return "stdin"
    if decimal(name) is not None:
        return f"domain/{name}"
    if is_url(name):
        return quote(name, safe=":/?#[]@!$&'()*+,;=%")
    path = quote(os.fsencode(name))
    return f"file://{path}" if path.startswith("/") else path


def message(text: str) -> str:
    """Text as a message of SARIF has it: nothing in it is a placeholder or a link.

    >>> print(message("a \\x1b[1m, {0}, [here](https://a.example)"))
    a \\x1b[1m, {{0}}, [here] (https://a.example)
    """
    return printable(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")


def _descriptor(name: str, version: str) -> dict[str, Json]:
    """A rule, of all the rows that have its id. A handler's own has nothing but that."""
    rows = [rule for rule in rules() if rule.id == name]
    if not rows:
        text: dict[str, Json] = {"text": "a rule of a handler of another package"}
        return {"id": printable(name), "shortDescription": text, "fullDescription": text}
    words = "; ".join(dict.fromkeys(rule.words for rule in rows))
    errnos = dict.fromkeys(rule.errno for rule in rows if rule.errno)
    more: dict[str, Json] = {
        "errnos": list(errnos),
        "releases": list(dict.fromkeys(str(rule.releases) for rule in rows)),
    }  # fmt: skip
    return {
        "id": name,
        "shortDescription": {"text": message(words)},
        "fullDescription": {"text": message(words)},  # GitHub wants both
        "helpUri": f"{HOME}/blob/v{version}/{link_of(name)}",
        "help": {"text": "\n".join(map(message, explain(name).splitlines()))},
        "defaultConfiguration": {"level": rows[0].severity},
        "properties": more,
    }


def _results(judged: Judged, names: list[str], uri: str) -> list[Json]:
    results: list[Json] = []
    numbers = {name: number for number, name in enumerate(names)}
    times: dict[str, int] = {}
    for one in judged.findings:
        place = _fingerprint(one)
        times[place] = times.get(place, 0) + 1
        results.append(
            {
                "ruleId": printable(one.rule),
                "ruleIndex": numbers[one.rule],
                "level": one.severity,
                "message": {"text": message(one.text)},
                "locations": [_location(one, uri, compressed=bool(judged.compression))],
                "partialFingerprints": {"primaryLocationLineHash": f"{place}:{times[place]}"},
                "properties": {
                    "layer": one.layer, "record": printable(one.record), "offset": one.offset,
                    "errno": one.errno, "releases": list(one.releases),
                },
            }
        )  # fmt: skip
    return results


def _fingerprint(one: Finding) -> str:
    """What stays the same of a finding where the image is saved again: not its offset, nor its
    words, which have values. (Its name in the log is the one that GitHub looks for.)"""
    return sha256(
        "\0".join((one.rule, one.layer, one.record)).encode("utf-8", "replace")
    ).hexdigest()


def _location(one: Finding, uri: str, *, compressed: bool) -> dict[str, Json]:
    """Where in the file, and in which record of which layer. A compressed file has no bytes at
    the offset that a finding has; the log has that among the result's properties."""
    physical: dict[str, Json] = {"artifactLocation": {"uri": uri}}
    if not compressed:
        region: dict[str, Json] = {"byteOffset": one.offset}
        if one.length is not None:
            region["byteLength"] = one.length
        physical["region"] = region
    name = printable(one.record or one.layer)
    full = printable(f"{one.layer}/{one.record}" if one.record else one.layer)
    kind = "record" if one.record else "layer"
    return {
        "physicalLocation": physical,
        "logicalLocations": [{"name": name, "fullyQualifiedName": full, "kind": kind}],
    }

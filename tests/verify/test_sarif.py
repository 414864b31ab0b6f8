from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.releases import Release
from hvmctx.findings import ERROR, NOTE, SEVERITIES, Finding
from hvmctx.verify.explain import explain
from hvmctx.verify.registry import rules
from hvmctx.verify.sarif import SCHEMA, log, message, uri_of
from hvmctx.verify.views import Judged, judge
from tests.builders.examples import few
from tests.builders.samples import DATA, EXAMPLE
from tests.builders.streams import record, strict_hvm

PUBLISHED = json.loads((DATA / "sarif-schema-2.1.0.json").read_text())
VALIDATOR = jsonschema.Draft4Validator(PUBLISHED)
assert PUBLISHED["id"] == SCHEMA


def unchecked(*findings: Finding, compression: str = "", name: str = "a.save") -> dict[str, Any]:
    judged = Judged(list(findings), "strict", [Release("4.17")], "it", compression)
    return log(judged, name, "0.1.0")


def made(*findings: Finding, compression: str = "", name: str = "a.save") -> dict[str, Any]:
    """The run of a log about these."""
    whole = unchecked(*findings, compression=compression, name=name)
    VALIDATOR.validate(whole)
    run: dict[str, Any] = whole["runs"][0]
    return run


def finding(rule: str = "cpu-cr4", text: str = "t", record: str = "CPU/0", **more: Any) -> Finding:
    return Finding(ERROR, rule, text, layer="context", offset=52045, record=record, **more)


def test_of_a_genuine_image() -> None:
    whole: Any = log(judge(EXAMPLE, "strict"), "examples/hvm1.save", "0.1.0")
    VALIDATOR.validate(whole)
    (one,) = whole["runs"][0]["results"]
    assert one["ruleId"] == "pages-missing" and one["level"] == NOTE
    nothing: Any = log(judge(EXAMPLE), "-", "0.1.0")
    VALIDATOR.validate(nothing)
    assert nothing["runs"][0]["results"] == [] and nothing["version"] == "2.1.0"


def test_a_result() -> None:
    bad = strict_hvm(record(streams.LIBXC_X86_TSC_INFO, bytes(16)))
    whole: Any = log(judge(bad, releases=["4.17", "4.18"]), "images/a b.save", "0.1.0")
    VALIDATOR.validate(whole)
    at = bad.index(record(streams.LIBXC_X86_TSC_INFO, bytes(16)))
    (one,) = whole["runs"][0]["results"]
    fingerprint = one.pop("partialFingerprints")["primaryLocationLineHash"]
    assert fingerprint.endswith(":1") and len(fingerprint) == 66
    assert one == {
        "ruleId": "tsc-length",
        "ruleIndex": 0,
        "level": "error",
        "message": {"text": "the length is not 24; Xen 4.17 to 4.18 refuses it"},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "images/a%20b.save"},
                    "region": {"byteOffset": at, "byteLength": 24},
                },
                "logicalLocations": [
                    {
                        "name": "X86_TSC_INFO",
                        "fullyQualifiedName": "libxc/X86_TSC_INFO",
                        "kind": "record",
                    }
                ],
            }
        ],
        "properties": {
            "layer": "libxc", "record": "X86_TSC_INFO", "offset": at, "errno": None,
            "releases": ["4.17", "4.18"],
        },
    }  # fmt: skip


def test_errno_and_order() -> None:
    """Results as verify prints them; the rules that they name by their ids."""
    run = made(
        finding("pic-length", errno="ENODATA", releases=["4.20"]), finding("cpu-cr4"),
        finding("pic-length"),
    )  # fmt: skip
    assert [one["ruleId"] for one in run["results"]] == ["pic-length", "cpu-cr4", "pic-length"]
    described = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in described] == ["cpu-cr4", "pic-length"]
    for one in run["results"]:
        assert described[one["ruleIndex"]]["id"] == one["ruleId"]
    assert run["results"][0]["properties"]["errno"] == "ENODATA"
    assert described[1]["properties"]["errnos"] == ["EINVAL", "ENODATA"]
    assert described[1]["helpUri"].endswith("/hvmctx/blob/v0.1.0/docs/rules.md#pic")
    assert described[1]["help"]["text"] == explain("pic-length").rstrip("\n")


def test_every_rule_can_be_in_a_log() -> None:
    """With its words, and the severity that it has by itself."""
    names = sorted({rule.id for rule in rules()})
    run = made(*map(finding, names))
    described = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in described] == names
    for rule in described:
        assert rule["shortDescription"]["text"] and "docs/rules.md#" in rule["help"]["text"]
        assert rule["defaultConfiguration"]["level"] in SEVERITIES


def test_a_rule_of_a_handler() -> None:
    (rule,) = made(finding("acme-\x1b[1m"))["tool"]["driver"]["rules"]
    assert rule["id"] == r"acme-\x1b[1m" and "help" not in rule


def test_fingerprints() -> None:
    """They stay where offsets and values change, and tell findings apart that differ in rule or
    record; of those that are alike each has its number."""

    def of(*findings: Finding) -> list[str]:
        results = made(*findings)["results"]
        return [one["partialFingerprints"]["primaryLocationLineHash"] for one in results]

    moved = Finding(ERROR, "cpu-cr4", "other", layer="context", offset=1, record="CPU/0")
    assert of(finding()) == of(moved)
    first, second = of(finding(), moved)
    assert first.partition(":")[0] == second.partition(":")[0]
    assert first.endswith(":1") and second.endswith(":2")
    assert len({*of(finding()), *of(finding("cpu-cr0")), *of(finding(record="CPU/1"))}) == 3


def test_a_compressed_input_has_no_bytes_at_that_offset() -> None:
    (one,) = made(finding(), compression="gzip")["results"]
    assert "region" not in one["locations"][0]["physicalLocation"]
    assert one["properties"]["offset"] == 52045
    judged = judge(gzip.compress(EXAMPLE.read_bytes()), "strict")
    assert judged.compression == "gzip"


def test_names_of_inputs() -> None:
    for name, uri in (
        ("a.save", "a.save"),
        ("./7", "./7"),
        ("a#b?c:%.save", "a%23b%3Fc%3A%25.save"),
        ("/srv/caf\xe9", "file:///srv/caf%C3%A9"),
        ("\udcff", "%FF"),
        ("a\nb", "a%0Ab"),
        ("https://host/a b?c=1", "https://host/a%20b?c=1"),
    ):
        assert uri_of(name) == uri


def test_guests_choose_no_links_and_placeholders() -> None:
    (one,) = made(finding(text="\x1b[2J{0} [x](https://a.example)", record="a\u202eb"))["results"]
    assert one["message"]["text"] == r"\x1b[2J{{0}} [x] (https://a.example)"
    assert one["properties"]["record"] == r"a\u202eb"
    (place,) = one["locations"][0]["logicalLocations"]
    assert place["name"] == r"a\u202eb" and place["fullyQualifiedName"] == r"context/a\u202eb"


@few
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), max_size=5), st.text(min_size=1))
def test_any_text_is_safe(texts: list[tuple[str, str, str]], name: str) -> None:
    whole = unchecked(*(finding(*each) for each in texts), name=name)
    assert json.loads(json.dumps(whole)) == whole
    for one in whole["runs"][0]["results"]:
        assert "](" not in one["message"]["text"] and one["message"]["text"].isprintable()
    assert message("plain") == "plain"


@pytest.mark.long
def test_the_validator_of_its_makers(tmp_path: Path) -> None:
    """Microsoft's, with the rules of SARIF and of GitHub's service."""
    program = shutil.which("sarif-multitool")
    if program is None:
        pytest.skip("no sarif-multitool; npm install --global @microsoft/sarif-multitool (104 MB)")
    path = tmp_path / "a.sarif"
    judged = Judged([finding(), finding("pic-length")], "strict", [], "it")
    path.write_text(json.dumps(log(judged, "a.save", "0.1.0"), indent=1))
    for kind in ("Sarif", "Ghas"):
        done = subprocess.run(
            [program, "validate", path, "--rule-kind", kind, "--output", tmp_path / kind],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ": error " not in done.stdout, done.stdout

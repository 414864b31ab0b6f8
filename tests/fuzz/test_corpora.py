"""The corpus for others: what is in it, that it comes out the same again, and a reader in C."""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from hvmctx.abi.releases import RELEASES
from hvmctx.verify.registry import VMPORT, rules
from hvmctx.verify.views import RESTORE
from tests.builders.running import ROOT, Run

CORPORA = ROOT / "fuzz" / "corpora"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("make_corpus", CORPORA / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = _load()
FEW = ("4.2", "4.5", "4.8", "4.11", "4.14", "4.17", "newest")
OLD = {"cpu-xsave-mask", "cpu-xsave-overread", "cpu-xsave-xsetbv"}
"""Rules of other releases than those."""


@cache
def parts() -> dict[str, bytes]:
    made: dict[str, bytes] = make.parts(FEW, fuzz=False)
    return made


@cache
def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in parts()["manifest.jsonl"].splitlines()]


def test_every_rule_has_a_file_or_a_reason() -> None:
    there = {rule.id for rule in (*rules(RESTORE), *rules(VMPORT))}
    shown = {rule for row in rows() for rule in row["shows"]}
    near = {rule for row in rows() for rule in row["near"]}
    assert shown <= there and near <= there
    assert there - shown - OLD == set(make.WITHOUT)
    assert there - near == {rule for rule in make.WITHOUT if rule.startswith("vmport-")}


@pytest.mark.long
def test_every_rule_of_every_release_has_one() -> None:
    whole = make.parts(tuple(RELEASES), fuzz=False)
    of_all = map(json.loads, whole["manifest.jsonl"].splitlines())
    assert {rule for row in of_all for rule in row["shows"]} >= OLD


def test_what_a_file_shows_it_does() -> None:
    for row in rows():
        answers = [answer for by in row["expected"].values() for answer in by.values()]
        for rule in row["shows"]:
            assert any(rule in (a["rule"], *a["findings"]) for a in answers), row["name"]
        for rule in row["near"]:
            assert any(a["verdict"] == "accept" and rule not in a["findings"] for a in answers)
        assert row["shows"] or row["near"]
    assert not {row["name"] for row in rows() if row["kind"] == "context" and row["size"] > 4096}


def test_the_manifest() -> None:
    schema = json.loads(parts()["manifest.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    about = json.loads(parts()["corpus.json"])
    assert all(row["any_guest"] for row in rows() if row["kind"] != "context")
    assert about["files"] == len(rows()) and {row["into"] for row in rows()} == set(about["into"])
    for row in rows():
        validator.validate(row)
        assert hashlib.sha256(parts()[row["name"]]).hexdigest() == row["sha256"]
        assert len(parts()[row["name"]]) == row["size"]
    there = {
        name for name in parts() if name.partition("/")[0] in ("contexts", "streams", "vmport")
    }
    assert there == {row["name"] for row in rows()}


def test_errnos() -> None:
    """Every one that a rule has, by Xen's numbers, which are Linux's."""
    named = {rule.errno for rule in rules()} - {None}
    assert named <= set(make.ERRNO)
    if sys.platform == "linux":
        assert all(getattr(errno, name) == number for name, number in make.ERRNO.items())


def test_the_fields_are_documented() -> None:
    page = parts()["README.md"].decode()
    for word in (
        *rows()[0],
        *make.INTO,
        "verdict",
        "errno",
        "rule",
        "findings",
        *parts().keys() - {"README.md"},
    ):
        folder, _, rest = word.partition("/")
        assert f"`{folder}/" in page if rest else word in page, word


def test_restore_answers_the_same(run: Run, tmp_path: Path) -> None:
    """As the README has it, where it depends neither on the guest nor on the vendor."""
    sure = {
        Path(row["name"]).name: row["expected"]["4.17"]["amd"]
        for row in rows()
        if row["kind"] == "context" and row["any_guest"]
        and row["expected"]["4.17"]["amd"] == row["expected"]["4.17"]["intel"]
    }  # fmt: skip
    for name in sure:
        (tmp_path / name).write_bytes(parts()[f"contexts/{name}"])
    arguments = "--release", "4.17", "--vcpus", "2", "--format", "ndjson"
    _, said = run("restore", str(tmp_path), *arguments)
    told = {Path(line["input"]).name: line for line in map(json.loads, said.out.splitlines())}
    assert told.keys() == sure.keys() and len(sure) > 80
    for name, answer in sure.items():
        found = told[name]
        assert [found[key] for key in ("verdict", "errno", "rule")] == [
            answer[key] for key in ("verdict", "errno", "rule")
        ]


def test_the_archive_is_the_same_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import hashlib, runpy, sys; make = runpy.run_path(sys.argv[1]);"
        "parts = make['parts'](('4.17',), fuzz=False);"
        "print(hashlib.sha256(make['archive'](parts, make['moment']())).hexdigest())"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", code, CORPORA / "make.py"], capture_output=True, text=True,
            check=True, cwd=tmp_path,
            env={"PYTHONHASHSEED": seed, "SOURCE_DATE_EPOCH": "1", "PATH": "/usr/bin:/bin"},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(sums) == 1
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "77")
    assert make.moment() == 77
    packed = make.archive({"b": b"2", "a/b": b"1"}, 77)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        members = tar.getmembers()
    assert [member.name.partition("/")[2] for member in members] == ["a/b", "b"]
    assert {(m.mtime, m.uid, m.mode, m.name.partition("/")[0]) for m in members} == {
        (77, 0, 0o644, f"hvmctx-corpus-{make.__version__}")
    }


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_reader(tmp_path: Path) -> None:
    for name, data in parts().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    options = ["-Wall", "-Wextra", "-Werror", "-o", "reader", "reader.c"]
    subprocess.run(["cc", *options], cwd=tmp_path, check=True)
    with (tmp_path / "expected.tsv").open() as expected:
        done = subprocess.run(
            ["./reader", "4.17", "amd"], stdin=expected, cwd=tmp_path, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
    found = done.stdout.splitlines()
    assert len(found) == sum("amd" in row["expected"].get("4.17", ()) for row in rows())
    size = len(parts()["contexts/cpu-cr4.bin"])
    assert f"contexts/cpu-cr4.bin into hvm: {size} bytes: refuse 22 cpu-cr4" in found


def test_what_a_fuzzer_makes_is_made_smaller() -> None:
    """A context of `fuzz generate` keeps the answer for which it is taken, and little else."""
    made = (data for data, *_ in make.generated("context", [], ("4.17",), 8))
    files = [make.File(make.CONTEXT, data, make.HVM, "", (), ("4.17",)) for data in made]
    file = next(file for file in files if file.keys and file.size > 4096)
    small = make.smaller(file, file.keys, ("4.17",))
    assert small.keys == file.keys and small.size < file.size / 2

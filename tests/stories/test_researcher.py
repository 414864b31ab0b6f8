"""A researcher looks for states that a loader gets wrong.

Mutate one field of a genuine image, ask what a release would make of it, write it for the
genuine restore; then let the fuzzer do it, and boil a finding down to what matters.
"""

from __future__ import annotations

import json
from pathlib import Path

from hvmctx import HvmContext, Release, edit, open_image, would_restore
from hvmctx.fuzz.minimise import minimise, simpler_contexts
from hvmctx.restore.context import load
from hvmctx.restore.guest import Guest
from tests.stories.conftest import Shell


def test_one_field_in_ten_lines(folder: Path) -> None:
    verdicts: dict[int, str] = {}
    with open_image("guest.save") as image:
        for value in (0x10, 0x11, 0x80000010):
            editor = edit(image)
            editor.set("CPU/0.cr0", value)
            editor.write("mutant.save", force=True)
            with open_image("mutant.save") as mutant:
                verdict = would_restore(mutant, Release("4.17"))
                verdicts[value] = "accept" if verdict.accepted else verdict.rule
    assert verdicts == {0x10: "accept", 0x11: "accept", 0x80000010: "cpu-cr0"}


def test_hostile_files_with_what_is_to_be_expected(hvmctx: Shell, folder: Path) -> None:
    # Hostile contexts around a genuine one, and a manifest to hold a loader against.
    line = "fuzz generate --base guest.save --policy guest.save --count 30 --seed 1 -o lab"
    assert hvmctx(line).status == 0
    manifest = [json.loads(row) for row in Path("lab/manifest.jsonl").read_text().splitlines()]
    assert len(manifest) == len(list(Path("lab").glob("*.bin"))) == 30
    refused = next(row for row in manifest if row["expected"]["4.17"]["verdict"] == "refuse")
    rule = refused["expected"]["4.17"]["rule"]

    # The targets take any file, for any engine; what escapes is a finding.
    assert hvmctx(f"fuzz run context lab/{refused['name']}").status == 0

    # What of it matters? The smallest context that the same rule refuses.
    with open_image("guest.save") as image:
        into = Release("4.17"), Guest.of_image(image)
    data = Path("lab", refused["name"]).read_bytes()
    small = minimise(data, lambda d: load(d, *into).rule == rule, simpler_contexts, tries=3000)
    assert load(small, *into).rule == rule
    assert len(small) < len(data) / 2
    assert len(HvmContext.from_bytes(small).entries) < len(HvmContext.from_bytes(data).entries)

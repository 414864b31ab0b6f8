"""Pages as a browser takes them apart, and what holds for all of them."""

from __future__ import annotations

import hashlib
import io
import re
from base64 import b64encode
from html.parser import HTMLParser

from hvmctx.abi import streams
from hvmctx.context.vmport import VmportState, to_record
from hvmctx.edit.editor import edit
from hvmctx.image.image import open_image
from tests.builders.samples import EXAMPLE
from tests.builders.streams import record

ALONE = {"meta", "rect", "line", "polyline", "input"}
APART = {"td", "th", "dt", "dd", "span", "div"}
"""What ends where no blank may be."""


class Page(HTMLParser):
    """Elements, attributes, and text that a page shows. Every element that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self.text += " " if tag in APART else ""

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._open[-1:]):
            self.text += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.found]


HOSTILE = "</td><script>alert(1)</script>\" onload='x' {{ 7 * 7 }} \x1b[31m\u202e\ufeff\n&amp;"
"""What somebody writes who wants to be more than text."""


def check_closed(text: str) -> None:
    """Nothing is loaded, and nothing runs but the script that the policy allows by its hash."""
    page = Page(text)
    assert not set(page.tags) & {"link", "img", "iframe", "object", "form", "base"}
    assert page.tags.count("script") <= 1 and page.tags.count("style") == 1
    for _, attributes in page.found:
        assert not {"src", "style", "action"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("href") or "#").startswith("#")
    digests = {}
    for tag in ("style", "script"):
        _, start, rest = text.partition(f"<{tag}>")
        part = rest.partition(f"</{tag}>")[0]
        digests[tag] = b64encode(hashlib.sha256(part.encode()).digest()).decode() if start else ""
        assert "url(" not in part and "@import" not in part and "</" not in part
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    script = f"script-src 'sha256-{digests['script']}'; " if digests["script"] else ""
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digests['style']}'; {script}"
        "base-uri 'none'; form-action 'none'"
    )
    assert text.index("Content-Security-Policy") < text.index("<style>")


def check_links(text: str) -> None:
    """Every link leads somewhere, and no name is there twice."""
    page = Page(text)
    ids = [str(attributes["id"]) for _, attributes in page.found if "id" in attributes]
    links = [str(attributes["href"])[1:] for _, attributes in page.found if "href" in attributes]
    assert sorted(set(ids)) == sorted(ids) and links and set(links) <= set(ids)
    for _, attributes in page.found:
        named = attributes.get("aria-labelledby") or attributes.get("for")
        assert named is None or named in ids


def hostile_image(text: str) -> bytes:
    """One that says so wherever it can: in its name, configuration, guestinfo, xenstore keys, in
    QEMU's state and in records that nobody knows."""
    raw = text.encode()
    state = VmportState.empty()
    state.guestinfo[raw[:100]] = raw[:200]
    out = io.BytesIO()
    with open_image(EXAMPLE) as image:
        editor = edit(image)
        for name in ("config.c_info.name", "config.c_info.uuid", "config.c_info.type"):
            editor.set(name, text)
        editor.add("VMPORT/0", bytes(to_record(state).body))
        editor.write(out)
    data = out.getvalue()
    keys = b"".join(part + b"\0" for part in (raw, raw))
    body = (1).to_bytes(4, "little") + bytes(4) + keys
    at = data.rindex(streams.RECORD_HEADER.pack(0, 0))
    return (
        data[:at]
        + record(streams.LIBXL_EMULATOR_XENSTORE_DATA, body)
        + record(0x3FFF | 1 << 31, raw)
        + data[at:]
    )

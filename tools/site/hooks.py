"""What mkdocs asks while it builds the site (a hook of mkdocs.yml): pages that lie elsewhere in the
repository, the parts of the navigation that follow from the code, and pictures."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from hvmctx.cli import COMMANDS
from hvmctx.parsers import PROGRAM
from tools import reference_doc
from tools.format_pages import FORMATS
from tools.site import pictures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(sys.path[0])
ELSEWHERE = (
    "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md",
    "examples/logs/README.md", "fuzz/README.md", "fuzz/corpora/README.md",
    "hvmctx/data/hvmctx.schema.json", "share/hvmctx/hvmctx.h", "share/hvmctx/xen_save.ksy",
    "share/hvmctx/xen_save.hexpat",
)  # fmt: skip
"""Files of the repository that are on the site, under the same path."""
HOME = {"README.md": "index.md"}
"""Files that something else on the site stands for."""
LISTED: dict[str, list[tuple[str | None, str]]] = {
    "*commands": [(f"{PROGRAM} {name}", f"commands/{name}.md") for name in COMMANDS],
    "*formats": [(each.title, f"formats/{each.name}.md") for each in FORMATS],
    "*reference": [(title, f"reference/{name}.md") for name, title in reference_doc.PAGES.items()],
}


LISTED["*decisions"] = [
    (None, f"decisions/{path.name}") for path in sorted((ROOT / "docs/decisions").glob("0*.md"))
]


def on_config(config: MkDocsConfig) -> None:
    """The navigation with what stands for several pages replaced by these."""
    config.nav = _listed(config.nav or [])


def _listed(items: list[object]) -> list[object]:
    found: list[object] = []
    for item in items:
        if isinstance(item, str) and item in LISTED:
            found += [path if title is None else {title: path} for title, path in LISTED[item]]
        elif isinstance(item, dict):
            found += [
                {name: _listed(below) if isinstance(below, list) else below}
                for name, below in item.items()
            ]
        else:
            found.append(item)
    return found


def on_files(files: Files, config: MkDocsConfig) -> None:
    """With the files that lie elsewhere."""
    from mkdocs.structure.files import File

    for name in ELSEWHERE:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))


_LINK = re.compile(r"\[([^\[\]]*)\]\(((?:\.\./)*[\w./-]+)(#[\w-]+)?\)")
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PICTURE = re.compile(r"^<!-- picture: (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """With pictures, and links as they are on the site."""
    source = page.file.src_uri
    markdown = linked(source, markdown)
    markdown = _DIAGRAM.sub(
        lambda text: _figure(pictures.of_diagram(text[1], str(page.title or ""))), markdown
    )
    return _PICTURE.sub(lambda path: _drawn(path[1]), markdown)


_FOREIGN = re.compile(
    r'<(?:script|img|iframe|link rel="stylesheet")[^>]*(?:src|href)="https?:[^>]*>'
)


def on_post_page(output: str, page: Page, **_: object) -> None:
    """Nothing that a reader's browser would fetch from elsewhere."""
    if foreign := _FOREIGN.search(output):
        raise SystemExit(f"{page.file.src_uri}: {foreign[0]}")


def _drawn(path: str) -> str:
    return _figure(pictures.layout(pictures.declared_at(path), path.rpartition(":")[2]))


def _figure(svg: str) -> str:
    return f'<figure class="picture" data-search-exclude>{svg}</figure>\n'


def linked(source: str, markdown: str) -> str:
    """A page with links as they are on the site."""
    return _LINK.sub(lambda link: _link(source, *link.groups("")), markdown)


def _link(source: str, text: str, target: str, anchor: str) -> str:
    """A link from one page to another, from where both are in the repository to where they are on
    the site; what leads to code is only its text there."""
    lies = "" if source in ELSEWHERE else "docs"
    path = posixpath.normpath(posixpath.join(lies, posixpath.dirname(source), target))
    on_site = HOME.get(path, path.removeprefix("docs/"))
    if path in ELSEWHERE or path in HOME or path.startswith("docs/"):
        where = posixpath.relpath(on_site, posixpath.dirname(source) or ".")
        return f"[{text}]({where}{anchor})"
    if not (ROOT / path).exists():
        raise SystemExit(f"{source}: there is no {path}")
    return text

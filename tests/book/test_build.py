"""The built book: it shows what the extensions promise and loads nothing from another machine."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from book_support import PAGE, ROOT, build_book, write_book

# Attributes a browser fetches by itself when it shows a page; links (a href) are only followed by people.
LOADED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "object": ("data",),
    "embed": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
# <link> also names relatives of a page, which nobody fetches.
NOT_FETCHED = {"canonical", "search", "next", "prev", "index", "author", "license"}
OUTSIDE = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
CSS_OUTSIDE = re.compile(r"""(?:url\(\s*|@import\s+)['"]?(?:https?:)?//[^)'"\s]+""", re.IGNORECASE)
# Scripts name many addresses in comments and messages; these hosts would mean a library fetched at run time.
HOSTS = re.compile(
    r"https?://(?:cdn\.|cdnjs\.|unpkg\.com|fonts\.g|use\.fontawesome|polyfill\.|plausible\.io|mybinder\.org/build)"
)


class Loads(HTMLParser):
    """Collects what a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.inline: str | None = None
        self.code: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inline = tag if tag in ("script", "style") else None
        if tag == "link" and set((given.get("rel") or "").split()) & NOT_FETCHED:
            return
        for name in LOADED.get(tag, ()):
            for address in (given.get(name) or "").split(","):
                if OUTSIDE.match(address):
                    self.outside.append(f"<{tag} {name}={address}>")

    def handle_data(self, data: str) -> None:
        if self.inline:
            self.code.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inline = None


def loads_from_outside(pages: Path) -> list[str]:
    """Everything that pages, their inline code and their style sheets would fetch from another machine."""
    found = []
    for page in pages.rglob("*.html"):
        if "_static" in page.parts:
            continue
        parser = Loads()
        parser.feed(page.read_text(encoding="utf-8"))
        code = "\n".join(parser.code)
        found += [
            f"{page.name}: {hit}" for hit in parser.outside + CSS_OUTSIDE.findall(code) + HOSTS.findall(code)
        ]
    for sheet in pages.rglob("*.css"):
        found += [f"{sheet.name}: {hit}" for hit in CSS_OUTSIDE.findall(sheet.read_text(encoding="utf-8"))]
    for drawing in pages.rglob("_images/*.svg"):
        found += [
            f"{drawing.name}: {hit}"
            for hit in re.findall(r'(?:href|src)="(?:https?:)?//[^"]+', drawing.read_text())
        ]
    return found


def test_small_book_loads_nothing_from_outside(small_book: Path) -> None:
    assert loads_from_outside(small_book) == []


@pytest.mark.skipif(
    not (ROOT / "_build" / "html" / "index.html").is_file(), reason="the book is not built here"
)
def test_built_book_loads_nothing_from_outside() -> None:
    assert loads_from_outside(ROOT / "_build" / "html") == []


def test_the_scan_finds_what_it_looks_for(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<script src="https://x.org/a.js"></script><img src="//x.org/a.png"><link rel="stylesheet" href="http://x.org/a.css">'
        '<style>@import "https://x.org/b.css";</style><script>import("https://unpkg.com/thebe")</script>'
        '<a href="https://x.org">fine</a><link rel="canonical" href="https://x.org"><img src="_images/a.png">'
    )
    (tmp_path / "a.css").write_text(
        "@font-face { src: url(https://x.org/f.woff2) } p { background: url(data:image/png;base64,AA) }"
    )
    assert len(loads_from_outside(tmp_path)) == 6


def test_maths_comes_with_the_book(small_book: Path) -> None:
    page = (small_book / "index.html").read_text(encoding="utf-8")
    (script,) = re.findall(r'src="([^"]*mathjax[^"]*)"', page)
    assert (small_book / script.split("?")[0]).is_file()
    assert list((small_book / "_static" / "mathjax").rglob("*.woff")), "MathJax without its fonts"


def test_a_number_names_its_runs(small_book: Path) -> None:
    page = (small_book / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<abbr class="measured" title="measured in 2 runs: aaaa, bbbb">12\.3 %</abbr>', page)


def test_references_resolve_and_tables_have_captions(small_book: Path) -> None:
    page = (small_book / "index.html").read_text(encoding="utf-8")
    assert 'href="#equation-eq-e"' in page and 'href="#tbl-t"' in page
    assert re.search(r"<caption>.*Table 1.*A caption", page)
    assert "2 - 2 cos(p, t)" in page and "|p|" in page  # a docstring's bars are bars


def test_catalogue_and_parameters_are_those_of_the_package(small_book: Path) -> None:
    from cvsa.config import PretrainConfig, RunConfig, parameters
    from cvsa.methods.catalogue import ROWS

    page = (small_book / "index.html").read_text(encoding="utf-8")
    for name in [*ROWS, *(set(parameters(PretrainConfig)) - set(RunConfig.model_fields))]:
        assert f'<span class="pre">{name}</span>' in page, name


def test_launch_buttons_derive_from_the_repository(small_book: Path) -> None:
    page = (small_book / "index.html").read_text(encoding="utf-8")
    buttons = re.findall(r'launch-button[^>]*href="([^"]+)"', page)
    assert buttons == [
        "https://colab.research.google.com/github/cvsa-companion/cvsa-companion/blob/main/notebooks/pretrain.ipynb",
        "https://mybinder.org/v2/gh/cvsa-companion/cvsa-companion/main?urlpath=lab/tree/notebooks/pretrain.ipynb",
    ]


def test_an_unknown_number_fails_the_build(tmp_path: Path) -> None:
    result = build_book(
        write_book(tmp_path, PAGE.split("::::")[0].split("A number")[0] + "A number {measured}`nope`.\n")
    )
    assert result.returncode != 0
    assert "no number 'nope'" in result.stderr

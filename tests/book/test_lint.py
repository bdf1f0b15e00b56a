"""What counts as a typed result, and as a number that is bound to no record."""

from __future__ import annotations

import pytest
from book_support import extension

lint = extension("lint")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It reached 71.3 %.", ["71.3 %", "71.3"]),
        ("It reached 71 %.", ["71 %"]),
        ("It reached 71.35 points.", ["71.35"]),
        ("95 % intervals, from 8 % of the area", []),
        ("{measured}`a.b 12.3` and `12.3 %` and ``12.3`` and $12.3\\,\\%$", []),
        ("a [link of 12.3 %](page.md) and <https://x.org/12.34>", []),
        ("```python\nx = 12.34\n```\n~~~\n12.34\n~~~", []),
        ("```{math}\n12.34\n```\n$$\n12.34\n$$", []),
        ("```{figure} a-12.34.svg\n:alt: 12.34\n\nA caption with 12.34.\n```", ["12.34"]),
        (":::{table} Reached 12.34\n:name: t\n```{include} x.md\n```\n:::", ["12.34"]),
        ("::::{dropdown} A title\n:::{note}\nHidden 12.34\n:::\n::::", ["12.34"]),
        ("```{literalinclude} a.txt\n:lines: 12.34\n```\nafter 45.6", ["45.6"]),
        ("---\nkey: 12.34\n---\ntext", []),
        ("(sec-12.34)=\n# Version 0.1.25", []),
        ("<img width='12.34'> <!-- 12.34 -->", []),
        ("| a | 12.34 |", ["12.34"]),
    ],
)  # fmt: skip
def test_typed_results(text: str, found: list[str]) -> None:
    assert sorted(hit for _, hit in lint.typed_results(text)) == sorted(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Two of 10 classes and 3 others", ["10"]),
        ("a gap of -2.4 or −2.5 or +2.6", ["2.4", "2.5", "2.6"]),
        ("1,024 images, 48px, 16 × 16", ["1,024", "48", "16", "16"]),
        ("ResNet-50, CUB-200-2011, ImageNet-1K, C8, h12, published in 2022", []),
        ("{cite}`a2022`, {eq}`eq-12`, `image_size` `48`, $k = 20$, [Table 12](t.md)", []),
        ("with 95 % intervals; CC BY-SA 4.0", []),
        ("0.5 and ends with 0.25.", ["0.5", "0.25"]),
    ],
)
def test_unbound_numbers(text: str, found: list[str]) -> None:
    assert [hit for _, hit in lint.unbound_numbers(text)] == found


def test_lines_are_those_of_the_page() -> None:
    text = "# A\n\n```python\n12.34\n```\n\n{measured}`x\ny` then 12.34\n"
    assert lint.typed_results(text) == [(8, "12.34")]

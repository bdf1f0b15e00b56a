"""The figures to play with: self-contained, accessible, and their JavaScript does what Python does."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cvsa.config import PretrainConfig, resolve
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation.snapshots import Frames
from cvsa.report.interactive import attention_page, birds_bank, swap_page
from cvsa.views.swap import clean_boxes, destinations, saliency_swap, sample_box_crops

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed")
GEOMETRY = str(files("cvsa.report") / "templates" / "swap_geometry.js")
RATIO = (3 / 4, 4 / 3)


@pytest.fixture(scope="module")
def bank() -> ImageBank:
    return birds_bank(resolve(PretrainConfig, preset="tiny"), count=5, size=48)


@pytest.fixture(scope="module")
def frames() -> Frames:
    generator = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray:
        return generator.integers(0, 256, shape, dtype=np.uint8)

    masks = np.zeros((2, 12, 12), dtype=np.uint8)
    masks[0, 2:8, 4:10], masks[1, :6, :6] = 255, 255
    return Frames(
        epochs=np.array([0, 2, 5]), views=noise(2, 3, 12, 12), others=noise(2, 3, 12, 12), masks=masks,
        attention=noise(3, 2, 4, 4), gap=np.array([-0.1, 0.2, 0.5], dtype=np.float32), measured=7,
        row="BYOL+CVSA", run_id="0123456789ab", code="a" * 12,
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(bank: ImageBank, frames: Frames) -> dict[str, str]:
    return {"swap": swap_page(bank), "attention": attention_page(frames)}


class Reader(HTMLParser):
    """Collects the elements of a page, and checks that they are nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in {"img", "input", "br"}:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "script":
            self.scripts.append(data)


def data_of(page: str) -> Any:
    return json.loads(Reader(page).scripts[0])


def decode(address: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.mark.parametrize("name", ["swap", "attention"])
def test_a_page_is_small_loads_nothing_and_has_a_still_figure(name: str, pages: dict[str, str]) -> None:
    page = pages[name]
    assert len(page.encode()) < 600_000 and "{{" not in page
    assert not re.search(
        r"https?:|//[a-z]+\.|@import|fetch\(|XMLHttpRequest|import\(", page.replace("// ", "")
    )
    elements = Reader(page).elements
    addresses = [a["src"] for _, a in elements if "src" in a]
    assert addresses and all(str(address).startswith("data:image/") for address in addresses)
    still = re.search(r"<noscript>.*?<img src=\"([^\"]+)\" alt=\"([^\"]+)\">", page)
    assert still and min(decode(still[1]).shape[:2]) > 200
    # Without JavaScript the controls, which would do nothing, stay hidden.
    assert any(a.get("class") == "cvsa-live" and "hidden" in a for _, a in elements)


@pytest.mark.parametrize("name", ["swap", "attention"])
def test_controls_are_native_and_labelled(name: str, pages: dict[str, str]) -> None:
    elements = Reader(pages[name]).elements
    ids = [str(a["id"]) for _, a in elements if "id" in a]
    assert len(set(ids)) == len(ids) and all(i.startswith("cvsa-") for i in ids)
    labels = {a.get("for") for tag, a in elements if tag == "label"}
    controls = [(tag, a) for tag, a in elements if tag in {"input", "select"}]
    assert controls and all(a.get("id") in labels for _, a in controls if a.get("type") != "checkbox")
    assert all(a.get("aria-label") or a.get("data-panel") for tag, a in elements if tag == "canvas")
    assert sum("aria-live" in a for _, a in elements) == 1
    assert all(a.get("type") == "button" for tag, a in elements if tag == "button")
    assert not any(key.startswith("on") for _, a in elements for key in a)


def test_both_pages_share_no_id(pages: dict[str, str]) -> None:
    ids = [{a["id"] for _, a in Reader(page).elements if "id" in a} for page in pages.values()]
    assert not ids[0] & ids[1]


def test_pages_are_the_same_each_time(bank: ImageBank, frames: Frames, pages: dict[str, str]) -> None:
    assert swap_page(bank) == pages["swap"] and attention_page(frames) == pages["attention"]


def test_the_swap_page_holds_the_bank(bank: ImageBank, pages: dict[str, str]) -> None:
    data = data_of(pages["swap"])
    assert data["boxes"] == bank.boxes.tolist() and data["names"][0] == bank.classes[int(bank.labels[0])]
    saliency = decode(data["saliency"]).reshape(48, 5, 48).transpose(1, 0, 2)
    assert np.array_equal(saliency, bank.images[:, 3].numpy())
    colours = decode(data["colours"]).reshape(48, 5, 48, 3).transpose(1, 3, 0, 2).astype(int)
    assert np.abs(colours - bank.images[:, :3].numpy()).mean() < 8  # WebP


def test_the_attention_page_holds_the_frames(frames: Frames, pages: dict[str, str]) -> None:
    data = data_of(pages["attention"])
    values = np.frombuffer(base64.b64decode(data["attention"]), dtype=np.uint8).reshape(3, 2, 4, 4)
    assert np.array_equal(values, frames.attention) and data["epochs"] == [0, 2, 5]
    inside = np.frombuffer(base64.b64decode(data["inside"]), dtype=np.uint8).reshape(2, 4, 4)
    expected = frames.masks.reshape(2, 4, 3, 4, 3).mean((2, 4))
    assert np.abs(inside - expected).max() <= 0.5
    for name in ("views", "others"):
        strip = decode(data[name]).reshape(12, 2, 12, 3).transpose(1, 3, 0, 2)
        assert np.array_equal(strip, getattr(frames, name))
    assert np.array_equal(decode(data["masks"]).reshape(12, 2, 12).transpose(1, 0, 2), frames.masks)
    assert len(base64.b64decode(data["palette"])) == 3 * 256
    x, y = zip(*data["curve"], strict=True)
    assert x[1] - x[0] == pytest.approx((x[2] - x[0]) * 2 / 5, abs=0.11) and y[0] > y[1] > y[2]
    assert "mean over 7 held-out birds" in pages["attention"]


def test_names_cannot_break_out_of_the_data(bank: ImageBank) -> None:
    odd = ["</script><b>", "a & b", "“c”", *bank.classes[3:]]
    page = swap_page(ImageBank(bank.images, bank.boxes, torch.tensor([0, 1, 2, 3, 4]), odd))
    assert data_of(page)["names"][:3] == odd[:3] and "</script><b>" not in page


def test_banks_that_do_not_fit_are_refused(bank: ImageBank, frames: Frames) -> None:
    with pytest.raises(CVSAError, match="3 to 16 images"):
        swap_page(bank.subset(torch.arange(2)))
    one = Frames(**{**vars(frames), "epochs": np.array([0])})
    with pytest.raises(CVSAError, match="two epochs or more"):
        attention_page(one)


def run_node(script: str, data: Any, folder: Path) -> Any:
    (folder / "input.json").write_text(json.dumps(data))
    (folder / "run.js").write_text(
        f"const S = require({json.dumps(GEOMETRY)});\n"
        f"const input = JSON.parse(require('fs').readFileSync({json.dumps(str(folder / 'input.json'))}));\n"
        f"console.log(JSON.stringify((() => {{ {script} }})()));"
    )
    command = [str(NODE), str(folder / "run.js")]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@needs_node
@pytest.mark.parametrize("name", ["swap", "attention"])
def test_scripts_are_javascript(name: str, pages: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "page.js").write_text(Reader(pages[name]).scripts[1])
    subprocess.run([str(NODE), "--check", str(tmp_path / "page.js")], check=True, timeout=60)


@needs_node
@pytest.mark.parametrize("scale", [0.08, 0.5, 1.0])
def test_javascript_draws_the_crops_of_python(scale: float, tmp_path: Path) -> None:
    count = 200
    raw = torch.rand(count, 4, generator=torch.Generator().manual_seed(1)) * 80 - 10
    raw[:, 2:] = raw[:, :2] + torch.rand(count, 2, generator=torch.Generator().manual_seed(2)) * 60 - 5
    clean = clean_boxes(raw, 50, 60)
    crops = sample_box_crops(clean, scale, RATIO, torch.Generator().manual_seed(3))
    # The same numbers, in the order in which they are drawn there.
    generator = torch.Generator().manual_seed(3)
    area, aspect, place = (
        torch.rand(shape, generator=generator) for shape in ((count,), (count,), (count, 2))
    )
    draws = torch.stack([area, aspect, place[:, 0], place[:, 1]], 1)
    found = run_node(
        "return input.boxes.map((box, i) => { const b = S.cleanBox(box, 50, 60);"
        " return [b, S.boxCrop(b, input.scale, input.draws[i]), S.destination(b, 50, 60, input.size)]; });",
        {"boxes": raw.tolist(), "draws": draws.tolist(), "scale": scale, "size": 41},
        tmp_path,
    )
    boxes, cropped, targets = (np.array(part) for part in zip(*found, strict=True))
    np.testing.assert_allclose(boxes, clean.numpy(), atol=1e-5)
    np.testing.assert_allclose(cropped, crops.numpy(), atol=1e-3)
    np.testing.assert_array_equal(targets, destinations(clean, 50, 60, 41).numpy())


@needs_node
@pytest.mark.parametrize("mask", ["rectangle", "saliency"])
@pytest.mark.parametrize("size", [24, 17, 40])
def test_javascript_makes_the_views_of_python(size: int, mask: str, tmp_path: Path) -> None:
    count, side = 3, 24
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(2 * count, 4, side, side, generator=generator)
    boxes = torch.tensor(
        [[3, 4, 20, 18], [0, 0, 24, 24], [10, 2, 15, 21], [5, 5, 12, 9], [1, 12, 23, 24], [8, 0, 9, 1]]
    )
    boxes = boxes.float()
    views = saliency_swap(
        images[:count], boxes[:count], images[count:], boxes[count:], size=size, scale=0.3, mask=mask,
        generator=torch.Generator().manual_seed(6),
    )  # fmt: skip
    crops = sample_box_crops(boxes[:count], 0.3, RATIO, torch.Generator().manual_seed(6))
    found = run_node(
        "const floats = (channels) => channels.map((values) => Float32Array.from(values));"
        "const picture = (channels) => ({height: 24, width: 24, channels: floats(channels)});"
        "return input.crops.map((crop, i) => { const view = S.view(picture(input.images[i]), crop,"
        " picture(input.images[i + 3]), input.boxes[i + 3], input.size, input.mask);"
        " return [view.channels.map((c) => [...c]), [...view.mask], view.target]; });",
        {
            "images": images.flatten(2).tolist(), "boxes": boxes.tolist(), "crops": crops.tolist(),
            "size": size, "mask": mask,
        },
        tmp_path,
    )  # fmt: skip
    channels, masks, targets = (np.array(part) for part in zip(*found, strict=True))
    np.testing.assert_array_equal(targets, destinations(boxes[count:], side, side, size).numpy())
    np.testing.assert_allclose(masks.reshape(count, 1, size, size), views.masks.numpy(), atol=1e-4)
    np.testing.assert_allclose(channels.reshape(count, 3, size, size), views.images.numpy(), atol=1e-4)


@needs_node
def test_what_two_crops_share_lies_where_its_pixels_are(tmp_path: Path) -> None:
    found = run_node(
        "const c = S.common(...input.crops);"
        "return [c, S.inView(c, input.crops[0], input.target), S.common([0, 0, 1, 1], [1, 0, 2, 1]),"
        " S.area(c), S.area(null)];",
        {"crops": [[0, 0, 10, 20], [5, 10, 15, 30]], "target": [100, 50, 120, 60]},
        tmp_path,
    )
    assert found == [[5, 10, 10, 20], [110, 55, 120, 60], None, 50, 0]

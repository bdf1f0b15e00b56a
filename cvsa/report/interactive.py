"""Two figures to play with in the book: Saliency Swap, and attention against training epoch.

Each is a self-contained HTML fragment: style, script, data and images within, nothing loaded from elsewhere,
so that it works from a file, on a telephone and without a network. Without JavaScript a still figure shows.
"""

from __future__ import annotations

import base64
import io
import json
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn import functional as F

from cvsa.config import PretrainConfig
from cvsa.data.bank import ImageBank
from cvsa.data.birds import SynthBirds
from cvsa.errors import CVSAError
from cvsa.evaluation.snapshots import Frames
from cvsa.report.figures import HEAT, image_grid
from cvsa.report.gallery import SHARE
from cvsa.views.swap import saliency_swap

LEAST = 3  # birds a swap needs: a reference and two backgrounds
CURVE = (340, 110, 34, 8)  # width, height, left and other margins of the curve, in its own units


def birds_bank(config: PretrainConfig, count: int = 8, size: int = 96) -> ImageBank:
    """The first drawn birds of the training split, larger than those one trains with, for a figure.

    Args:
        config: of drawn birds.
        count: images.
        size: R, pixels.
    """
    birds = SynthBirds(
        num_classes=config.num_classes, num_images=config.train_images, image_size=size, split="train",
        habitat_bias=config.habitat_bias, difficulty=config.difficulty,
        object_size=config.object_size, seed=config.data_seed,
    )  # fmt: skip
    drawn = birds.draw(np.arange(min(count, len(birds))))
    return ImageBank(torch.cat([drawn.images, drawn.masks], 1), drawn.boxes, drawn.labels, birds.classes)


def swap_page(bank: ImageBank, *, scale: float = 0.5) -> str:
    """Saliency Swap, step by step: two views of a reference, made in the page as ``cvsa.views.swap`` does.

    The reader chooses the reference, both backgrounds and the least area of the crop; the views have the size
    of the bank's images.

    Args:
        bank: a few images, 3 to 16 of them, at most 160 pixels wide; all are embedded.
        scale: least area of the crop, at the start.

    Raises:
        CVSAError: too few or too many images, or too large ones.
    """
    count, size = len(bank), bank.images.shape[-1]
    if not LEAST <= count <= 16 or size > 160:
        raise CVSAError(
            f"The figure of Saliency Swap embeds {LEAST} to 16 images of up to 160 pixels; "
            f"got {count} of {size}."
        )
    images = bank.images.numpy()
    data = {
        "size": size,
        "boxes": bank.boxes.tolist(),
        "names": [bank.classes[label] for label in bank.labels.tolist()],
        "colours": _strip(images[:, :3], quality=88),
        "saliency": _strip(images[:, 3]),
    }
    still = _data_address(_still_swap(bank, scale))
    return _fill(
        "swap.html", data, fallback=still, scale=f"{scale:g}", css=_template("figure.css"),
        geometry=_template("swap_geometry.js"), script=_template("swap.js"),
    )  # fmt: skip


def attention_page(frames: Frames) -> str:
    """The alignment module's attention of a few held-out birds, epoch by epoch, on one scale.

    Args:
        frames: as ``cvsa.evaluation.snapshots`` records them; two epochs or more.

    Raises:
        CVSAError: a single epoch.
    """
    if len(frames.epochs) < 2:
        raise CVSAError("Attention against epoch needs two epochs or more; record more.")
    count, height, width = frames.attention.shape[1:]
    masks = torch.from_numpy(frames.masks).float()
    inside = F.adaptive_avg_pool2d(masks, (height, width)).round().byte().numpy()
    curve, points = _curve(frames)
    data = {
        "size": frames.views.shape[-1],
        "birds": count,
        "height": height,
        "width": width,
        "epochs": frames.epochs.tolist(),
        "attention": _base64(frames.attention.tobytes()),
        "inside": _base64(inside.tobytes()),
        "palette": _base64((255 * mpl.colormaps[HEAT](np.linspace(0, 1, 256))[:, :3]).round().astype("u1")),
        "share": SHARE,
        "gap": np.round(frames.gap.astype(float), 4).tolist(),
        "curve": points,
        "views": _strip(frames.views),
        "others": _strip(frames.others),
        "masks": _strip(frames.masks),
    }
    return _fill(
        "attention.html", data, fallback=_data_address(_still_attention(frames)), curve=curve,
        last=str(len(frames.epochs) - 1), measured=str(frames.measured), css=_template("figure.css"),
        script=_template("attention.js"),
    )  # fmt: skip


def _template(name: str) -> str:
    return (files("cvsa.report") / "templates" / name).read_text("utf-8")


def _fill(name: str, data: dict[str, Any], **parts: str) -> str:
    """A template with its parts, and its data as JSON that no parser of HTML can take for a tag."""
    page = _template(name)
    told = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    for key, value in {**parts, "data": told}.items():
        page = page.replace("{{" + key + "}}", value)
    return page


def _base64(content: bytes | np.ndarray) -> str:
    return base64.b64encode(content if isinstance(content, bytes) else content.tobytes()).decode()


def _strip(images: np.ndarray, quality: int | None = None) -> str:
    """Images (n, S, S) or (n, 3, S, S) uint8 side by side: WebP of a quality, PNG without loss if None."""
    strip = np.concatenate(list(images), axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(strip, 0, -1) if strip.ndim == 3 else strip))
    buffer = io.BytesIO()
    if quality is None:
        picture.save(buffer, "png", optimize=True)
        return f"data:image/png;base64,{_base64(buffer.getvalue())}"
    picture.save(buffer, "webp", quality=quality, method=6)
    return f"data:image/webp;base64,{_base64(buffer.getvalue())}"


def _data_address(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="webp", dpi=110, pil_kwargs={"quality": 75, "method": 6})
    return f"data:image/webp;base64,{_base64(buffer.getvalue())}"


def _still_swap(bank: ImageBank, scale: float) -> Figure:
    """References, and for both views the backgrounds, the views and their masks."""
    shown = torch.arange(min(4, len(bank)))
    generator = torch.Generator().manual_seed(0)
    images, boxes = bank.gather(shown), bank.boxes[shown]
    rows, titles, outlines = [_pictures(images[:, :3])], ["reference"], [list(boxes.numpy())]
    for number in (1, 2):
        other = (shown + number) % len(bank)
        views = saliency_swap(
            images, boxes, bank.gather(other), bank.boxes[other], size=images.shape[-1], scale=scale,
            generator=generator,
        )  # fmt: skip
        rows += [
            _pictures(bank.gather(other)[:, :3]),
            _pictures(views.images),
            list(views.masks[:, 0].numpy()),
        ]
        titles += [f"background {number}", f"view {number}", f"mask {number}"]
        outlines += [list(bank.boxes[other].numpy()), [None] * len(shown), [None] * len(shown)]
    return image_grid(rows, titles, outlines, cell=1.0)


def _still_attention(frames: Frames) -> Figure:
    """Views, masks and the attention at the first epoch, one of the middle, and the last."""
    rows = [
        _pictures(torch.from_numpy(frames.views).float() / 255),
        list(frames.masks / 255),
    ]
    epochs = sorted({0, len(frames.epochs) // 2, len(frames.epochs) - 1})
    rows += [list(frames.attention[number] / 255) for number in epochs]
    return image_grid(rows, ["view", "mask", *(f"epoch {frames.epochs[e]}" for e in epochs)], cell=1.0)


def _pictures(images: torch.Tensor) -> list[np.ndarray]:
    return list(images.permute(0, 2, 3, 1).numpy())


def _curve(frames: Frames) -> tuple[str, list[list[float]]]:
    """The gap against the epoch as an SVG with a mark to be moved, and where the epochs lie on it."""
    width, height, left, rim = CURVE
    bottom = height - 3 * rim
    low, high = min(0.0, float(frames.gap.min())), max(float(frames.gap.max()), 1e-6)
    across = (frames.epochs - frames.epochs[0]) / (frames.epochs[-1] - frames.epochs[0])
    up = (frames.gap.astype(float) - low) / (high - low)
    xs, ys = left + across * (width - left - 2 * rim), bottom - up * (bottom - rim)
    points = [[round(float(x), 1), round(float(y), 1)] for x, y in zip(xs, ys, strict=True)]
    zero = bottom + low / (high - low) * (bottom - rim)
    drawn = " ".join(f"{x},{y}" for x, y in points)
    end = width - 2 * rim
    label = f"Attention inside minus outside, by epoch: from {frames.gap[0]:.2f} to {frames.gap[-1]:.2f}"
    texts = (
        (left - 6, zero + 4, "end", "0"), (left - 6, rim + 4, "end", f"{high:.2f}"),
        (left, height - 6, "middle", frames.epochs[0]), ((left + end) / 2, height - 6, "middle", "epoch"),
        (end, height - 6, "middle", frames.epochs[-1]),
    )  # fmt: skip
    return "".join([
        f'<svg class="cvsa-curve" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">',
        f'<path d="M{left} {rim}V{bottom}M{left - 4} {zero:.1f}H{end}" stroke="currentColor" opacity="0.6"/>',
        f'<polyline points="{drawn}" fill="none" stroke="#0072b2" stroke-width="2.5"/>',
        f'<circle class="cvsa-mark" r="5" cx="{points[-1][0]}" cy="{points[-1][1]}" fill="#d55e00" ',
        'stroke="#fff" stroke-width="1.5"/>',
        *(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{t}</text>'
            for x, y, anchor, t in texts
        ),
        "</svg>",
    ]), points  # fmt: skip

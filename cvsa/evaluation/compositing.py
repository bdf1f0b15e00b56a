"""Photographs on other photographs' backgrounds: objects cut out by their masks, backgrounds emptied.

An emptied background has the box of its own object filled by the largest strip beside that box, mirrored
again and again: after "Only-BG-T" of Xiao et al. (ICLR 2021), who tile; mirroring leaves no edge where the
strip begins [O]. The box, not the mask, is filled, so that no outline of the object is left behind.

What a mask holds of its own background is pasted with the object: a generous mask leaves a rim of it. The gap
is then a lower bound of what an exact outline would show.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from cvsa.config import DRAWN
from cvsa.data.bank import ImageBank
from cvsa.data.render import Streams
from cvsa.evaluation.background import CONDITIONS, DERIVED, Backgrounds, mean_colour, to_bytes

MOST = 0.9  # an object whose box covers more of the picture leaves no background to speak of (Xiao et al.)
TRACE = 0.1  # where the resized mask is at least this, something of the object may show [O]
MARGIN = 1  # pixels around the box that are filled too: masks are rarely exact to the pixel [O]


def lacks_masks(bank: ImageBank) -> str | None:
    """Why a bank's saliency is not the outline of its objects; None where it is."""
    about = bank.description
    kind = about.get("saliency", "masks" if about.get("dataset") in DRAWN else "unknown")
    if kind not in ("masks", "auto"):
        return f"needs pixel masks; the saliency here is {kind!r}"
    error = about.get("saliency_error", "exact")
    return None if error == "exact" else f"needs true masks; those here have the error {error!r}"


def composited(bank: ImageBank, index: np.ndarray, seed: int) -> Backgrounds:
    """The pictures of all conditions for photographs, see `cvsa.evaluation.background`.

    Left out and counted: images without a mask (`no_mask`), with an object whose box covers more than 90 %
    (`too_large`), or whose class has no other usable image (`alone`).

    Args:
        bank: with pixel masks in its saliency channel.
        index: which images are asked about, (n,); backgrounds come from all usable ones of the bank.
        seed: of the choice of backgrounds.
    """
    labels = bank.labels.cpu().numpy()
    reason = lacks_masks(bank)
    if reason:
        return _original_only(bank, index, labels, reason)
    boxes = object_boxes(bank)
    share = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])) / bank.resolution**2
    masked = bank.found.cpu().numpy() & (share > 0)
    usable = masked & (share <= MOST)
    per_class = np.bincount(labels[usable], minlength=len(bank.classes))
    used = usable & (per_class[labels] > 1)
    counts = {
        "images": int(used[index].sum()),
        "no_mask": int((~masked)[index].sum()),
        "too_large": int((masked & ~usable)[index].sum()),
        "alone": int((usable & ~used)[index].sum()),
    }
    if not counts["images"] or (per_class > 0).sum() < 2:
        left_out = ", ".join(f"{name} {count}" for name, count in counts.items() if name != "images")
        return _original_only(bank, index, labels, f"no image is left to paste ({left_out})", counts)
    kept = index[used[index]]
    same, other = donors(labels, usable, seed)
    mean = mean_colour(bank, np.flatnonzero(usable))

    def image(places: np.ndarray) -> Tensor:
        return bank.gather(torch.as_tensor(kept[places], device=bank.device))

    def emptied(rows: np.ndarray) -> Tensor:
        pixels = bank.gather(torch.as_tensor(rows, device=bank.device))[:, :3]
        return empty(pixels, torch.as_tensor(boxes[rows], device=bank.device))

    def paste(places: np.ndarray, background: Tensor) -> Tensor:
        batch = image(places)
        return to_bytes(torch.lerp(background.expand_as(batch[:, :3]), batch[:, :3], batch[:, 3:]))

    return Backgrounds(
        kept,
        labels[kept],
        len(bank.classes),
        {
            "original": lambda places: to_bytes(image(places)[:, :3]),
            "same_class": lambda places: paste(places, emptied(same[kept[places]])),
            "random_class": lambda places: paste(places, emptied(other[kept[places]])),
            "blank": lambda places: paste(places, mean),
            "background": lambda places: to_bytes(emptied(kept[places])),
        },
        kin=np.arange(len(bank.classes)),
        shown=labels[other[kept]],
        same={"foreground": "blank"},
        counts=counts,
    )


def _original_only(
    bank: ImageBank, index: np.ndarray, labels: np.ndarray, reason: str, counts: dict[str, int] | None = None
) -> Backgrounds:
    def original(places: np.ndarray) -> Tensor:
        return to_bytes(bank.gather(torch.as_tensor(index[places], device=bank.device))[:, :3])

    missing = [name for name in (*CONDITIONS, *DERIVED) if name != "original"]
    return Backgrounds(
        index,
        labels[index],
        len(bank.classes),
        {"original": original},
        kin=np.arange(len(bank.classes)),
        shown=np.full(len(index), -1),
        counts={**(counts or {}), "images": len(index)},
        unavailable=dict.fromkeys(missing, reason),
    )


def object_boxes(bank: ImageBank, batch: int = 250) -> np.ndarray:
    """Boxes around all that the masks mark, and a margin: (N, 4) int64 xyxy, exclusive; zeros without a mark.

    Unlike `ImageBank.boxes` these hold every component of a mask and its faint rim: all that must vanish.
    """
    boxes = []
    for part in torch.arange(len(bank), device=bank.device).split(batch):
        marked = bank.gather(part)[:, 3] >= TRACE  # (B, R, R)
        size, any_ = marked.shape[-1], marked.flatten(1).any(dim=1)
        edges = []
        for axis in (1, 2):
            hit = marked.any(dim=axis).int()  # columns, then rows
            low, high = hit.argmax(dim=1) - MARGIN, size - hit.flip(1).argmax(dim=1) + MARGIN
            edges += [low.clamp(min=0), high.clamp(max=size)]
        boxes.append(torch.stack([edges[0], edges[2], edges[1], edges[3]], dim=1) * any_[:, None])
    return torch.cat(boxes).cpu().numpy()


def empty(images: Tensor, boxes: Tensor) -> Tensor:
    """Fill boxes by the largest strip beside each, mirrored as often as it takes; all else stays.

    Args:
        images: (B, C, R, R).
        boxes: (B, 4) whole numbers xyxy, exclusive; none covers the whole picture.
    """
    b, c, size, _ = images.shape
    x1, y1, x2, y2 = boxes.long().unbind(dim=1)
    strip = torch.stack([x1, size - x2, y1, size - y2], dim=1).argmax(dim=1)  # left, right, above, below
    at = torch.arange(size, device=images.device).expand(b, size)
    column, row = (
        torch.where((strip // 2 == axis)[:, None], _mirrored(at, low, high, (strip % 2 == 0)), at)
        for axis, (low, high) in enumerate(((x1, x2), (y1, y2)))
    )  # where each column and row of a box comes from, (B, R)
    across = (at >= x1[:, None]) & (at < x2[:, None])
    down = (at >= y1[:, None]) & (at < y2[:, None])
    inside = down[:, :, None] & across[:, None]  # (B, R, R)
    source = torch.where(
        inside, row[:, :, None] * size + column[:, None], at[:, :, None] * size + at[:, None]
    )
    return images.flatten(2).gather(2, source.flatten(1)[:, None].expand(b, c, -1)).view_as(images)


def _mirrored(at: Tensor, low: Tensor, high: Tensor, before: Tensor) -> Tensor:
    """Positions (B, R) folded into the strip before ``low`` (or after ``high``), (B,) each."""
    size = at.shape[1]
    low, high, before = low[:, None], high[:, None], before[:, None]
    width = torch.where(before, low, size - high).clamp(min=1)
    depth = torch.where(before, at - low, high - 1 - at).remainder(2 * width)
    depth = torch.minimum(depth, 2 * width - 1 - depth)
    return torch.where(before, low - 1 - depth, high + depth).clamp(0, size - 1)


def donors(labels: np.ndarray, usable: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """For every image another usable one of its class, and a usable one of another class, uniformly.

    Args:
        labels: (N,). usable: (N,) bool.
        seed: of the choice; that of an image does not depend on which others are asked about.

    Returns:
        Two arrays (N,) of image numbers; -1 for images that are not usable or have no such partner.
    """
    streams, same, other = Streams(seed, "donors"), np.full_like(labels, -1), np.full_like(labels, -1)
    first, second = streams.uniform("same", len(labels)), streams.uniform("other", len(labels))
    for label in np.unique(labels[usable]):
        own = np.flatnonzero(usable & (labels == label))
        rest = np.flatnonzero(usable & (labels != label))
        if len(own) > 1:  # a step of 1 to n - 1 around the circle never ends where it began
            step = 1 + (first[own] * (len(own) - 1)).astype(np.int64)
            same[own] = own[(np.arange(len(own)) + step) % len(own)]
        if len(rest):
            other[own] = rest[(second[own] * len(rest)).astype(np.int64)]
    return same, other

"""Where the objects of a bank's images are: what maps are judged against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cvsa.config import DRAWN
from cvsa.errors import CVSAError

if TYPE_CHECKING:
    from torch import Tensor

    from cvsa.data.bank import ImageBank
    from cvsa.evaluation.parts import PartLocations

SECOND = 0.1  # a true mask's component of this share of the largest's area is an object of its own [O]


@dataclass(frozen=True, eq=False)
class Truth:
    """Where the objects of N images are.

    Attributes:
        masks: (N, R, R) bool; None: not known.
        boxes: N arrays (n_i, 4), x1 y1 x2 y2 in pixels, x2 and y2 exclusive; None: not known.
        parts: (N, P, 2) xy in pixels, NaN where a part is not visible; None: not known.
        part_names: P names.
        size: R, pixels.
        reason: why masks or boxes are not known.
    """

    masks: np.ndarray | None
    boxes: list[np.ndarray] | None
    parts: np.ndarray | None
    part_names: Sequence[str]
    size: int
    reason: str = ""

    def __post_init__(self) -> None:
        if len(set(self._lengths)) > 1:
            raise CVSAError(f"Masks, boxes and parts should be equally many, got {self._lengths}.")
        masks, shape = self.masks, (self.size, self.size)
        if masks is not None and (masks.dtype != np.bool_ or masks.shape[1:] != shape):
            raise CVSAError(f"Masks should be bool, (N, *{shape}), got {masks.dtype}, {masks.shape}.")
        for number, boxes in enumerate(self.boxes or []):
            low, high = np.asarray(boxes).reshape(-1, 2, 2).transpose(1, 0, 2)
            if not (len(boxes) == 0 or (low.min() >= 0 and high.max() <= self.size and (low < high).all())):
                raise CVSAError(f"A box of image {number} is empty or reaches out of it: {boxes}.")
        if self.parts is not None and self.parts.shape[1:] != (len(self.part_names), 2):
            raise CVSAError(f"Parts are {self.parts.shape[1:]} for {len(self.part_names)} names.")

    @property
    def _lengths(self) -> list[int]:
        return [len(value) for value in (self.masks, self.boxes, self.parts) if value is not None]

    def __len__(self) -> int:
        return next(iter(self._lengths), 0)

    @property
    def known(self) -> bool:
        """Whether there are masks or boxes."""
        return self.masks is not None or self.boxes is not None

    @property
    def present(self) -> np.ndarray:
        """(N,) bool, False where there is no object, by masks and boxes, or neither is known."""
        present = np.full(len(self), self.known)
        if self.masks is not None:
            present &= self.masks.any(axis=(1, 2))
        if self.boxes is not None:
            present &= np.array([len(boxes) > 0 for boxes in self.boxes], dtype=bool)
        return present

    def region(self, rows: np.ndarray) -> np.ndarray:
        """(len(rows), R, R) bool: the masks; without masks the pixels that the boxes touch."""
        if self.masks is not None:
            return self.masks[rows]
        region = np.zeros((len(rows), self.size, self.size), dtype=bool)
        for canvas, row in zip(region, rows, strict=True):
            for x1, y1, x2, y2 in self.boxes[row] if self.boxes is not None else ():
                canvas[max(int(y1), 0) : int(np.ceil(y2)), max(int(x1), 0) : int(np.ceil(x2))] = True
        return region


def truth_of(
    bank: ImageBank, index: Tensor | np.ndarray | None = None, parts: PartLocations | None = None
) -> Truth:
    """What a bank's annotation offers, and no more.

    Drawn pictures have exact masks; their box is the extent of the mask, for they show one object. Of
    photographs with masks each component of at least a tenth of the largest one's area is an object [O];
    where there are only boxes, those that overlap or touch are one. What a detector or a network found is no
    truth, nor is the hull of parts, nor maps that were degraded on purpose. Masks that users bring along
    (``masks_root``) are taken at their word: they count as true.

    Args:
        bank: of SynthBirds, SynthScenes or photographs.
        index: (M,) numbers of the images wanted; None: all.
        parts: of photographs, see :func:`cvsa.evaluation.parts.part_locations`; drawn birds bring their own.
    """
    import torch

    rows = torch.arange(len(bank)) if index is None else torch.as_tensor(index, dtype=torch.int64).cpu()
    numbers, about = rows.numpy(), bank.description
    drawn = about.get("dataset") in DRAWN and "object_size" in about
    kind = about.get("saliency", "auto" if drawn else "none")
    points, names = (parts.points, list(parts.names)) if parts else (None, [])
    if drawn and points is None and "parts" in bank.extras:
        from cvsa.data.plumage import PARTS

        points, names = bank.extras["parts"], list(PARTS)
    reason = ""
    if about.get("saliency_error", "exact") != "exact":
        reason = f"the maps of these images were degraded ({about['saliency_error']})"
    elif kind not in (("auto",) if drawn else ("masks", "boxes")):
        reason = f"the maps of these images ({kind}) are no annotation"
    elif kind == "boxes":
        reason = "these images are annotated by boxes"
    masks = boxes = None
    if not reason or kind == "boxes":
        maps = [bank.gather(some.to(bank.device))[:, 3].cpu().numpy() >= 0.5 for some in rows.split(256)]
        shape = (0, bank.resolution, bank.resolution)
        masks = np.concatenate([np.zeros(shape, dtype=bool), *maps])
        masks[~bank.found.cpu().numpy()[numbers]] = False
        least = {"auto": None, "masks": SECOND, "boxes": 0.0}[kind]
        boxes = [_boxes(mask, least) for mask in masks]
    return Truth(
        masks=None if kind == "boxes" else masks,
        boxes=boxes,
        parts=None if points is None else np.asarray(points, dtype=np.float64)[numbers],
        part_names=names,
        size=bank.resolution,
        reason=reason,
    )


def _boxes(mask: np.ndarray, least: float | None) -> np.ndarray:
    """Boxes of a mask's components from a share of the largest's area on; None: one box for all."""
    from scipy import ndimage

    labels, count = (mask, 1) if least is None else ndimage.label(mask, structure=np.ones((3, 3)))
    if not mask.any():
        return np.zeros((0, 4))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    found = ndimage.find_objects(labels.astype(np.int32))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in found]
    return np.array(boxes, dtype=np.float64)[areas >= (least or 0) * areas.max()]

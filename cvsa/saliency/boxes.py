"""Saliency map -> binary map -> box of the largest connected component (METHOD: any map in [0, 1] plugs in).

Source: the paper crops the bounding box of the salient object [A]; how the map becomes a box is not shown.
Threshold 0.5, largest component and "nothing salient means the whole image" are our choices [O]. So is
8-connectivity: legs and beaks are thin and often lie diagonally; 4-connectivity would cut them off the body.
"""

from __future__ import annotations

import numpy as np
import torch

from cvsa.errors import CVSAError

THRESHOLD = 0.5


def map_to_box(map: torch.Tensor | np.ndarray, threshold: float = THRESHOLD) -> torch.Tensor:
    """Box of the salient object of one image.

    Args:
        map: saliency (H, W); float in [0, 1], bool, or uint8 meaning value / 255.
        threshold: a pixel is salient from this value on, in (0, 1].

    Returns:
        Box (4,) float32, x1 y1 x2 y2 in pixels, x2 and y2 exclusive; the whole image when nothing is salient.

    Raises:
        CVSAError: wrong shape, value out of range or not finite.
    """
    boxes, _ = maps_to_boxes(torch.as_tensor(map)[None], threshold)
    return boxes[0]


def maps_to_boxes(
    maps: torch.Tensor | np.ndarray, threshold: float = THRESHOLD
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes of the salient objects of N images.

    Of several components with equally many pixels the first in reading order counts.

    Args:
        maps: saliency (N, H, W); float in [0, 1], bool, or uint8 meaning value / 255.
        threshold: a pixel is salient from this value on, in (0, 1].

    Returns:
        boxes (N, 4) float32, x1 y1 x2 y2 in pixels, x2 and y2 exclusive; found (N,) bool, False where nothing
        was salient and the box is therefore the whole image.

    Raises:
        CVSAError: wrong shape, value out of range or not finite.
    """
    binary = _binarise(maps, threshold)
    height, width = binary.shape[1:]
    boxes = np.tile(np.array([0, 0, width, height], dtype=np.float32), (len(binary), 1))
    found = binary.any(axis=(1, 2))
    for i in np.flatnonzero(found):
        boxes[i] = _largest_component(binary[i])
    return torch.from_numpy(boxes), torch.from_numpy(found)


def _binarise(maps: torch.Tensor | np.ndarray, threshold: float) -> np.ndarray:
    values = maps.detach().cpu().numpy() if isinstance(maps, torch.Tensor) else np.asarray(maps)
    if values.ndim != 3:
        raise CVSAError(
            f"Saliency maps must have the shape (N, H, W), got {tuple(values.shape)}; drop the channel axis."
        )
    if not 0 < threshold <= 1:
        raise CVSAError(f"The saliency threshold must lie in (0, 1], got {threshold}.")
    if values.dtype == np.bool_:
        return values
    if values.dtype == np.uint8:
        return values >= threshold * 255
    # The negated comparison also refuses NaN.
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise CVSAError(
            f"Saliency must lie in [0, 1], got {values.min():.3g} to {values.max():.3g}; normalise it first."
        )
    return values >= threshold


def _largest_component(binary: np.ndarray) -> tuple[int, int, int, int]:
    from scipy import ndimage

    components, count = ndimage.label(binary, structure=np.ones((3, 3), dtype=bool))
    largest = 1 if count == 1 else 1 + int(np.bincount(components.ravel())[1:].argmax())
    rows, columns = ndimage.find_objects(components)[largest - 1]
    return columns.start, rows.start, columns.stop, rows.stop


def binary(map: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """A map (float in [0, 1], bool, or uint8 meaning value / 255) cut at a threshold: bool of its shape."""
    array = np.asarray(map)
    if array.dtype == np.bool_:
        return array
    cut: np.ndarray = array >= threshold * (255 if array.dtype == np.uint8 else 1)
    return cut

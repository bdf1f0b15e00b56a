"""Pixels of every kind that photographs and masks come in, as 8 bits."""

from __future__ import annotations

import numpy as np
from PIL import Image


def to_rgb(image: Image.Image) -> Image.Image:
    """A picture of any mode as RGB: transparent pixels white, of 16 bits a pixel the upper eight.

    Raises:
        ValueError: floating-point pixels.
    """
    if image.mode.startswith("I"):
        return to_grey(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point images have no agreed range; convert it to 8 or 16 bits")
    if image.has_transparency_data:  # what lies under transparent pixels is not meant to be seen
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_grey(image: Image.Image) -> Image.Image:
    """An image as "L"; of 16 bits a pixel the upper eight."""
    if image.mode.startswith("I"):  # Pillow's own conversion would clip at 255
        return Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    return image.convert("L")

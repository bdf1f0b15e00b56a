"""Saliency from the attention of a self-supervised vision transformer.

The class token of a ViT trained by self-distillation attends to the object (Caron et al., "Emerging
Properties in Self-Supervised Vision Transformers", ICCV 2021). Its attention in the last block, averaged over
the heads, is the map. As there, the patches that together hold 60 % of the attention are the object; the map
is scaled per image so that the least of them lies at 0.5 [O].
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cvsa.errors import CVSAError, one_line
from cvsa.saliency.detectors import check_image, stretch

MASS = 0.6  # share of the class token's attention to patches that the object receives
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Attention:
    """Attention of the class token, through timm.

    Args:
        model: a vision transformer of timm; weights are those that timm publishes under this name.
        size: side of the square that the image is resized to, pixels; a multiple of the patch size. The map
            has one value per patch, the time grows at least with the square of the side.
        weights: False leaves the network as it is drawn (seed 0): for tests, it finds nothing.

    Raises:
        CVSAError: unknown model or one without class token, a size it cannot take, weights not to be had.
    """

    name = "vit"
    version = "1"

    def __init__(
        self, model: str = "vit_small_patch16_224.dino", size: int = 224, weights: bool = True
    ) -> None:
        self.parameters: dict[str, Any] = {"model": model, "size": size, "weights": weights}
        self.side = max(256, size)
        self.network = _build(model, size, weights)
        self.patch = int(self.network.patch_embed.patch_size[0])
        if size < self.patch or size % self.patch:
            raise CVSAError(
                f"Detector 'vit' takes a size that is a multiple of {self.patch} for {model}, got {size}."
            )
        settings = self.network.pretrained_cfg
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(settings.get("mean", MEAN)).view(shape)
        self._std = torch.tensor(settings.get("std", STD)).view(shape)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        check_image(image)
        size = self.parameters["size"]
        square = Image.fromarray(np.ascontiguousarray(image)).resize((size, size), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)[None].float() / 255
        attention = self.attend((pixels - self._mean) / self._std)[0]
        return stretch(scaled(attention.numpy()), image.shape[:2])

    @torch.no_grad()
    def attend(self, images: Tensor) -> Tensor:
        """Attention of the class token to each patch, mean over the heads.

        Args:
            images: (B, 3, S, S), normalised as the network expects.

        Returns:
            (B, S / patch, S / patch), not negative; the sum over patches is at most 1.
        """
        tokens, block = self._to_last_block(images), self.network.blocks[-1]
        layer, x = block.attn, block.norm1(tokens)  # (B, T, D)
        batch, count, _ = x.shape
        # (B, T, 3 D) -> 3 x (B, heads, T, D / heads)
        query, key, _ = layer.qkv(x).view(batch, count, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key = layer.q_norm(query[:, :, :1]), layer.k_norm(key)
        weights = (query @ key.transpose(-2, -1) * layer.scale).softmax(-1)  # (B, heads, 1, T)
        patches = weights[:, :, 0, self.network.num_prefix_tokens :].mean(1)
        side = images.shape[-1] // self.patch
        return patches.view(batch, side, side)

    def _to_last_block(self, images: Tensor) -> Tensor:
        # No hooks: they would keep state in the network, which several threads share.
        network = self.network
        tokens: Tensor = network.norm_pre(network.patch_drop(network._pos_embed(network.patch_embed(images))))
        for block in network.blocks[:-1]:
            tokens = block(tokens)
        return tokens


def scaled(attention: np.ndarray, mass: float = MASS) -> np.ndarray:
    """Attention (h, w) -> map (h, w) in [0, 1] in which the patches that hold `mass` of it reach 0.5."""
    values = np.sort(attention, axis=None)[::-1].astype(np.float64)
    held = np.cumsum(values)
    least = values[min(np.searchsorted(held, mass * held[-1]), len(values) - 1)]
    return (0.5 * attention / least).clip(0, 1) if least > 0 else np.zeros_like(attention)


def _build(model: str, size: int, weights: bool) -> Any:
    import timm  # seconds to import
    from timm.models.vision_transformer import VisionTransformer

    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = timm.create_model(
                model, pretrained=weights, num_classes=0, img_size=size, dynamic_img_size=False
            )
    except Exception as error:  # timm, its hub client and the network below raise almost anything
        if weights and timm.is_model(model):
            raise CVSAError(
                f"The weights of {model!r} cannot be had ({type(error).__name__}): connect to the internet "
                "once, so that timm can fetch them, or use the detector 'classical', which needs none."
            ) from error
        raise CVSAError(one_line(f"Detector 'vit' cannot use the model {model!r}: {error}")) from error
    if not isinstance(network, VisionTransformer) or network.cls_token is None:
        raise CVSAError(f"Detector 'vit' needs a vision transformer with a class token, {model!r} is none.")
    if not hasattr(network.blocks[-1].attn, "qkv"):
        raise CVSAError(f"Detector 'vit' cannot read the attention of {model!r}; use a plain ViT, as DINO's.")
    return network.eval().requires_grad_(False)

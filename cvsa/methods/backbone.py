"""Backbones: images in [0, 1] in, the last feature map out."""

from __future__ import annotations

import difflib
import math
from typing import Any

import torch
from torch import Tensor, nn

from cvsa.errors import CVSAError, one_line

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Slim ResNets for a CPU [O]: kernel, stride and width of the stem, then width and stride of each basic block.
SLIM: dict[str, tuple[tuple[int, int, int], tuple[tuple[int, int], ...]]] = {
    "resnet_slim": ((5, 4, 32), ((64, 2), (64, 1))),
}
# Slim vision transformers [O], made by timm's class: no published model takes so small images at such a cost.
# Width of the features and number of weights are near the slim ResNet's; the class token is there to be asked
# for its attention, the map is made of the others.
SLIM_VIT: dict[str, dict[str, Any]] = {
    "vit_slim": {"patch_size": 8, "embed_dim": 64, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0},
}


class Backbone(nn.Module):
    """A network reduced to its last feature map, with the normalisation it expects inside.

    Args:
        trunk: (B, 3, S, S) normalised -> map (B, D, H, W) or (B, H, W, D), or tokens (B, P + HW, D).
        num_features: D.
        prefix_tokens: P, tokens which are no patches (class token, registers).
        mean, std: per channel, of images in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        trunk: nn.Module,
        num_features: int,
        *,
        prefix_tokens: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_features = num_features
        self.prefix_tokens = prefix_tokens
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1] -> last feature map (B, D, H, W)."""
        # timm's forward() would pool; its forward_features stops at the map.
        features = getattr(self.trunk, "forward_features", self.trunk)((images - self.mean) / self.std)
        if features.ndim == 3:  # tokens (B, P + HW, D)
            patches = features[:, self.prefix_tokens :]
            side = math.isqrt(patches.shape[1])
            return patches.transpose(1, 2).unflatten(2, (side, side))  # (B, D, H, W)
        if features.shape[1] != self.num_features:  # (B, H, W, D), Swin's order
            return features.permute(0, 3, 1, 2)
        return features

    def pool(self, features: Tensor) -> Tensor:
        """Global average of a map: (B, D, H, W) -> (B, D)."""
        return features.mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016): (B, C, H, W) -> (B, width, H/s, W/s)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            conv = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def slim_resnet(name: str) -> tuple[nn.Sequential, int]:
    """A slim ResNet of the table above and its number of features; one block per stage, no max pooling [O].

    On one CPU thread most of the time goes to early layers with many positions. The stem therefore reduces by
    four at once, and the last block keeps its positions for the alignment: 8 x 8 of them at 64 px.
    """
    (kernel, stride, width), blocks = SLIM[name]
    stem = nn.Conv2d(3, width, kernel, stride, kernel // 2, bias=False)
    layers: list[nn.Module] = [stem, nn.BatchNorm2d(width), nn.ReLU()]
    for outputs, stride in blocks:
        layers.append(BasicBlock(width, outputs, stride))
        width = outputs
    trunk = nn.Sequential(*layers)
    for module in trunk.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return trunk, width


def build_backbone(name: str, *, image_size: int, pretrained: bool = False) -> Backbone:
    """A slim network of this file, or any timm model by name.

    Args:
        name: "resnet_slim", "vit_slim", or a name of ``timm.list_models()``: CNNs and vision transformers
            alike; a transformer's patch tokens are its map.
        image_size: side S of the images in pixels; transformers fix their patch grid by it.
        pretrained: load timm's published weights (a download, once).

    Raises:
        CVSAError: unknown name (the nearest are named), no weights to be had, a size the model cannot take.
    """
    if pretrained and name in (*SLIM, *SLIM_VIT):
        raise CVSAError(f"Backbone {name!r} has no published weights: pretrained must be False.")
    if name in SLIM:
        return Backbone(*slim_resnet(name))
    if name in SLIM_VIT:
        return _slim_transformer(name, image_size)
    return _timm_backbone(name, image_size, pretrained)


def _slim_transformer(name: str, image_size: int) -> Backbone:
    from timm.models.vision_transformer import VisionTransformer

    patch = SLIM_VIT[name]["patch_size"]
    if image_size % patch:
        raise CVSAError(
            f"Backbone {name!r} cuts images into patches of {patch} px, so image_size must be a multiple of "
            f"{patch}; got {image_size}."
        )
    sizes: dict[str, Any] = {"img_size": image_size, "dynamic_img_size": True}
    trunk = VisionTransformer(**SLIM_VIT[name], **sizes, num_classes=0, global_pool="")
    return Backbone(trunk, trunk.num_features, prefix_tokens=trunk.num_prefix_tokens)


def _timm_backbone(name: str, image_size: int, pretrained: bool) -> Backbone:
    import timm  # seconds to import, and the slim networks do without

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*SLIM, *SLIM_VIT, *timm.list_models()], n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        allowed = f"{', '.join([*SLIM, *SLIM_VIT])} and the names of timm.list_models()"
        raise CVSAError(f"Unknown backbone {name!r}.{hint} Allowed: {allowed}.")
    # Only transformers know a size, and only some take another later: ask for the most, settle for less.
    sized = {"img_size": image_size}
    attempts: list[dict[str, Any]] = [{**sized, "dynamic_img_size": True}, sized, {}]
    trunk: Any = None
    for sizes in attempts:
        try:
            trunk = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **sizes)
            break
        except TypeError:
            if not sizes:
                raise
        except (OSError, RuntimeError, AssertionError, ValueError) as error:
            what = f"Backbone {name!r} (image_size {image_size}, pretrained {pretrained})"
            raise CVSAError(f"{what}: {one_line(str(error))}") from error
    cfg = trunk.pretrained_cfg
    backbone = Backbone(
        trunk,
        trunk.num_features,
        prefix_tokens=getattr(trunk, "num_prefix_tokens", 0),
        mean=cfg.get("mean", IMAGENET_MEAN),
        std=cfg.get("std", IMAGENET_STD),
    )
    _try(backbone, name, image_size)
    return backbone


def _try(backbone: Backbone, name: str, image_size: int) -> None:
    """Pass one image, so that a size the model cannot take is told now and not in the first step."""
    backbone.eval()
    try:
        with torch.no_grad():
            shape = backbone(torch.zeros(1, 3, image_size, image_size)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        why = one_line(str(error))
        raise CVSAError(f"Backbone {name!r} cannot take images of {image_size} px: {why}") from error
    if len(shape) != 4 or shape[1] != backbone.num_features:
        want = f"a map (B, {backbone.num_features}, H, W)"
        raise CVSAError(f"Backbone {name!r} gives {tuple(shape)}, not {want}; take another.")
    backbone.train()

"""Maps of where a network looks, on the grid of its last feature map.

Grad-CAM of a classifier's logit or of the contrastive similarity, the norm of the features, the attention of
a transformer's class token and that of the alignment module. The maps are neither scaled nor enlarged: that
is the business of whoever measures or draws them. Every network runs in eval mode and is left in the mode it
was in; no parameter receives a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation.features import whole_view
from cvsa.methods import grad_cam as differentiable
from cvsa.methods.backbone import Backbone
from cvsa.methods.base import Method
from cvsa.saliency.attention import Attention
from cvsa.training.runtime import Runtime
from cvsa.views import Views, random_resized_crop
from cvsa.views.types import Range

Score = Callable[[Tensor], Tensor]  # last feature map (B, D, h, w) -> (B,), one number an image
Make = Callable[[Tensor, Tensor], Tensor]  # images (B, 3, S, S), their numbers (B,) -> maps (B, h, w)

BATCH = 200  # images that pass a network together


def grad_cam(backbone: Backbone, images: Tensor, score: Score) -> Tensor:
    r"""Where a score comes from (Selvaraju et al., "Grad-CAM", ICCV 2017), at the last feature map A.

        G_i = ReLU( sum_d alpha_d A_d,i ),    alpha_d = mean_i d score / d A_d,i

    One forward pass of the backbone; the gradient goes no further than the map. In float32, also under
    autocast.

    Args:
        backbone: in any mode.
        images: (B, 3, S, S) in [0, 1].
        score: of the map; that of an image may depend on no other image of the batch.

    Returns:
        (B, h, w) float32, at least 0.
    """
    with _evaluating(backbone):
        with torch.no_grad():
            features = backbone(images).float()  # (B, D, h, w)
        with torch.enable_grad(), torch.autocast(features.device.type, enabled=False):
            features.requires_grad_()
            return differentiable.grad_cam(features, score(features)).detach()[:, 0]


def linear_score(backbone: Backbone, weight: Tensor, targets: Tensor) -> Score:
    """Logit of one class an image, of a linear classifier on pooled features: <w_target, pool(A)>.

    The bias has no part in the gradient. With global average pooling Grad-CAM is then the class-activation
    map of Zhou et al. (CVPR 2016), but for the ReLU and the factor 1 / (h w).

    Args:
        backbone: whose pooling is used.
        weight: (K, D), acting on features as the backbone gives them. A probe of standardised features has
            its weight divided by their standard deviation first.
        targets: (B,) int64 in [0, K): the class asked for in each image.
    """
    chosen = weight.detach()[targets.to(weight.device)]  # (B, D)
    return lambda features: (backbone.pool(features) * chosen.to(features)).sum(dim=1)


def similarity_score(backbone: Backbone, partners: Tensor, centre: Tensor) -> Score:
    """Contrastive similarity of each image to a partner that does not move: cos(pool(A) - c, partner - c).

    The score whose Grad-CAM CAST trains (Selvaraju et al., CVPR 2021), there of projections, here of the
    features that are kept after pre-training. They are centred because features behind a ReLU all have a
    cosine near 1 [O]. A cosine is greatest, and its gradient zero, where the image is its own partner: take
    other views of it, see `partner_features`.

    Of the plain cosine (c = 0) Grad-CAM has a mean of 0 over the positions before its ReLU, so some position
    is always above 0. Centring shifts that mean, and some maps become 0 everywhere.

    Args:
        backbone: whose pooling is used.
        partners: (B, D), pooled features, not centred.
        centre: c, (D,), mean of the pooled features of a set of images; zeros for the plain cosine.
    """

    def score(features: Tensor) -> Tensor:
        middle = centre.to(features)
        here = backbone.pool(features) - middle  # (B, D)
        return F.cosine_similarity(here, partners.to(features) - middle, dim=1)

    return score


@torch.no_grad()
def partner_features(
    backbone: Backbone,
    bank: ImageBank,
    image_size: int,
    runtime: Runtime,
    *,
    views: int = 8,
    scale: float | Range = (0.08, 1.0),
    seed: int = 0,
) -> Tensor:
    """Mean of the pooled features of random resized crops of each image, half of them mirrored.

    Args:
        backbone: in any mode.
        bank: N images.
        image_size: side of the crops, pixels.
        runtime: where and in what precision.
        views: crops an image, at least 1.
        scale: area of a crop as a share of the image.
        seed: of the crops.

    Returns:
        (N, D) float32 on the CPU, in the bank's order.
    """
    generator, chunks = torch.Generator().manual_seed(seed), []
    with _evaluating(backbone), runtime.autocast():
        for index in torch.arange(len(bank)).split(BATCH):
            images = bank.gather(index)[:, :3].to(runtime.device)
            total = torch.zeros(len(index), backbone.num_features, device=runtime.device)  # (B, D)
            for _ in range(views):
                crops = random_resized_crop(
                    images, size=image_size, scale=scale, generator=generator, flip=0.5
                ).images
                total += backbone.pool(backbone(crops)).float()
            chunks.append((total / views).cpu())
    return torch.cat(chunks)


@torch.no_grad()
def norm_map(backbone: Backbone, images: Tensor) -> Tensor:
    """Euclidean norm of the features at each position: images (B, 3, S, S) in [0, 1] -> (B, h, w) float32."""
    with _evaluating(backbone):
        return backbone(images).float().norm(dim=1)


@torch.no_grad()
def token_attention(backbone: Backbone, images: Tensor) -> Tensor:
    """Attention of a vision transformer's class token to each patch, last block, mean over the heads.

    As `cvsa.saliency.attention`, of the backbone in hand (Caron et al., ICCV 2021).

    Args:
        backbone: a plain vision transformer of timm.
        images: (B, 3, S, S) in [0, 1].

    Returns:
        (B, h, w) float32, not negative; the sum over patches is at most 1.

    Raises:
        CVSAError: the backbone has no class token, or keeps its attention elsewhere than a plain one does.
    """
    if not has_token_attention(backbone):
        raise CVSAError(
            f"Backbone {type(backbone.trunk).__name__} has no class token whose attention can be read; for "
            "this map take a plain vision transformer, such as 'vit_small_patch16_224'."
        )
    with _evaluating(backbone):
        return _Attention(backbone.trunk).attend((images - backbone.mean) / backbone.std).float()


def has_token_attention(backbone: Backbone) -> bool:
    """Whether `token_attention` can read this backbone: a plain vision transformer with a class token."""
    trunk: Any = backbone.trunk
    if getattr(trunk, "cls_token", None) is None:
        return False
    from timm.models.vision_transformer import Block, VisionTransformer  # timm's own, hence imported already

    plain = isinstance(trunk, VisionTransformer) and isinstance(trunk.blocks[-1], Block)
    return plain and hasattr(trunk.blocks[-1].attn, "qkv")


class _Attention(Attention):
    """The saliency detector's reading of the class token's attention, in a network that is there already."""

    def __init__(self, network: Any) -> None:
        self.network = network
        self.patch = int(network.patch_embed.patch_size[0])


@torch.no_grad()
def alignment_attention(method: Method, images: Tensor, partners: Tensor) -> Tensor:
    """The alignment module's attention of images found in their partners, which stand for the other view.

    Args:
        method: with an alignment module.
        images: (B, 3, S, S) in [0, 1].
        partners: (B, 3, S', S') in [0, 1]: the images themselves, or others with the same kind of object.

    Returns:
        (B, h, w) float32 in (0, 1).

    Raises:
        CVSAError: the method has no alignment module.
    """
    query, key = (Views(x, torch.ones_like(x[:, :1])) for x in (images, partners))  # no mask is asked for
    with _evaluating(method):
        return method.attention((query, key)).float()[:, 0]


def bank_maps(bank: ImageBank, index: Tensor, image_size: int, runtime: Runtime, make: Make) -> Tensor:
    """Maps of many images, in batches: the whole image resized, on the run's device, in its precision.

    Args:
        bank: of the images.
        index: (N,) int64, at least one, numbers of images in the bank.
        image_size: S, side the network sees, pixels.
        runtime: where and in what precision.
        make: images (B, 3, S, S) on the device and their numbers (B,), on the CPU, to maps (B, h, w).

    Returns:
        (N, h, w) float32 on the CPU, in the order of ``index``.
    """
    chunks = []
    for numbers in index.cpu().split(BATCH):
        with runtime.autocast():
            images = whole_view(bank.gather(numbers)[:, :3].to(runtime.device), image_size)
            chunks.append(make(images, numbers).float().cpu())
    return torch.cat(chunks)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode; afterwards every part is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode

"""Maps by hand, by naive loops, against the established library and against the networks' own attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests_support import SMALL
from torch import Tensor, nn
from torch.nn import functional as F

from cvsa.config import PretrainConfig, resolve
from cvsa.data.bank import ImageBank
from cvsa.errors import CVSAError
from cvsa.evaluation import cam
from cvsa.evaluation.cam import (
    alignment_attention,
    bank_maps,
    grad_cam,
    has_token_attention,
    linear_score,
    norm_map,
    partner_features,
    similarity_score,
    token_attention,
)
from cvsa.evaluation.features import extract_features, whole_view
from cvsa.methods import build_method
from cvsa.methods.backbone import Backbone, build_backbone
from cvsa.methods.base import Method
from cvsa.training.runtime import Runtime
from cvsa.views import Views, random_resized_crop

CPU = Runtime(torch.device("cpu"), bf16=False)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def colours(*rows: tuple[float, float, float]) -> Backbone:
    """A backbone whose features are given mixtures of red, green and blue at the same place."""
    conv = nn.Conv2d(3, len(rows), 1, bias=False)
    conv.weight.data = torch.tensor(rows, dtype=torch.float32)[:, :, None, None]
    return Backbone(conv, len(rows), mean=(0, 0, 0), std=(1, 1, 1))


@pytest.fixture(scope="module", params=["resnet_slim", "resnet18"])
def resnet(request: pytest.FixtureRequest) -> Backbone:
    """A residual network at random weights, with running statistics of its own."""
    torch.manual_seed(0)
    backbone = build_backbone(request.param, image_size=96).train()
    with torch.no_grad():
        for seed in range(3):
            backbone(draw(8, 3, 96, 96, seed=seed))
    return backbone


@pytest.fixture(scope="module")
def method() -> Method:
    torch.manual_seed(0)
    return build_method(resolve(PretrainConfig, row="BYOL+CVSA", **SMALL))


@pytest.fixture(scope="module")
def bank() -> ImageBank:
    images = (255 * draw(11, 4, 24, 24, seed=3)).to(torch.uint8)
    boxes = torch.tensor([[0.0, 0.0, 24.0, 24.0]]).expand(11, 4)
    return ImageBank(images, boxes, torch.arange(11) % 3, ["a", "b", "c"])


def test_grad_cam_by_hand() -> None:
    """Features red and green, logit 2 red - green of means over 4 places: weights 1/2 and -1/4."""
    red, green = torch.tensor([[1.0, 0.0], [0.5, 0.2]]), torch.tensor([[0.0, 1.0], [0.4, 0.8]])
    image = torch.stack([red, green, torch.ones(2, 2)])[None]
    backbone = colours((1, 0, 0), (0, 1, 0))
    weight = torch.tensor([[9.0, 9.0], [2.0, -1.0]])
    found = grad_cam(backbone, image, linear_score(backbone, weight, torch.tensor([1])))
    torch.testing.assert_close(found, torch.tensor([[[0.5, 0.0], [0.15, 0.0]]]))


def test_weights_are_means_of_the_gradient_over_positions() -> None:
    """A score that is no function of the pooled features: the sum of their cubes."""
    backbone, images = colours((1, 0, 0), (0, -1, 0.5)), draw(2, 3, 3, 4)
    found = grad_cam(backbone, images, lambda a: a.pow(3).sum(dim=(1, 2, 3)))
    for image, there in zip(images, found, strict=True):
        red, green, blue = image.tolist()
        features = [
            red,
            [[b / 2 - g for g, b in zip(*row, strict=True)] for row in zip(green, blue, strict=True)],
        ]
        alpha = [np.mean([[3 * x * x for x in row] for row in feature]) for feature in features]
        for y in range(3):
            for x in range(4):
                value = sum(w * feature[y][x] for w, feature in zip(alpha, features, strict=True))
                assert float(there[y, x]) == pytest.approx(max(value, 0), rel=1e-5)


def test_grad_cam_of_a_linear_layer_is_the_class_activation_map(resnet: Backbone) -> None:
    images, weight, targets = draw(4, 3, 96, 96), draw(5, resnet.num_features, seed=1) - 0.5, torch.arange(4)
    found = grad_cam(resnet, images, linear_score(resnet, weight, targets))
    with torch.no_grad():
        features = resnet.eval()(images)
    resnet.train()
    height, width = features.shape[2:]
    expected = torch.einsum("bd,bdhw->bhw", weight[targets], features).relu() / (height * width)
    assert (expected > 0).any() and (expected == 0).any()
    torch.testing.assert_close(found, expected)


def test_grad_cam_is_that_of_the_established_library(resnet: Backbone) -> None:
    """Which enlarges its maps and stretches each to [0, 1]; for the comparison ours are treated alike."""
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(1)
    head = nn.Linear(resnet.num_features, 6)
    images, targets = draw(5, 3, 96, 96, seed=4), [0, 5, 2, 2, 3]

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = resnet, head

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.backbone(x).mean((2, 3)))

    last = resnet.trunk.layer4[-1] if hasattr(resnet.trunk, "layer4") else resnet.trunk[-1]
    with library.GradCAM(model=Network().eval(), target_layers=[last]) as engine:
        expected = engine(input_tensor=images, targets=[ClassifierOutputTarget(k) for k in targets])
    resnet.train().zero_grad()
    ours = grad_cam(resnet, images, linear_score(resnet, head.weight, torch.tensor(targets)))
    large = F.interpolate(ours[:, None], size=96, mode="bilinear", align_corners=False)[:, 0]
    large = large - large.amin((1, 2), keepdim=True)
    large = large / large.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(large.numpy(), expected, atol=1e-4)


def test_similarity_by_the_derivative_of_the_cosine(resnet: Backbone) -> None:
    images, partners, centre = (
        draw(3, 3, 96, 96),
        draw(3, resnet.num_features, seed=1),
        draw(resnet.num_features, seed=2),
    )
    found = grad_cam(resnet, images, similarity_score(resnet, partners, centre))
    with torch.no_grad():
        features = resnet.eval()(images)
    resnet.train()
    u, p = features.mean((2, 3)) - centre, partners - centre
    for b in range(3):
        length = u[b].norm()
        cosine = u[b] @ p[b] / (length * p[b].norm())
        slope = p[b] / (length * p[b].norm()) - cosine * u[b] / length**2  # of the cosine, by u
        expected = (slope[:, None, None] * features[b]).sum(0).relu() / features[b, 0].numel()
        torch.testing.assert_close(found[b], expected, rtol=1e-3, atol=1e-7)


def test_an_image_that_is_its_own_partner_has_no_gradient(resnet: Backbone) -> None:
    images = draw(2, 3, 96, 96)
    with torch.no_grad():
        own = resnet.eval().pool(resnet(images))
    resnet.train()
    other = own.flip(0)
    centre = torch.zeros(resnet.num_features)
    itself, different = (grad_cam(resnet, images, similarity_score(resnet, p, centre)) for p in (own, other))
    assert float(itself.max()) < 1e-3 * float(different.max())


def test_a_centre_can_empty_a_map_and_the_plain_cosine_cannot() -> None:
    """Two places, mean red 0.6 and mean green 0.4; the slope of the cosine by the means, by hand."""
    backbone = colours((1, 0, 0), (0, 1, 0))
    image = torch.tensor([[[1.0, 0.2]], [[0.2, 0.6]], [[0.0, 0.0]]])[None]
    # Partner all red, c = 0: slope (0.4^2, -0.6 0.4) / |u|^3; the two places sum to 0.
    length = (0.6**2 + 0.4**2) ** 0.5
    first, second = ((0.16 * red - 0.24 * green) / length**3 / 2 for red, green in ((1.0, 0.2), (0.2, 0.6)))
    assert first > 0 and first + second == pytest.approx(0)
    found = grad_cam(backbone, image, similarity_score(backbone, torch.tensor([[1.0, 0.0]]), torch.zeros(2)))
    torch.testing.assert_close(found, torch.tensor([[[first, 0.0]]]))
    # Around (0.9, 0.4) the image lies at (-0.3, 0), the partner below: green only lowers the cosine.
    centre, partner = torch.tensor([0.9, 0.4]), torch.tensor([[0.5, 0.1]])
    assert not grad_cam(backbone, image, similarity_score(backbone, partner, centre)).any()


def test_norm_by_hand() -> None:
    image = torch.tensor([[[0.3, 1.0]], [[0.4, 0.0]], [[0.0, 0.5]]])[None]
    found = norm_map(colours((1, 0, 0), (0, 1, 0)), image)
    torch.testing.assert_close(found, torch.tensor([[[0.5, 1.0]]]))


def of_a_logit(backbone: Backbone, images: Tensor) -> Tensor:
    targets = torch.zeros(len(images), dtype=torch.long)
    return grad_cam(backbone, images, linear_score(backbone, torch.ones(1, backbone.num_features), targets))


def of_a_similarity(backbone: Backbone, images: Tensor) -> Tensor:
    partner = torch.ones(backbone.num_features)
    return grad_cam(
        backbone, images, similarity_score(backbone, partner.expand(len(images), -1), 0 * partner)
    )


MAKERS = {"logit": of_a_logit, "similarity": of_a_similarity, "norm": norm_map}


@pytest.mark.parametrize("name", MAKERS)
def test_an_image_has_the_same_map_in_any_batch(resnet: Backbone, name: str) -> None:
    images, make = draw(4, 3, 96, 96), MAKERS[name]
    together = make(resnet, images)
    assert together.dtype == torch.float32 and together.ndim == 3 and float(together.max()) > 0
    alone = torch.cat([make(resnet, image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_is_left_as_it_was(resnet: Backbone, name: str) -> None:
    frozen = next(module for module in resnet.modules() if isinstance(module, nn.BatchNorm2d)).eval()
    before = {key: value.clone() for key, value in resnet.state_dict().items()}
    modes = [module.training for module in resnet.modules()]
    with torch.no_grad():  # the caller's own mode does not matter
        found = MAKERS[name](resnet, draw(2, 3, 96, 96))
    assert [module.training for module in resnet.modules()] == modes and resnet.training
    assert all(parameter.grad is None for parameter in resnet.parameters())
    assert all(torch.equal(value, before[key]) for key, value in resnet.state_dict().items())
    assert not found.requires_grad
    frozen.train()


def test_modes_are_restored_after_an_error(resnet: Backbone) -> None:
    with pytest.raises(ZeroDivisionError):
        grad_cam(resnet, draw(1, 3, 96, 96), lambda a: a.sum((1, 2, 3)) / (1 // 0))
    assert resnet.training


def test_scores_are_in_full_precision_under_autocast(resnet: Backbone) -> None:
    images, weight, targets = draw(3, 3, 96, 96), draw(4, resnet.num_features, seed=1) - 0.5, torch.arange(3)
    plain = grad_cam(resnet, images, linear_score(resnet, weight, targets))
    seen = []

    def score(features: Tensor) -> Tensor:
        logits = resnet.pool(features) @ weight.T  # what autocast would lower
        seen.append((features.dtype, logits.dtype))
        return logits.gather(1, targets[:, None])[:, 0]

    with torch.autocast("cpu", torch.bfloat16):
        mixed = grad_cam(resnet, images, score)
    assert seen == [(torch.float32, torch.float32)] and mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, plain, rtol=0.1, atol=0.05 * float(plain.max()))


def transformer(**changes: Any) -> Backbone:
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    settings = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2,
                "num_classes": 0, "global_pool": ""} | changes  # fmt: skip
    trunk = VisionTransformer(**settings)
    for parameter in trunk.parameters():  # attention that differs from place to place
        nn.init.normal_(parameter, std=0.3)
    return Backbone(trunk, 32, prefix_tokens=trunk.num_prefix_tokens)


@pytest.mark.parametrize(
    ("backbone", "size"),
    [
        (lambda: build_backbone("vit_tiny_patch16_224", image_size=64), 64),
        (lambda: build_backbone("vit_tiny_patch16_224", image_size=64), 96),  # larger than it was built for
        (lambda: transformer(reg_tokens=2), 32),
        (lambda: transformer(qk_norm=True, qkv_bias=True), 32),
    ],
    ids=["built", "larger", "registers", "normalised"],
)
def test_token_attention_is_that_of_the_last_layer(backbone: Any, size: int) -> None:
    """The layer's own softmax, caught on its way through the layer."""
    network, images = backbone(), draw(3, 3, size, size)
    assert has_token_attention(network)
    found = token_attention(network, images)
    assert network.training and found.dtype == torch.float32
    assert (found >= 0).all() and (found.sum((1, 2)) <= 1 + 1e-6).all()
    layer, caught = network.eval().trunk.blocks[-1].attn, []
    layer.fused_attn = False
    layer.attn_drop.register_forward_hook(lambda module, given, out: caught.append(given[0]))
    with torch.no_grad():
        height, width = network(images).shape[2:]
    patches = caught[0][:, :, 0, network.prefix_tokens :].mean(1)
    torch.testing.assert_close(found, patches.view(3, height, width), rtol=1e-4, atol=1e-6)


def rotary() -> Backbone:
    from timm.models.eva import Eva

    trunk = Eva(img_size=32, patch_size=8, embed_dim=32, depth=1, num_heads=2, num_classes=0, global_pool="")
    return Backbone(trunk, 32, prefix_tokens=1)


def parallel() -> Backbone:
    from timm.models.vision_transformer import ParallelScalingBlock

    return transformer(block_fn=ParallelScalingBlock)


@pytest.mark.parametrize(
    ("backbone", "name"),
    [
        (lambda: build_backbone("resnet_slim", image_size=32), "Sequential"),
        (lambda: transformer(class_token=False, global_pool="avg"), "VisionTransformer"),
        (parallel, "VisionTransformer"),
        (rotary, "Eva"),
    ],
)
def test_token_attention_needs_a_plain_transformer(backbone: Any, name: str) -> None:
    with pytest.raises(
        CVSAError, match=f"^Backbone {name} has no class token .*take a plain vision"
    ) as caught:
        token_attention(backbone(), draw(1, 3, 32, 32))
    assert "\n" not in str(caught.value) and not has_token_attention(backbone())


def test_grad_cam_of_a_transformer_lies_on_its_patches() -> None:
    network = transformer()
    found = grad_cam(network, draw(2, 3, 32, 32), linear_score(network, torch.eye(32), torch.tensor([3, 5])))
    assert found.shape == (2, 4, 4) and float(found.max()) > 0


def test_alignment_attention_is_the_methods_own(method: Method) -> None:
    images, partners = draw(4, 3, 32, 32), draw(4, 3, 32, 32, seed=1)
    found = alignment_attention(method, images, partners)
    assert all(module.training for module in method.modules())
    assert found.dtype == torch.float32 and (found > 0).all() and (found < 1).all()
    masks = torch.zeros(4, 1, 32, 32)
    expected = method.eval().attention((Views(images, masks), Views(partners, masks)))
    method.train()
    assert torch.equal(found, expected[:, 0])
    assert not torch.equal(found, alignment_attention(method, images, images))


def test_no_alignment_no_attention() -> None:
    plain = build_method(resolve(PretrainConfig, row="BYOL", **SMALL))
    with pytest.raises(CVSAError, match="No alignment module"):
        alignment_attention(plain, draw(1, 3, 32, 32), draw(1, 3, 32, 32))
    assert plain.training


def test_maps_of_a_bank_are_those_of_its_images_one_by_one(
    bank: ImageBank, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cam, "BATCH", 4)  # 9 images: a last batch of one
    index = torch.tensor([7, 0, 10, 3, 5, 1, 2, 9, 4])
    torch.manual_seed(0)
    backbone, weight, sizes = build_backbone("resnet_slim", image_size=48), draw(3, 64) - 0.5, []

    def make(images: Tensor, numbers: Tensor) -> Tensor:
        sizes.append(len(images))
        return grad_cam(backbone, images, linear_score(backbone, weight, bank.labels[numbers]))

    found = bank_maps(bank, index, 48, CPU, make)
    assert sizes == [4, 4, 1] and found.shape == (9, 6, 6)
    for number, there in zip(index.tolist(), found, strict=True):
        image = whole_view(bank.images[number : number + 1, :3].float() / 255, 48)
        score = linear_score(backbone, weight, bank.labels[number : number + 1])
        torch.testing.assert_close(there, grad_cam(backbone, image, score)[0], rtol=1e-4, atol=1e-6)


def test_maps_of_a_bank_in_bf16_come_in_float32(bank: ImageBank) -> None:
    backbone = build_backbone("resnet_slim", image_size=48)
    low = Runtime(torch.device("cpu"), bf16=True)
    found = bank_maps(bank, torch.arange(3), 48, low, lambda x, _: norm_map(backbone, x))
    plain = bank_maps(bank, torch.arange(3), 48, CPU, lambda x, _: norm_map(backbone, x))
    assert found.dtype == torch.float32 and not torch.equal(found, plain)
    torch.testing.assert_close(found, plain, rtol=0.05, atol=0.05)


def test_partners_are_means_over_crops(bank: ImageBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cam, "BATCH", 4)
    backbone = build_backbone("resnet_slim", image_size=32)
    found = partner_features(backbone, bank, 32, CPU, views=3, scale=(0.2, 0.6), seed=5)
    assert backbone.training
    generator, expected = torch.Generator().manual_seed(5), []
    backbone.eval()
    for start in (0, 4, 8):
        images = bank.images[start : start + 4, :3].float() / 255
        crops = [
            random_resized_crop(images, size=32, scale=(0.2, 0.6), generator=generator, flip=0.5).images
            for _ in range(3)
        ]
        with torch.no_grad():
            expected.append(sum(backbone.pool(backbone(x)) for x in crops) / 3)
    torch.testing.assert_close(found, torch.cat(expected))
    assert not torch.equal(found, partner_features(backbone, bank, 32, CPU, views=3, seed=6))


def test_crops_of_the_whole_image_have_its_features(bank: ImageBank) -> None:
    """Mirrored or not: colours have the same mean."""
    backbone = colours((1, 0, 0), (0, 1, 0), (0, 0, 1))
    whole = partner_features(backbone, bank, 24, CPU, views=2, scale=1.0)
    torch.testing.assert_close(whole, extract_features(backbone, bank, 24, CPU))

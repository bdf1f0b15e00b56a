from __future__ import annotations

from typing import Any

import pytest
import torch
from methods_support import crop, early_and_late, scenes, train

from cvsa.errors import CVSAError
from cvsa.methods import build_backbone, build_method
from cvsa.views import Views


def images(size: int) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("name", "size", "features", "side"),
    [
        ("resnet18", 64, 512, 2),
        ("vit_tiny_patch16_224", 64, 192, 4),
        ("swin_tiny_patch4_window7_224", 64, 768, 2),
    ],
)
def test_last_map_of_cnns_and_transformers(name: str, size: int, features: int, side: int) -> None:
    backbone = build_backbone(name, image_size=size)
    assert backbone.num_features == features and backbone.training
    with torch.no_grad():
        feature_map = backbone(images(size))
    assert feature_map.shape == (2, features, side, side)
    assert backbone.pool(feature_map).shape == (2, features)


def test_patch_tokens_keep_their_places() -> None:
    """Without transformer blocks, changing the image's last patch changes the map's last position only."""
    backbone = build_backbone("vit_tiny_patch16_224", image_size=64).eval()
    backbone.trunk.blocks = torch.nn.Sequential()
    one, other = images(64), images(64)
    other[..., 48:, :16] += 1.0  # last row, first column
    with torch.no_grad():
        moved = (backbone(one) - backbone(other)).abs().sum(1) > 1e-6
    assert moved[0].nonzero().tolist() == [[3, 0]]


def test_a_transformer_takes_other_sizes_than_its_own() -> None:
    backbone = build_backbone("vit_tiny_patch16_224", image_size=64).eval()
    with torch.no_grad():
        assert backbone(images(96)).shape == (2, 192, 6, 6)


def test_the_slim_resnet_keeps_positions_for_the_alignment() -> None:
    backbone = build_backbone("resnet_slim", image_size=64)
    for size in (48, 64):
        feature_map = backbone(images(size))
        assert feature_map.shape[1] == backbone.num_features
        assert min(feature_map.shape[2:]) >= 4
    assert sum(p.numel() for p in backbone.parameters()) < 1e6


@pytest.mark.parametrize(("size", "side"), [(32, 4), (48, 6), (64, 8)])
def test_the_slim_transformer_maps_its_patches(size: int, side: int) -> None:
    backbone, convolutional = (build_backbone(name, image_size=size) for name in ("vit_slim", "resnet_slim"))
    with torch.no_grad():
        feature_map = backbone(images(size))
        tokens = backbone.trunk.forward_features((images(size) - backbone.mean) / backbone.std)
    assert feature_map.shape == (2, convolutional.num_features, side, side)
    assert tokens.shape[1] == 1 + side * side  # the class token is no patch
    torch.testing.assert_close(backbone.pool(feature_map), tokens[:, 1:].mean(1))
    weights = [sum(p.numel() for p in network.parameters()) for network in (backbone, convolutional)]
    assert 0.8 < weights[0] / weights[1] < 1.25


def test_the_slim_transformer_is_drawn_from_the_seed_and_takes_other_sizes(configure: Any) -> None:
    one, other, third = (build_method(configure(backbone="vit_slim", seed=s)).encoder for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), third.parameters(), strict=True))
    with torch.no_grad():
        assert one(images(64)).shape[2:] == (8, 8)
    with pytest.raises(CVSAError, match="'vit_slim'.*multiple of 8; got 50"):
        build_backbone("vit_slim", image_size=50)


def test_the_slim_transformers_attention_can_be_read() -> None:
    from cvsa.evaluation.cam import has_token_attention, token_attention

    backbone = build_backbone("vit_slim", image_size=48)
    assert has_token_attention(backbone)
    attention = token_attention(backbone, images(48))
    assert attention.shape == (2, 6, 6) and attention.min() >= 0
    assert float(attention.sum((1, 2)).min()) > 0.5 and float(attention.sum((1, 2)).max()) <= 1


def test_the_slim_transformer_learns_with_the_alignment(configure: Any) -> None:
    method = build_method(configure(backbone="vit_slim", align_weight=1.0))
    generator = torch.Generator().manual_seed(1)

    def views() -> tuple[Views, Views]:
        pictures, masks, _ = scenes(16, generator)
        return crop(pictures, masks, generator), crop(pictures, masks, generator)

    history = train(method, views, 25)
    for name in ("contrastive", "alignment"):
        early, late = early_and_late(history[name])
        assert late < 0.9 * early, name


def test_normalises_by_what_the_model_was_trained_with() -> None:
    for name, mean, std in (
        ("resnet18", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("vit_tiny_patch16_224", (0.5,) * 3, (0.5,) * 3),
    ):
        backbone = build_backbone(name, image_size=64).eval()
        x = images(64)
        expected = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        seen: list[torch.Tensor] = []
        first = next(m for m in backbone.trunk.modules() if isinstance(m, torch.nn.Conv2d))
        first.register_forward_pre_hook(lambda m, a, seen=seen: seen.append(a[0]))
        with torch.no_grad():
            backbone(x)
        torch.testing.assert_close(seen[0], expected)


def test_state_dict_round_trip() -> None:
    one, other = (build_backbone("resnet_slim", image_size=64) for _ in range(2))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(images(64)), other.eval()(images(64)))
    assert not any(key in ("mean", "std") for key in one.state_dict())


def test_unknown_name_is_told_with_near_ones() -> None:
    with pytest.raises(CVSAError, match="Unknown backbone 'resnet_slm'.*'resnet_slim'"):
        build_backbone("resnet_slm", image_size=64)
    with pytest.raises(CVSAError, match="'resnet50'"):
        build_backbone("resnet5O", image_size=64)


def test_a_size_the_model_cannot_take_is_told() -> None:
    with pytest.raises(CVSAError, match="'vit_tiny_patch16_224'.*50"):
        build_backbone("vit_tiny_patch16_224", image_size=50)


@pytest.mark.parametrize("name", ["resnet_slim", "vit_slim"])
def test_no_weights_to_be_had_is_told(name: str) -> None:
    with pytest.raises(CVSAError, match="no published weights"):
        build_backbone(name, image_size=64, pretrained=True)

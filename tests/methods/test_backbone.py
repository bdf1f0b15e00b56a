from __future__ import annotations

import pytest
import torch

from cvsa.errors import CVSAError
from cvsa.methods import build_backbone


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


def test_no_weights_to_be_had_is_told() -> None:
    with pytest.raises(CVSAError, match="no published weights"):
        build_backbone("resnet_slim", image_size=64, pretrained=True)

"""Attention of an untrained transformer, against the weights that its own layer computes."""

import numpy as np
import pytest
import torch

from cvsa.errors import CVSAError
from cvsa.saliency.attention import Attention, scaled

TINY = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def detector() -> Attention:
    return Attention(TINY, size=64, weights=False)


def test_maps_have_the_size_of_their_image(detector: Attention) -> None:
    for shape in ((40, 60), (64, 64), (200, 17)):
        image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
        map = detector(image)
        assert map.shape == shape and map.dtype == np.float32
        assert map.min() >= 0 and map.max() <= 1 and (map >= 0.5).any()


def test_attention_is_that_of_the_last_layer(detector: Attention) -> None:
    """The layer's own softmax, caught on its way through the layer."""
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    layer = detector.network.blocks[-1].attn
    caught = []
    fused, layer.fused_attn = layer.fused_attn, False
    hook = layer.attn_drop.register_forward_hook(lambda module, given, out: caught.append(given[0]))
    with torch.no_grad():
        detector.network(images)
    hook.remove()
    layer.fused_attn = fused
    expected = caught[0][:, :, 0, 1:].mean(1).reshape(3, 4, 4)  # class token to the 4 x 4 patches
    torch.testing.assert_close(detector.attend(images), expected)


def test_the_network_is_the_same_each_time_and_global_randomness_is_left_alone(detector: Attention) -> None:
    before = torch.random.get_rng_state()
    again = Attention(TINY, size=64, weights=False)
    assert torch.equal(before, torch.random.get_rng_state())
    image = np.random.default_rng(2).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(again(image), detector(image))
    assert detector.parameters == {"model": TINY, "size": 64, "weights": False}


def test_scaling_puts_the_mass_over_one_half() -> None:
    attention = np.array([[0.4, 0.1], [0.3, 0.2]])
    # 0.4 holds 40 %, 0.4 and 0.3 hold 70 %: the least of the two is at 0.5.
    np.testing.assert_allclose(scaled(attention, 0.6), [[2 / 3, 1 / 6], [0.5, 1 / 3]])
    assert (scaled(attention, 0.95) >= 0.5).all()
    assert not scaled(np.zeros((2, 2))).any()
    assert scaled(np.array([[1.0, 0.0]])).tolist() == [[0.5, 0]]


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"model": "vit_tinny"}, "vit_tinny"),
        ({"model": "resnet18"}, "resnet18"),
        ({"model": "vit_medium_patch16_gap_256", "size": 64}, "class token"),
        ({"model": TINY, "size": 100}, "multiple of 16"),
    ],
)
def test_what_has_no_attention_is_refused(given: dict, word: str) -> None:
    with pytest.raises(CVSAError, match=word):
        Attention(**given, weights=False)


def test_offline_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    def unreachable(*args: object, **settings: object) -> None:
        raise OSError("We couldn't connect\nto the hub")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(CVSAError, match="cannot be had.*internet.*classical") as caught:
        Attention()
    assert "\n" not in str(caught.value)

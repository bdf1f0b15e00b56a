"""RandomResizedCrop: torchvision's sampling law, PIL's pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cvsa.errors import CVSAError
from cvsa.views import Views, kernels, random_resized_crop
from cvsa.views.crop import recrop, sample_crops


@pytest.fixture(params=["compiled", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels by the compiled loops, and by the torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "available", lambda: False)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 0.6), (0.9, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (150, 320)])
def test_sampling_law_is_torchvisions(scale: tuple[float, float], height: int, width: int) -> None:
    from scipy.stats import ks_2samp
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)  # torchvision draws from the global state
    image = torch.empty(3, height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(1500)])
    top, left, h, w = theirs.T.astype(float)
    x1, y1, x2, y2 = sample_crops(1500, height, width, scale, (3 / 4, 4 / 3), generator()).double().numpy().T
    # Theirs are whole pixels: jitter away the ties before comparing distributions.
    jitter = np.random.default_rng(0).uniform(-0.5, 0.5, (4, 1500))
    for ours, other in (
        (x2 - x1, w + jitter[0]),
        (y2 - y1, h + jitter[1]),
        (x1, left + jitter[2]),
        (y1, top + jitter[3]),
    ):
        if scale[0] < 0.9:  # there, half a pixel of rounding is visible
            assert ks_2samp(ours, other).pvalue > 1e-3
        assert abs(ours.mean() - other.mean()) < 4 * math.sqrt((ours.var() + other.var()) / 1500) + 0.6


def test_crops_stay_in_the_image_with_the_asked_area_and_aspect() -> None:
    boxes = sample_crops(4000, 50, 50, (0.3, 0.5), (0.8, 1.25), generator())
    w, h = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 50
    area, aspect = w * h / 2500, w / h
    assert area.min() >= 0.3 - 1e-4 and area.max() <= 0.5 + 1e-4
    assert aspect.min() >= 0.8 - 1e-4 and aspect.max() <= 1.25 + 1e-4


def test_fallback_is_the_largest_central_crop_of_the_ratio() -> None:
    boxes = sample_crops(5, 10, 100, (1.0, 1.0), (3 / 4, 4 / 3), generator())
    expected = torch.tensor([50 - 20 / 3, 0, 50 + 20 / 3, 10]).expand(5, 4)
    torch.testing.assert_close(boxes, expected)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("size", [16, 32, 40])
def test_image_and_mask_equal_pil(size: int) -> None:
    images = (
        torch.from_numpy(np.random.default_rng(0).integers(0, 256, (8, 4, 32, 32)).astype(np.float32)) / 255
    )
    views = random_resized_crop(images, size=size, scale=0.2, ratio=(3 / 4, 4 / 3), generator=generator(3))
    boxes = sample_crops(8, 32, 32, 0.2, (3 / 4, 4 / 3), generator(3))
    assert views.images.shape == (8, 3, size, size) and views.masks.shape == (8, 1, size, size)
    for image, box, view in zip(
        images, boxes.tolist(), torch.cat([views.images, views.masks], 1), strict=True
    ):
        assert (view - pil_crop(image, box, size)).abs().max() <= 1.5 / 255


def pil_crop(image: Tensor, box: list[float], size: int) -> Tensor:
    left, top = math.floor(box[0]), math.floor(box[1])
    inner = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    planes = [
        Image.fromarray((channel.numpy() * 255).round().astype(np.uint8))
        .crop((left, top, math.ceil(box[2]), math.ceil(box[3])))
        .resize((size, size), Image.Resampling.BILINEAR, box=inner)
        for channel in image
    ]
    return torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]).astype(np.float32)) / 255


@pytest.mark.usefixtures("path")
def test_flip_takes_the_mask_along() -> None:
    images = torch.rand((64, 4, 12, 12), generator=generator())
    images[:, 3] = images[:, 0]
    views = random_resized_crop(images, size=12, scale=(1, 1), ratio=(1, 1), generator=generator(), flip=0.5)
    torch.testing.assert_close(views.masks, views.images[:, :1])
    straight = (views.images - images[:, :3]).abs().amax((1, 2, 3)) < 1e-5
    mirrored = (views.images - images[:, :3].flip(3)).abs().amax((1, 2, 3)) < 1e-5
    assert (straight ^ mirrored).all() and 20 <= int(mirrored.sum()) <= 44


def test_the_generator_decides_everything() -> None:
    images = torch.rand((4, 4, 16, 16), generator=generator())
    first, again, other = (
        random_resized_crop(images, size=8, scale=0.1, ratio=(0.7, 1.4), generator=generator(s)).images
        for s in (5, 5, 6)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 0.0}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"size": 0}, "size"),
        ({"images": torch.zeros(2, 2, 8, 8)}, "channels"),
        ({"images": torch.zeros(2, 4, 8, 8, dtype=torch.uint8)}, "float"),
    ],
)
def test_mistakes_are_one_clear_line(change: dict[str, object], message: str) -> None:
    arguments = {"images": torch.zeros(2, 4, 8, 8), "size": 8, "scale": 0.5, "ratio": (0.75, 1.33)} | change
    with pytest.raises(CVSAError, match=message) as error:
        random_resized_crop(generator=generator(), **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_crop_of_views_takes_image_and_mask_as_one(share: float, path: None) -> None:
    masks = torch.zeros(60, 1, 20, 20)
    masks[:, :, 6:13, 4:15] = 1
    views = recrop(Views(masks.expand(-1, 3, -1, -1), masks), share, (3 / 4, 4 / 3), generator())
    assert views.images.shape == (60, 3, 20, 20) and views.masks.shape == (60, 1, 20, 20)
    torch.testing.assert_close(views.images, views.masks.expand(-1, 3, -1, -1))
    # A view that ramps from 0 to 1 along each axis tells the area that is kept.
    ramp = (torch.arange(20) + 0.5) / 20
    plane = torch.stack([ramp.expand(20, 20), ramp[:, None].expand(20, 20), torch.zeros(20, 20)])
    seen = recrop(Views(plane.repeat(60, 1, 1, 1), masks), share, (3 / 4, 4 / 3), generator()).images
    width = (seen[:, 0, 10, 15] - seen[:, 0, 10, 5]) * 2
    height = (seen[:, 1, 15, 10] - seen[:, 1, 5, 10]) * 2
    assert (width * height).min() > share - 0.02 and (width * height).max() < 1.02
    assert (width * height).std() > 0.02

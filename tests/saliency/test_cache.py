"""Maps of a detector on disk: computed once, of the image's bytes, never half written."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvsa.data.photographs import decode
from cvsa.errors import CVSAError
from cvsa.saliency.cache import STORED_SIDE, MapCache, detect, detected_saliency


class Red:
    """The map of an image is its red channel; counts how often it is asked."""

    name, version, side = "red", "1", 400

    def __init__(self, **parameters: int) -> None:
        self.parameters = parameters
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, image: np.ndarray) -> np.ndarray:
        self.seen.append(image.shape)
        if (image[..., 2] > 200).all():
            raise RuntimeError("a\nblue image")
        return image[..., 0].astype(np.float32) / 255


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CVSA_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for number in range(5):
        picture = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        picture[..., 2] = 0
        picture[..., 0] = 255 if number else 100  # nothing salient in the first
        Image.fromarray(picture).save(tmp_path / f"ein Bild é {number}.png")
    return tmp_path


def images(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*.png"))


def test_each_image_is_looked_at_once(root: Path) -> None:
    detector = Red()
    first, again = (detect(root, images(root), detector, workers=2) for _ in range(2))
    assert (first.total, first.computed, again.computed, len(detector.seen)) == (5, 5, 0, 5)
    assert first.nothing == again.nothing == images(root)[:1] and not first.failures
    assert str(again).startswith(
        "5 images: 0 maps computed, 5 found in the cache, nothing salient in 1 (e.g. "
    )


def test_an_interrupted_run_goes_on_where_it_stopped(root: Path) -> None:
    detector = Red()
    detect(root, images(root)[:2], detector)
    assert detect(root, images(root), detector).computed == 3


def test_maps_belong_to_bytes_not_to_names(root: Path) -> None:
    detector = Red()
    detect(root, images(root), detector)
    first, second = images(root)[:2]
    (root / "moved").mkdir()
    shutil.move(root / first, root / "moved" / "other.png")
    assert detect(root, ["moved/other.png"], detector).computed == 0
    Image.new("RGB", (60, 40), (10, 0, 0)).save(root / second)
    changed = detect(root, [second], detector)
    assert changed.computed == 1 and changed.nothing == [second]


def test_version_and_parameters_have_their_own_maps(root: Path) -> None:
    other = Red(width=4)
    newer = Red()
    newer.version = "2"
    detect(root, images(root), Red())
    for detector in (other, newer):
        assert detect(root, images(root), detector).computed == 5
    assert len({MapCache(detector).name for detector in (Red(), other, newer)}) == 3
    assert MapCache(Red(a=1, b=2)).name == MapCache(Red(b=2, a=1)).name


def test_failures_are_reported_by_name(root: Path) -> None:
    Image.new("RGB", (9, 9), "blue").save(root / "blue.png")
    (root / "cut.png").write_bytes((root / images(root)[1]).read_bytes()[:90])
    (root / "empty.png").touch()
    result = detect(root, [*images(root), "gone.png"], Red(), workers=2)
    assert set(result.failures) == {"blue.png", "cut.png", "empty.png", "gone.png"}
    assert result.failures["blue.png"] == "RuntimeError: a blue image"
    assert "5 maps computed, 0 found in the cache" in str(result) and "no map for 4 (blue.png: " in str(
        result
    )


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 3)), np.full((40, 60), 1.5), np.full((40, 60), np.nan), np.full((40, 60), -1.0)]
)
def test_wrong_maps_are_failures(root: Path, wrong: np.ndarray) -> None:
    class Wrong(Red):
        def __call__(self, image: np.ndarray) -> np.ndarray:
            return wrong

    result = detect(root, images(root)[:1], Wrong())
    assert "gave a map" in result.failures[images(root)[0]]
    assert not list((root / "cache").rglob("*.png"))


def test_what_the_user_can_mend_stops_the_run(root: Path) -> None:
    class Missing(Red):
        def __call__(self, image: np.ndarray) -> np.ndarray:
            self.seen.append(image.shape)
            raise CVSAError("install it")

    detector = Missing()
    with pytest.raises(CVSAError, match="install it"):
        detect(root, images(root) * 50, detector, workers=1)
    assert len(detector.seen) < 50
    with pytest.raises(CVSAError, match="install it"):
        detected_saliency(root, detector).read(images(root)[0], (60, 40))


def test_damaged_maps_are_made_again(root: Path) -> None:
    detector = Red()
    detect(root, images(root), detector)
    first, second, *_ = sorted((root / "cache").rglob("*.png"))
    first.write_bytes(first.read_bytes()[:-20])
    second.write_bytes(b"")
    assert detect(root, images(root), detector).computed == 2
    assert detect(root, images(root), detector).computed == 0


def test_no_half_map_is_left_and_a_full_disk_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CVSAError, match="No space left on device; free some space .* CVSA_CACHE"):
        detect(root, images(root), Red(), workers=1)
    assert not [path for path in (root / "cache").rglob("*") if path.is_file()]


def test_large_images_are_shrunk_for_the_detector_and_maps_for_the_disk(root: Path) -> None:
    Image.new("RGB", (1000, 500), (255, 0, 0)).save(root / "large.jpg")
    detector = Red()
    map, new = MapCache(detector).get(root / "large.jpg")
    assert new and detector.seen == [(200, 400, 3)]
    assert map.size == (STORED_SIDE, STORED_SIDE // 2) and map.mode == "L"


def test_a_bank_reads_the_map_in_the_images_own_geometry(root: Path) -> None:
    """Turned by EXIF, cut to the central square: the map goes where its pixels go."""
    picture = np.zeros((40, 60, 3), dtype=np.uint8)
    picture[:20, :30, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    Image.fromarray(picture).save(root / "turned.png", exif=exif)
    saliency = detected_saliency(root, Red())
    block, present = decode(root, "turned.png", 40, saliency.read)
    assert present and saliency.kind == MapCache(Red()).name and saliency.source("turned.png") == ""
    assert (block[0] >= 128).any()
    # The two go through different filters, bicubic and bilinear: they differ at edges only.
    assert ((block[0] >= 128) == (block[3] >= 128)).mean() > 0.97


def test_an_image_without_a_map_counts_as_one_without_an_entry(root: Path) -> None:
    Image.new("RGB", (9, 9), "blue").save(root / "blue.png")
    assert detected_saliency(root, Red()).read("blue.png", (9, 9)) is None

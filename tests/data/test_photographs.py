"""Photographs of every odd kind, with their saliency, into a bank."""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from cvsa.data import photographs
from cvsa.data.bank import ImageBank, open_or_build
from cvsa.data.photographs import decode, fill_from_folder
from cvsa.data.sets.plain import Folder
from cvsa.errors import CVSAError
from cvsa.saliency import map_to_box

BLUE, RED = (20, 40, 200), (230, 30, 20)
R = 48


def scene(size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    """Blue with a red rectangle, x2 and y2 exclusive."""
    image = Image.new("RGB", size, BLUE)
    ImageDraw.Draw(image).rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=RED)
    return image


def mask_of(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image)[..., 0] > 128)


def red_box(block: np.ndarray) -> torch.Tensor:
    """Where the picture itself is red: the oracle for its box."""
    return map_to_box(block[0] > block[2])


def save(image: Image.Image, path: Path, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def no_map(path: str, size: tuple[int, int]) -> None:
    return None


def build(root: Path, paths: list[str], kind: str = "auto", classes: int = 1) -> ImageBank:
    saliency, labels = Folder().saliency(root, kind), np.arange(len(paths)) % classes
    return open_or_build(
        root.parent / "bank",
        lambda writer: fill_from_folder(writer, root, paths, labels, R, saliency),
        resolution=R,
        classes=[str(c) for c in range(classes)],
    )


# --- geometry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_image_and_mask_stay_aligned(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, height = rng.integers(30, 300, 2).tolist()
    x1, y1 = rng.integers(0, width - 12), rng.integers(0, height - 12)
    x2, y2 = rng.integers(x1 + 10, width + 1), rng.integers(y1 + 10, height + 1)
    image = scene((width, height), (x1, y1, x2, y2))
    save(image, tmp_path / "c/x.png")
    save(mask_of(image), tmp_path / "masks/c/x.png")
    block, present = decode(tmp_path, "c/x.png", R, Folder().saliency(tmp_path).read)
    assert present and block.shape == (4, R, R) and block.dtype == np.uint8
    seen = red_box(block)
    # Where it should be: the short side becomes R, the long side is cut symmetrically.
    scale, side = R / min(width, height), min(width, height)
    shift = [(width - side) / 2, (height - side) / 2] * 2
    ideal = ((torch.tensor([x1, y1, x2, y2]) - torch.tensor(shift)) * scale).clamp(0, R)
    if (ideal[2:] - ideal[:2] > 2).all():  # else the object was cut away
        assert (map_to_box(block[3]) - seen).abs().max() <= 1
        assert (seen - ideal).abs().max() <= 1


def test_mask_of_another_size_covers_the_whole_image(tmp_path: Path) -> None:
    image = scene((200, 100), (60, 20, 120, 90))
    save(image, tmp_path / "c/x.png")
    mask = mask_of(image).convert("L").resize((50, 77), Image.Resampling.BOX)
    save(mask, tmp_path / "masks/c/x.png")
    block, _ = decode(tmp_path, "c/x.png", R, Folder().saliency(tmp_path).read)
    assert (map_to_box(block[3]) - red_box(block)).abs().max() <= 1


@pytest.mark.parametrize("kind", ["masks", "boxes", "predicted"])
def test_each_kind_of_saliency_finds_the_object(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "root"
    image = scene((128, 96), (40, 16, 88, 72))
    save(image, root / "c/x.png")
    if kind == "masks":
        save(mask_of(image), root / "masks/c/x.png")
    elif kind == "boxes":
        (root / "boxes.csv").write_text("path,x,y,w,h\nc/x.png,40,16,48,56\n")
    else:
        grid = np.asarray(mask_of(image).resize((128, 128), Image.Resampling.NEAREST))
        np.savez(root / "p.npz", paths=["c/x.png"], bits=np.packbits(grid).reshape(1, -1), shape=[128, 128])
    bank = build(root, ["c/x.png"])
    assert bank.found.all() and bank.extras["path"].tolist() == ["c/x.png"]
    assert (bank.boxes[0] - red_box(bank.images[0].numpy())).abs().max() <= 1


def test_downsizing_is_antialiased(tmp_path: Path) -> None:
    stripes = np.zeros((R * 8, R * 8), dtype=np.uint8)
    stripes[:, ::2] = 255
    save(Image.fromarray(stripes), tmp_path / "x.png")
    block, _ = decode(tmp_path, "x.png", R, no_map)
    assert np.abs(block[:3, :, 2:-2].astype(int) - 127).max() <= 2  # at the border the filter is cut off


def test_large_photograph_decodes_alike(tmp_path: Path) -> None:
    """JPEG's fast decoding at a fraction of the size must not move or change the picture."""
    image = scene((1601, 1203), (500, 300, 1100, 1000))
    save(image, tmp_path / "x.jpg", quality=95)
    save(image, tmp_path / "x.png")
    (tmp_path / "boxes.csv").write_text("path,x,y,w,h\nx.jpg,500,300,600,700\n")
    fast, _ = decode(tmp_path, "x.jpg", R, Folder().saliency(tmp_path).read)
    exact, _ = decode(tmp_path, "x.png", R, no_map)
    assert np.abs(fast[:3].astype(int) - exact[:3]).mean() < 2
    assert (map_to_box(fast[3]) - red_box(exact)).abs().max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    """However the camera was held, the picture comes out upright, and masks refer to the upright picture."""
    upright = scene((120, 80), (10, 10, 50, 30))
    undo = {
        2: 0,
        3: 3,
        4: 1,
        5: 5,
        6: 2,
        7: 6,
        8: 4,
    }  # Pillow's transpositions, each the inverse of the tag's
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(stored, tmp_path / "c/x.png", exif=exif)
    save(mask_of(upright), tmp_path / "masks/c/x.png")
    save(upright, tmp_path / "plain.png")
    block, _ = decode(tmp_path, "c/x.png", R, Folder().saliency(tmp_path).read)
    expected, _ = decode(tmp_path, "plain.png", R, no_map)
    assert np.array_equal(block[:3], expected[:3])
    assert (map_to_box(block[3]) - red_box(block)).abs().max() <= 1


# --- formats -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("RGB", "jpg"), ("RGB", "webp"), ("RGB", "bmp"), ("RGB", "tif"), ("RGB", "ppm"),
     ("P", "png"), ("P", "gif"), ("CMYK", "jpg"), ("CMYK", "tif"), ("RGBA", "png"), ("RGBA", "webp")],
)  # fmt: skip
def test_colour_formats(tmp_path: Path, mode: str, suffix: str) -> None:
    image = scene((64, 64), (16, 16, 48, 40))
    if mode == "P":
        image = image.quantize(8)
    save(image.convert(mode), tmp_path / f"x.{suffix}")
    block, present = decode(tmp_path, f"x.{suffix}", 64, no_map)
    assert not present and not block[3].any()
    expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1).astype(int)
    assert np.abs(block[:3] - expected).mean() < 8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "I;16", "I"])
def test_grey_formats(tmp_path: Path, mode: str) -> None:
    grey = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(64, 0)
    image = Image.fromarray(grey)
    if mode in ("I;16", "I"):
        wide = grey.astype(np.uint16) * 257
        image = Image.fromarray(wide if mode == "I;16" else wide.astype(np.int32))
    else:
        image = image.convert(mode)
    save(image, tmp_path / "x.tif")
    block, _ = decode(tmp_path, "x.tif", 64, no_map)
    assert np.array_equal(block[0], block[1]) and np.array_equal(block[0], block[2])
    difference = np.abs(block[0].astype(int) - grey)
    assert difference.mean() < (128 if mode == "1" else 1)


def test_what_is_hidden_under_transparency_stays_hidden(tmp_path: Path) -> None:
    image = np.full((32, 32, 4), 255, dtype=np.uint8)
    image[..., :3], image[:, :16, 3] = (255, 0, 0), 0
    save(Image.fromarray(image), tmp_path / "x.png")
    block, _ = decode(tmp_path, "x.png", 32, no_map)
    assert (block[:3, :, :14] == 255).all() and (block[1, :, 18:] == 0).all()


@pytest.mark.parametrize("form", ["1", "L", "RGB", "labels", "palette", "16 bit"])
def test_mask_formats(tmp_path: Path, form: str) -> None:
    save(scene((40, 40), (8, 4, 30, 20)), tmp_path / "c/x.jpg")
    object = np.zeros((40, 40), dtype=np.uint8)
    object[4:20, 8:30] = 1
    mask = Image.fromarray(object if form == "labels" else object * np.uint8(255))
    if form in ("1", "RGB"):
        mask = mask.convert(form)
    elif form == "16 bit":
        mask = Image.fromarray(object.astype(np.uint16) * 65535)
    elif form == "palette":
        mask = Image.fromarray(object)
        mask.putpalette([0, 0, 0, 40, 0, 0])  # a dark red, as label palettes have
    save(mask, tmp_path / "masks/c/x.png")
    block, _ = decode(tmp_path, "c/x.jpg", 40, Folder().saliency(tmp_path).read)
    assert map_to_box(block[3]).tolist() == [8, 4, 30, 20] and block[3].max() == 255


@pytest.mark.parametrize(("kind", "name"), [("PNG", "x.jpg"), ("JPEG", "x.png"), ("BMP", "x.WEBP")])
def test_the_name_may_tell_another_format(tmp_path: Path, kind: str, name: str) -> None:
    image = scene((64, 64), (16, 16, 48, 40))
    image.save(tmp_path / name, kind)
    block, _ = decode(tmp_path, name, 64, no_map)
    assert red_box(block).tolist() == [16, 16, 48, 40]


def test_colours_of_16_bits(tmp_path: Path) -> None:
    """Such PNG come of raw converters; Pillow cannot write them."""
    pixels = (np.asarray(scene((64, 64), (16, 16, 48, 40))).astype(">u2") * 257).reshape(64, -1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    parts = {
        b"IHDR": struct.pack(">2I5B", 64, 64, 16, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    ]
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    block, _ = decode(tmp_path, "x.png", 64, no_map)
    assert np.array_equal(block[:3].transpose(1, 2, 0), np.asarray(scene((64, 64), (16, 16, 48, 40))))


# --- whole folders -----------------------------------------------------------------------------


def test_odd_names(tmp_path: Path) -> None:
    root = tmp_path / "mon dossier été"
    paths = ["Großer Eisvogel/1 (2).jpg", "鳥/über bild.JPG", "a'b, c/x.y.png"]
    for path in paths:
        save(scene((60, 50), (5, 5, 30, 40)), root / path)
        save(mask_of(scene((60, 50), (5, 5, 30, 40))), (root / "masks" / path).with_suffix(".png"))
    bank = build(root, paths)
    assert bank.extras["path"].tolist() == paths and bank.no_object == 0


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Archives from elsewhere unpack to bytes that are no UTF-8."""
    path = os.fsdecode(b"c/\xe9t\xe9.png")
    save(scene((60, 50), (5, 5, 30, 40)), tmp_path / "root" / path)
    save(scene((60, 50), (5, 5, 30, 40)), tmp_path / "root/c/line\nbreak.png")
    bank = build(tmp_path / "root", [path, "c/line\nbreak.png"], kind="none")
    assert bank.extras["path"].tolist() == [path, "c/line\nbreak.png"]
    (tmp_path / "root" / path).write_bytes(b"")
    (tmp_path / "root/c/line\nbreak.png").write_bytes(b"")
    with pytest.raises(CVSAError, match="2 of 3 .*c/line break.png") as caught:
        other = [path, "c/line\nbreak.png", *damaged(tmp_path / "root", 1)]
        saliency, labels = Folder().saliency(tmp_path / "root", "none"), np.zeros(3, np.int64)
        open_or_build(
            tmp_path / "again",
            lambda writer: fill_from_folder(writer, tmp_path / "root", other, labels, R, saliency),
            resolution=R,
            classes=["c"],
        )
    assert "\n" not in str(caught.value)


def test_order_does_not_depend_on_threads(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths = [f"c/{i:03d}.png" for i in range(300)]
    for i, path in enumerate(paths):
        save(Image.new("L", (33, 33), i % 250), root / path)
    bank = build(root, paths, classes=2)
    assert bank.images[:, 0, 5, 5].tolist() == [i % 250 for i in range(300)]
    assert bank.labels.tolist() == [i % 2 for i in range(300)] and bank.no_object == 300


def damaged(root: Path, good: int) -> list[str]:
    paths = [f"c/{i:03d}.png" for i in range(good)]
    for path in paths:
        save(scene((40, 40), (5, 5, 20, 20)), root / path)
    save(scene((400, 400), (5, 5, 200, 200)), root / "c/whole.jpg", quality=100)
    (root / "c/truncated.jpg").write_bytes((root / "c/whole.jpg").read_bytes()[:2000])
    return paths


@pytest.mark.parametrize("how", ["truncated", "empty", "text", "gone"])
def test_one_unreadable_image_among_few_stops(tmp_path: Path, how: str) -> None:
    root = tmp_path / "root"
    paths = damaged(root, 10)
    bad = f"c/{how}.jpg"
    if how != "truncated" and how != "gone":
        (root / bad).write_bytes(b"" if how == "empty" else b"<html>404 not found</html>")
    with pytest.raises(CVSAError, match=f"1 of 11 images .*{bad}") as caught:
        build(root, [*paths, bad])
    assert "\n" not in str(caught.value) and not (tmp_path / "bank").exists()


def test_one_unreadable_image_among_many_is_left_out(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths = damaged(root, 120)
    paths.insert(7, "c/truncated.jpg")
    with pytest.warns(UserWarning, match="1 of 121 images .*truncated.jpg") as caught:
        bank = build(root, paths)
    assert len(caught) == 1 and len(bank) == 120
    assert bank.extras["path"].tolist() == paths[:7] + paths[8:]
    assert bank.labels.shape == (120,) and "truncated.jpg" in bank.description["unreadable"][0]


def bad_among(root: Path, good: int, bad: int) -> list[str]:
    paths = damaged(root, good)
    for i in range(bad):
        (root / f"c/bad{i}.jpg").write_bytes((root / "c/truncated.jpg").read_bytes())
        paths.insert(i * good // bad, f"c/bad{i}.jpg")
    return paths


def test_one_in_a_hundred_may_be_unreadable(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.warns(UserWarning, match=r"2 of 200 images .*bad0.jpg.*bad1.jpg.* left out") as caught:
        bank = build(root, bad_among(root, 198, 2))
    assert len(caught) == 1 and len(bank) == 198
    assert [text.split(" ")[0] for text in bank.description["unreadable"]] == ["c/bad0.jpg", "c/bad1.jpg"]


def test_more_than_one_in_a_hundred_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(CVSAError, match=r"3 of 200 images .*bad0.jpg .*Repair or remove such files"):
        build(root, bad_among(root, 197, 3))
    assert not (tmp_path / "bank").exists()


def test_of_a_large_set_no_more_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "UNREADABLE_LIMIT", 1)
    with pytest.raises(CVSAError, match="2 of 300 images"):
        build(tmp_path / "root", bad_among(tmp_path / "root", 298, 2))


@pytest.mark.parametrize("data", [b"", b"no picture"])
def test_a_damaged_mask_is_named(tmp_path: Path, data: bytes) -> None:
    root = tmp_path / "root"
    paths = damaged(root, 4)
    for path in paths:
        save(mask_of(scene((40, 40), (5, 5, 20, 20))), root / "masks" / path)
    (root / "masks" / paths[2]).write_bytes(data)
    with pytest.raises(
        CVSAError, match=f"1 of 4 images .*{paths[2]} .*its mask {root}/masks/{paths[2]} cannot"
    ):
        build(root, paths)


def test_class_of_nothing_but_unreadable_images_stops(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths = [*damaged(root, 120), "c/truncated.jpg"]
    with pytest.raises(CVSAError, match=r"No image of a class .*truncated.jpg"):
        build(root, paths, classes=121)


def test_images_without_a_mask(tmp_path: Path) -> None:
    root = tmp_path / "root"
    paths = damaged(root, 4)
    (root / "masks").mkdir()
    with pytest.raises(CVSAError, match="4 of 4 images .* no entry in its masks"):
        build(root, paths)
    save(mask_of(scene((40, 40), (5, 5, 20, 20))), root / "masks" / paths[0])
    with pytest.warns(UserWarning, match="3 of 4 images"):
        bank = build(root, paths)
    assert bank.found.tolist() == [True, False, False, False] and bank.no_object == 3
    assert bank.boxes[1].tolist() == [0, 0, R, R] and (bank.images[1, 3] == 255).all()


# --- tables ------------------------------------------------------------------------------------


def boxes(root: Path, rows: str, head: str = "path,x,y,w,h") -> ImageBank:
    save(scene((96, 96), (20, 30, 60, 80)), root / "c/x.png")
    (root / "boxes.csv").write_text(f"{head}\n{rows}\n", encoding="utf-8")
    return build(root, ["c/x.png"])


def test_box_partly_outside_is_clipped_with_a_warning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 boxes .*clipped.*c/x.png"):
        bank = boxes(tmp_path / "root", "c/x.png,60,-10,100,58")
    assert bank.boxes[0].tolist() == [30, 0, 48, 24]


def test_fractional_and_tiny_boxes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank = boxes(tmp_path / "root", "c/x.png,19.8,30.2,40.4,49.9\nc/x.png,95.7,0,0.1,0.1")
    assert (bank.boxes[0] - torch.tensor([10.0, 15, 30, 40])).abs().max() <= 1  # the larger of the two


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "c/y.png,0,0,5,5\nc/x.png,96,10,20,20",
            "line 3: the box of 'c/x.png' lies outside its 96 x 96 image",
        ),
        ("c/x.png,10,-30,20,30", "line 2.*outside"),
        ("c/x.png,10,10,-5,20", "line 2.*size -5 x 20"),
        ("c/x.png,10,10,5,0", "line 2.*size 5 x 0"),
        ("c/x.png,10,10,nan,9", "line 2: 10, 10, nan, 9 should be numbers"),
        ("c/x.png,ten,10,5,9", "line 2: ten, 10, 5, 9 should be numbers"),
        ("c/x.png,10,10", "line 2: fewer than 5 fields"),
    ],
)
def test_bad_boxes_are_named(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(CVSAError, match=message):
        boxes(tmp_path / "root", rows)


def test_bad_saliency_files_are_named(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with pytest.raises(CVSAError, match=r"columns path,x,y,w,h"):
        boxes(root, "c/x.png,0,0,9,9", head="path,x1,y1,x2,y2")
    with pytest.raises(CVSAError, match="masks with PATH.png"):
        Folder().saliency(root, "masks")
    with pytest.raises(CVSAError, match="exactly one .npz .*none"):
        Folder().saliency(root, "predicted")
    np.savez(root / "a.npz", paths=["c/x.png"], bits=np.zeros((2, 8), np.uint8), shape=[8, 8])
    with pytest.raises(CVSAError, match="a.npz"):
        Folder().saliency(root, "predicted")
    (root / "a.npz").write_bytes(b"PK no zip")
    with pytest.raises(CVSAError, match="a.npz"):
        Folder().saliency(root, "predicted")
    (root / "boxes.csv").unlink()
    with pytest.raises(CVSAError, match="boxes.csv"):
        Folder().saliency(root, "boxes")


def test_auto_takes_the_best_there_is(tmp_path: Path) -> None:
    assert Folder().saliency(tmp_path).kind == "none"
    np.savez(tmp_path / "a.npz", paths=["x"], bits=np.zeros((1, 8), np.uint8), shape=[8, 8])
    assert Folder().saliency(tmp_path).kind == "predicted"
    (tmp_path / "boxes.csv").write_text("path,x,y,w,h\n")
    assert Folder().saliency(tmp_path).kind == "boxes"
    (tmp_path / "masks").mkdir()
    assert Folder().saliency(tmp_path).kind == "masks"
    assert Folder().saliency(tmp_path, "none").kind == "none"


@pytest.mark.skipif("CVSA_DATA" not in os.environ, reason="photographs are not part of the repository")
def test_photographs_masks_and_boxes_agree(tmp_path: Path) -> None:
    """The boxes of this set are the extents of its masks, so both kinds of saliency agree."""
    root = Path(os.environ["CVSA_DATA"]) / "pets3"
    paths = sorted(p.relative_to(root).as_posix() for p in root.glob("test/*/*.jpg"))[::6]
    for path in paths:
        by_mask, by_box = (
            map_to_box(decode(root, path, 96, Folder().saliency(root, kind).read)[0][3])
            for kind in ("masks", "boxes")
        )
        # A mask in several parts has a larger extent than its largest part.
        assert (by_box[:2] <= by_mask[:2] + 1).all() and (by_box[2:] >= by_mask[2:] - 1).all()

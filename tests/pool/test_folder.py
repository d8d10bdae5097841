"""Folders of class folders, Caltech-101, and every kind of image that cannot be used as it is."""

from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from PIL import Image

from mcdal.errors import PoolError
from mcdal.pool.base import ArrayImages, Pool
from mcdal.pool.caltech101 import Caltech101
from mcdal.pool.folder import Folder
from mcdal.pool.loading import FileImages

RED = np.full((8, 8, 3), [255, 0, 0], dtype=np.uint8)


def half_transparent() -> Image.Image:
    return Image.fromarray(np.dstack([RED, np.full((8, 8), 128, dtype=np.uint8)]))


def palette(**options: object) -> bytes:
    return layouts.encoded(Image.fromarray(RED).convert("P", palette=Image.Palette.ADAPTIVE), **options)


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(RED, i, axis=2)) for i in range(3)]
    return layouts.encoded(frames[0], kind, save_all=True, append_images=frames[1:])


# name: (content, what the reason says, colour of a pixel after conversion or None where there is no conversion)
BAD: dict[str, tuple[bytes, str, tuple[int, ...] | None]] = {
    "truncated.jpg": (layouts.encoded(layouts.noise(0, 64, 64, 3), "JPEG")[:900], "truncated", None),
    "truncated.png": (layouts.encoded(layouts.noise(0, 64, 64, 3))[:900], "decode", None),
    "header_only.png": (layouts.encoded(RED)[:20], "", None),
    "empty.jpg": (b"", "zero bytes", None),
    "text.png": (b"hello, I am a text", "not an image", None),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image", None),
    "deep.png": (layouts.encoded(Image.fromarray(np.full((8, 8), 0x8080, dtype=np.uint16))), "16 bits", (128,)),
    "deep_colour.png": (layouts.png(8, 8, 16, 2, (b"\0" + b"\xff\xff\0\0\0\0" * 8) * 8), "16 bits", (255, 0, 0)),
    "cmyk.jpg": (layouts.encoded(Image.fromarray(RED).convert("CMYK"), "JPEG"), "CMYK", (254, 0, 0)),
    "palette.png": (palette(), "palette", (255, 0, 0)),
    "palette_bytes.png": (palette(transparency=b"\x80"), "transparent", (255, 127, 127)),
    "alpha.png": (layouts.encoded(half_transparent()), "transparent", (255, 127, 127)),
    "alpha.webp": (layouts.encoded(half_transparent(), "WEBP", lossless=True), "transparent", (255, 127, 127)),
    "grey_alpha.png": (layouts.encoded(Image.new("LA", (8, 8), (0, 128))), "transparent", (127,)),
    "two_valued.png": (layouts.encoded(Image.new("1", (8, 8), 1)), "two-valued", (255,)),
    "floats.tif": (layouts.encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "floating point", None),
    "animated.gif": (animated("GIF"), "several frames", (255, 0, 0)),
    "animated.png": (animated("PNG"), "several frames", (255, 0, 0)),
    "animated.webp": (animated("WEBP"), "several frames", (255, 0, 0)),
    "pages.tif": (animated("TIFF"), "several frames", (255, 0, 0)),
    "point.png": (layouts.encoded(RED[:1, :1]), "only 1x1", None),
    "line.png": (layouts.encoded(RED[:1]), "only 8x1", None),
    "bomb.png": (layouts.png(60_000, 60_000, 8, 0, bytes(1000)), "gigantic", None),
    "large.png": (layouts.png(12_000, 12_000, 1, 0, bytes(1000)), "gigantic", None),
}


def reopen(folder: Path, **fields: object) -> Pool:
    return Folder(folder, **fields).open(folder.parent / "cache")


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_refused_set_aside_or_converted(tmp_path: Path, name: str) -> None:
    content, said, colour = BAD[name]
    folder = layouts.class_folders(tmp_path / "pets")
    (folder / "cat" / name).write_bytes(content)
    fields: dict[str, object] = {"max_pixels": 100_000_000, "workers": 0}
    with pytest.raises(PoolError, match=f"(?s)1 bad images.*cat/{name}: .*{said}.*quarantine") as refused:
        reopen(folder, **fields)
    assert ("bad_images=convert" in str(refused.value)) == (
        colour is not None or name == "floats.tif"
    ) or colour is None
    aside = reopen(folder, bad_images="quarantine", **fields)
    assert [bad.id for bad in aside.quarantine] == [f"cat/{name}"] and said in aside.quarantine[0].reason
    assert len(aside) + len(aside.test) == 10
    converted = reopen(folder, bad_images="convert", **fields)
    if colour is None:
        assert [bad.id for bad in converted.quarantine] == [f"cat/{name}"]
    else:
        assert not converted.quarantine and len(converted) + len(converted.test) == 11
        assert any("converted" in note and said in note for note in converted.notes)
        assert np.abs(find(converted, f"cat/{name}").astype(int) - np.array(colour)).max() <= 1


def find(pool: Pool, id: str) -> np.ndarray:
    """A picture of the pool or of its test images."""
    images = pool.images if id in pool.images.ids else pool.test.images
    return images.picture(images.ids.index(id))


def test_all_bad_images_are_counted_and_ten_are_named(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    for i in range(13):
        (folder / "dog" / f"bad{i:02d}.jpg").write_bytes(b"")
    with pytest.raises(PoolError, match=r"(?s)13 bad images.*dog/bad09.jpg.*and 3 more") as refused:
        reopen(folder)
    assert "bad10" not in str(refused.value)


def test_a_class_with_nothing_but_bad_images_is_an_error(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    (folder / "fish").mkdir()
    for i in range(3):
        (folder / "fish" / f"{i}.png").write_bytes(b"no")
    with pytest.raises(PoolError, match="images of the class 'fish' in the pool are bad"):
        reopen(folder, bad_images="quarantine")
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"no")
    with pytest.raises(PoolError, match="13 bad images"):
        reopen(folder, bad_images="convert")


def test_ids_are_paths_and_the_split_is_stratified(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets", each=10)
    pool = reopen(folder)
    assert pool.classes == ("cat", "dog") and pool.name == "pets"
    assert np.bincount(pool.test.y).tolist() == [2, 2] and len(pool) == 16
    assert np.array_equal(find(pool, "dog/003.png"), layouts.noise(1003, 8, 8, 3))
    assert reopen(folder, split_seed=1).images.ids != pool.images.ids
    assert reopen(folder).fingerprint == pool.fingerprint


def test_a_copied_folder_is_the_same_data_and_a_changed_one_is_not(tmp_path: Path) -> None:
    one = reopen(layouts.class_folders(tmp_path / "1" / "pets"))
    other = layouts.class_folders(tmp_path / "2" / "pets")
    assert reopen(other).fingerprint == one.fingerprint
    (other / "cat" / "000.png").write_bytes(layouts.encoded(np.zeros((8, 8, 3), dtype=np.uint8)))
    changed = reopen(other)
    assert changed.fingerprint != one.fingerprint
    assert find(changed, "cat/000.png").max() == 0
    assert reopen(other, size=4).fingerprint != changed.fingerprint


@pytest.mark.parametrize("test_name", ["test", "val", "Validation"])
def test_separate_folders_are_used(tmp_path: Path, test_name: str) -> None:
    layouts.class_folders(tmp_path / "pets" / "train", each=3)
    layouts.class_folders(tmp_path / "pets" / test_name, each=2)
    pool = reopen(tmp_path / "pets")
    assert (len(pool), len(pool.test)) == (6, 4)
    assert pool.images.ids[0] == "train/cat/000.png" and pool.test.images.ids[0] == f"{test_name}/cat/000.png"


def test_a_test_folder_elsewhere_and_a_lone_train_folder(tmp_path: Path) -> None:
    layouts.class_folders(tmp_path / "pets" / "train", each=3)
    layouts.class_folders(tmp_path / "others" / "t", each=2)
    pool = reopen(tmp_path / "pets", test=tmp_path / "others" / "t")
    assert pool.test.images.ids[0] == "t/cat/000.png" and len(pool) == 6
    assert len(reopen(tmp_path / "pets").test) == 2


def test_test_classes_must_be_known_and_missing_ones_are_noted(tmp_path: Path) -> None:
    layouts.class_folders(tmp_path / "pets" / "train", ("cat", "dog", "fish"), each=3)
    layouts.class_folders(tmp_path / "pets" / "test", ("cat", "dog"), each=2)
    assert reopen(tmp_path / "pets").notes == ("no test image of the class 'fish'",)
    layouts.class_folders(tmp_path / "pets" / "test", ("owl",), each=2)
    with pytest.raises(PoolError, match=r"test/owl/000.png is of the class 'owl'"):
        reopen(tmp_path / "pets")


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    for name in (".hidden.png", "cat/.DS_Store", "cat/notes.txt", "dog/readme", "labels.csv", ".git/x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
    (folder / "cat" / "more").mkdir()
    (folder / "cat" / "more" / "DEEP.PNG").write_bytes(layouts.encoded(RED))
    pool = reopen(folder)
    assert pool.notes == ("files that are no images were ignored: 1 .csv, 1 .txt, 1 without extension",)
    assert find(pool, "cat/more/DEEP.PNG").shape == (8, 8, 3)


def test_folders_that_cannot_be_a_pool_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="does not exist"):
        reopen(tmp_path / "nowhere")
    (tmp_path / "pets").mkdir()
    with pytest.raises(PoolError, match="no class folders"):
        reopen(tmp_path / "pets")
    layouts.class_folders(tmp_path / "pets", ("cat",))
    with pytest.raises(PoolError, match="only one class folder, 'cat'"):
        reopen(tmp_path / "pets")
    (tmp_path / "pets" / "dog").mkdir()
    with pytest.raises(PoolError, match=r"class folder .*dog holds no image"):
        reopen(tmp_path / "pets")
    (tmp_path / "pets" / "dog" / "gone.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(PoolError, match="link may point nowhere"):
        reopen(tmp_path / "pets")


@pytest.mark.parametrize("fields", [{"size": 0}, {"max_pixels": 0}, {"workers": -1}, {"test_share": 2.0}])
def test_fields_out_of_range_are_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    with pytest.raises(PoolError):
        reopen(layouts.class_folders(tmp_path / "pets"), **fields)


def test_shapes_must_agree_unless_a_size_is_given(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    (folder / "dog" / "wide.png").write_bytes(layouts.encoded(layouts.noise(0, 8, 30, 3)))
    with pytest.raises(PoolError, match=r"cat/\d+.png is 8x8, dog/wide.png is 30x8.*--set source.size=64"):
        reopen(folder)
    assert reopen(folder, size=6).images.picture(0).shape == (6, 6, 3)


def test_grey_images_stay_grey_until_colour_comes(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    for i, path in enumerate(sorted(folder.glob("*/*.png"))):
        path.write_bytes(layouts.encoded(layouts.noise(i, 8, 8)))
    grey = reopen(folder)
    assert grey.images.picture(0).shape == (8, 8, 1) and len(grey.mean) == 1
    assert np.array_equal(find(grey, "dog/004.png")[..., 0], layouts.noise(9, 8, 8))
    (folder / "dog" / "zzz.png").write_bytes(layouts.encoded(RED))
    mixed = reopen(folder)
    for i, id in enumerate(sorted(set(grey.images.ids + grey.test.images.ids))):
        assert np.array_equal(find(mixed, id), np.repeat(layouts.noise(i, 8, 8)[..., None], 3, axis=2))
    assert np.array_equal(find(mixed, "dog/zzz.png"), RED)
    assert mixed.notes == ("10 grey images among 1 in colour were read as colour",)


def test_size_crops_the_centre_and_orientation_is_respected(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    wide = np.zeros((100, 300, 3), dtype=np.uint8)
    wide[:, 100:200] = 255
    (folder / "cat" / "wide.png").write_bytes(layouts.encoded(wide))
    big = np.zeros((1600, 1600, 3), dtype=np.uint8)
    big[:800] = 255  # white above; turned by 90 degrees clockwise it is white on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / "cat" / "turned.jpg").write_bytes(layouts.encoded(big, "JPEG", exif=exif))
    pool = reopen(folder, size=16)
    assert find(pool, "cat/wide.png")[:, 1:-1].min() == 255
    turned = find(pool, "cat/turned.jpg")
    assert turned[:, 9:].min() > 250 and turned[:, :7].max() < 5


def test_files_with_a_broken_exif_block_are_read(tmp_path: Path) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    (folder / "cat" / "x.jpg").write_bytes(layouts.encoded(RED, "JPEG", exif=b"Exif\0\0nonsense and more"))
    assert find(reopen(folder), "cat/x.jpg").shape == (8, 8, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_large_pools_are_decoded_at_every_batch(tmp_path: Path, workers: int) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    (folder / "dog" / "grey.png").write_bytes(layouts.encoded(layouts.noise(7, 8, 8)))
    small, large = reopen(folder), reopen(folder, cache_gib=0.0, workers=workers)
    assert isinstance(small.images, ArrayImages) and isinstance(large.images, FileImages)
    assert (large.mean, large.std, large.fingerprint) == (small.mean, small.std, small.fingerprint)
    positions = [np.array([4, 1]), np.array([7]), np.arange(len(large))]
    before = torch.random.get_rng_state()
    for one, other in zip(*(p.images.batches(positions, torch.device("cpu")) for p in (small, large)), strict=True):
        assert torch.equal(one, other) and other.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_breaks_later_is_named(tmp_path: Path, workers: int) -> None:
    folder = layouts.class_folders(tmp_path / "pets")
    pool = reopen(folder, cache_gib=0.0, workers=workers)
    (folder / pool.images.ids[2]).unlink()
    with pytest.raises(PoolError, match=f"{pool.images.ids[2]} has changed since") as error:
        list(pool.images.batches([np.arange(3)], torch.device("cpu")))
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("inside", ["101_ObjectCategories", "caltech-101/101_ObjectCategories"])
def test_caltech(tmp_path: Path, inside: str) -> None:
    names = ("BACKGROUND_Google", "Faces", "accordion")
    folder = layouts.class_folders(tmp_path / "data" / inside, names, each=6, side=80)
    (folder / "Faces" / "image_0099.jpg").write_bytes(layouts.encoded(layouts.noise(0, 90, 120), "JPEG"))
    pool = Caltech101(tmp_path / "data").open(tmp_path / "cache")
    assert pool.classes == names and pool.images.picture(0).shape == (64, 64, 3)
    assert np.bincount(pool.test.y).tolist() == [2, 2, 2]
    same = Caltech101(folder).open(tmp_path / "cache")
    assert same.fingerprint == pool.fingerprint and same.images.ids == pool.images.ids
    assert Caltech101(folder, split_seed=1).open(tmp_path / "cache").images.ids != pool.images.ids


def test_caltech_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match="is not 101_ObjectCategories"):
        Caltech101(tmp_path).open(tmp_path)

"""Folders of images and masks with a class table, and every way in which masks do not fit."""

import json
import re
from pathlib import Path

import layouts
import numpy as np
import pytest
from PIL import Image

from mcdal.config import Config
from mcdal.errors import PoolError
from mcdal.pool.base import Pool
from mcdal.pool.class_file import read_entries
from mcdal.pool.class_table import Entry, class_table
from mcdal.pool.mask_folder import MaskFolder
from mcdal.settings import override, to_json
from mcdal.testing import fake_scene_config
from mcdal.values import VOID

GREEN, BROWN, BLACK = (0, 200, 0), (120, 70, 20), (0, 0, 0)
COLOURS = (Entry("grass", colour=GREEN), Entry("path", colour=BROWN), Entry("", colour=BLACK, void=True))


def reopen(data: Path, **fields: object) -> Pool:
    return MaskFolder(data, **{"workers": 0, **fields}).open(data.parent / "cache")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return layouts.mask_folder(tmp_path / "park")


def in_class_indices(seed: int) -> np.ndarray:
    return np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, VOID], dtype=np.uint8)[layouts.mask(seed, [1, 2, 9])]


def mask_of(pool: Pool, id: str) -> np.ndarray:
    """Of a pool's or a test image."""
    images, masks = (pool.images, pool.masks) if id in pool.images.ids else (pool.test.images, pool.test.masks)
    assert masks is not None
    return masks[np.array([images.ids.index(id)])][0]


def test_masks_are_found_by_name_and_read_by_the_table(data: Path) -> None:
    pool = reopen(data)
    assert MaskFolder.task == "segmentation" and pool.name == "park"
    assert pool.classes == ("grass", "path") and pool.groups is None and pool.notes == ()
    assert (len(pool), len(pool.test)) == (5, 1)
    every = {*pool.images.ids, *pool.test.images.ids}
    assert every == {f"images/{'abc'[i // 2]}_{i}" for i in range(6)} and list(pool.images.ids) == sorted(
        pool.images.ids
    )
    for i in range(6):
        assert np.array_equal(mask_of(pool, f"images/{'abc'[i // 2]}_{i}"), in_class_indices(i))
    assert (
        reopen(data, split_seed=1).images.ids != pool.images.ids
        or reopen(data, split_seed=2).images.ids != pool.images.ids
    )


def test_a_copy_is_the_same_data_and_another_table_is_not(data: Path, tmp_path: Path) -> None:
    one = reopen(data)
    assert reopen(layouts.mask_folder(tmp_path / "copy" / "park")).fingerprint == one.fingerprint
    (data / "classes.csv").write_text("id,name,void\n1,grass,\n2,path,\n9,path,\n")
    other = reopen(data)
    assert other.fingerprint != one.fingerprint and mask_of(other, "images/a_0").max() == 1


def test_test_folders_and_endings(data: Path, tmp_path: Path) -> None:
    for path in (data / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    other = layouts.mask_folder(tmp_path / "elsewhere", 2)
    test = {"test_images": other / "images", "test_masks": other / "masks"}
    with pytest.raises(PoolError, match="12 files lack their other half"):
        reopen(data, test_images=other / "images", test_masks=data / "masks")
    with pytest.raises(PoolError, match="test_images and test_masks belong together"):
        reopen(data, mask_ending="_mask", test_images=other / "images")
    for path in (other / "masks").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    pool = reopen(data, mask_ending="_mask", **test)
    assert (len(pool), pool.test.images.ids) == (6, ("images/a_0", "images/a_1"))
    with pytest.raises(PoolError, match=r"is in the pool and in the test \(6 such images\)"):
        reopen(data, mask_ending="_mask", test_images=Path("images"), test_masks=Path("masks"))


def test_groups_come_from_names_or_subfolders_and_are_held_out_whole(data: Path) -> None:
    pool = reopen(data, groups="^([^_]+)_")
    assert pool.groups is not None and len(set(pool.groups)) == 2 and len(pool.test) == 2
    (held,) = {id.split("/")[1][0] for id in pool.test.images.ids}
    assert held not in pool.groups and pool.notes == (f"the test is 2 of 6 images, whole groups: {held}",)
    with pytest.raises(PoolError, match="regular expression with one group"):
        reopen(data, groups="[a-z]_")
    with pytest.raises(PoolError, match="regular expression with one group"):
        reopen(data, groups="([a-z_")
    assert reopen(data, groups="^(.)?").groups is not None
    for kind in ("images", "masks"):
        for path in sorted((data / kind).iterdir()):
            (data / kind / path.name[0]).mkdir(exist_ok=True)
            path.rename(data / kind / path.name[0] / path.name)
    nested = reopen(data)
    assert nested.groups == pool.groups and nested.images.ids[0].count("/") == 2


@pytest.mark.parametrize("palette", [False, True])
def test_masks_of_colours(data: Path, palette: bool) -> None:
    shades = np.zeros((10, 3), dtype=np.uint8)
    shades[[1, 2, 9]] = GREEN, BROWN, BLACK
    for i in range(6):
        picture = Image.fromarray(shades[layouts.mask(i, [1, 2, 9])])
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE) if palette else picture
        (data / "masks" / f"{'abc'[i // 2]}_{i}.png").write_bytes(layouts.encoded(picture))
    pool = reopen(data, classes=COLOURS)
    assert np.array_equal(mask_of(pool, "images/b_2"), in_class_indices(2))
    assert pool.kind is not None and pool.kind.colours == (GREEN, BROWN)  # type: ignore[attr-defined]
    with pytest.raises(
        PoolError, match=r"(?s)1 colours that are no class.*colour 120,70,20: \d+ pixels in 6 masks, first in"
    ):
        reopen(data, classes=(COLOURS[0], Entry("x", colour=(1, 1, 1)), COLOURS[2]))


def test_pictures_in_place_of_masks_are_told_early(data: Path) -> None:
    for i, path in enumerate(sorted((data / "masks").iterdir())):
        path.write_bytes(layouts.encoded(layouts.noise(i, 12, 16, 3)))
    with pytest.raises(PoolError, match=r"(?s)and \d+ more.*look like pictures, not masks"):
        reopen(data, classes=COLOURS)


def test_unknown_ids_are_counted_over_all_masks(data: Path) -> None:
    (data / "classes.csv").write_text("id,name\n1,grass\n5,pond\n")
    with pytest.raises(PoolError) as refused:
        reopen(data)
    count = {v: sum(int((layouts.mask(i, [1, 2, 9]) == v).sum()) for i in range(6)) for v in (2, 9)}
    said = str(refused.value)
    assert "masks hold 2 ids that are no class" in said and "void = 1" in said
    for value in (2, 9):
        assert f"id {value}: {count[value]:,} pixels in 6 masks, first in {data / 'masks'}" in said


FAULTS = {
    "another size": (layouts.encoded(layouts.mask(0, [1, 2], 8, 16)), r"the mask is 16x8, and its image 16x12 pixels"),
    "cut off": (layouts.encoded(layouts.noise(0, 12, 16))[:100], "the mask cannot be read"),
    "no image": (b"hello", "the mask cannot be read"),
    "empty": (b"", "the mask cannot be read"),
    "a JPEG": (layouts.encoded(layouts.mask(0, [1, 2]), "JPEG"), "the mask cannot be read"),
    "in colour": (layouts.encoded(layouts.noise(0, 12, 16, 3)), "this one has mode RGB"),
    "16 bits": (layouts.encoded(Image.fromarray(np.ones((12, 16), dtype=np.uint16))), "this one has 16 bits"),
    "1 bit": (layouts.encoded(Image.new("1", (16, 12))), "this one has mode 1"),
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("threads", [0, 2])
def test_masks_that_cannot_be_used_are_named(data: Path, kind: str, threads: int) -> None:
    content, said = FAULTS[kind]
    (data / "masks" / "b_3.png").write_bytes(content)
    with pytest.raises(PoolError, match=f"(?s)1 scenes cannot be used.*masks/b_3.png: .*{said}"):
        reopen(data, workers=threads)


def test_ten_faults_are_named_and_all_are_counted(tmp_path: Path) -> None:
    data = layouts.mask_folder(tmp_path / "park", 6)
    for i in range(12):
        layouts.put(data / "images" / f"x{i:02d}.png", layouts.encoded(layouts.noise(i, 12, 16, 3)))
        layouts.put(data / "masks" / f"x{i:02d}.png", b"")
    layouts.put(data / "images" / "a_0.jpg", b"nonsense")
    with pytest.raises(
        PoolError, match=r"(?s)13 scenes cannot be used.*a_0.jpg: not an image.*x08.png.*and 3 more"
    ) as error:
        reopen(data)
    assert "x09" not in str(error.value)
    for path in (data / "masks").glob("x*"):
        path.unlink()
    layouts.put(data / "masks" / "zzz.png", b"")
    with pytest.raises(PoolError, match=r"(?s)13 files lack their other half.*images/x00.png: no mask.*and 3 more"):
        reopen(data)
    layouts.put(data / "images" / "a_0.png", b"")
    with pytest.raises(PoolError, match=r"a_0.jpg and .*a_0.png have one name"):
        reopen(data)


def test_sizes_must_agree_unless_one_is_given(data: Path) -> None:
    (data / "images" / "c_4.jpg").write_bytes(layouts.encoded(layouts.noise(0, 24, 20, 3), "JPEG"))
    (data / "masks" / "c_4.png").write_bytes(layouts.encoded(layouts.mask(0, [1, 2], 24, 20)))
    with pytest.raises(PoolError, match=r"is 16x12, .*/c_4 is 20x24. Add --set source.size=\[12,16\]"):
        reopen(data)
    pool = reopen(data, size=(12, 16))
    assert pool.shape == (3, (12, 16)) and mask_of(pool, "images/c_4").shape == (12, 16)
    with pytest.raises(PoolError, match="give height and width in pixels"):
        reopen(data, size=(0, 16))
    (data / "masks" / "c_4.png").write_bytes(layouts.encoded(layouts.mask(0, [1, 2], 12, 16)))
    with pytest.raises(PoolError, match="the mask is 16x12, and its image 20x24"):  # also where both would be scaled
        reopen(data, size=(12, 16))


def test_grey_images_and_void_masks_are_noted(data: Path) -> None:
    (data / "images" / "a_0.jpg").write_bytes(layouts.encoded(layouts.noise(0, 12, 16), "JPEG"))
    for i in range(6):
        (data / "masks" / f"{'abc'[i // 2]}_{i}.png").write_bytes(layouts.encoded(np.full((12, 16), 9, dtype=np.uint8)))
    pool = reopen(data)
    assert pool.notes == (
        "1 grey images among 5 in colour were read as colour",
        "no mask of the pool shows grass, path",
        "no mask of the test shows grass, path",
        "5 masks of the pool are void throughout: labels of these teach nothing",
    )
    assert pool.shape[0] == len(pool.mean) == 3


def test_a_table_is_set_by_its_file(data: Path) -> None:
    table = [{"id": 1, "name": "grass"}, {"id": 2, "name": "path"}, {"id": 9, "name": "none", "void": True}]
    (data / "classes.json").write_text(json.dumps(table))
    config: Config = fake_scene_config(source=MaskFolder(data, workers=0))
    changed = override(config, {"source.classes": "classes.json", "source.size": "[6, 8]"})
    pool = changed.source.open(data.parent / "cache")
    assert pool.shape == (3, (6, 8)) and pool.classes == ("grass", "path")
    inline = MaskFolder(data, classes=tuple(read_entries(data / "classes.json")))
    assert inline.open(data.parent / "cache").fingerprint == reopen(data).fingerprint
    assert to_json(inline)["classes"][2]["void"] is True


def table_of(tmp_path: Path, text: str, name: str = "t.csv") -> object:
    (tmp_path / name).write_text(text)
    return class_table(read_entries(tmp_path / name))


def test_rows_of_one_name_are_one_class_and_colours_may_be_short(tmp_path: Path) -> None:
    table = table_of(tmp_path, "\ufeffName, r,g,b ,Void\ntree,1,2,3,\ncar,0,0,9,\ntree,1,2,4,no\nsky,7,7,7,x\n")
    assert table.classes == ("tree", "car") and table.by_colour and table.colours == ((1, 2, 3), (0, 0, 9))
    assert table.meaning == {0x010203: 0, 0x000009: 1, 0x010204: 0, 0x070707: VOID}
    both = table_of(tmp_path, "id,red,green,blue,name\n4,0,0,9,car\n6,1,1,1,tree\n")
    assert not both.by_colour and both.meaning == {4: 0, 6: 1} and both.colours == ((0, 0, 9), (1, 1, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,name\n1,a\n", "names 1 class: two are the least"),
        ("id,name\n1,a\n1,b\n", "the id of 'b' is given twice"),
        ("id,name\n1,a\n300,b\n", "'b' has 300, and masks hold 0 to 255"),
        ("id,name\n1,a\nx,b\n", "row 2: id is 'x', not a whole number"),
        ("id,name\n1,a\n,b\n", "'b' has no id, and others have"),
        ("id,name\n1,a\n2,\n", "a row that is not void has no name"),
        ("name\na\nb\n", "'a' has neither an id nor red, green and blue"),
        ("id,label\n1,a\n2,b\n", "no column name but id, label"),
        ("red,green,name\n1,2,a\n1,3,b\n", "a colour needs red, green and blue"),
        ("id,name,void\n1,a,perhaps\n2,b,\n", "void is 'perhaps'"),
        ("id,name\n" + "".join(f"{i % 256},c{i}\n" for i in range(256)), "256 classes: 255 are the most"),
    ],
)
def test_tables_that_are_unclear_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PoolError, match=said):
        table_of(tmp_path, text)


def test_tables_that_cannot_be_read_are_named(tmp_path: Path, data: Path) -> None:
    with pytest.raises(PoolError, match=r"the class table .*gone.csv does not exist"):
        reopen(data, classes=Path("gone.csv"))
    with pytest.raises(PoolError, match="is no JSON"):
        table_of(tmp_path, "{", "t.json")
    with pytest.raises(PoolError, match="should be a list of objects"):
        table_of(tmp_path, '{"a": 1}', "t.json")
    with pytest.raises(PoolError, match=r"masks does not exist"):
        reopen(data, masks=Path("nowhere/masks"))


def test_the_example_of_the_documents_runs(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    (table,) = re.findall(r"```csv\n(.*?)```", page, flags=re.S)
    (data / "classes.csv").write_text(table)
    monkeypatch.chdir(data.parent)
    exec(example, {})
    assert capsys.readouterr().out == "4 2 ('grass', 'path')\n"
    assert reopen(data).classes == ("grass", "path")

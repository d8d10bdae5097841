"""What people drew becomes files that a segmentation run reads."""

import csv

import numpy as np
import pytest
from PIL import Image

from mcdal.errors import CampaignError
from mcdal.label_studio.export_masks import export_masks, mask_name
from mcdal.label_studio.shapes import masks_interface
from mcdal.pool.mask_folder import MaskFolder
from tests.label_studio.test_masks import box


@pytest.fixture
def project(client):
    interface = masks_interface(["road", "sky"], ["brushlabels", "polygonlabels"])
    return client.make_project({"title": "scenes", "label_config": interface})["id"]


def scene(client, project, **data):
    return client.import_tasks(project, [{"data": data}])[0]


def test_a_segmentation_run_reads_what_was_drawn(client, server, project, tmp_path):
    (tmp_path / "images" / "mon").mkdir(parents=True)
    for i in range(8):
        id = f"mon/{i}.jpg"
        Image.fromarray(np.full((40, 50, 3), 30 * i, dtype=np.uint8)).save(tmp_path / "images" / id)
        task = scene(client, project, image=f"/data/{i}.jpg", mcdal_id=id)
        server.annotate(task, 1, result=[box("sky", 0, 0, 100, 50), box("road", 0, 50, 100, 25)])
    done = export_masks(client, project, tmp_path)
    assert (done.masks, done.unused) == (8, [])
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.png")}
    export_masks(client, project, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.png")} == before
    pool = MaskFolder(tmp_path).open(tmp_path / "cache")
    assert pool.classes == ("road", "sky") and len(pool.images.ids) == 6
    mask = np.array(Image.open(tmp_path / "masks" / "mon" / "3.png"))
    assert np.unique(mask, return_counts=True)[1].tolist() == [500, 1000, 500] and mask[39, 0] == 255


def test_what_nobody_drew_may_be_a_class(client, server, project, tmp_path):
    task = scene(client, project, image="http://x.test/a%20b.png?sig=1")
    server.annotate(task, 1, result=[box("sky", 0, 0, 100, 50)])
    export_masks(client, project, tmp_path, "background")
    assert set(np.unique(np.array(Image.open(tmp_path / "masks" / "a b.png"))).tolist()) == {0, 2}
    with (tmp_path / "classes.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["background", "road", "sky", "void"]


def test_the_newest_annotation_counts_and_what_is_none_is_named(client, server, project, tmp_path):
    one = scene(client, project, image="/data/local-files/?d=deep/one.jpg")
    server.annotate(one, 1, result=[box("sky", 0, 0, 100, 100)])
    server.annotate(one, 2, result=[box("road", 0, 0, 100, 100)])
    server.annotate(one, 2, cancelled=True)
    two, three = scene(client, project, image="/data/two.jpg"), scene(client, project, image="/data/three.jpg")
    server.annotate(two, 1)
    server.annotate(three, 1, result=[box("wolf", 0, 0, 1, 1)])
    done = export_masks(client, project, tmp_path)
    assert done.masks == 1 and np.array(Image.open(tmp_path / "masks" / "one.png")).max() == 0
    text = "\n".join(done.lines())
    assert "there is a newer one" in text and "nothing was drawn" in text and "'wolf'" in text


def test_two_tasks_of_one_name_are_refused(client, server, project, tmp_path):
    for folder in "ab":
        server.annotate(scene(client, project, image=f"/data/{folder}/x.jpg"), 1, result=[box("sky", 0, 0, 9, 9)])
    with pytest.raises(CampaignError, match=r"are both x\.png"):
        export_masks(client, project, tmp_path)


def test_one_damaged_annotation_ends_nothing(client, server, project, tmp_path):
    odd = [
        {**box("sky", 0, 0, 9, 9), "value": None}, {**box("sky", 0, 0, 9, 9), "value": {"rectanglelabels": 3}},
        box("sky", 0, 1e308, 9, 9), box("sky", 0, 10**400, 9, 9), box({"a": 1}, 0, 0, 9, 9), box("sky", 0, 0, 9, 9, rotation="x"),
    ]  # fmt: skip
    for i, result in enumerate(odd):
        server.annotate(scene(client, project, image=f"/data/{i}.jpg"), 1, result=[result])
    server.annotate(scene(client, project, image="/data/text.jpg"), 1, result="nonsense")
    for name in ("../bad", "x" * 300):
        server.annotate(scene(client, project, image="x", mcdal_id=name), 1, result=[box("sky", 0, 0, 9, 9)])
    server.annotate(scene(client, project, image="http://[::1"), 1, result=[box("sky", 0, 0, 9, 9)])
    server.annotate(scene(client, project, image="/data/good.jpg"), 1, result=[box("sky", 0, 0, 9, 9)])
    done = export_masks(client, project, tmp_path)
    assert done.masks == 1 and [p.name for p in tmp_path.rglob("*.png")] == ["good.png"]
    assert len(done.unused) == len(odd) + 4 and all(line.startswith("task ") for line in done.unused)


def test_masks_that_no_annotation_backs_any_more_are_told(client, server, project, tmp_path):
    tasks = [scene(client, project, image=f"/data/{i}.jpg") for i in range(2)]
    numbers = [server.annotate(task, 1, result=[box("sky", 0, 0, 9, 9)]) for task in tasks]
    assert export_masks(client, project, tmp_path).stale == []
    server.delete(numbers[1])
    done = export_masks(client, project, tmp_path)
    assert (done.masks, done.stale) == (1, ["1.png"]) and "1 masks of before have no annotation" in "\n".join(
        done.lines()
    )


def test_masks_of_other_classes_are_not_mixed(client, server, project, tmp_path):
    server.annotate(scene(client, project, image="/data/a.jpg"), 1, result=[box("sky", 0, 0, 9, 9)])
    export_masks(client, project, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    server.projects[project]["label_config"] = masks_interface(["sky", "road"], ["brushlabels"])
    with pytest.raises(CampaignError, match=r"classes\.csv has other classes than the project"):
        export_masks(client, project, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_classes_are_written_before_masks(client, server, project, tmp_path, monkeypatch):
    server.annotate(scene(client, project, image="/data/a.jpg"), 1, result=[box("sky", 0, 0, 9, 9)])

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr("mcdal.label_studio.export_masks._write", full)
    with pytest.raises(OSError, match="no space"):
        export_masks(client, project, tmp_path)
    assert (tmp_path / "classes.csv").exists()


@pytest.mark.parametrize(
    "id", ["../x.png", "/etc/x.png", "a/../../x.png", "..", "a\\..\\b.png", "x\0.png", "\udc80.png", "y" * 201]
)
def test_no_id_leads_out_of_the_folder(id):
    with pytest.raises(CampaignError, match="cannot be the name of a file"):
        mask_name({"id": 1, "data": {"mcdal_id": id}})


def test_a_project_of_choices_has_no_masks(client, connection, tmp_path):
    with pytest.raises(CampaignError, match="no <BrushLabels>"):
        export_masks(client, connection.project, tmp_path)


def test_only_the_ending_of_an_image_is_taken_off():
    names = {"a/v1.0": "a/v1.0.png", "a/v1.0.JPG": "a/v1.0.png", "x.tar": "x.tar.png", "plain": "plain.png"}
    for id, name in names.items():
        assert mask_name({"id": 1, "data": {"mcdal_id": id}}) == name

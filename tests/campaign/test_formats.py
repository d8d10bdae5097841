"""What is written is what was labeled, as each format's readers have it; images that have gone are named."""

import csv
import hashlib
import json
import shutil
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pyarrow.parquet
import pytest
import yaml as real_yaml

from mcdal.campaign.commands import export as export_command
from mcdal.campaign.definition import opened
from mcdal.campaign.export import FORMATS, export
from mcdal.campaign.formats import folders, huggingface
from mcdal.campaign.importing import read_labels
from mcdal.campaign.rows import labeled
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError
from tests.campaign.conftest import begin
from tests.campaign.test_campaign import answer_all

NAMES = ["0", "one & <two>", 'th"ree', "a/b", "A/B", "é", "x|y", "-", "8", "9"]


@pytest.fixture(scope="module")
def campaign(photos, tmp_path_factory):
    """Two images have one name in two folders, and some have names that formats must escape."""
    root, truth = photos
    images = tmp_path_factory.mktemp("images") / "images"
    shutil.copytree(root, images)
    renamed = {
        "a/000.png": "a/same.png",
        "b/001.png": "b/same.png",
        "a/002.png": "a/q&<'> \"%20#?.png",
        "a/004.png": "a/é漢.png",
    }
    for old, new in renamed.items():
        (images / old).rename(images / new)
    truth = {renamed.get(id, id): value for id, value in truth.items()}
    folder = tmp_path_factory.mktemp("formats") / "c"
    begin(folder, images, budget=160, start=160, batch=10, audit=40.0, classes=",".join(NAMES))
    with opened(folder) as campaign:
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth)
        yield campaign


@pytest.fixture
def some_gone(campaign, tmp_path):
    """Another campaign whose labeled images are taken away in part."""
    shutil.copytree(campaign.campaign.images, tmp_path / "images")
    begin(tmp_path / "c", tmp_path / "images", budget=20, start=20, classes=",".join(NAMES))
    with opened(tmp_path / "c") as other:
        truth = {row.sample_id: row.number for row in labeled(campaign)}
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(other, truth)
        gone = [row.sample_id for row in labeled(other)][:3]
        for id in gone:
            (tmp_path / "images" / id).unlink()
        yield other, gone


def wanted(campaign):
    return {row.sample_id: row.label for row in labeled(campaign)}


def test_huggingface_holds_images_labels_and_a_card(campaign, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "SHARD_BYTES", 6_000)
    monkeypatch.setattr(huggingface, "ROW_GROUP_BYTES", 2_000)
    assert export(campaign, "huggingface", tmp_path / "hf", device="cpu").labels == 200
    shards = sorted((tmp_path / "hf" / "data").iterdir())
    trains = [path for path in shards if path.name.startswith("train-")]
    assert len(trains) > 1 and trains[-1].name == f"train-{len(trains) - 1:05d}-of-{len(trains):05d}.parquet"
    rows = [
        row | {"split": path.name.split("-")[0]}
        for path in shards
        for row in pyarrow.parquet.read_table(path).to_pylist()
    ]
    assert {row["sample_id"]: NAMES[row["label"]] for row in rows} == wanted(campaign) and len(rows) == 200
    for row in rows:
        assert (row["split"] == "test") == (row["arm"] == "audit") and row["image"]["path"] == row["sample_id"]
        assert hashlib.sha256(row["image"]["bytes"]).hexdigest() == row["sha256"]
        assert row["image"]["bytes"] == (campaign.campaign.images / row["sample_id"]).read_bytes()
        assert set(row["by"].split(" and ")) <= {"person 1", "person 2"}
    told = json.loads(pyarrow.parquet.read_schema(shards[0]).metadata[b"huggingface"])["info"]["features"]
    assert told["label"]["names"] == NAMES and told["image"] == {"_type": "Image"}
    assert pyarrow.parquet.ParquetFile(trains[0]).num_row_groups > 1
    front = real_yaml.safe_load((tmp_path / "hf" / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert [f["split"] for f in front["configs"][0]["data_files"]] == ["train", "test"]
    assert [f["name"] for f in front["dataset_info"]["features"]] == list(told)
    assert dict(read_labels(tmp_path / "hf" / "labels.csv")) == wanted(campaign)
    assert "Ann" not in (tmp_path / "hf" / "labels.csv").read_text()


def test_names_are_published_where_they_are_asked_for(campaign, tmp_path):
    export(campaign, "huggingface", tmp_path / "hf", names=True, device="cpu")
    table = pyarrow.parquet.read_table(next((tmp_path / "hf" / "data").iterdir()))
    assert {name for by in table["by"].to_pylist() for name in by.split(" and ")} == {"Ann", "Bob"}
    assert "Ann" in (tmp_path / "hf" / "README.md").read_text()


def test_cvat_is_xml_with_a_tag_an_image(campaign, tmp_path):
    export(campaign, "cvat", tmp_path / "annotations.xml")
    root = ET.parse(tmp_path / "annotations.xml").getroot()
    images = root.findall("image")
    assert root.tag == "annotations" and root.find("version").text == "1.1"
    assert [label.find("name").text for label in root.iterfind("meta/task/labels/label")] == NAMES
    assert {label.find("type").text for label in root.iterfind("meta/task/labels/label")} == {"tag"}
    assert {image.get("name"): image.find("tag").get("label") for image in images} == wanted(campaign)
    assert [int(image.get("id")) for image in images] == list(range(200))
    assert {(image.get("width"), image.get("height")) for image in images} == {("8", "8")}
    arms = {image.get("name"): image.find("tag/attribute[@name='arm']").text for image in images}
    assert arms == {row.sample_id: row.arm for row in labeled(campaign)}


def test_cvat_names_what_xml_cannot_hold(campaign, tmp_path, photos):
    begin(tmp_path / "c", campaign.campaign.images, budget=20, start=20, classes=",".join([*NAMES[:9], "be\x07ll"]))
    truth = {row.sample_id: row.number for row in labeled(campaign)}
    with opened(tmp_path / "c") as other:
        train(tmp_path / "c", "cpu")
        answer_all(other, truth)
        with pytest.raises(CampaignError, match=r"'be\\x07ll' has a character that XML cannot hold"):
            export(other, "cvat", tmp_path / "annotations.xml")
    assert not (tmp_path / "annotations.xml").exists()


def test_label_studio_s_tasks_say_what_and_of_which_image(campaign, tmp_path):
    export(campaign, "label-studio", tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    for task in tasks:
        prefix, _, path = task["data"]["image"].partition("?d=")
        assert prefix == "/data/local-files/" and unquote(path) == task["data"]["mcdal_id"]
        assert not set(path) & set("?#&%\" '<>") - {"%"}
        (annotation,) = task["annotations"]
        (said,) = annotation["result"]
        assert (said["from_name"], said["to_name"], said["type"]) == ("label", "image", "choices")
    found = {t["data"]["mcdal_id"]: t["annotations"][0]["result"][0]["value"]["choices"] for t in tasks}
    assert found == {id: [label] for id, label in wanted(campaign).items()}
    assert {t["data"]["mcdal_arm"] for t in tasks} == {"start", "audit"}


def test_coco_says_which_labels_are_of_the_audit(campaign, tmp_path):
    export(campaign, "coco", tmp_path / "c.json")
    coco = json.loads((tmp_path / "c.json").read_text())
    assert sum(annotation["arm"] == "audit" for annotation in coco["annotations"]) == 40


def test_folders_have_a_card_and_tell_equal_names_apart(campaign, tmp_path):
    export(campaign, "folders", tmp_path / "f", device="cpu")
    assert "## Who labeled" in (tmp_path / "f" / "card.md").read_text()
    assert dict(read_labels(tmp_path / "f")) == wanted(campaign)
    assert len(list((tmp_path / "f").rglob("*.png"))) == 200


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_names_images_that_have_gone(some_gone, tmp_path, to, capsys):
    other, gone = some_gone
    out = tmp_path / "out"
    export_command(other.folder, to, out)
    said = capsys.readouterr().out
    assert "note: 3 of these images have gone" in said and all(repr(id) in said for id in gone)
    assert "35 labels" in said
    if to in ("folders", "huggingface"):
        with (out / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["sample_id"] for row in rows if not row["sha256"]} == set(gone) and len(rows) == 35
        assert "3 of them are of images that are not there any more" in next(out.glob("*.md")).read_text()
    elif to == "parquet":
        table = pyarrow.parquet.read_table(out).to_pylist()
        assert {row["sample_id"] for row in table if not row["sha256"]} == set(gone) and len(table) == 35
    else:
        assert all(id in out.read_text(encoding="utf-8") for id in gone)


def test_a_folder_with_something_in_it_is_left_as_it_is(campaign, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for to in ("folders", "huggingface"):
        with pytest.raises(CampaignError, match="is not empty"):
            export(campaign, to, tmp_path)
        with pytest.raises(CampaignError, match="lies within the images"):
            export(campaign, to, campaign.campaign.images / "new")
    with pytest.raises(CampaignError, match="--to nope: there are csv, parquet"):
        export(campaign, "nope", tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("to", ["folders", "huggingface"])
def test_a_folder_is_there_whole_or_not_at_all(campaign, tmp_path, monkeypatch, to):
    out = tmp_path / "out"
    left = tmp_path / ".out.mcdal-part"
    left.mkdir()
    (left / "half.jpg").write_text("of a call that was killed")
    module = folders if to == "folders" else huggingface
    real = module.to_csv
    monkeypatch.setattr(module, "to_csv", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="full"):
        export(campaign, to, out)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(module, "to_csv", real)
    out.mkdir()
    export(campaign, to, out)
    assert (out / "labels.csv").exists() and not left.exists() and not list(out.rglob("half.jpg"))

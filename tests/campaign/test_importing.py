"""Labels from files: round trips with every export, and what cannot be taken is named."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet
import pytest

from mcdal.campaign.definition import opened
from mcdal.campaign.export import export
from mcdal.campaign.importing import import_labels, read_labels
from mcdal.campaign.progress import PICKED
from mcdal.campaign.rows import labeled
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError
from mcdal.store import Store
from tests.campaign.conftest import begin


@pytest.fixture
def campaign(photos, tmp_path):
    begin(tmp_path / "c", photos[0], budget=20, start=20, double=0.0)
    with opened(tmp_path / "c") as found:
        yield found


def written(path, rows):
    path.write_text("sample_id,label\n" + "".join(f"{id},{label}\n" for id, label in rows))
    return path


@pytest.mark.parametrize("to", ["csv", "parquet", "coco", "folders"])
def test_what_one_campaign_exports_another_imports(campaign, photos, tmp_path, to):
    root, truth = photos
    rows = [(id, truth[id]) for id in [*truth][:30]]
    assert import_labels(campaign, written(tmp_path / "labels.csv", rows), "Ann") == 30
    out = tmp_path / {"csv": "x.csv", "parquet": "x.parquet", "coco": "x.json", "folders": "x"}[to]
    export(campaign, to, out)
    begin(tmp_path / "other", root)
    with opened(tmp_path / "other") as other:
        assert import_labels(other, out, "from c") == 30
        assert import_labels(other, out, "from c") == 0
        assert {r.sample_id: r.number for r in labeled(other)} == dict(rows)
        assert {r.by for r in labeled(other)} == {("from c",)}


def test_class_folders_as_people_have_them(campaign, photos, tmp_path):
    root, truth = photos
    for id in [*truth][:5]:
        target = tmp_path / "sorted" / str(truth[id]) / id
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / id, target)
    assert sorted(read_labels(tmp_path / "sorted")) == sorted((id, str(truth[id])) for id in [*truth][:5])
    assert import_labels(campaign, tmp_path / "sorted", "Ann") == 5


def test_imported_labels_are_learned_from_and_cost_nothing(campaign, photos, tmp_path):
    _, truth = photos
    train(campaign.folder, "cpu")
    asked = campaign.ledger.open()
    others = [id for id in truth if id not in asked]
    rows = [(id, truth[id]) for id in [*asked, *others[:25]]]
    assert import_labels(campaign, written(tmp_path / "labels.csv", rows), "Ann") == 60
    assert train(campaign.folder, "cpu") == "finished"
    store = Store(campaign.folder, create=False)
    assert [r.labeled for r in store.rounds(campaign.run_id)] == [45]
    assert set(store.labels(campaign.run_id)) == {id for id, _ in rows} - {
        o.sample_id for o in campaign.ledger.outcomes(["audit"])
    }
    store.close()
    assert campaign.ledger.progress(arms=PICKED).labels == 20


def test_a_corrected_file_corrects(campaign, photos, tmp_path):
    _, truth = photos
    first = next(iter(truth))
    import_labels(campaign, written(tmp_path / "a.csv", [(first, 3)]), "Ann")
    assert import_labels(campaign, written(tmp_path / "b.csv", [(first, 4)]), "Ann") == 0
    assert labeled(campaign)[0].number == 4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", "sample_id,label\nnobody.png,1\n", "does not have: 'nobody.png'; nothing was taken"),
        ("x.csv", "sample_id,label\na/000.png,eleven\n", "classes that the campaign does not have .*'eleven'"),
        ("x.csv", "sample_id,label\na/000.png,1\na/000.png,2\n", "two classes: 'a/000.png'"),
        ("x.csv", "sample_id,label\na/000.png,\n", "line 2: sample_id or label is empty"),
        ("x.csv", "id,label\na/000.png,1\n", "has no column sample_id; it has id, label"),
        ("x.csv", "sample_id,label\n", "holds no label"),
        ("x.csv", "\xff\xfe\x00", "no column"),
        ("x.json", "{", "cannot be read"),
        ("x.json", '{"images": []}', "is not COCO"),
        ("x.parquet", "no", "cannot be read"),
        ("x.txt", "a/000.png 1", "give a folder of class folders"),
    ],
)
def test_what_cannot_be_taken_is_named_and_nothing_is_taken(campaign, tmp_path, name, content, words):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(CampaignError, match=words):
        import_labels(campaign, path, "Ann")
    assert campaign.ledger.progress().asked == 0


def test_parquet_and_coco_of_others(campaign, tmp_path):
    pyarrow.parquet.write_table(pa.table({"sample_id": ["a/000.png"], "label": ["7"]}), tmp_path / "x.parquet")
    assert read_labels(tmp_path / "x.parquet") == [("a/000.png", "7")]
    content = {
        "images": [{"id": 5, "file_name": "a/000.png"}], "categories": [{"id": 9, "name": "7"}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 9}],
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert read_labels(tmp_path / "x.json") == [("a/000.png", "7")]

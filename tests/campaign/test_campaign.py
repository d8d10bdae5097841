"""A campaign from its beginning to its end, without a page: what is asked, what is learned from, what comes out."""

import csv
import json
import shutil
from collections import Counter

import pyarrow.parquet
import pytest
import safetensors.torch
import torch

from mcdal.artifacts import Artifacts
from mcdal.campaign.definition import Campaign, opened
from mcdal.campaign.draws import audit_bound, is_audit
from mcdal.campaign.export import COLUMNS, Exported, export, folder_names
from mcdal.campaign.images import list_images
from mcdal.campaign.ledger import Given
from mcdal.campaign.plans import audit_size
from mcdal.campaign.progress import PICKED, accuracy, interval, state
from mcdal.campaign.rows import agreed, did, labeled
from mcdal.campaign.sweep import sweep
from mcdal.campaign.tell import lines, status
from mcdal.campaign.trainer import train
from mcdal.encoders.base import Built
from mcdal.errors import CampaignError, ConfigError, McdalError
from mcdal.recipes.base import SMALL_MODEL
from mcdal.store import Store
from tests.campaign.conftest import begin, join


def answer_all(campaign, truth, names=("Ann", "Bob"), cannot=()):
    """Everybody answers in turn until nothing is open."""
    people = [join(campaign, name) for name in names]
    step = 0
    while campaign.ledger.progress().closed < campaign.ledger.progress().asked:
        before = step
        for person in people:
            for q in campaign.ledger.next(person, 3):
                step += 1
                verdict = ("cannot_tell", None) if q.sample_id in cannot else ("label", truth[q.sample_id])
                campaign.ledger.answer(person, [Given(f"{person}-{q.sample_id}-{step}", q.sample_id, *verdict, 2.0)])
        assert step > before, "nobody is given anything"


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    root, truth = photos
    folder = tmp_path_factory.mktemp("done") / "digits"
    begin(folder, root)
    with opened(folder) as campaign:
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth)
        yield campaign


def test_the_budget_is_spent_and_the_audit_is_never_learned_from(finished, photos):
    _, truth = photos
    ledger = finished.ledger
    assert state(finished) == "finished" and ledger.progress(arms=PICKED).labels == 40
    store = Store(finished.folder, create=False)
    labels = store.labels(finished.run_id)
    rounds = store.rounds(finished.run_id)
    asked = [set(store.asked(finished.run_id, r.round)) for r in rounds]
    drawn = store.control(finished.run_id)
    tested = [m.value for m in store.metrics(finished.run_id) if m.name == "test/accuracy"]
    store.close()
    audit = {o.sample_id for o in ledger.outcomes(["audit"])}
    assert len(audit) == 15 and not audit & set(labels) and not audit & set.union(*asked)
    assert labels == {id: truth[id] for id in labels} and [r.labeled for r in rounds] == [20, 30, 40]
    assert [len(drawn & ids) for ids in asked] == [0, 2, 2]
    assert Counter(o.arm for o in ledger.outcomes()) == {"start": 20, "strategy": 16, "control": 4, "audit": 15}
    found = accuracy(finished)
    assert found.value == tested[-1] and found.labels == 15 and found.low < found.value < found.high


def test_audit_questions_look_like_others_and_what_is_judged_by_has_no_guess(finished):
    ledger = finished.ledger
    first = [ledger.question(o.sample_id) for o in ledger.outcomes() if ledger.question(o.sample_id).round == 0]
    places = [q.rank for q in first if q.arm == "audit"]
    assert len(first) == 35 and min(places) < 12 and max(places) > 22  # among the others
    later = [ledger.question(o.sample_id) for o in ledger.outcomes(["strategy"])]
    assert all(q.guess is not None and 0 < q.confidence <= 1 and len(q.why) == 3 for q in later)
    assert all(" % of the unlabeled images have a lower one." in q.why[1] for q in later)
    drawn = [ledger.question(o.sample_id) for o in ledger.outcomes(["control"])]
    assert all(q.guess is None and len(q.why) == 1 for q in drawn)
    assert all(q.guess is None and not q.why for q in first)
    assert later[0].why[0].startswith("Number ") and "looks most like" in later[0].why[2]


def test_status_for_people_and_programs(finished):
    told = json.loads(json.dumps(status(finished)))
    assert told["state"] == "finished" and told["budget"] == {"labels": 40, "of": 40}
    assert sum(person["labels"] for person in told["people"]) == sum(row.answers for row in labeled(finished))
    text = "\n".join(lines(told))
    assert "3 of 3 rounds trained" in text and "Ann:" in text and "2.0 s an image" in text
    assert agreed(finished).share == 1 and {p.name for p in did(finished)} == {"Ann", "Bob"}


def test_every_format_holds_every_label(finished, photos, tmp_path):
    root, truth = photos
    rows = labeled(finished)
    assert len(rows) == 55
    for to in ("csv", "parquet", "coco", "folders"):
        assert export(finished, to, tmp_path / to) == Exported(55)
    with (tmp_path / "csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert list(records[0]) == list(COLUMNS) and {r["sample_id"]: int(r["label"]) for r in records} == {
        r.sample_id: truth[r.sample_id] for r in rows
    }
    table = pyarrow.parquet.read_table(tmp_path / "parquet").to_pylist()
    assert [{k: str(v) for k, v in row.items()} for row in table] == records
    coco = json.loads((tmp_path / "coco").read_text())
    names = {c["id"]: c["name"] for c in coco["categories"]}
    files = {i["id"]: i for i in coco["images"]}
    assert {files[a["image_id"]]["file_name"]: names[a["category_id"]] for a in coco["annotations"]} == {
        r.sample_id: r.label for r in rows
    }
    assert files[1]["width"] == 8
    copies = list((tmp_path / "folders").rglob("*.png"))
    assert len(copies) == 55 and all(
        p.read_bytes() == (root / next(r.sample_id for r in rows if r.sample_id.endswith(p.name))).read_bytes()
        for p in copies
    )


def test_folders_of_classes_that_no_disk_can_hold():
    assert folder_names(["x_2", "X", "x"]) == ["x_2", "X", "x_3"]
    assert folder_names(["a/b", "A_b", "..", "con|x", "\n"]) == ["a_b", "A_b_2", "class", "con_x", "_"]


def test_audit_images_are_asked_of_as_many_people_as_wanted(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, audit_answers=2, double=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        given = {row.sample_id: (row.arm, row.answers) for row in labeled(campaign)}
        assert set(given.values()) == {("start", 1), ("audit", 2)} and agreed(campaign).images == 15


def test_images_that_nobody_can_label_are_done_without(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20, control=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        store = Store(tmp_path / "c", create=False)
        unclear = {*store.asked(campaign.run_id, 0)[:2]}
        answer_all(campaign, truth, cannot=unclear)
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        assert [r.labeled for r in store.rounds(campaign.run_id)] == [18, 28]
        assert not unclear & set(store.labels(campaign.run_id))
        assert not unclear & set(store.asked(campaign.run_id, 1))
        store.close()


def test_a_folder_that_is_away_for_a_minute_takes_nothing_with_it(photos, tmp_path):
    root, truth = photos
    images = shutil.copytree(root, tmp_path / "images")
    begin(tmp_path / "c", images, budget=20, start=20)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        images.rename(tmp_path / "elsewhere")
        assert "are away" in sweep(campaign) and campaign.ledger.withdrawn() == []
        (tmp_path / "elsewhere").rename(images)
        gone = campaign.ledger.open()[0]
        (images / gone).rename(tmp_path / "kept.png")
        assert sweep(campaign) == "" and campaign.ledger.withdrawn() == [gone]
        (tmp_path / "kept.png").rename(images / gone)
        assert sweep(campaign) == "" and campaign.ledger.withdrawn() == []
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished" and accuracy(campaign).labels == 15


@pytest.mark.parametrize("when", ["after a round", "in a training"])
def test_a_class_that_is_added_while_the_trainer_is_dead(photos, tmp_path, monkeypatch, when):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20, control=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        stage = {"after a round": "begin_round", "in a training": "finish_round"}[when]
        monkeypatch.setattr(Store, stage, lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "c", "cpu")
        monkeypatch.undo()
        campaign.ledger.add_classes(["eleven"])
        assert train(tmp_path / "c", "cpu") == "asks"
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"


def test_a_round_that_was_asked_and_not_explained_is_explained_later(photos, tmp_path, monkeypatch):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        monkeypatch.setattr("mcdal.campaign.trainer._explain", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "c", "cpu")
        monkeypatch.undo()
        assert campaign.ledger.unexplained()
        train(tmp_path / "c", "cpu")
        assert not campaign.ledger.unexplained()


def test_an_answer_that_is_corrected_to_cannot_tell_is_learned_from_no_more(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20, double=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth, names=("Ann",))
        first = next(o.sample_id for o in campaign.ledger.outcomes(["start"]))
        train(tmp_path / "c", "cpu")
        campaign.ledger.answer(join(campaign, "Ann"), [Given("changed-my-mind", first, "cannot_tell")])
        answer_all(campaign, truth, names=("Ann",))
        train(tmp_path / "c", "cpu")
        store = Store(tmp_path / "c", create=False)
        assert [r.labeled for r in store.rounds(campaign.run_id)] == [20, 29]
        store.close()


def test_fewer_images_than_the_budget_end_the_campaign_early(photos, tmp_path):
    root, truth = photos
    images = tmp_path / "images"
    images.mkdir()
    for id in [*truth][:45]:
        shutil.copyfile(root / id, images / id.replace("/", "-"))
    small = {id.replace("/", "-"): truth[id] for id in truth}
    begin(tmp_path / "c", images, budget=35, start=20, batch=15, audit=10.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        asked = set(campaign.ledger.open())
        unseen = sorted(set(small) & {p.name for p in images.iterdir()} - asked)
        for id in unseen[:5]:
            (images / id).unlink()
        answer_all(campaign, small)
        train(tmp_path / "c", "cpu")
        answer_all(campaign, small)
        assert train(tmp_path / "c", "cpu") == "finished"
        assert campaign.ledger.progress(arms=PICKED).labels == 30


def test_a_campaign_does_not_feed_on_itself(photos, tmp_path):
    images = shutil.copytree(photos[0], tmp_path / "images")
    with pytest.raises(CampaignError, match="lies within"):
        begin(images / "c", images)
    begin(tmp_path / "c", images)
    with opened(tmp_path / "c") as campaign, pytest.raises(CampaignError, match="nothing is labeled"):
        export(campaign, "folders", images / "sorted")


ENCODER = """
from dataclasses import dataclass
import torch
from torch import nn
from mcdal import Encoder
from mcdal.encoders.base import Built

@dataclass(frozen=True)
class Flat(Encoder):
    \'\'\'The pixels.\'\'\'
    def build(self):
        return Built(nn.Flatten(), (8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""


def test_through_a_frozen_encoder_images_are_encoded_once(photos, tmp_path, monkeypatch):
    root, truth = photos
    (tmp_path / "flat.py").write_text(ENCODER)
    encoded = []
    real = Built.features
    monkeypatch.setattr(Built, "features", lambda self, x: (encoded.append(len(x)), real(self, x))[1])
    settings = ["training.epochs=3", "training.steps_per_epoch=10"]
    begin(tmp_path / "c", root, budget=40, encoder=f"{tmp_path / 'flat.py'}:Flat", settings=settings)
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        assert accuracy(campaign).labels == 15 and campaign.ledger.progress(arms=PICKED).labels == 40
    folders = [f for f in (tmp_path / "c" / "cache").glob("features-*") if f.is_dir()]
    assert len(folders) == 1
    assert sum(encoded) < 200 + 4 * 3 * 16  # all once, and a few looked at again at each opening


def test_one_person_alone_comes_to_the_end(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=20, start=20, double=0.5)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(
            campaign, truth, names=("Ann",), cannot={campaign.ledger.next(join(campaign, "Ann"), 1)[0].sample_id}
        )
        assert train(tmp_path / "c", "cpu") == "finished"


def test_images_and_classes_are_added_in_the_middle_and_images_vanish(photos, tmp_path):
    root, truth = photos
    images = shutil.copytree(root, tmp_path / "images")
    begin(tmp_path / "c", images, budget=30, start=20, control=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        for i in range(20):
            shutil.copyfile(images / "a/000.png", images / f"new{i}.png")
        campaign.ledger.add_classes(["eleven"])
        train(tmp_path / "c", "cpu")
        store = Store(tmp_path / "c", create=False)
        record = store.run(campaign.run_id)
        assert record.classes[-1] == "eleven" and record.pool_size > 185
        asked = store.asked(campaign.run_id, 1)
        (images / asked[0]).unlink()
        assert sweep(campaign) == ""
        extended = truth | {f"new{i}.png": 10 for i in range(20)}
        answer_all(campaign, extended)
        (images / store.asked(campaign.run_id, 0)[0]).unlink()  # one that is learned from
        assert train(tmp_path / "c", "cpu") == "finished"
        assert len(store.labels(campaign.run_id)) == 29  # none is forgotten; of the last batch one image had gone
        assert [r.labeled for r in store.rounds(campaign.run_id)] == [20, 28]
        store.close()


def test_the_audit_is_drawn_by_id_alone(photos):
    root, _ = photos
    ids = [file.id for file in list_images(root, root / "none")]
    for count in (1, 15, 199):
        bound = audit_bound(3, ids, count)
        assert sum(is_audit(3, id, bound) for id in ids) == count
    bound = audit_bound(3, ids, 15)
    more = [f"more/{i}.png" for i in range(20_000)]
    assert sum(is_audit(3, id, bound) for id in more) / 20_000 == pytest.approx(bound, abs=0.01)
    with pytest.raises(McdalError, match="leave none to label"):
        audit_bound(3, ids, 200)


def test_the_size_of_the_audit_follows_from_the_interval():
    assert (audit_size(0.05), audit_size(0.1), audit_size(200.0)) == (385, 97, 200)
    low, high = interval(0.5, audit_size(0.05))
    assert (high - low) / 2 == pytest.approx(0.05, abs=0.001)
    for wrong in (0.0, 0.7, -1.0, 3.5):
        with pytest.raises(CampaignError, match="half width"):
            audit_size(wrong)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": "cat"}, "two are the least"),
        ({"classes": "cat,dog,cat"}, "'cat' is named twice"),
        ({"budget": 500}, "leaves 185 for a budget of 500"),
        ({"control": 1.0}, "campaign.control = 1.0"),
        ({"strategy": "nope"}, "nope"),
        ({"settings": ["training.epohs=3"]}, "epohs"),
        ({"scale": "huge"}, "huge"),
        ({"settings": ["protocol.rounds=2"]}, "a campaign has its own"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_written(photos, tmp_path, changes, words):
    with pytest.raises(McdalError, match=words):
        begin(tmp_path / "c", photos[0], **changes)
    assert not (tmp_path / "c").exists()


def test_a_campaign_is_what_it_was_when_it_began(photos, tmp_path):
    begin(tmp_path / "c", photos[0], settings=["training.epochs=3"])
    with opened(tmp_path / "c") as campaign:
        assert isinstance(campaign.campaign, Campaign) and campaign.campaign.settings == (("training.epochs", "3"),)
        assert campaign.campaign.images == photos[0].resolve()
    with pytest.raises(CampaignError, match="already"):
        begin(tmp_path / "c", photos[0])
    with pytest.raises(CampaignError, match="there is no campaign"):
        opened(tmp_path)
    with pytest.raises(ConfigError, match=r"campaign.start"):
        Campaign("x", photos[0], budget=5, start=6, batch=1, audit=1, audit_below=0.1)


def test_every_round_may_start_from_weights_of_ones_own(photos, tmp_path):
    root, truth = photos
    torch.manual_seed(3)
    given = SMALL_MODEL.build(4, 1, (8, 8)).state_dict()
    safetensors.torch.save_file(given, tmp_path / "w.safetensors")
    settings = ["training.epochs=1", "training.steps_per_epoch=1", "training.optimization.lr=1e-30"]
    begin(tmp_path / "c", root, budget=20, start=20, weights=tmp_path / "w.safetensors", settings=settings)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        kept = Artifacts(campaign.folder / "runs" / campaign.run_id).read_model(0)
    assert torch.allclose(kept["stem.0.0.weight"], given["stem.0.0.weight"])
    with pytest.raises(ConfigError, match="do not fit this model"):
        begin(tmp_path / "d", root, scale="full", weights=tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="no such file"):
        begin(tmp_path / "d", root, weights=tmp_path / "none.pt")
    assert not (tmp_path / "d").exists()

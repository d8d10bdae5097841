"""Batches that people like: no two of a kind, not all from one folder, not too dear, a few easy ones, new classes first."""

import shutil
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from mcdal.campaign.arms import Easy, Newcomers
from mcdal.campaign.copies import copied
from mcdal.campaign.definition import Campaign, opened
from mcdal.campaign.fan_out import near_duplicates
from mcdal.campaign.images import _listing, list_images
from mcdal.campaign.ledger import Given, Ledger
from mcdal.campaign.progress import PICKED
from mcdal.campaign.rows import labeled
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError, ConfigError
from mcdal.events import nobody
from mcdal.likeness import NEAR, Likeness
from mcdal.pool.prepare import Reading, prepare
from mcdal.store import Store
from mcdal.values import Rows
from tests.campaign.conftest import DIGITS, begin, join
from tests.campaign.test_campaign import answer_all


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """60 patterns of colour, each with two near-duplicates beside it: darker, and compressed. Truth by id."""
    root, truth = tmp_path_factory.mktemp("twins"), {}
    random = np.random.default_rng(0)
    for i in range(60):
        pattern = random.integers(40, 255, (6, 6, 3), dtype=np.uint8)
        image = Image.fromarray(pattern).resize((64, 64), Image.Resampling.BILINEAR)
        (root / f"{i % 6}").mkdir(exist_ok=True)
        for name, one, how in (
            ("a", image, {}), ("b", ImageEnhance.Brightness(image).enhance(0.9), {}), ("c", image, {"quality": 60})
        ):  # fmt: skip
            id = f"{i % 6}/{i:02d}{name}.{'jpg' if name == 'c' else 'png'}"
            one.save(root / id, **how)
            truth[id] = i % 10
    return root, truth


def of(id):
    """The pattern that an image of `twins` shows."""
    return id[:4]


def pool_of(root, store, audit=()):
    """The images of a folder as a campaign's pool, some of them kept for the audit."""
    found = list_images(root, store)
    kept = [file for file in found if file.id in audit]
    rest = [file for file in found if file.id not in audit]
    listing = _listing(root, ("a", "b"), rest, kept or found[:1])
    return prepare(listing, Reading(32, "refuse", 10**8, 1.0, 1), store, nobody)


def test_copies_look_alike_and_different_images_do_not(twins, tmp_path):
    pool = pool_of(twins[0], tmp_path)
    looks, ids = Likeness(pool.images), pool.images.ids
    vectors = looks.of(ids)
    likeness = vectors @ vectors.T
    same = np.array([[of(a) == of(b) for b in ids] for a in ids])
    assert len(ids) == 180 and np.allclose(np.diag(likeness), 1, atol=1e-5)
    assert likeness[same].min() >= NEAR and np.quantile(likeness[~same], 0.999) < NEAR
    places, parts = zip(*looks.parts(), strict=True)
    assert np.array_equal(np.concatenate(parts), vectors) and list(np.concatenate(places)) == list(range(len(ids)))


def rounds_of(campaign):
    store = Store(campaign.folder, create=False)
    asked = [store.asked(campaign.run_id, r.round) for r in store.rounds(campaign.run_id)]
    store.close()
    return asked


@pytest.mark.parametrize("strategy", ["margin", "core_set", pytest.param("badge", marks=pytest.mark.slow)])
def test_a_batch_holds_one_of_several_that_look_the_same(twins, tmp_path, strategy):
    root, truth = twins
    begin(tmp_path / "c", root, budget=40, start=10, batch=15, audit=10.0, size=32, near=NEAR, strategy=strategy)
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        for ids in rounds_of(campaign)[1:]:
            drawn = campaign_control(campaign) & set(ids)
            chosen = [of(id) for id in ids if id not in drawn]
            assert len(chosen) == 12 and len(set(chosen)) == 12
            assert not set(chosen) & {
                of(id) for id in drawn
            }  # what is drawn stays drawn, and nothing is picked beside it


def campaign_control(campaign):
    store = Store(campaign.folder, create=False)
    drawn = store.control(campaign.run_id)
    store.close()
    return drawn


def test_a_label_is_taken_over_by_near_duplicates_on_request(twins, tmp_path):
    root, truth = twins
    begin(
        tmp_path / "c", root, budget=30, start=10, batch=10, audit=10.0, size=32, near=NEAR, fan_out=True, control=0.0
    )  # fmt: skip
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        first = set(rounds_of(campaign)[0])
        audit = {q.sample_id for q in campaign.ledger.of_round(0) if q.arm == "audit"}
        expected = {id for id in truth if of(id) in {of(i) for i in first}} - first - audit
        found = {copy.sample_id: copy for copy in copied(campaign.ledger)}
        assert expected >= set(found) and len(found) > 5
        assert all(of(c.of) == of(id) and c.likeness >= NEAR and c.value is None for id, c in found.items())
        apart = {of(id) for id in audit}
        assert set(found) == {id for id in expected if of(id) not in apart}
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        store = Store(campaign.folder, create=False)
        learned = store.labels(campaign.run_id)
        assert {id: learned[id] for id in found} == {id: truth[id] for id in found} and not audit & set(learned)
        assert not set(found) & set(rounds_of(campaign)[1])  # nobody is asked about them
        rows = {row.sample_id: row for row in labeled(campaign)}
        one = rows[next(iter(found))]
        assert one.arm == "copy" and one.answers == 0 and one.by[0].startswith("copy of ")
        assert campaign.ledger.progress(arms=PICKED).labels == 10  # they cost nothing
        # a correction reaches them
        ann, wrong = join(campaign, "Ann"), found[next(iter(found))].of
        campaign.ledger.answer(ann, [Given("corrected", wrong, "label", (truth[wrong] + 1) % 10)])
        outcome = next(o for o in campaign.ledger.outcomes() if o.sample_id == wrong)
        taken = next(c for c in copied(campaign.ledger) if c.of == wrong)
        assert taken.value == outcome.value
        store.close()


def test_a_killed_process_finds_the_same_copies_again(twins, tmp_path, monkeypatch):
    root, _ = twins
    begin(tmp_path / "c", root, budget=30, start=10, batch=10, audit=10.0, size=32, near=NEAR, fan_out=True)
    real = Ledger.ask
    monkeypatch.setattr(Ledger, "ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c", "cpu")
    monkeypatch.setattr(Ledger, "ask", real)
    with opened(tmp_path / "c") as campaign:
        assert copied(campaign.ledger) == []  # of images that nobody is asked about
        train(tmp_path / "c", "cpu")
        assert len(copied(campaign.ledger)) > 5


def test_nothing_is_taken_over_from_an_image_that_looks_like_one_of_the_audit(twins, tmp_path):
    made = pool_of(twins[0], tmp_path, audit=("0/00a.png",))
    ids = ("0/00c.jpg", "1/01a.png")
    copies = near_duplicates(made, ids, NEAR, (), made.test.images)
    assert set(copies) == {"1/01b.png", "1/01c.jpg"} and {of for of, _ in copies.values()} == {"1/01a.png"}
    assert near_duplicates(made, ids, NEAR, ("1/01b.png",), made.test.images).keys() == {"1/01c.jpg"}
    assert near_duplicates(made, (), NEAR, (), made.test.images) == {}


def test_at_most_so_many_of_a_folder_and_no_dearer_than_wanted(twins, tmp_path):
    root, truth = twins
    dear = tmp_path / "costs.csv"
    cost = {id: 4.0 if of(id).startswith("0") else 1.0 for id in truth}
    dear.write_text("sample_id,cost\n" + "".join(f"{id},{c}\n" for id, c in cost.items()))
    begin(
        tmp_path / "c", root, budget=42, start=10, batch=16, audit=10.0, size=32, per_group=4, near=1.0, costs=dear,
        control=0.0,
    )  # fmt: skip
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        store = Store(campaign.folder, create=False)
        pool_ids = {id for ids in rounds_of(campaign) for id in ids}
        store.close()
        mean = np.mean([c for id, c in cost.items()])
        for ids in rounds_of(campaign)[1:]:
            assert max(Counter(id[0] for id in ids).values()) <= 4
            assert sum(cost[id] for id in ids) <= 16 * mean * 1.05 and len(ids) >= 8
        assert len(pool_ids) <= 42


def test_a_few_easy_ones_are_mixed_in(twins, tmp_path):
    root, truth = twins
    begin(tmp_path / "c", root, budget=40, start=20, batch=20, audit=10.0, size=32, near=1.0, easy=0.2, control=0.1)
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        arms = Counter(o.arm for o in campaign.ledger.outcomes())
        assert arms == {"start": 20, "strategy": 14, "control": 2, "easy": 4, "audit": 10}


def test_easy_ones_are_drawn_among_the_surest():
    ids = tuple(f"{i:03d}" for i in range(100))
    rows = Rows(ids, np.arange(100) < 10, np.linspace(1, 0, 100).astype(np.float32))
    picks = Easy(among=4).select(rows, 5, 0)
    assert len(set(picks.ids)) == 5 and all(10 <= int(id) < 30 for id in picks.ids)
    assert Easy(among=4).select(rows, 5, 0).ids == picks.ids != Easy(among=4).select(rows, 5, 1).ids
    assert len(Easy().select(rows.take(np.arange(8, 14)), 50, 0)) == 4


def rows_with(y, vectors, classes):
    ids = tuple(f"{i}" for i in range(len(y)))
    y = np.array(y)
    v = np.array(vectors, dtype=np.float32)
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    return Rows(ids, y >= 0, None, v, np.full((len(y), classes), 1 / classes, dtype=np.float32), y)


def test_images_of_a_class_that_was_added_come_first():
    vectors = [[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0.9, 0.2], [0.1, 0.1, 1], [0, 0.2, 1]]
    # nobody has seen the third class yet: what is unlike all labels
    picks = Newcomers(first=2).select(rows_with([0, 1, -1, -1, -1, -1], vectors, 3), 2, 0)
    assert set(picks.ids) == {"4", "5"}
    # one is known: what is like it
    picks = Newcomers(first=2).select(rows_with([0, 1, -1, -1, 2, -1], vectors, 3), 1, 0)
    assert picks.ids == ("5",)
    # enough are known, or there is no such class
    assert len(Newcomers(first=2, enough=1).select(rows_with([0, 1, -1, -1, 2, -1], vectors, 3), 1, 0)) == 0
    assert len(Newcomers(first=2).select(rows_with([0, 1, -1, -1, -1, -1], vectors, 2), 1, 0)) == 0


def test_a_class_is_added_in_the_middle_of_a_campaign(photos, tmp_path):
    root, truth = photos
    shutil.copytree(root, tmp_path / "photos")
    nines = {id: 9 for id, digit in truth.items() if digit == 9}
    begin(
        tmp_path / "c", tmp_path / "photos", classes=DIGITS[:-2], budget=60, start=30, batch=15, control=0.0, near=1.0
    )
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth, cannot=set(nines))
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth, cannot=set(nines))
        assert not [o for o in campaign.ledger.outcomes() if o.arm == "rare"]
        campaign.ledger.add_classes(["9"])
        train(tmp_path / "c", "cpu")
        asked = campaign.ledger.of_round(2)
        rare = [q for q in asked if q.arm == "rare"]
        assert len(rare) == 4 and {q.rank for q in rare} == {0, 1, 2, 3}
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"


def test_fan_out_without_a_likeness_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give --near as well"):
        Campaign("c", tmp_path, budget=10, start=5, batch=5, audit=5, audit_below=0.5, fan_out=True)


@pytest.mark.parametrize("by", ["folders", "file"])
def test_images_that_come_later_are_welcome_where_groups_and_costs_count(twins, tmp_path, by):
    root, truth = twins
    shutil.copytree(root, tmp_path / "photos")
    given = {}
    if by == "file":
        for name in ("group", "cost"):
            file = tmp_path / f"{name}s.csv"
            file.write_text(f"sample_id,{name}\n" + "".join(f"{id},{1 + int(id[0])}\n" for id in truth))
            given[f"{name}s"] = file
    begin(tmp_path / "c", tmp_path / "photos", budget=30, start=10, batch=10, audit=10.0, size=32, per_group=3, **given)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        (tmp_path / "photos" / "new").mkdir()
        for id in list(truth)[:20]:
            shutil.copy(root / id, tmp_path / "photos" / "new" / id.replace("/", "_"))
            truth = truth | {f"new/{id.replace('/', '_')}": truth[id]}
        (tmp_path / "photos" / list(truth)[30]).unlink()
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        assert campaign.ledger.progress(arms=PICKED).labels >= 20


def test_a_limit_that_leaves_no_room_makes_a_smaller_batch(twins, tmp_path):
    root, truth = twins
    begin(tmp_path / "c", root, budget=60, start=10, batch=30, audit=10.0, size=32, per_group=2, control=0.0)
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        assert [len(ids) for ids in rounds_of(campaign)][1:] == [12, 12]
    with pytest.raises(CampaignError, match="all images lie in one folder"):
        begin(tmp_path / "d", root / "0", budget=10, start=5, batch=5, audit=5.0, per_group=2)
    with pytest.raises(ConfigError, match=r"costs = .*nothing\.csv: cannot be read"):
        begin(tmp_path / "e", root, budget=10, start=5, batch=5, audit=5.0, costs=tmp_path / "nothing.csv")

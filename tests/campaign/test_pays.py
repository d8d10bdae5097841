"""Whether a campaign pays: the random sample within its labels, the gain, the forecast, the cost, and reasons to stop."""

import json
import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, update

from mcdal.campaign.budget import change_budget, finish
from mcdal.campaign.cost import affordable, cost
from mcdal.campaign.definition import Campaign, opened
from mcdal.campaign.forecast import forecast, forecasts
from mcdal.campaign.foresight import expected, gained, spent
from mcdal.campaign.gain import gain
from mcdal.campaign.importing import import_labels
from mcdal.campaign.judged import Curve, curves, interval
from mcdal.campaign.ledger import Given
from mcdal.campaign.outlook import as_json, outlook
from mcdal.campaign.progress import PICKED, state
from mcdal.campaign.random_arm import Asked, asked, random_arm
from mcdal.campaign.tell import lines, status
from mcdal.campaign.trainer import train
from mcdal.campaign.wanted_trials import untried, wanted
from mcdal.campaign_tables import campaigns, trials
from mcdal.errors import CampaignError, ConfigError
from mcdal.store import Store
from tests.campaign.conftest import begin, join
from tests.campaign.test_campaign import answer_all


def played(size, rng, start=4, batch=4, drawn=2, rounds=4):
    """A campaign whose strategy takes the images with the smallest numbers; control and start are drawn by `rng`."""
    left = list(range(size))
    rows = []
    for number in range(rounds):
        take = start if number == 0 else drawn
        random = [left.pop(int(rng.integers(len(left)))) for _ in range(take)]
        picked = [] if number == 0 else [left.pop(0) for _ in range(batch - drawn)]
        rows += [Asked(str(i), number, "control" if number else "start", 0) for i in random]
        rows += [Asked(str(i), number, "strategy", 0) for i in picked]
    return rows


def test_the_random_arm_is_a_random_sample_of_the_whole_pool():
    size, n = 20, 4_000
    rng = np.random.default_rng(0)
    hits, lengths, biased = Counter(), [], Counter()
    for trial in range(n):
        rows = played(size, rng)
        arm = random_arm(rows, size, 3, trial)
        ids = [row.sample_id for row in arm]
        assert len(set(ids)) == len(ids) and {r.sample_id for r in rows if r.arm in ("start", "control")} <= set(ids)
        lengths.append(len(ids))
        hits.update(ids)
        biased.update(r.sample_id for r in rows if r.arm in ("start", "control"))
    share = np.mean(lengths) / size
    counts = np.array([hits[str(i)] for i in range(size)]) / n
    assert np.abs(counts - share).max() < 4 * math.sqrt(share * (1 - share) / n)
    naive = np.array([biased[str(i)] for i in range(size)]) / n  # without the draws that hit what was picked
    assert np.abs(naive - naive.mean()).max() > 10 * math.sqrt(share * (1 - share) / n)


def test_of_earlier_rounds_the_random_arm_is_the_beginning():
    rows = played(30, np.random.default_rng(1), rounds=5)
    arms = [random_arm(rows, 30, number, 7) for number in range(5)]
    for before, after in pairwise(arms):
        assert after[: len(before)] == before and len(after) > len(before)
    assert [row.arm for row in arms[0]] == ["start"] * 4


def test_a_start_set_that_a_strategy_picked_is_no_random_sample():
    rows = played(40, np.random.default_rng(2))
    arm = random_arm(rows, 40, 3, 5, starts_at_random=False)
    assert random_arm(rows, 40, 0, 5, starts_at_random=False) == []
    control = [row for row in rows if row.arm == "control"]
    assert [row for row in arm if row.arm == "control"] == control
    known = {"budget": 10, "start": 5, "batch": 5, "audit": 5, "audit_below": 0.5}
    assert Campaign("c", Path(), **known).starts_at_random
    assert not Campaign("c", Path(), **known, settings=(("cold_start", "typiclust"),)).starts_at_random


def law(labels, limit, fall, exponent, images, rng, scatter=0.0, draws=400):
    """A curve as models of this power law give it on so many audit images, the same ones in every round."""
    labels = np.array(labels, dtype=np.float64)
    p = limit - fall * labels**-exponent
    p = np.clip(p + scatter * rng.standard_normal(len(p)), 0.01, 0.99)
    hard = rng.random(images)  # an image is right as soon as the model is good enough for it
    right = hard[:, None] < p
    weights = np.concatenate(
        [np.full((1, images), 1 / images), rng.multinomial(images, [1 / images] * images, draws) / images]
    )
    return Curve(tuple(range(len(labels))), labels, weights @ right.astype(np.float64))


def test_a_forecast_finds_the_power_law_and_its_interval_covers_it():
    rng, labels = np.random.default_rng(0), [100, 200, 300, 400, 500, 600]
    truth = 0.95 - 3.0 * 2_000.0**-0.5
    covered, near = [], []
    for _ in range(60):
        found = forecast(law(labels, 0.95, 3.0, 0.5, 1_000, rng, scatter=0.005))
        there = interval(found.at(2_000.0))
        covered.append(there.low <= truth <= there.high)
        near.append(there.value - truth)
    assert np.mean(covered) >= 0.9 and abs(np.median(near)) < 0.02
    more = interval(found.more(100))
    assert 0 <= more.low <= more.value <= more.high < 0.1
    needed = interval(found.needed(0.88))
    exact = (3.0 / (0.95 - 0.88)) ** 2
    assert needed.low < exact < needed.high and interval(found.needed(0.999)).high == math.inf


def test_a_forecast_wants_three_rounds_and_never_passes_one():
    rng = np.random.default_rng(3)
    assert forecast(law([10, 20], 0.9, 1.0, 0.5, 50, rng)) is None
    steep = Curve((0, 1, 2), np.array([10.0, 20.0, 30.0]), np.tile([[0.2, 0.6, 0.98]], (50, 1)))
    assert forecast(steep).at(1e6).max() <= 1.0
    falling = Curve((0, 1, 2), np.array([10.0, 20.0, 30.0]), np.tile([[0.9, 0.8, 0.7]], (50, 1)))
    assert forecast(falling).at(1e3)[0] == forecast(falling).at(10.0)[0] == pytest.approx(0.8)


def test_a_gain_that_is_there_is_found_and_one_that_is_not_is_not_claimed():
    rng = np.random.default_rng(1)
    many, few = [100, 300, 500, 700, 900, 1_100], [100, 120, 140, 160, 180, 200]

    def same_images(falls, scatter):
        state = rng.bit_generator.state
        made = []
        for labels, fall in zip((many, few), falls, strict=True):
            rng.bit_generator.state = state
            rng.random(3)
            made.append(law(labels, 0.95, fall, 0.5, 500, rng, scatter))
        return made

    better = gain(*same_images((2.0, 4.0), 0.0))
    assert better.labels == 200 and better.points.low > 0.05 and better.saved.low > 0.2
    assert better.points.value == pytest.approx(2.0 * 200**-0.5, abs=0.03)
    false = [gain(*same_images((3.0, 3.0), 0.02)).points.excludes_zero for _ in range(40)]
    assert np.mean(false) <= 0.15
    assert gain(*same_images((2.0, 4.0), 0.0)[:1], Curve((0,), np.array([100.0]), np.full((10, 1), 0.5))) is None
    worse = gain(*same_images((4.0, 2.0), 0.0))
    assert worse.points.high < 0 and worse.saved.value < 0


def test_sentences_say_what_is_shown_and_what_is_not():
    rng = np.random.default_rng(1)
    none = {"points": {"value": 0.01, "low": -0.01, "high": 0.03}, "saved": {"value": 0.1, "low": -1, "high": 0.3}}
    told = {"labels": 200, "accuracy": {"value": 0.8}}
    assert gained(None) == "" and gained(told | none).endswith("no difference shown yet")
    some = {"points": {"value": 0.03, "low": 0.01, "high": 0.05}, "saved": {"value": 0.3, "low": 0.1, "high": 0.4}}
    assert "30 % (95 %: 10 to 40) fewer" in gained(told | some)
    assert "fewer" not in gained(told | some | {"points": {"value": -0.03, "low": -0.05, "high": -0.01}})
    assert expected(None, 10) == "" and forecasts([law([1, 2, 3], 0.9, 0.5, 0.5, 50, rng)])[0].labels == 3
    whole = {"value": None, "low": 90.0, "high": None}
    ahead = {"more": {"value": 0.01, "low": 0, "high": 0.02}, "at_budget": {"value": 0.9, "low": 0.8, "high": 1}}
    assert "is not reached" in expected(ahead | {"needed": whole}, 100)
    assert "no end in sight" in expected(ahead | {"needed": whole | {"value": 120.0}}, 100)
    assert spent({"hours": None, "money": None}) == ""
    some_hours = {"hours": 0.1, "seconds_a_label": None, "money": 2.0, "money_a_label": None, "whole": None}
    assert spent(some_hours) == "0.10 hours at the images so far; 2.00 spent"


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ((100.0, None, None, 0.5, 20, 0.0), 180),
        ((90.0, 36.0, 10.0, None, 100, 0.0), 800),
        ((109.0, None, None, 0.5, 20, 0.1), 180),
    ],
)
def test_money_as_a_number_of_labels(given, labels):
    assert affordable(*given) == labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((100.0, None, None, None, 20, 0.0), "--price"),
        ((100.0, None, 10.0, None, 20, 0.0), "--seconds-per-label"),
        ((10.0, None, None, 0.5, 20, 0.0), "the audit alone takes 20"),
        ((10.0, None, None, 0.0, 20, 0.0), "are 0"),
    ],
)
def test_money_that_buys_nothing(given, words):
    with pytest.raises(CampaignError, match=words):
        affordable(*given)


def test_fields_that_cannot_be(tmp_path):
    known = {"budget": 10, "start": 5, "batch": 5, "audit": 5, "audit_below": 0.5}
    with pytest.raises(ConfigError, match=r"campaign\.target = 1\.5"):
        Campaign("c", tmp_path, **known, target=1.5)
    with pytest.raises(ConfigError, match=r"campaign\.price = -1"):
        Campaign("c", tmp_path, **known, price=-1.0)


def test_new_by_cost_or_budget(photos, tmp_path):
    with pytest.raises(CampaignError, match="give --budget"):
        begin(tmp_path / "a", photos[0], budget=None)
    begin(tmp_path / "b", photos[0], budget=None, cost=50.0, price=1.0, double=0.0)
    with opened(tmp_path / "b") as campaign:
        assert campaign.campaign.budget == 35 and campaign.campaign.cost == 50.0


@pytest.fixture(scope="module")
def paid(photos, tmp_path_factory):
    root, truth = photos
    folder = tmp_path_factory.mktemp("pays") / "c"
    begin(
        folder, root, budget=60, start=20, batch=20, audit=40.0, control=0.5, target=0.02, price=0.5, wage=36.0, cost=1.0,
        settings=["training.epochs=3", "training.steps_per_epoch=40"],
    )  # fmt: skip
    with opened(folder) as campaign:
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth)
        yield campaign


def test_each_round_is_tried_with_random_labels(paid):
    t = trials.c
    with paid.database.read() as connection:
        rows = connection.execute(
            select(t.round, t.arm, t.repeat, t.labels, t.predicted).order_by(t.round, t.arm)
        ).all()
    assert [(r.round, r.arm, r.repeat, r.labels) for r in rows if r.arm == "picked"] == [
        (0, "picked", 0, 20), (1, "picked", 0, 40), (2, "picked", 0, 60)
    ]  # fmt: skip
    drawn = [r for r in rows if r.arm == "random"]
    assert [r.round for r in drawn] == [1, 2] and 30 <= drawn[0].labels < drawn[1].labels < 60
    audit = {o.sample_id for o in paid.ledger.outcomes(["audit"])}
    assert all(set(r.predicted) == audit for r in rows)
    # what is told of the round's own model is what the run tested it with
    truth = {o.sample_id: o.value for o in paid.ledger.outcomes(["audit"])}
    store = Store(paid.folder, create=False)
    tested = [m.value for m in store.metrics(paid.run_id) if m.name == "test/accuracy"]
    store.close()
    said = [np.mean([r.predicted[id] == truth[id] for id in audit]) for r in rows if r.arm == "picked"]
    assert said == pytest.approx(tested)
    picked, random, judged = curves(paid)
    assert picked.accuracy[0] == pytest.approx(tested) and judged == 40 and random.labels[0] == 20
    assert not untried(paid, 3) and not list((paid.folder / "runs" / paid.run_id).glob("trial_*"))


def test_status_tells_what_it_costs_and_when_to_stop(paid):
    told = json.loads(json.dumps(status(paid)))["outlook"]
    assert told["gain"]["labels"] == told["random"][-1][0] and told["ahead"]["at_budget"]["high"] <= 1
    assert {s["rule"] for s in told["suggestions"]} >= {"budget", "target", "cost"}
    found = cost(paid)
    answers = sum(p["labels"] for p in status(paid)["people"])
    assert found.answers == answers and found.hours == pytest.approx(answers * 2.0 / 3600)
    assert found.money == pytest.approx(answers * (0.5 + 36.0 * 2.0 / 3600))
    text = "\n".join(lines(status(paid)))
    assert "gain      " in text and "forecast  " in text and "you may stop: The target is reached" in text
    assert as_json(outlook(paid)) == told


def test_the_report_draws_it(paid):
    from mcdal.cli import report

    report([], paid.folder)
    page = (paid.folder / "report" / "index.html").read_text()
    assert "Does it pay?" in page and "Accuracy of picked and of random labels" in page and "Ann" in page
    data = (paid.folder / "report" / "campaign" / "pays.csv").read_text().splitlines()
    assert {line.split(",")[0] for line in data[1:]} == {"picked", "random", "forecast"}


def test_a_trainer_that_tries_gives_way_to_people(photos, tmp_path, monkeypatch):
    """Killed or not, trials are made up for; who has answered meanwhile does not wait for them."""
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=20, control=0.5)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        import mcdal.campaign.trials as module

        real, seen = module.Trials._one, []

        def once(self, rows, round, arm, repeat):
            if round == 0 and not seen:
                answer_all(campaign, truth)  # people are quicker
            seen.append((round, arm))
            real(self, rows, round, arm, repeat)

        monkeypatch.setattr(module.Trials, "_one", once)
        assert train(tmp_path / "c", "cpu") == "finished"
        assert seen[:2] == [(0, "picked"), (0, "picked")]  # given up, and made after round 1
        assert seen[2:] == [(1, "picked"), (1, "random")] and not untried(campaign, 2)


def test_without_control_there_is_nothing_to_compare(photos, tmp_path):
    begin(tmp_path / "c", photos[0], budget=30, start=10, batch=10, control=0.0)
    with opened(tmp_path / "c") as campaign:
        assert wanted(campaign.campaign, 2) == [("picked", 0)] and outlook(campaign).gain is None
        assert asked(campaign) == []


def test_a_budget_may_be_changed_while_people_work(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=10, control=0.0)
    with opened(tmp_path / "c") as campaign:
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        with pytest.raises(CampaignError, match="40 labels were asked for already"):
            change_budget(campaign, 39)
        assert change_budget(campaign, 55).rounds == 5 and state(campaign) == "full"
        assert train(tmp_path / "c", "cpu") == "asks"
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        assert campaign.ledger.progress(arms=PICKED).labels == 55


def test_a_campaign_is_ended_in_the_middle_of_a_round(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=10, control=0.0)
    with opened(tmp_path / "c") as campaign:
        with pytest.raises(CampaignError, match="no label yet"):
            finish(campaign)
        assert campaign.campaign.budget == 40
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        person = join(campaign, "Ann")
        some = campaign.ledger.next(person, 4)
        late = campaign.ledger.next(person, 1)[0]
        campaign.ledger.answer(
            person, [Given(f"key-{q.sample_id}", q.sample_id, "label", truth[q.sample_id]) for q in some]
        )
        closed = campaign.ledger.progress(1).closed
        assert finish(campaign) == 10 - closed and state(campaign) == "full"
        assert train(tmp_path / "c", "cpu") == "finished"
        labels = campaign.ledger.progress(arms=PICKED).labels
        assert labels == 20 + closed
        receipt = campaign.ledger.answer(person, [Given("late-key", late.sample_id, "label", truth[late.sample_id])])[0]
        assert receipt.status == "recorded"  # nothing that somebody said is lost
        assert campaign.ledger.question(late.sample_id).sample_id in {
            o.sample_id for o in campaign.ledger.outcomes() if o.verdict == "label"
        }


def test_a_budget_that_is_raised_while_the_last_round_trains_is_kept_to(photos, tmp_path, monkeypatch):
    root, truth = photos
    begin(tmp_path / "c", root, budget=30, start=20, batch=10, control=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        import mcdal.loop as loop

        real = loop.Run.learn

        def learn(self, round):
            change_budget(campaign, 40)
            real(self, round)

        monkeypatch.setattr(loop.Run, "learn", learn)
        assert train(tmp_path / "c", "cpu") in ("asks", "full")
        monkeypatch.setattr(loop.Run, "learn", real)
        assert state(campaign) != "finished"
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        assert campaign.ledger.progress(arms=PICKED).labels == 40


def test_a_round_that_was_picked_while_somebody_finished_is_not_asked(photos, tmp_path, monkeypatch):
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=10, control=0.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        import mcdal.loop as loop

        real = loop.Run.pick

        def pick(self, round):
            real(self, round)
            finish(campaign)

        monkeypatch.setattr(loop.Run, "pick", pick)
        there = train(tmp_path / "c", "cpu")
        monkeypatch.setattr(loop.Run, "pick", real)
        assert there in ("full", "finished") and train(tmp_path / "c", "cpu") == "finished"
        assert state(campaign) == "finished" and not campaign.ledger.waits()
        assert campaign.ledger.progress(arms=PICKED).labels == 20
        # and may go on
        change_budget(campaign, 40)
        assert campaign.ledger.waits()
        answer_all(campaign, truth)
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        assert campaign.ledger.progress(arms=PICKED).labels == 40


def test_who_finishes_takes_single_answers_where_two_were_wanted(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=10, audit_answers=2, double=0.9)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        ann, _ = join(campaign, "Ann"), join(campaign, "Bob")
        given = campaign.ledger.next(ann, 48)
        campaign.ledger.answer(
            ann, [Given(f"k-{q.sample_id}", q.sample_id, "label", truth[q.sample_id]) for q in given]
        )
        assert campaign.ledger.progress().labels < len(given) == 35  # most wait for Bob
        assert finish(campaign) == 0
        assert campaign.ledger.progress(arms=("audit",)).labels == 15
        assert train(tmp_path / "c", "cpu") == "finished"


def test_copies_and_labels_from_files_neither_cost_nor_use_up_the_budget(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=60, start=20, batch=20, control=0.5, price=1.0)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        before = cost(campaign).money
        asked_before = {row.sample_id for row in asked(campaign)}
        audit = {o.sample_id for o in campaign.ledger.outcomes(["audit"])}
        new = [id for id in truth if id not in asked_before | audit][:30]
        file = tmp_path / "labels.csv"
        file.write_text("sample_id,label\n" + "".join(f"{id},{truth[id]}\n" for id in new))
        import_labels(campaign, file, "archive")
        assert cost(campaign).money == before
        answer_all(campaign, truth)
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        assert train(tmp_path / "c", "cpu") == "finished"
        picked, random, _ = curves(campaign)
        assert list(picked.labels) == [20, 70, 90] and random.labels[0] == 20
        drawn = random_arm(asked(campaign), 185, 2, 0)
        assert {row.round for row in drawn if row.arm == "given"} <= {1}
        told = outlook(campaign)
        assert told.ahead is None or told.ahead.at_budget.value <= 1


def test_what_cannot_be_compared_does_not_stop_a_campaign(photos, tmp_path, monkeypatch):
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=20, control=0.5)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        import mcdal.campaign.trials as module

        monkeypatch.setattr(module.Trials, "_trained", lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
        notices = []
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        heard = lambda kind, **what: notices.append(what.get("text", ""))  # noqa: E731
        assert train(tmp_path / "c", "cpu", heard) == "finished"
        assert any("out of memory" in text for text in notices) and not untried(campaign, 2)


def test_a_campaign_of_before_goes_on(photos, tmp_path):
    """Its definition has none of the fields that came later."""
    root, truth = photos
    begin(tmp_path / "c", root, budget=40, start=20, batch=20, control=0.8)
    later = {"target", "cost", "price", "wage", "seconds_per_label", "near", "fan_out", "easy", "per_group", "groups", "costs",
             "classes", "audit_answers"}  # fmt: skip
    with opened(tmp_path / "c") as campaign:
        with campaign.database.write() as connection:
            row = connection.execute(select(campaigns.c.config)).scalar_one()
            old = {key: value for key, value in row.items() if key not in later}
            connection.execute(update(campaigns).values(config=old))
        while train(tmp_path / "c", "cpu") == "asks":
            answer_all(campaign, truth)
        assert state(campaign) == "finished"

"""The card says what the store holds, in words that Hugging Face and people read; shares come from random images alone."""

import re
from collections import Counter
from typing import get_args

import pytest
import yaml as real_yaml
from markdown_it import MarkdownIt

from mcdal.campaign.card import write_card
from mcdal.campaign.card_sections import WHY, command
from mcdal.campaign.definition import Campaign, opened
from mcdal.campaign.draws import is_audit
from mcdal.campaign.images import list_images
from mcdal.campaign.importing import import_labels
from mcdal.campaign.ledger import Arm, Given
from mcdal.campaign.originals import originals_of
from mcdal.campaign.progress import accuracy, interval
from mcdal.campaign.result_commands import card as card_command
from mcdal.campaign.rows import labeled
from mcdal.campaign.shares import class_shares
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError, PoolError
from tests.campaign.conftest import begin, join
from tests.campaign.test_campaign import answer_all
from tests.campaign.test_escape import cells

HOSTILE = ["a|b", "</td><script>", "# x", "q\"uo'te", "---", "`````", "\u202eevil", "[l](x)", "e\\", "ok"]


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    root, truth = photos
    folder = tmp_path_factory.mktemp("card") / "di|gits # <b>"
    begin(folder, root, classes="\n".join(HOSTILE).replace("\n", ","), audit=40.0)
    with opened(folder) as campaign:
        train(folder, "cpu")
        unclear = {*campaign.ledger.open()[:3]}
        answer_all(campaign, truth, names=("Ann", "B|ob"), cannot=unclear)
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth, names=("Ann", "B|ob"))
        yield campaign


def parts(path):
    _, front, text = path.read_text(encoding="utf-8").split("---\n", 2)
    return real_yaml.safe_load(front), text


def test_the_front_matter_is_what_hugging_face_reads(finished, tmp_path):
    card_command(finished.folder, tmp_path / "card.md", device="cpu")
    front, _ = parts(tmp_path / "card.md")
    assert front["pretty_name"] == "di|gits # <b>" and front["size_categories"] == ["n<1K"]
    assert front["task_categories"] == ["image-classification"]
    (label,) = (f for f in front["dataset_info"]["features"] if f["name"] == "label")
    assert label["dtype"]["class_label"]["names"] == {str(i): name for i, name in enumerate(HOSTILE)}


def test_its_tables_hold_what_the_store_holds(finished, tmp_path):
    write_card(finished, tmp_path / "card.md", device="cpu")
    _, text = parts(tmp_path / "card.md")
    rows, found = labeled(finished), cells(text)
    arms = Counter(row.arm for row in rows)
    for arm, count in arms.items():
        assert found[found.index(arm) + 1] == str(count)
    shown = ["a|b", "</td><script>", "# x", "q\"uo'te", "---", "`````", "\\u202eevil", "[l](x)", "e\\", "ok"]
    start = found.index("share in the pool (95 %)") + 1
    width = 3 + len(arms)
    for i, name in enumerate(shown):
        line = found[start + i * width : start + (i + 1) * width]
        assert line[0] == name and line[-2] == str(sum(row.number == i for row in rows))
    value = accuracy(finished)
    assert f"right on {100 * value.value:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})" in text
    assert (
        f"of {value.labels} audit images" in text and "Krippendorff's alpha" in text and "not a random sample" in text
    )
    recalled = [re.fullmatch(r"(\d+) of (\d+)", cell) for cell in found]
    recalled = [(int(m[1]), int(m[2])) for m in recalled if m]
    assert sum(of for _, of in recalled) == value.labels and sum(n for n, _ in recalled) / value.labels == value.value
    low, high = interval(recalled[0][0] / recalled[0][1], recalled[0][1])
    assert f"({100 * low:.1f} to {100 * high:.1f})" in text
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    kinds = {token.type for token in [*tokens, *(child for t in tokens for child in t.children or ())]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image"} and "\u202e" not in text


def test_people_have_numbers_unless_names_are_asked_for(finished, tmp_path):
    write_card(finished, tmp_path / "card.md", device="cpu")
    write_card(finished, tmp_path / "named.md", names=True, device="cpu")
    without, named = parts(tmp_path / "card.md")[1], parts(tmp_path / "named.md")[1]
    assert {"person 1", "person 2"} <= {*cells(without)} and not {"Ann", "B|ob"} & {*cells(without)}
    assert {"Ann", "B|ob"} <= {*cells(named)} and "person 1" not in named


def test_shares_are_those_of_images_that_were_drawn_at_random(finished):
    outcomes = finished.ledger.outcomes()
    audit = originals_of(finished).audit()
    found = class_shares(finished, outcomes, audit)
    drawn = [o for o in outcomes if o.arm in ("audit", "start")]
    assert found.images == len(drawn) == 60 and found.drawn == "the audit and the start set"
    assert found.cannot.count == sum(o.verdict == "cannot_tell" for o in drawn) > 0
    for c, share in enumerate(found.classes):
        assert share.count == sum(o.value == c for o in drawn) and share.of == 60
        assert (share.low, share.high) == interval(share.count / 60, 60)
    # One image more that the draw gives to the audit: the start set is older than it.
    seed, below = finished.campaign.seed, finished.campaign.audit_below
    new = next(f"new{i}" for i in range(10_000) if is_audit(seed, f"new{i}", below))
    assert class_shares(finished, outcomes, audit | {new}).images == 40
    assert class_shares(finished, outcomes, audit | {new}).drawn == "the audit"


def test_labels_from_a_file_are_no_random_sample(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root)
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        answer_all(campaign, truth)
        ids = [file.id for file in list_images(root, tmp_path / "c")]
        free = next(id for id in ids if campaign.ledger.question(id) is None)
        (tmp_path / "l.csv").write_text(f"sample_id,label\n{free},{truth[free]}\n")
        import_labels(campaign, tmp_path / "l.csv", "file")
        audit = originals_of(campaign).audit()
        assert class_shares(campaign, campaign.ledger.outcomes(), audit).drawn == "the audit"


def test_without_a_model_or_with_images_away_the_card_says_so(photos, tmp_path):
    root, truth = photos
    begin(tmp_path / "c", root, budget=20, start=20)
    with opened(tmp_path / "c") as campaign:
        with pytest.raises(CampaignError, match="nothing is labeled yet"):
            write_card(campaign, tmp_path / "card.md")
        train(tmp_path / "c", "cpu")
        person = join(campaign, "Ann")
        for q in campaign.ledger.next(person, 5):
            campaign.ledger.answer(person, [Given(f"k-{q.sample_id}-1", q.sample_id, "label", truth[q.sample_id])])
        write_card(campaign, tmp_path / "card.md")
    text = (tmp_path / "card.md").read_text()
    assert "No model is trained yet" in text and "nothing is known of how well they agree" in text


def test_a_model_that_cannot_be_judged_keeps_no_card_from_being_written(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mcdal.campaign.card.round_model", lambda *_: (_ for _ in ()).throw(PoolError("/home/x is away"))
    )
    told = []
    write_card(finished, tmp_path / "card.md", listen=lambda kind, **fields: told.append((kind, fields["text"])))
    text = (tmp_path / "card.md").read_text()
    assert "could not be judged when this card was written" in text and "/home" not in text
    assert told == [("notice", "the card says nothing of the model: /home/x is away")]


def test_where_files_lie_is_not_told(photos, tmp_path):
    given = Campaign(
        "n", photos[0], 5, 5, 1, 1, 0.1, encoder="/home/ann/mine.py:Mine", settings=(("weights", "/home/ann/w.pt"),)
    )
    told = command(given, ("a b", "c"))
    assert "/home" not in told and "mine.py:Mine" in told and "weights=w.pt" in told and "'a b,c'" in told
    assert "classes.txt" in command(given, ("a,b", "c"))


def test_every_arm_has_its_reason_in_the_card():
    assert set(WHY) == {*get_args(Arm), "copy"}

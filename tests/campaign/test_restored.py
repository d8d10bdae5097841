"""Rows that are restored from yesterday, beside the files of today and answers that people send again."""

import shutil
import subprocess

import pytest

from mcdal.address import address_of
from mcdal.campaign.definition import opened
from mcdal.campaign.ledger import Given
from mcdal.campaign.trainer import train
from mcdal.store import Store
from tests.campaign.conftest import begin, join
from tests.campaign.test_campaign import answer_all
from tests.runs import content


class Backup:
    """Of the rows alone, as somebody makes it every night."""

    def __init__(self, folder, to, schemas):
        self._folder, self._to, self._schemas = folder, to, schemas
        there = address_of(folder)
        self._schema = None if there is None else there.url.rpartition("%3D")[2]
        if self._schema is None:
            shutil.copyfile(folder / "mcdal.db", to)
        else:
            pg_dump = shutil.which("pg_dump") or pytest.skip("needs pg_dump")
            subprocess.run([pg_dump, "--schema", self._schema, "--file", to, schemas.url], check=True)

    def restore(self):
        if self._schema is None:
            shutil.copyfile(self._to, self._folder / "mcdal.db")
            return
        self._schemas.execute(f"DROP SCHEMA {self._schema} CASCADE")
        subprocess.run(
            ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", self._to, self._schemas.url], check=True, capture_output=True
        )


def go_on(folder, truth, wrong):
    """From the second round to the end; gives what was recorded."""
    with opened(folder) as campaign:
        answer_all(campaign, truth | dict.fromkeys(campaign.ledger.open()[:wrong], 0))
        while train(folder, "cpu") == "asks":
            answer_all(campaign, truth)
    return content(folder)


@pytest.fixture
def in_the_second_round(photos, tmp_path):
    root, truth = photos
    folder = tmp_path / "c"
    begin(folder, root, double=0.0)
    train(folder, "cpu")
    with opened(folder) as campaign:
        answer_all(campaign, truth)
    assert train(folder, "cpu") == "asks"
    return folder, truth


def test_files_of_a_day_that_is_undone_are_not_taken_up(in_the_second_round, tmp_path, schemas):
    """It ends as if that day had never been, whatever lies in the folder from it."""
    folder, truth = in_the_second_round
    backup = Backup(folder, tmp_path / "backup", schemas)
    shutil.copytree(folder, tmp_path / "aside")
    with opened(folder) as campaign:  # the day: other answers, and two more rounds of files
        answer_all(campaign, {id: (value + 1) % 10 for id, value in truth.items()})
        train(folder, "cpu")
        answer_all(campaign, {id: (value + 1) % 10 for id, value in truth.items()})
        train(folder, "cpu")
    newer = sorted(path.name for path in (folder / "runs").glob("*/round_*"))
    backup.restore()
    store = Store(folder, create=False)
    (record,) = store.runs()
    assert len(store.rounds(record.run_id)) < len(newer)
    store.close()
    after = go_on(folder, truth, wrong=3)
    shutil.rmtree(folder)
    shutil.move(tmp_path / "aside", folder)
    backup.restore()
    assert after == go_on(folder, truth, wrong=3)


def test_answers_that_are_sent_again_are_recorded_again_and_once(in_the_second_round, tmp_path, schemas):
    folder, truth = in_the_second_round
    with opened(folder) as campaign:
        ann = join(campaign, "Ann")
        first, *rest = campaign.ledger.next(ann, 5)
        kept = Given("before-the-backup", first.sample_id, "label", truth[first.sample_id])
        campaign.ledger.answer(ann, [kept])
    backup = Backup(folder, tmp_path / "backup", schemas)
    outbox = [Given(f"{q.sample_id}-after", q.sample_id, "label", truth[q.sample_id]) for q in rest]
    with opened(folder) as campaign:
        assert {r.status for r in campaign.ledger.answer(ann, outbox)} == {"recorded"}
        answer_all(campaign, truth)
        train(folder, "cpu")
        late = campaign.ledger.next(ann, 1)[0].sample_id
    backup.restore()
    with opened(folder) as campaign:
        sent = campaign.ledger.answer(ann, [kept, *outbox, Given("of-a-round-that-is-undone", late, "label", 1)])
        assert [r.status for r in sent] == ["repeated", *["recorded"] * 4, "refused"]
        assert sent[-1].message == f"Nobody asked about {late!r}."
        assert {r.status for r in campaign.ledger.answer(ann, [kept, *outbox])} == {"repeated"}
        assert campaign.ledger.said(ann, outbox[0].sample_id).value == outbox[0].value

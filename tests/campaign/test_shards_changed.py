"""Shards that change, go or come back while people label: a label never lies on another image than the one that they saw."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow
import pytest
import torch

from mcdal.campaign.definition import opened
from mcdal.campaign.originals import originals_of
from mcdal.campaign.plans import plan_of
from mcdal.campaign.relisting import relist
from mcdal.campaign.showing import Pictures
from mcdal.campaign.sweep import sweep
from mcdal.campaign.trainer import train
from mcdal.errors import CampaignError, McdalError, PoolError
from mcdal.pool.digits import Digits
from tests.campaign.conftest import begin
from tests.campaign.test_campaign import answer_all
from tests.pool import layouts

EACH = 30
SMALL = {
    "budget": 20, "start": 12, "batch": 8, "audit": 6.0, "control": 0.0,
    "settings": ["training.epochs=1", "training.steps_per_epoch=2"],
}  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """PNG files of digits by number, and what they show."""
    pool = Digits().open(tmp_path_factory.mktemp("cache"))
    return [layouts.encoded(pool.images.pixels[i].squeeze()) for i in range(6 * EACH)], pool.targets.tolist()


def write(path, digits, first, columns=None):
    """A shard of the digits from this number on."""
    layouts.write_parquet(path, digits[0][first : first + EACH], columns or {})


class Begun:
    """A campaign that asks about images in shards, begun once: each test has a copy of it, and the shards as they were.

    What tests it is marked sqlite, as a database on a server is not copied with the folder.
    """

    def __init__(self, root: Path, kept: Path, folder: Path, **changes):
        self.root, self._kept, self._folder = root, kept, folder
        shutil.copytree(root, kept)
        begin(folder, root, **{**SMALL, **changes})
        train(folder, "cpu")

    def again(self, tmp_path):
        """The folder of a copy."""
        shutil.rmtree(self.root)
        shutil.copytree(self._kept, self.root)  # with the times of the files
        shutil.copytree(self._folder, tmp_path / "c")
        return tmp_path / "c"

    def put_back(self, name):
        shutil.copy2(self._kept / name, self.root / name)


@pytest.fixture(scope="module")
def parquet(digits, tmp_path_factory):
    root = tmp_path_factory.mktemp("parquet")
    for shard in range(3):
        write(root / f"s{shard}.parquet", digits, shard * EACH)
    there = Begun(root, root.with_name("kept parquet"), root.with_name("parquet campaign"))
    return there, {f"s{i // EACH}:{i % EACH}": digits[1][i] for i in range(3 * EACH)}


@pytest.fixture(scope="module")
def lance(digits, tmp_path_factory):
    pytest.importorskip("lance")
    root = tmp_path_factory.mktemp("lance") / "pool.lance"
    write_lance(root, digits, 0)
    return Begun(root, root.with_name("kept"), root.with_name("campaign"))


def write_lance(root, digits, first):
    import lance

    table = pyarrow.table({"image": digits[0][first : first + 3 * EACH]})
    lance.write_dataset(table, str(root), max_rows_per_file=EACH)


def of(shard, ids):
    return {id for id in ids if id.startswith(f"{shard}:")}


@pytest.mark.sqlite
def test_another_file_under_the_name_of_one_that_has_gone_is_refused(parquet, digits, tmp_path):
    there, truth = parquet
    with opened(there.again(tmp_path)) as campaign:
        waiting = campaign.ledger.open()
        gone = of("s0", waiting)
        (there.root / "s0.parquet").unlink()
        found = relist(campaign)
        assert found.changes == ("s0.parquet is missing",) and found.withdrawn == len(gone) > 3
        assert sweep(campaign) == "" and set(campaign.ledger.open()) == set(waiting) - gone
        write(there.root / "s0.parquet", digits, 4 * EACH)
        with pytest.raises(CampaignError, match=r"s0.parquet has changed, and people were asked about its images"):
            relist(campaign)
        answer_all(campaign, truth)
        with pytest.raises(McdalError, match=r"(?s)1 shards are not as they were.*s0.parquet has changed"):
            train(campaign.folder, "cpu")
        assert not originals_of(campaign).known(sorted(gone))
        there.put_back("s0.parquet")
        assert relist(campaign).changes == ("s0.parquet is new",) and sweep(campaign) == ""
        assert set(campaign.ledger.open()) == gone
        shown = Pictures.of(campaign).show(min(gone), "image")
        assert shown.content == digits[0][int(min(gone).partition(":")[2])]


@pytest.mark.sqlite
def test_a_cache_that_is_removed_forgets_nothing_of_what_was_asked(parquet, digits, tmp_path):
    there, truth = parquet
    with opened(there.again(tmp_path)) as campaign:
        answer_all(campaign, truth)
        for number, words in ((4, "s0.parquet has changed"), (None, "s0.parquet is missing")):
            shutil.rmtree(campaign.folder / "cache", ignore_errors=True)
            (there.root / "s0.parquet").unlink()
            if number is not None:
                write(there.root / "s0.parquet", digits, number * EACH)
            with pytest.raises(McdalError, match=rf"(?s)1 shards are not as they were.*{words}"):
                train(campaign.folder, "cpu")
            with pytest.raises(McdalError, match=words):
                originals_of(campaign).count()
        there.put_back("s0.parquet")
        assert originals_of(campaign).count() == 3 * EACH


@pytest.mark.sqlite
def test_rows_of_a_lance_table_that_are_elsewhere_now_are_refused(lance, digits, tmp_path):
    import lance as reader

    with opened(lance.again(tmp_path)) as campaign:
        asked = campaign.ledger.open()
        row = next(row for row in range(EACH) if f"fragment-0:{row}" not in asked)
        reader.dataset(str(lance.root)).delete(f"_rowid = {row}")
        assert relist(campaign).changes == ("fragment-0 has changed",) and set(campaign.ledger.open()) == set(asked)
        assert Pictures.of(campaign).show(asked[0], "image").content == digits[0][_number(asked[0])]
        reader.dataset(str(lance.root)).optimize.compact_files(target_rows_per_fragment=10 * EACH)
        for removed in (False, True):
            if removed:
                shutil.rmtree(campaign.folder / "cache", ignore_errors=True)
            with pytest.raises(CampaignError, match=r"compacted or written anew: fragment-\d has gone"):
                relist(campaign)
        shutil.rmtree(lance.root)
        write_lance(lance.root, digits, 3 * EACH)
        with pytest.raises(CampaignError, match=r"pool.lance/fragment-0 has changed, and people were asked about"):
            relist(campaign)


def _number(id):
    fragment, _, row = id.removeprefix("fragment-").partition(":")
    return int(fragment) * EACH + int(row)


@pytest.mark.sqlite
def test_fragments_that_have_gone_for_good_are_taken_as_gone(lance, tmp_path):
    import lance as reader

    with opened(lance.again(tmp_path)) as campaign:
        gone = of("fragment-1", campaign.ledger.open())
        rows = ", ".join(str((1 << 32) + row) for row in range(EACH))
        reader.dataset(str(lance.root)).delete(f"_rowid in ({rows})")
        assert relist(campaign).withdrawn == len(gone) > 0
        assert not of("fragment-1", campaign.ledger.open())


def test_an_id_that_comes_twice_leaves_the_round_alone(digits, tmp_path):
    (root := tmp_path / "pool").mkdir()
    for shard in range(2):
        write(root / f"s{shard}.parquet", digits, shard * EACH, {"key": _keys(shard * EACH)})
    begin(tmp_path / "c", root, **SMALL, id_column="key")
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        before, waiting = originals_of(campaign), campaign.ledger.open()
        write(root / "s2.parquet", digits, 2 * EACH, {"key": _keys(2 * EACH - 1)})
        for listed in (lambda: plan_of(campaign.campaign, tmp_path / "c").config.source.open(tmp_path / "c/cache"),
                       lambda: relist(campaign)):  # fmt: skip
            with pytest.raises(PoolError, match=rf"'k{2 * EACH - 1}' stands for two samples .s1.parquet, s2.parquet"):
                listed()
            for originals in (before, originals_of(campaign)):
                assert originals.count() == 2 * EACH and all(map(originals.can_be_read, waiting))
        (root / "s2.parquet").unlink()
        source = plan_of(campaign.campaign, tmp_path / "c").config.source
        assert len(source.open(tmp_path / "c/cache").images) == 2 * EACH - len(before.audit())


def _keys(first, count=EACH):
    return [f"k{i}" for i in range(first, first + count)]


def test_nothing_is_kept_of_a_tar_that_was_overwritten_while_it_is_read(digits, tmp_path):
    (root := tmp_path / "pool").mkdir()
    members = {f"{i:03d}.png": digits[0][i] for i in range(EACH)}
    layouts.write_tar(root / "s0.tar", members)
    begin(tmp_path / "c", root, **{**SMALL, "start": 10, "budget": 12})
    with opened(tmp_path / "c") as campaign:
        source = plan_of(campaign.campaign, tmp_path / "c").config.source
        opening = source.open(tmp_path / "c/cache")
        (shard,) = opening.sharded.shards
        streamed = opening.sharded.pool(shard).images
        shutil.copy2(root / "s0.tar", tmp_path / "s0.tar")
        layouts.write_tar(root / "s0.tar", {name: content + b"x" * 700 for name, content in members.items()})
        for images in (opening.images, streamed):
            with pytest.raises(PoolError, match=r"s0.tar has changed while it was read"):
                list(images.batches([np.arange(len(images))], torch.device("cpu")))
        shutil.copy2(tmp_path / "s0.tar", root / "s0.tar")
        again = source.open(tmp_path / "c/cache")
        assert not again.images.quarantined and not again.sharded.pool(shard).images.quarantined
        whole = again.sharded.pool(shard).images  # with its checksum, if one was kept of the other file
        (batch,) = whole.batches([np.arange(len(whole))], torch.device("cpu"))
        assert all(np.ptp(image.numpy()) for image in batch)


def test_bytes_of_another_shard_of_the_same_layout_are_not_kept(digits, tmp_path):
    """Looked at less than a minute ago, it is trusted to be what it was."""
    plain = [layouts.encoded(np.full((8, 8), i, np.uint8), "BMP") for i in range(2 * EACH)]
    (root := tmp_path / "pool").mkdir()
    path = root / "s0.parquet"
    layouts.write_parquet(path, plain[:EACH], {}, compression="none")
    begin(tmp_path / "c", root, **{**SMALL, "start": 10, "budget": 12})
    with opened(tmp_path / "c") as campaign:
        train(tmp_path / "c", "cpu")
        ids = campaign.ledger.open()
        for kept in (tmp_path / "c/cache").glob("encoded*"):
            kept.unlink()
        before = originals_of(campaign)
        assert all(map(before.can_be_read, ids))
        shutil.copy2(path, tmp_path / "s0.parquet")
        layouts.write_parquet(path, plain[EACH:], {}, compression="none")
        assert path.stat().st_size == (tmp_path / "s0.parquet").stat().st_size
        with pytest.raises(PoolError, match=r"s0.parquet has changed"):
            before.open(ids[0])
        shutil.copy2(tmp_path / "s0.parquet", path)
        for originals in (before, originals_of(campaign)):
            assert list(originals.each(ids)) == [plain[int(id.partition(":")[2])] for id in ids]


@pytest.mark.sqlite
def test_a_lance_table_that_is_opened_anew_is_not_taken_for_the_old_one(lance, digits, tmp_path):
    """A look at one fragment opens it anew for all, and the others were looked at less than a minute ago."""
    with opened(lance.again(tmp_path)) as campaign:
        originals, asked = originals_of(campaign), campaign.ledger.open()
        first, other = (min(of(f"fragment-{number}", asked)) for number in (0, 1))
        assert originals.can_be_read(other)
        shutil.rmtree(lance.root)
        write_lance(lance.root, digits, 3 * EACH)
        assert not originals.can_be_read(first)
        with pytest.raises(PoolError, match="fragment-1 has changed while it was read"):
            originals.open(other)

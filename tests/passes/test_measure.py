"""A pass continues where it was, never uses what is stale or torn, and says what it does."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from mcdal.errors import ConfigError, PoolError, StoreError
from mcdal.measuring import measure
from mcdal.passes import Here, measure_shards, rows_of, top_of
from mcdal.passes.folder import LocalFolder
from mcdal.pool.base import ArrayImages, Quarantined
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal_posthoc import MCDALPosthoc
from mcdal.strategies.random import Random
from mcdal.testing import NUMERICS, FakeModel, fake_pool
from tests.passes.driver import model
from tests.passes.sharded import opened, watched


def measured(folder, network=None, strategy=None, sharded=None, **more):
    heard = []
    result = measure_shards(
        network or model(), sharded or watched(folder), strategy or Margin(), folder / "pass", numerics=NUMERICS,
        listen=lambda kind, **fields: heard.append((kind, fields)), **more,
    )  # fmt: skip
    return result, heard


def notices(heard):
    return [fields["text"] for kind, fields in heard if kind == "notice"]


def names(folder):
    return [name for name, _ in opened(folder)]


def test_what_was_measured_is_not_measured_again(tmp_path):
    first, heard = measured(tmp_path)
    assert len(first) == 40 and first.resumed == 0 and notices(heard) == []
    assert names(tmp_path) == [f"part-{i}" for i in range(8)]
    again, heard = measured(tmp_path, batch_size=3)
    assert len(names(tmp_path)) == 8 and again.resumed == 8
    assert notices(heard) == ["8 of 8 shards (40 rows) were measured before"]
    assert top_of(again, 9, {}).ids == top_of(first, 9, {}).ids


def test_an_interrupted_pass_goes_on_at_the_next_shard(tmp_path):
    class Stopped(Here):
        def measure(self, job, folder, shards, progress):
            super().measure(job, folder, shards[:3], progress)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path, engine=Stopped())
    result, heard = measured(tmp_path)
    assert names(tmp_path) == [f"part-{i}" for i in range(8)] and result.resumed == 3
    events = [fields for kind, fields in heard if kind == "measure"]
    assert events[-1]["done"] == events[-1]["total"] == 40 and events[-1]["resumed"] == 15
    assert events[-1]["shards_done"] == events[-1]["shards"] == 8
    assert events[0]["seconds_left"] > 0 and events[0]["rows_per_second"] > 0 and set(events[0]["workers"]) == {"here"}


def other_weights():
    torch.manual_seed(1)
    return FakeModel(3)


@pytest.mark.parametrize(
    "change, told",
    [
        ({"network": other_weights()}, "measured_by"),
        ({"strategy": Margin(beta=2.0)}, "measured_by"),
        ({"seed": 1}, "seed"),
        ({"kept": "float32"}, "kept"),
        ({"about": {"normalised": "otherwise"}}, "normalised"),
    ],
)
def test_what_is_stale_is_never_used(tmp_path, change, told):
    measured(tmp_path)
    result, heard = measured(tmp_path, **change)
    assert result.resumed == 0 and len(names(tmp_path)) == 16
    (text,) = notices(heard)
    assert text == f"8 shards (part-0, part-1, part-2, ...) are measured again: what was kept of them differs in {told}"
    assert all(found.tags["seed"] == str(change.get("seed", 0)) for found in result.found)


def test_a_shard_that_changed_is_measured_again_alone(tmp_path):
    measured(tmp_path)
    sharded = Changed.of(watched(tmp_path), stamp={"part-2": "newer"})
    result, heard = measured(tmp_path, sharded=sharded)
    assert names(tmp_path)[8:] == ["part-2"] and result.resumed == 7
    assert "(part-2) are measured again: what was kept of them differs in stamp" in notices(heard)[0]


class Changed:
    """Another pool with some stamps or sizes changed."""

    @staticmethod
    def of(sharded, stamp=None, size=None, pool=None):
        class Other(type(sharded)):
            @property
            def shards(self):
                return tuple(
                    replace(s, stamp=(stamp or {}).get(s.name, s.stamp), size=(size or {}).get(s.name, s.size))
                    for s in super().shards
                )

            def pool(self, shard):
                found = super().pool(shard)
                return found if pool is None else pool(found)

        return Other(**vars(sharded))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turn(path):
    """One bit, in the numbers of the file."""
    content = bytearray(path.read_bytes())
    place = len(content) - 20
    if path.suffix == ".parquet":
        scores = pq.ParquetFile(path).metadata.row_group(0).column(0)
        place = scores.data_page_offset + scores.total_compressed_size - 4
    content[place] ^= 1
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("harm", [cut, turn, empty, lambda path: path.unlink()], ids=["cut", "turn", "empty", "gone"])
@pytest.mark.parametrize("kind", ["parquet", "vector.npy", "probabilities.npy"])
def test_what_is_torn_is_measured_again(tmp_path, harm, kind):
    first, _ = measured(tmp_path, strategy=MCDALPosthoc())
    (path,) = (tmp_path / "pass").glob(f"part-4.*{kind}") if kind != "parquet" else [tmp_path / "pass/part-4.parquet"]
    before = path.read_bytes()
    harm(path)
    result, heard = measured(tmp_path, strategy=MCDALPosthoc())
    assert names(tmp_path)[8:] == ["part-4"] and result.resumed == 7
    assert path.read_bytes() == before
    told = any("part-4.parquet is damaged" in text for text in notices(heard))
    assert told or (kind == "parquet" and harm.__name__ == "<lambda>")
    np.testing.assert_array_equal(rows_of(first, {}).vector[:], rows_of(result, {}).vector[:])


def test_a_file_that_is_damaged_after_the_pass_is_told(tmp_path):
    result, _ = measured(tmp_path)
    cut(tmp_path / "pass/part-3.parquet")
    with pytest.raises(StoreError, match=r"part-3.parquet is damaged .* run the same command again"):
        top_of(result, 3, {})
    measured(tmp_path, seed=1)
    with pytest.raises(StoreError, match="another pass has written it since"):
        top_of(result, 3, {})


def test_no_array_of_an_earlier_pass_stays(tmp_path):
    measured(tmp_path, strategy=MCDALPosthoc())
    measured(tmp_path, strategy=MCDALPosthoc(), seed=1)
    assert len(list((tmp_path / "pass").glob("*.npy"))) == 2 * 8
    measured(tmp_path)
    assert list((tmp_path / "pass").glob("*.npy")) == []


class Bad(ArrayImages):
    quarantined = ()


def test_images_that_were_set_aside_are_told_and_no_error(tmp_path):
    def bad(pool):
        """One was found when the shard was opened, one while it was read."""
        first, second, *others = pool.images.ids
        images = Bad((second, *others), pool.images.pixels[1:])
        images.quarantined = (Quarantined(second, "cut off"),)
        return replace(pool, images=images, targets=pool.targets[1:], quarantine=(Quarantined(first, "empty"),))

    sharded = Changed.of(watched(tmp_path), pool=bad)
    result, _ = measured(tmp_path, sharded=sharded)
    assert len(result) == 24 and len(result.quarantined) == 16
    assert {q.reason for q in result.quarantined} == {"empty", "cut off"}
    again, _ = measured(tmp_path, sharded=sharded)
    assert again.resumed == 8 and again.quarantined == result.quarantined
    assert not {q.id for q in result.quarantined} & set(rows_of(result, {}).ids)


def test_a_shard_that_holds_another_number_than_it_said_is_refused(tmp_path):
    sharded = Changed.of(watched(tmp_path), size={"part-7": 4})
    sharded.pool(sharded.shards[0])

    class Long(type(sharded)):
        def pool(self, shard):
            return super().pool(replace(shard, size=5))

    with pytest.raises(PoolError, match=r"'part-7' holds 5 samples and 0 that were set aside, and not 4"):
        measured(tmp_path, sharded=Long(**vars(sharded)))


def test_a_strategy_that_measures_nothing_leaves_ids(tmp_path):
    result, _ = measured(tmp_path, strategy=Random())
    assert not result.scored and rows_of(result, {}).ids == measure(model(), fake_pool(40), {}, Random()).ids


def test_shards_of_one_name_and_senseless_settings_are_refused(tmp_path):
    class Twice(type(watched(tmp_path))):
        @property
        def shards(self):
            return (*super().shards, super().shards[0])

    with pytest.raises(ConfigError, match="two shards are called 'part-0'"):
        measured(tmp_path, sharded=Twice(**vars(watched(tmp_path))))
    with pytest.raises(ConfigError, match="workers = 0"):
        measured(tmp_path, workers=0)


def test_two_at_once_are_refused(tmp_path):
    with LocalFolder(tmp_path / "pass").alone(), pytest.raises(StoreError, match="another process measures into"):
        measured(tmp_path)


def test_half_written_files_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "pass").mkdir()
    (tmp_path / "pass/part-1.parquet.77.part").write_bytes(b"half")
    measured(tmp_path)
    assert list((tmp_path / "pass").glob("*.part")) == []


def test_a_network_that_fails_is_tried_three_times(tmp_path):
    with pytest.raises(StoreError, match="'part-6' failed 3 times, the last time: OSError: the network is down"):
        measured(tmp_path, sharded=watched(tmp_path, failing="part-6"))
    assert names(tmp_path) == [*(f"part-{i}" for i in range(7)), "part-6", "part-6"]
    assert measured(tmp_path)[0].resumed == 6


def test_an_address_is_as_good_as_a_folder(tmp_path):
    where = f"memory://{tmp_path.name}/pass"
    network, sharded = model(), watched(tmp_path)
    ask = {"numerics": NUMERICS}
    first = measure_shards(network, sharded, MCDALPosthoc(), where, **ask)
    again = measure_shards(network, sharded, MCDALPosthoc(), where, **ask)
    assert (first.resumed, again.resumed, len(again)) == (0, 8, 40)
    near = measure_shards(network, sharded, MCDALPosthoc(), tmp_path / "pass", **ask)
    one, two = rows_of(again, {}), rows_of(near, {})
    np.testing.assert_array_equal(one.vector[:], two.vector[:])
    assert json.dumps(one.ids) == json.dumps(two.ids)


def test_names_of_shards_may_be_anything(tmp_path):
    class Odd(type(watched(tmp_path))):
        @property
        def shards(self):
            return tuple(replace(s, name=f"s3://a b/{'x' * 200}/é-{i}") for i, s in enumerate(super().shards))

    result, _ = measured(tmp_path, sharded=Odd(**vars(watched(tmp_path))))
    assert len(list((tmp_path / "pass").glob("*.parquet"))) == 8 and len(result) == 40

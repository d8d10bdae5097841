"""Pools made harder: what is kept, copied and answered wrongly, and that nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mcdal.errors import ConfigError, StoreError
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.pool.base import ArrayImages
from mcdal.pool.conditions import Conditions
from mcdal.settings import override
from mcdal.store import Store
from mcdal.strategies.core_set import CoreSet
from mcdal.testing import fake_config, fake_pool, fake_scenes


def sizes(pool):
    return np.bincount(pool.targets, minlength=len(pool.classes)).tolist()


def test_nothing_set_is_the_pool_itself():
    pool = fake_pool()
    assert Conditions().applied(pool) is pool


def test_a_long_tail():
    pool = fake_pool(600, classes=4)
    smallest = min(sizes(pool))
    thin = Conditions(imbalance=8.0).applied(pool)
    assert sizes(thin) == [round(smallest * 8 ** (-c / 3)) for c in range(4)]
    truth = pool.truth()
    assert all(truth[id] == y for id, y in thin.truth().items())
    at = [pool.position(id) for id in thin.images.ids]
    assert at == sorted(at), "the order of the pool"
    again, other = Conditions(imbalance=8.0).applied(pool), Conditions(imbalance=8.0, seed=1).applied(pool)
    assert again.images.ids == thin.images.ids
    assert other.images.ids != thin.images.ids
    assert len({p.fingerprint for p in (pool, thin, other)}) == 3
    first, last = sizes(thin)[0], sizes(thin)[-1]
    assert thin.notes[-1] == f"long tail: {first} images of the first class, {last} of the last; {len(thin)} of 600"
    assert thin.test is pool.test


def test_copies_are_the_same_images_under_ids_of_their_own():
    pool = replace(fake_pool(10), groups=tuple("aabbccddee"))
    thrice = Conditions(copies=3).applied(pool)
    assert len(thrice) == 30
    assert thrice.images.ids[10] == f"{pool.images.ids[0]}#2"
    assert thrice.groups == pool.groups * 3
    (whole,) = pool.images.batches([np.arange(10)], torch.device("cpu"))
    (batch,) = thrice.images.batches([np.array([3, 13, 23])], torch.device("cpu"))
    assert all(torch.equal(x, whole[3]) for x in batch)
    assert torch.equal(thrice.images.read(14), pool.images.read(4))
    assert [thrice.truth()[id] for id in thrice.images.ids] == pool.targets.tolist() * 3


@pytest.mark.parametrize("confusion", ["pair", "uniform"])
def test_wrong_answers(confusion):
    pool = fake_pool(900)
    noisy = Conditions(noise=0.25, confusion=confusion).applied(pool)
    for c, size in enumerate(sizes(pool)):
        said = noisy.targets[pool.targets == c]
        assert (said != c).sum() == round(0.25 * size)
        wrong = set(said[said != c].tolist())
        assert wrong == ({(c + 1) % 3} if confusion == "pair" else {0, 1, 2} - {c})
    assert noisy.test is pool.test
    assert "25 % of the answers are wrong" in noisy.notes[-1]


def test_a_tail_is_answered_wrongly_as_often_in_each_class():
    thin, noisy = (Conditions(imbalance=20.0, noise=n).applied(fake_pool(900)) for n in (0.0, 0.2))
    assert thin.images.ids == noisy.images.ids
    for c, size in enumerate(sizes(thin)):
        assert (noisy.targets[thin.targets == c] != c).sum() == round(0.2 * size)


def test_files_know_copies_by_their_originals(tmp_path):
    pool = fake_pool()
    file, groups = tmp_path / "f.npz", tmp_path / "g.csv"
    np.savez(file, ids=np.array(pool.images.ids), features=np.random.default_rng(0).normal(size=(60, 4)))
    groups.write_text("sample_id,group\n" + "".join(f"{id},{i % 7}\n" for i, id in enumerate(pool.images.ids)))
    config = fake_config(CoreSet(), features=file, groups=groups, cold_start=CoreSet())
    config = override(config, {"conditions.copies": "2", "protocol.per_group": "4"})
    run(Plan(config), tmp_path / "out", device="cpu")


def test_features_show_the_images_that_they_are_of():
    class Shown(ArrayImages):
        def picture(self, position):
            return np.full((6, 6, 3), position, dtype=np.uint8)

    pool = fake_pool(10)
    copies = Conditions(copies=2).applied(replace(pool, images=Shown(pool.images.ids, pool.images.pixels)))
    assert (copies.images.picture(13) == 3).all()


def test_copies_are_answered_alike():
    pool = Conditions(noise=0.3, copies=2, imbalance=2.0).applied(fake_pool(90))
    half = len(pool) // 2
    assert pool.targets[:half].tolist() == pool.targets[half:].tolist()


@pytest.mark.parametrize(
    ("field", "value"),
    [("imbalance", 0.5), ("imbalance", float("nan")), ("copies", 0), ("noise", 1.0), ("noise", -0.1)],
)
def test_values_that_cannot_be(field, value):
    with pytest.raises(ConfigError, match=rf"conditions\.{field} = "):
        Conditions(**{field: value})


def test_what_a_pool_cannot_do():
    with pytest.raises(ConfigError, match=r"conditions\.noise: fake scenes is labeled by masks"):
        Conditions(noise=0.1).applied(fake_scenes())
    with pytest.raises(ConfigError, match=r"conditions\.imbalance: nobody knows the classes of fake"):
        Conditions(imbalance=2.0).applied(replace(fake_pool(), targets=None))
    assert len(Conditions(copies=2).applied(fake_scenes())) == 120
    with pytest.raises(ConfigError, match=r"conditions.imbalance = 1000: fake has \d+ images of class \d, too few"):
        Conditions(imbalance=1000.0).applied(fake_pool())


def test_a_run_under_conditions_records_them(tmp_path):
    config = override(fake_config(), {"conditions.copies": "2", "conditions.noise": "0.2"})
    id = run(Plan(config), tmp_path, device="cpu")
    record, labels = Store(tmp_path).run(id), Store(tmp_path).labels(id)
    assert record.pool_size == 120
    assert "each image is 2 times in the pool" in record.notes
    truth = fake_pool().truth()
    assert any(value != truth[id.partition("#")[0]] for id, value in labels.items())
    assert any("#2" in id for id in labels)
    with pytest.raises(StoreError, match="begun with another recipe"):
        run(Plan(replace(config, conditions=Conditions(copies=2, noise=0.3))), tmp_path, device="cpu")

"""Round 0 from features alone: what the strategy sees, what is shared and recorded, and which features count."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import mcdal.loop
from mcdal.artifacts import Artifacts
from mcdal.command import Command
from mcdal.errors import ConfigError, PoolError, StoreError
from mcdal.estimate import estimate
from mcdal.loop import run
from mcdal.measuring import measure_features, select
from mcdal.plan import Plan, run_id
from mcdal.registry import listed, load
from mcdal.report import write_report
from mcdal.settings import canonical, override, to_json
from mcdal.store import Store
from mcdal.strategies.base import About, Strategy
from mcdal.strategies.margin import Margin
from mcdal.strategies.random import Random
from mcdal.testing import fake_config, fake_pool, fake_training
from mcdal.values import Measurement
from tests.runs import content


@dataclass
class Longest(Strategy):
    """The longest features first, in a metric of one's own."""

    about = About(needs=("features",))

    power: float = 2.0
    """Of the norm."""

    def measure(self, batch):
        assert batch.output is None and batch.y is None and batch.x.numel() == 0
        return Measurement(score=batch.embedding.norm(dim=1, p=self.power), vector=batch.embedding)


@dataclass
class Uses(Strategy):
    """Scores by its embedding in every round, and forgets none of what it was given."""

    about = About(needs=("features",))

    def measure(self, batch):
        assert batch.output is not None and batch.embedding is not None
        return Measurement(score=batch.embedding[:, 0])


POOL = fake_pool()
FEATURES = np.random.default_rng(0).normal(size=(len(POOL), 4)).astype(np.float32)
NORM = dict(zip(POOL.images.ids, np.linalg.norm(FEATURES, axis=1).tolist(), strict=True))


@pytest.fixture
def file(tmp_path):
    np.savez(tmp_path / "f.npz", ids=np.array(POOL.images.ids[::-1]), features=FEATURES[::-1])
    return tmp_path / "f.npz"


def play(out, config, **plan):
    return run(Plan(config, **plan), out, device="cpu")


def cold(file, strategy=None, **changes):
    return fake_config(strategy, features=file, cold_start=Longest(), **changes)


def test_measured_on_the_features_alone_whatever_the_batch_size():
    rows = measure_features(POOL, Longest(), FEATURES, batch_size=7)
    assert rows.ids == POOL.images.ids and not rows.labeled.any() and (rows.y == -1).all()
    np.testing.assert_allclose(rows.score, list(NORM.values()), rtol=1e-6)
    np.testing.assert_array_equal(rows.vector, FEATURES)
    np.testing.assert_array_equal(measure_features(POOL, Longest(), FEATURES, batch_size=512).score, rows.score)
    frozen = FEATURES.copy()
    frozen.flags.writeable = False  # as a memory-mapped file is
    measure_features(POOL, Longest(), frozen)
    nothing = measure_features(POOL, Random(), FEATURES)
    assert nothing.score is None and nothing.vector is None and len(select(Random(), nothing, 5)) == 5


def test_picks_of_round_0_are_shared_recorded_and_scored(tmp_path, file):
    expected = sorted(NORM, key=lambda id: -NORM[id])[:12]
    for strategy in (Random(), Margin(), None):
        play(tmp_path, cold(file, strategy))
    store = Store(tmp_path)
    ids = [record.run_id for record in store.runs()]
    assert len(ids) == 3 and {store.asked(id, 0) for id in ids} == {tuple(expected)}
    found = content(tmp_path)
    assert {row[2]: row[3] for row in found["queries"] if row[1] == 0} == pytest.approx(
        {id: NORM[id] for id in expected}
    )
    assert {row[3] for row in found["queries"] if row[1] == 1 and "Random" not in row[0]} != {None}
    metrics = {row[2]: row[3] for row in found["metrics"] if row[:2] == (ids[0], 0)}
    assert metrics["score/picked_mean"] == pytest.approx(np.mean([NORM[id] for id in expected]))
    assert "score/labeled_mean" not in metrics
    assert Artifacts(tmp_path / "runs" / ids[0]).read_rows(0).score is not None
    assert set(store.rounds(ids[0])[0].seconds) >= {"measure", "select"}
    assert len({m.value for id in ids for m in store.metrics(id) if (m.round, m.name) == (0, "test/loss")}) == 1


def test_the_report_shows_it(tmp_path, file):
    for strategy in (Random(), Margin()):
        play(tmp_path, cold(file, strategy))
    page = write_report(tmp_path, []).read_text()
    assert "cold_start" in page and "features_sha256" in page and "Longest" in page
    scores = next((tmp_path / "report" / "runs").glob("*Margin*_scores.csv")).read_text().splitlines()
    assert {line.split(",")[0] for line in scores[1:]} == {"0", "1", "2", "3"}


def test_without_a_cold_start_round_0_is_at_random_as_before(tmp_path, file):
    play(tmp_path / "plain", fake_config(Margin()))
    play(tmp_path / "features", fake_config(Margin(), features=file))
    plain, given = content(tmp_path / "plain"), content(tmp_path / "features")
    assert all(plain[table] == given[table] for table in ("rounds", "queries", "labels", "metrics"))


def test_later_rounds_get_the_features_of_each_sample(tmp_path, file):
    id = play(tmp_path, fake_config(Uses(), features=file))
    rows = Artifacts(tmp_path / "runs" / id).read_rows(2)
    assert rows.ids == POOL.images.ids
    np.testing.assert_array_equal(rows.score, FEATURES[:, 0])
    published = fake_config(Uses(), features=file, training=fake_training(published_sampling=True, batch_size=7))
    id = play(tmp_path, published, recipe="published")
    rows = Artifacts(tmp_path / "runs" / id).read_rows(1)
    assert (rows.score == FEATURES[:, 0]).mean() > 0.8  # but for the batch that is dropped


@pytest.mark.parametrize("stage", ["write_rows", "write_gallery", "begin_round"])
def test_stopped_in_round_0_and_continued(tmp_path, file, monkeypatch, stage):
    play(tmp_path / "whole", cold(file))
    owner = Artifacts if hasattr(Artifacts, stage) else Store

    class Killed(BaseException):
        pass

    def stop(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, stage, stop)
        with pytest.raises(Killed):
            play(tmp_path, cold(file))
    play(tmp_path, cold(file))
    assert content(tmp_path) == content(tmp_path / "whole")


def test_the_file_may_move_and_change_its_kind_but_not_its_numbers(tmp_path, file):
    import pyarrow as pa
    import pyarrow.parquet as pq

    play(tmp_path, cold(file))
    before = content(tmp_path)
    moved = tmp_path / "elsewhere.parquet"
    pq.write_table(pa.table({"id": list(POOL.images.ids), "vector": FEATURES.tolist()}), moved)
    file.unlink()
    play(tmp_path, cold(moved))
    assert content(tmp_path) == before
    np.savez(tmp_path / "f.npz", ids=np.array(POOL.images.ids), features=FEATURES * np.float32(1.5))
    with pytest.raises(StoreError, match=r"begun with another recipe \(features_sha256: '\w+' -> '\w+'\)"):
        play(tmp_path, cold(file))
    with pytest.raises(StoreError, match=r"cold_start\.power: 2\.0 -> 3\.0"):
        play(tmp_path, replace(cold(moved), cold_start=Longest(power=3.0)))
    with pytest.raises(StoreError, match=r"features_sha256: '\w+' -> None"):
        play(tmp_path, replace(cold(moved), cold_start=None, features=None))
    assert content(tmp_path) == before


def test_a_run_of_a_store_that_knew_no_features_is_continued(tmp_path, monkeypatch):
    def old(config):
        return {name: value for name, value in to_json(config).items() if name not in ("features", "cold_start")}

    with monkeypatch.context() as patch:
        patch.setattr(mcdal.loop, "to_json", old)
        play(tmp_path, fake_config(Margin()))
    play(tmp_path, fake_config(Margin()))


def test_wrong_features_are_told_before_anything_is_recorded(tmp_path, file):
    with pytest.raises(ConfigError, match="there is no such file"):
        play(tmp_path / "out", cold(tmp_path / "none.npz"))
    assert not (tmp_path / "out").exists()
    np.savez(file, ids=np.array(POOL.images.ids[1:]), features=FEATURES[1:])
    with pytest.raises(PoolError, match=rf"1 of 60 samples are missing, the first is '{POOL.images.ids[0]}'"):
        play(tmp_path / "out", cold(file))
    assert content(tmp_path / "out")["runs"] == []
    with pytest.raises(PoolError, match="1 of 60 samples are missing"):
        estimate(Plan(cold(file)), tmp_path, "cpu")


def test_a_cold_start_needs_features_and_nothing_else(file):
    with pytest.raises(
        ConfigError, match=r"cold_start = Longest: .*mcdal embed RECIPE --out.*--set features=features\.npz"
    ):
        fake_config(cold_start=Longest())
    with pytest.raises(ConfigError, match=r"cold_start = Margin: it needs probabilities"):
        fake_config(features=file, cold_start=Margin())
    fake_config(features=file, cold_start=Random())


NAME = f"{__name__}:Longest"


def test_set_in_any_order(file):
    wanted = {"cold_start.power": "3", "cold_start": NAME, "features": str(file), "strategy.heads": "4"}
    for settings in (wanted, dict(reversed(wanted.items()))):
        changed = override(fake_config(), settings)
        assert changed.cold_start == Longest(power=3.0) and changed.features == file and changed.strategy.heads == 4
    assert canonical(changed, wanted) == wanted
    assert override(changed, {"cold_start": NAME}).cold_start == Longest(power=3.0), "naming it again keeps its fields"
    assert override(changed, {"cold_start": "random"}).cold_start == Random()
    assert override(changed, {"cold_start": "null", "features": "None"}).cold_start is None
    assert override(fake_config(), {"strategy": "margin"}).strategy == Margin()
    assert canonical(changed, {"strategy": ""}) == {"strategy": "mcdal"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"cold_start": "randm"}, "--set cold_start=randm: no strategy 'randm': did you mean 'random'"),
        ({"cold_start": NAME}, "cold_start = Longest: it picks from features, and there are none"),
        ({"cold_start": "margin", "features": "f.npz"}, "cold_start = Margin: it needs probabilities"),
        ({"cold_start.power": "1"}, "--set cold_start.power: cold_start is 'null' and has no field 'power'"),
        ({"cold_start": NAME, "features": "f.npz", "cold_start.pow": "1"}, "did you mean 'power'"),
        ({"features": "7"}, None),
        ({"strategy": "null"}, "--set strategy=null: no strategy 'null'"),
    ],
)
def test_what_cannot_be_set(settings, words):
    if words is None:
        assert str(override(fake_config(), settings).features) == "7"
        return
    with pytest.raises(ConfigError) as error:
        override(fake_config(), settings)
    assert words in str(error.value)


def test_setting_the_strategy_is_the_same_run_as_naming_it():
    named, set_to = (
        Command("digits", strategy="random").plan(),
        Command("digits", settings=("strategy=random",)).plan(),
    )
    assert named == set_to and named.run_id == "digits-random-s0"
    with pytest.raises(ConfigError, match="--strategy random and --set strategy=margin: give one of them"):
        Command("digits", strategy="random", settings=("strategy=margin",)).plan()


def test_the_name_of_a_run_says_that_there_are_features_but_not_where(file):
    def name(**overrides):
        return run_id("digits", "full", "margin", 0, overrides)

    assert name(features="a/f.npz") == name(features="b.parquet") != name()
    assert name(features="null") == name()
    assert name(features="a", cold_start="x") != name(features="a")


@pytest.mark.parametrize("name", [name for name in listed("strategies") if name != "random"])
def test_every_strategy_that_needs_features_alone_can_begin_cold(name):
    kind = load("strategies", name)
    if set(kind.about.needs) - {"features"}:
        with pytest.raises(ConfigError, match="before the first label there is no model"):
            fake_config(features=Path("f.npz"), cold_start=kind())
        return
    rows = measure_features(POOL, kind(), FEATURES, batch_size=16)
    picks = select(kind(), rows, 12, seed=3)
    assert len(picks) == 12 and np.isfinite(picks.score).all()
    assert select(kind(), measure_features(POOL, kind(), FEATURES, batch_size=7), 12, seed=3).ids == picks.ids

"""A run as a whole: what is recorded, what is continued, what is refused."""

import json
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import safetensors.torch
import torch

import mcdal.loop
import mcdal.trainer
from mcdal.artifacts import Artifacts
from mcdal.errors import ConfigError, PoolError, StoreError, TrainingError
from mcdal.loop import run
from mcdal.models.wrap import Custom
from mcdal.plan import Plan
from mcdal.pool.arrays import Arrays
from mcdal.report import write_report
from mcdal.schedule import Optimization
from mcdal.selection import uniform
from mcdal.selection.search import Search
from mcdal.status import status
from mcdal.store import Store
from mcdal.strategies.core_set import CoreSet
from mcdal.strategies.margin import Margin
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import FakeSource, ScriptedOracle, fake_config, fake_pool, fake_training
from mcdal.values import Label
from tests.runs import content


def play(out, config=None, **plan):
    return run(Plan(config or fake_config(), **plan), out, device="cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    play(out)
    return out


def test_a_run_records_every_round(whole):
    found = content(whole)
    truth = fake_pool().truth()
    (run_id,) = {row[0] for row in found["runs"]}
    assert run_id == "custom-MCDAL-s0"
    assert [(round, labeled, done) for _, round, _, labeled, done in found["rounds"]] == [
        (round, 12 + 6 * round, 1) for round in range(4)
    ]
    ids = [row[2] for row in found["queries"]]
    assert len(ids) == len(set(ids)) == 30
    for round, size in enumerate([12, 6, 6, 6]):
        rows = sorted((row for row in found["queries"] if row[1] == round), key=lambda row: row[4])
        assert [row[4] for row in rows] == list(range(size))
        scores = [row[3] for row in rows]
        assert scores == [None] * size if round == 0 else scores == sorted(scores, reverse=True)
    assert {row[1]: row[2] for row in found["labels"]} == {id: truth[id] for id in ids}
    assert {row[3] for row in found["labels"]} == {"simulated"}
    names = {row[2] for row in found["metrics"]}
    assert {
        "test/accuracy",
        "test/accuracy/class 0",
        "train/loss",
        "train/discrepancy",
        "score/labeled_mean",
        "labels/classes",
    } <= names


@pytest.mark.sqlite
def test_a_run_of_an_older_version_goes_on_where_new_fields_have_their_defaults(tmp_path):
    plan = Plan(fake_config())
    out = tmp_path / "out"
    play(out)

    def forget(*path):
        """Makes the record one of a version without these fields."""
        with closing(sqlite3.connect(out / "mcdal.db")) as database, database:
            ((text,),) = database.execute("select config from runs").fetchall()
            config = json.loads(text)
            for part, field in path:
                del (config[part] if part else config)[field]
            database.execute("update runs set config = ?", [json.dumps(config)])

    forget(("training", "class_weights"), ("strategy", "heads"), ("", "groups"))
    assert run(plan, out, device="cpu") == plan.run_id
    forget(("training", "batch_size"))
    with pytest.raises(StoreError, match=r"training\.batch_size: 128 -> 8"):
        run(plan, out, device="cpu")


def test_start_sets_can_be_varied_while_weights_stay_the_same(tmp_path):
    protocol = replace(fake_config().protocol, start_seed=7)

    def start(seed, protocol):
        store = tmp_path / f"{seed}-{protocol.start_seed}"
        id = run(Plan(fake_config(protocol=protocol), seed), store, device="cpu")
        return set(Store(store, create=False).asked(id, 0))

    drawn = start(0, protocol)
    assert drawn == start(1, protocol) != start(0, fake_config().protocol)
    assert drawn == start(7, fake_config().protocol), "that of the run with this seed"
    varied, plain = Plan(fake_config(protocol=protocol)), Plan(fake_config())
    assert all(varied.seed_of(p, r) == plain.seed_of(p, r) for p, r in (("train", 0), ("measure", 0), ("select", 1)))
    with pytest.raises(ConfigError, match=r"protocol.start_seed = -1"):
        replace(protocol, start_seed=-1)


def test_picks_are_the_largest_scores_of_the_rows_kept(whole):
    artifacts = Artifacts(whole / "runs" / "custom-MCDAL-s0")
    for round in (1, 2, 3):
        rows = artifacts.read_rows(round)
        asked = Store(whole).asked("custom-MCDAL-s0", round)
        unlabeled = rows.unlabeled()
        best = sorted(zip(-unlabeled.score, unlabeled.ids, strict=True))[:6]
        assert asked == tuple(id for _, id in best)
        assert rows.labeled.sum() == 12 + 6 * (round - 1)
        picked = artifacts.read_scores(round, ()).picked  # the rows tell by themselves
        assert {id for id, is_picked in zip(rows.ids, picked, strict=True) if is_picked} == set(asked)
        assert len(artifacts.read_gallery(round)) == 3


def test_the_model_is_kept_for_others(whole):
    tensors = safetensors.torch.load_file(whole / "runs" / "custom-MCDAL-s0" / "round_003" / "model.safetensors")
    assert tensors["head.weight"].shape == (3, 5)
    kept = sorted(path.name for path in (whole / "runs" / "custom-MCDAL-s0").rglob("training.pt"))
    assert kept == ["training.pt"], "only the newest training state is kept"


def test_the_same_seed_is_the_same_run_and_another_is_not(whole, tmp_path):
    play(tmp_path / "again")
    assert content(tmp_path / "again") == content(whole)
    play(tmp_path / "other", seed=1)
    assert content(tmp_path / "other")["queries"] != content(whole)["queries"]


def test_all_strategies_of_a_seed_begin_alike(tmp_path):
    for strategy in (Random(), Margin(), MCDAL()):
        play(tmp_path, fake_config(strategy))
    store = Store(tmp_path)
    ids = [record.run_id for record in store.runs()]
    assert len({store.asked(id, 0) for id in ids}) == 1
    first = [{m.name: m.value for m in store.metrics(id) if m.round == 0} for id in ids]
    assert len({m["test/loss"] for m in first}) == 1, "round 0 is the same model for all"
    assert len({store.asked(id, 1) for id in ids}) == 3


class Killed(BaseException):
    """Ends a run as SIGKILL does: nothing gets to tidy up."""


STAGES = ["begin_round", "add_labels", "finish_round", "write_model", "write_rows", "write_gallery", "forget_training"]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_stopped_at_any_stage_and_continued(whole, tmp_path, monkeypatch, stage, after):
    owner = Artifacts if hasattr(Artifacts, stage) else Store
    real, calls = getattr(owner, stage), []

    def stop(self, *args, **kwargs):
        calls.append(stage)
        if len(calls) != 2:
            return real(self, *args, **kwargs)
        if after:
            real(self, *args, **kwargs)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, stage, stop)
        with pytest.raises(Killed):
            play(tmp_path)
    assert status(tmp_path)[0].state == "interrupted"
    play(tmp_path)
    assert content(tmp_path) == content(whole)
    assert status(tmp_path)[0].state == "done"


@pytest.mark.parametrize("step", [0, 1, 5, 7, 8])
def test_stopped_in_the_middle_of_training_and_continued(whole, tmp_path, monkeypatch, step):
    config = fake_config(checkpoint_seconds=0.0)  # keeps the state after every step
    real, saves = mcdal.checkpoint.Checkpoint.save, []

    def save(self, state):
        real(self, state)
        saves.append(state["step"])
        if len(saves) == 8 + step:  # in the second round
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mcdal.checkpoint.Checkpoint, "save", save)
        with pytest.raises(Killed):
            play(tmp_path, config)
    play(tmp_path, config)
    mine, theirs = content(tmp_path), content(whole)
    assert {k: v for k, v in mine.items() if k != "runs"} == {k: v for k, v in theirs.items() if k != "runs"}


def test_a_finished_run_is_not_played_again(whole, monkeypatch):
    before = content(whole)
    monkeypatch.setattr(mcdal.trainer, "train", lambda *_, **__: pytest.fail("trained again"))
    play(whole)
    assert content(whole) == before


def test_what_a_kill_left_of_a_pass_goes_when_the_run_is_continued(tmp_path):
    folder = tmp_path / "runs" / play(tmp_path)
    left = folder / "round_001" / "pass_margin"
    left.mkdir()
    (left / "part-0.parquet").write_bytes(b"measured")
    play(tmp_path)
    assert not left.exists() and (folder / "round_001").exists()


def test_a_label_outside_the_classes_is_refused_before_it_is_recorded(tmp_path):
    oracle = lambda pool: ScriptedOracle(dict.fromkeys(pool.images.ids, 3), [12])  # noqa: E731
    with pytest.raises(PoolError, match=r"round 0: script labeled 'fake/\d+' as class 3, but there are classes 0 to 2"):
        run(Plan(fake_config()), tmp_path, device="cpu", oracle=oracle)
    assert content(tmp_path)["labels"] == []


def test_seconds_of_killed_processes_count(tmp_path, monkeypatch):
    config = fake_config(checkpoint_seconds=0.0)
    real = mcdal.checkpoint.Checkpoint.save

    def save(self, state):
        real(self, {**state, "seconds": 1_000.0})
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(mcdal.checkpoint.Checkpoint, "save", save)
        with pytest.raises(Killed):
            play(tmp_path, config)
    play(tmp_path, config)
    store = Store(tmp_path)
    assert store.rounds("custom-MCDAL-s0")[0].seconds["train"] > 1_000
    assert store.rounds("custom-MCDAL-s0")[1].seconds["train"] < 1_000


def test_a_network_with_one_layer_under_two_names_and_five_channels_runs(tmp_path):
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5 * 36, 4), torch.nn.Linear(4, 2))
            self.fc = self.body[2]

        def forward(self, x):
            return self.body(x)

    x, y = torch.randn(60, 5, 6, 6), torch.arange(60) % 2
    config = fake_config(source=Arrays(x, y), model=Custom(Tied, head="fc"))
    play(tmp_path, config)
    assert status(tmp_path)[0].state == "done"


@pytest.mark.slow
def test_compiled_and_stopped_and_continued(tmp_path):
    """The process that continues measures before it trains; the shapes it has seen must not change the training."""
    config = fake_config(training=fake_training(precision="float32", compile=True))
    whole = played_in_a_process(tmp_path / "whole", config, stop=None)
    played_in_a_process(tmp_path / "stopped", config, stop="begin_round")
    assert played_in_a_process(tmp_path / "stopped", config, stop=None) == whole


def played_in_a_process(out, config, stop):
    """Content of the store after a fresh process played `config`, or began to and stopped at its second `stop`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pool.submit(play_until, out, config, stop).result()
    return content(out)


def play_until(out, config, stop):
    if stop is None:
        play(out, config)
        return
    real, calls = getattr(Store, stop), []

    def stopping(self, *args):
        calls.append(stop)
        if len(calls) == 2:
            raise Killed
        return real(self, *args)

    setattr(Store, stop, stopping)
    with pytest.raises(Killed):
        play(out, config)


def test_late_and_partial_answers_make_the_run_wait(whole, tmp_path):
    def oracle_with(*patience):
        return lambda pool: ScriptedOracle(pool.truth(), patience)

    run(Plan(fake_config()), tmp_path, device="cpu", oracle=oracle_with(12, 4))
    (waiting,) = status(tmp_path)
    assert (waiting.state, waiting.rounds_done, waiting.labels) == ("waiting", 1, 12)
    run(Plan(fake_config()), tmp_path, device="cpu", oracle=oracle_with(2, 6, 6))
    assert status(tmp_path)[0].state == "done"
    for table in ("queries", "metrics"):
        assert content(tmp_path)[table] == content(whole)[table]


@pytest.mark.parametrize("strategy", [Margin, CoreSet, Random], ids=["by score", "covering", "random"])
def test_a_control_arm_is_random_recorded_and_the_same_for_every_strategy(tmp_path, strategy):
    protocol = replace(fake_config().protocol, budget=10, rounds=3, control=0.3)
    run_id = play(tmp_path, fake_config(strategy(), protocol=protocol))
    store = Store(tmp_path, create=False)
    drawn = store.control(run_id)
    asked = [set(store.asked(run_id, round)) for round in range(3)]
    places = [store.asked(run_id, round) for round in range(3)]
    store.close()
    assert [len(ids & drawn) for ids in asked] == [0, 3, 3] and [len(ids) for ids in asked] == [12, 10, 10]
    assert len(set.union(*asked)) == 32
    order = sorted(fake_pool().images.ids, key=lambda id: -uniform(Plan(fake_config()).seed_of("control", 1), id))
    assert asked[1] & drawn == set([id for id in order if id not in asked[0]][:3])
    where = [i for i, id in enumerate(places[1]) if id in drawn]
    assert where[0] < 5 <= where[-1]  # spread among the others


def test_how_a_batch_was_searched_for_is_recorded_and_told_in_the_report(tmp_path):
    control = replace(fake_config().protocol, control=0.2)
    config = fake_config(CoreSet(), search=Search(how="partition", parts=2), protocol=control)
    run_id = run(Plan(config), tmp_path, device="cpu")
    store = Store(tmp_path, create=False)
    rounds = store.rounds(run_id)
    store.close()
    assert [r.searched.get("parts") for r in rounds] == [None, 2, 2, 2]
    page = write_report(tmp_path, [run_id]).read_text()
    assert "The batch of round 1, 2 and 3 was chosen in 2 random parts" in page


def test_samples_that_nobody_can_label_are_set_aside_and_never_asked_for_again(tmp_path):
    truth = fake_pool().truth()

    class Unsure(ScriptedOracle):
        def given_up(self):
            return dict.fromkeys(self.asked[:2], "too dark")

        def ask(self, ids):
            self.asked = ids

        def answers(self):
            return [Label(id, truth[id], "Ann") for id in self.asked[2:]]

    run_id = run(Plan(fake_config(Margin())), tmp_path, device="cpu", oracle=lambda pool: Unsure({}, []))
    store = Store(tmp_path, create=False)
    asked = [store.asked(run_id, round) for round in range(4)]
    assert [r.labeled for r in store.rounds(run_id)] == [10, 14, 18, 22]
    assert store.set_aside_ids(run_id) == {id for ids in asked for id in ids[:2]}
    assert len({id for ids in asked for id in ids}) == 30 and len(store.labels(run_id)) == 22
    store.close()


def test_nan_loss_stops_names_the_round_and_keeps_what_was(tmp_path):
    class Explodes(MCDAL):
        attached = 0

        def attach(self, model, task, setting):
            super().attach(model, task, setting)
            self.attached += 1

        def extra_loss(self, batch, losses, progress):
            return losses.sum() * float("nan") if self.attached == 2 else None

    with pytest.raises(TrainingError, match="round 1: the training loss is nan"):
        play(tmp_path, fake_config(Explodes()))
    (broken,) = status(tmp_path)
    assert broken.state == "broken"
    assert "round 1" in broken.why
    assert (broken.rounds_done, broken.labels) == (1, 12)
    assert len(content(tmp_path)["labels"]) == 18


def test_a_changed_recipe_is_refused(whole):
    before = content(whole)
    changed = fake_config(training=fake_training(precision="float64", optimization=Optimization(lr=0.2)))
    with pytest.raises(StoreError, match=r"training.optimization.lr: 0.05 -> 0.2"):
        play(whole, changed)
    with pytest.raises(StoreError, match=r"strategy.heads: 2 -> 4"):
        play(whole, fake_config(MCDAL(heads=4)))
    assert content(whole) == before


def test_fields_without_effect_may_change(whole):
    play(whole, fake_config(checkpoint_seconds=5.0, gallery=1))


def test_changed_data_are_refused(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeSource, "open", lambda self, cache, listen: replace(fake_pool(), fingerprint="other"))
    with pytest.raises(StoreError, match="begun on other data"):
        play(whole)


def test_another_environment_is_told(whole, monkeypatch):
    store = Store(whole)
    store.begin_session("custom-MCDAL-s0", {"torch": "1.0", "device": "cpu"})
    said = []
    run(Plan(fake_config()), whole, device="cpu", listen=lambda kind, **f: said.append(f.get("text", "")))
    assert any("torch 1.0 ->" in text for text in said)


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ({"start": 40, "budget": 10}, "40 \\+ 3 x 10 = 70 labels, but the pool has 60"),
        ({"budget": 0.5}, "the pool has 60"),
    ],
)
def test_a_budget_larger_than_the_pool_is_refused_before_anything_is_trained(tmp_path, protocol, words):
    config = fake_config()
    with pytest.raises(ConfigError, match=words):
        play(tmp_path, replace(config, protocol=replace(config.protocol, **protocol)))
    assert content(tmp_path)["runs"] == []


def test_a_start_that_misses_classes_is_allowed_and_told(tmp_path):
    config = fake_config()
    said = []
    run(
        Plan(replace(config, protocol=replace(config.protocol, start=2))),
        tmp_path,
        device="cpu",
        listen=lambda kind, **f: said.append(f["text"]) if kind == "notice" else None,
    )
    assert any(text.startswith("round 0: no label yet of") and "class" in text for text in said)
    metrics = {(row[1], row[2]): row[3] for row in content(tmp_path)["metrics"]}
    assert metrics[0, "labels/classes"] < 3


def test_two_processes_on_one_run_are_refused(tmp_path):
    artifacts = Artifacts(tmp_path / "runs" / "custom-MCDAL-s0")
    with artifacts.only_process(), pytest.raises(StoreError, match="another process is working on custom-MCDAL-s0"):
        play(tmp_path)


def test_global_random_state_is_left_alone(tmp_path):
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    play(tmp_path)
    assert torch.equal(torch.rand(3), expected)

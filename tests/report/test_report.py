"""The report says what the store says, whatever the state of the runs, and needs nothing but itself."""

import csv
import io
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from example_store import Example, two_strategies_two_seeds
from PIL import Image

from mcdal.artifacts import Artifacts
from mcdal.errors import StoreError
from mcdal.pool.base import Quarantined
from mcdal.report import write_report
from mcdal.store import Store

VOID = {"meta", "link", "img", "br", "hr"}


@dataclass
class Reader(HTMLParser):
    """Checks that tags nest, and collects what the tests ask for."""

    text: str = ""
    links: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    pictures: int = 0
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        values = dict(attrs)
        self.links += [v for k in ("src", "href", "xlink:href", "action") if (v := values.get(k)) is not None]
        self.ids += [v for v in [values.get("id")] if v is not None]
        self.pictures += tag == "img"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self.text += data


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    reader.close()
    assert not reader._open
    reader.text = " ".join(reader.text.replace("\N{NARROW NO-BREAK SPACE}", " ").split())
    return reader


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("store")
    two_strategies_two_seeds(out)
    return write_report(out)


def test_the_page_tells_the_outcome_in_words(page: Path) -> None:
    text = read(page).text
    store = Store(page.parents[1], create=False)
    last = {run.run_id: {m.name: m.value for m in store.metrics(run.run_id) if m.round == 3} for run in store.runs()}
    mean = sum(last[f"digits-small-mcdal-{seed}"]["test/accuracy"] for seed in (0, 1)) / 2
    assert f"{100 * mean:.1f} % test accuracy with 200 labels: mean of 2 seeds" in text
    assert "above Random with 200 labels and the same seeds (seed 0: +" in text
    assert "the page says of each whether its seeds show one" in text
    assert "No difference to Random shown with 2 seeds: +" in text or "Better than Random: +" in text
    assert "small scale: a tenth of the paper's steps" in text
    store.close()


def test_the_page_shows_every_run_with_pictures_settings_and_sessions(page: Path) -> None:
    reader = read(page)
    assert reader.tags.count("details") == 4 * 2  # each run, and all its numbers
    assert reader.pictures == 4 * 4 * 12
    assert page.read_text().count('class="tiny"') == reader.pictures
    for words in ("optimizer.milestones", "[80, 110]", "0123abc", "1 session, in one go.", "1 min 13 s"):
        assert words in reader.text
    assert reader.text.count("This strategy measures no score") == 2


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    reader = read(page)
    for link in reader.links:
        assert re.match(r"#|data:", link) or (page.parent / link).is_file(), link
    assert (
        not {"iframe", "object"} & set(reader.tags) and reader.tags.count("script") == 1
    )  # its own, without an address
    assert "url(http" not in page.read_text() and "@import" not in page.read_text()
    assert len(reader.ids) == len(set(reader.ids))
    fragments = {link[1:] for link in reader.links if link.startswith("#")}
    fragments |= set(re.findall(r"url\(#([^)]+)\)", page.read_text()))
    assert fragments <= set(reader.ids)


def test_every_figure_has_a_picture_a_drawing_and_its_data(page: Path) -> None:
    pictures = sorted(page.parent.rglob("*.png"))
    assert len(pictures) == 4 + 2 * 3 + 2 * 2  # curves and costs, scored runs, runs without a score
    for path in pictures:
        with Image.open(path) as image:
            image.load()
            assert image.width > 600
        assert path.with_suffix(".svg").read_text().startswith("<?xml")
        assert rows(path.with_suffix(".csv"))


def test_the_data_of_the_curves_is_what_the_store_holds(page: Path) -> None:
    store = Store(page.parents[1], create=False)
    told = {
        (r["run_id"], int(r["labels"])): float(r["test/accuracy"])
        for r in rows(page.parent / "curves/digits-small_accuracy.csv")
    }
    kept = {}
    for run in store.runs():
        labeled = {r.round: r.labeled for r in store.rounds(run.run_id)}
        kept |= {
            (run.run_id, labeled[m.round]): m.value for m in store.metrics(run.run_id) if m.name == "test/accuracy"
        }
    assert told == kept
    for row in rows(page.parent / "curves/digits-small_minus_random.csv"):
        mine, random = ((row[k], int(row["labels"])) for k in ("run_id", "random_run_id"))
        assert float(row["test/accuracy difference"]) == kept[mine] - kept[random]
    store.close()


def test_the_data_of_a_run_is_what_the_store_holds(page: Path) -> None:
    store = Store(page.parents[1], create=False)
    run_id = "digits-small-mcdal-0"
    labels = store.labels(run_id)
    for row in rows(page.parent / f"runs/{run_id}_classes.csv"):
        asked = store.asked(run_id, int(row["round"]))
        assert int(row["labels"]) == sum(labels[id] == int(row["class"]) for id in asked)
    totals: dict[tuple[str, str], int] = {}
    for row in rows(page.parent / f"runs/{run_id}_scores.csv"):
        key = row["round"], row["images"]
        totals[key] = totals.get(key, 0) + int(row["count"])
    for round in (1, 2, 3):
        assert totals[str(round), "labeled"] == 50 * round
        assert totals[str(round), "unlabeled"] == 600 - 50 * round
        assert totals[str(round), "picked"] == 50
    seconds = {(r["round"], r["phase"]): float(r["seconds"]) for r in rows(page.parent / f"runs/{run_id}_seconds.csv")}
    assert seconds == {(str(r.round), phase): s for r in store.rounds(run_id) for phase, s in r.seconds.items()}
    store.close()


def test_the_same_record_gives_the_same_bytes(page: Path) -> None:
    def content() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}

    before = content()
    write_report(page.parents[1])
    assert content() == before


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    names = [
        '<script>alert("1")</script>',
        "a & b",
        "$x_{1}$ \\frac",
        "naïve 中文 🐱",
        "line\nbreak\x00",
        "'quoted\"",
        "]]>",
        "{{ 7*7 }}",
    ]
    run = Example(
        classes=names,
        rounds=2,
        notes=["<img src=x onerror=alert(1)>"],
        overrides={"strategy.<b>": '"$1$'},
        quarantined=[Quarantined("<i>.png", "<truncated>")],
        outcomes=("<b>broken</b>",),
    )
    run.fill(tmp_path)
    page = write_report(tmp_path)
    reader = read(page)
    assert not {"b", "i"} & set(reader.tags) and reader.tags.count("script") == 1
    assert 'alert("1")' in reader.text and "<img src=x onerror=alert(1)>" in reader.text
    assert "<truncated>" in reader.text and "<b>broken</b>" in reader.text and "{{ 7*7 }}" in reader.text
    given = rows(page.parent / "runs" / next((page.parent / "runs").glob("*_classes.csv")).name)
    assert [row["class_name"] for row in given[: len(names)]] == names


def test_a_store_without_a_finished_round(tmp_path: Path) -> None:
    Example(rounds=0, outcomes=()).fill(tmp_path)
    reader = read(write_report(tmp_path))
    assert "Nothing to draw yet: no round is finished." in reader.text
    assert "No process has worked on it yet." in reader.text


def test_a_store_without_runs(tmp_path: Path) -> None:
    Store(tmp_path).close()
    assert "The store holds no run yet." in read(write_report(tmp_path)).text


def test_a_round_under_way_after_a_kill(tmp_path: Path) -> None:
    Example(rounds=2, open_round=True, outcomes=("stopped", None)).fill(tmp_path)
    text = read(write_report(tmp_path)).text
    assert "as after a kill or a power cut, in round 2, with 25 of 50 labels still to come" in text
    assert "2 sessions: continued once, killed once." in text
    assert "so far, the run is not finished" in text


def test_a_run_at_work_is_not_called_killed(tmp_path: Path) -> None:
    run = Example(rounds=1, outcomes=(None,))
    run.fill(tmp_path)
    with Artifacts(tmp_path / "runs" / run.run_id).only_process():
        text = read(write_report(tmp_path)).text
    assert "A process is working on it now." in text
    assert "killed" not in text


def test_damaged_files_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    run = Example(rounds=3)
    folder = tmp_path / "runs" / run.fill(tmp_path)
    (folder / "round_001/rows.parquet").write_bytes(b"not parquet")
    (folder / "round_002/gallery.parquet").write_bytes(b"")
    reader = read(write_report(tmp_path))
    assert "Round 1: the measured rows cannot be read" in reader.text
    assert "Round 2: the pictures cannot be read" in reader.text
    assert reader.pictures == 2 * 12


def test_seeds_that_have_come_less_far_are_named(tmp_path: Path) -> None:
    Example(seed=0, rounds=4).fill(tmp_path)
    Example(seed=1, rounds=2, outcomes=("stopped",)).fill(tmp_path)
    Example(seed=2, rounds=0, outcomes=("the disk is full",)).fill(tmp_path)
    text = read(write_report(tmp_path)).text
    assert "test accuracy with 100 labels: mean of 2 seeds" in text
    assert "(1 run without a finished round)" in text
    assert "Its last process ended with an error, before its first round: the disk is full" in text


def test_scores_over_orders_of_magnitude(tmp_path: Path) -> None:
    run = Example(rounds=2)
    artifacts = Artifacts(tmp_path / "runs" / run.fill(tmp_path))
    kept = artifacts.read_rows(1)
    assert kept is not None and kept.score is not None
    artifacts.write_rows(1, replace(kept, score=np.geomspace(1e-6, 0.5, len(kept.ids))))
    text = read(write_report(tmp_path)).text
    assert "score, on a log scale" in text and "0.001" in text
    assert "mathdefault" not in text


def test_rounds_without_a_finite_score_are_drawn_beside_the_others(tmp_path: Path) -> None:
    run = Example(rounds=3)
    artifacts = Artifacts(tmp_path / "runs" / run.fill(tmp_path))
    kept = artifacts.read_rows(1)
    assert kept is not None and kept.score is not None
    for round in (0, 1):
        artifacts.write_rows(round, replace(kept, score=np.full(len(kept.ids), np.inf)))
    counts: dict[str, int] = {}
    for row in rows(write_report(tmp_path).parent / f"runs/{run.run_id}_scores.csv"):
        counts[row["round"]] = counts.get(row["round"], 0) + int(row["count"])
    assert counts["0"] == counts["1"] == 0 < counts["2"]


def test_the_scores_of_a_cold_start_have_an_axis_of_their_own(tmp_path: Path) -> None:
    run = Example(rounds=3)
    artifacts = Artifacts(tmp_path / "runs" / run.fill(tmp_path))
    kept = artifacts.read_rows(1)
    assert kept is not None and kept.score is not None
    artifacts.write_rows(0, replace(kept, score=1_000 + np.arange(len(kept.ids), dtype=np.float64)))
    page = write_report(tmp_path)
    ends: dict[str, list[float]] = {}
    for row in rows(page.parent / f"runs/{run.run_id}_scores.csv"):
        ends.setdefault(row["round"], []).append(float(row["score_to"]))
    assert min(ends["0"]) > 1_000 > max(ends["1"]) and ends["1"] == ends["2"]


def test_many_classes_large_pictures_and_variants(tmp_path: Path) -> None:
    names = [f"class number {i:03d}" for i in range(102)]
    for heads in ("2", "4"):
        run = Example(
            classes=names, rounds=2, pool=900, budget=200, picture_side=200, overrides={"strategy.heads": heads}
        )
        run.fill(tmp_path)
    reader = read(write_report(tmp_path))
    assert "MCDAL (heads=2)" in reader.text and "MCDAL (heads=4)" in reader.text
    assert all(name in reader.text for name in names)
    assert any(link.startswith("data:image/jpeg") for link in reader.links)


def test_chosen_runs_and_an_unknown_one(tmp_path: Path) -> None:
    there = [Example(seed=seed, rounds=1).fill(tmp_path) for seed in (0, 1)]
    text = read(write_report(tmp_path, [there[1]])).text
    assert there[1] in text and there[0] not in text
    with pytest.raises(StoreError, match=r"no run 'nobody' in .*digits-small-mcdal-0, digits-small-mcdal-1"):
        write_report(tmp_path, ["nobody"])
    with pytest.raises(StoreError, match="no store in"):
        write_report(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()

"""The report of runs on scenes: mean IoU, masks beside the truth, and heat over the picks."""

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from example_store import Example
from PIL import Image
from test_report import read, rows

from mcdal.artifacts import Artifacts
from mcdal.loop import run
from mcdal.pictures import Scene
from mcdal.plan import Plan
from mcdal.report import masks, write_report
from mcdal.report.kinds import MASKS, ONE_CLASS
from mcdal.report.queries import read_runs
from mcdal.report.scenes import read_scenes
from mcdal.store import Store
from mcdal.strategies.entropy import Entropy
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import fake_scene_config, fake_scenes
from mcdal.values import VOID
from tests.runs import content


def play(out: Path, strategy, **changes):
    return run(Plan(fake_scene_config(strategy, **changes), recipe="scenes", scale="small"), out, device="cpu")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes")
    for strategy in (MCDAL(), Random()):
        play(out, strategy)
    return write_report(out)


def pixels(uri: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_mean_iou_is_drawn_and_called_so(page: Path) -> None:
    reader = read(page)
    assert "test mean IoU with 30 labels" in reader.text
    assert "Test mean IoU minus Random’s, percentage points" in reader.text
    assert "test accuracy" not in reader.text.lower()
    assert "test/iou/class 0" not in reader.text and "test/pixel_accuracy" in reader.text
    kept = {
        m.round: m.value for m in Store(page.parents[1]).metrics("scenes-small-MCDAL-s0") if m.name == "test/mean_iou"
    }
    told = rows(page.parent / "curves/scenes-small_mean_iou.csv")
    assert [float(r["test/mean_iou"]) for r in told if r["strategy"] == "MCDAL"] == [kept[r] for r in range(4)]
    assert rows(page.parent / "curves/scenes-small_pixel_accuracy.csv")
    assert "test/mean_iou difference" in rows(page.parent / "curves/scenes-small_minus_random.csv")[0]


def test_a_mask_counts_for_each_class_that_it_shows(page: Path) -> None:
    pool, store = fake_scenes(), Store(page.parents[1])
    truth, told = pool.truth(), rows(page.parent / "runs/scenes-small-MCDAL-s0_classes.csv")
    for row in told:
        asked = store.asked("scenes-small-MCDAL-s0", int(row["round"]))
        expected = sum(int(row["class"]) in pool.masks[np.array([truth[id]])] for id in asked)
        assert int(row["images"]) == expected
    store.close()


def test_each_mask_is_looked_at_once(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = Store.mask_pixels
    monkeypatch.setattr(Store, "mask_pixels", lambda self, number: looked.append(number) or real(self, number))
    both = read_runs(page.parents[1])
    assert len(looked) == len(set(looked)) == len({n for run in both for n in run.labels.values()})


def test_iou_of_each_class_by_round(page: Path) -> None:
    kept = {(m.round, m.name): m.value for m in Store(page.parents[1]).metrics("scenes-small-Random-s0")}
    for row in rows(page.parent / "runs/scenes-small-Random-s0_class_iou.csv"):
        value = kept.get((int(row["round"]), f"test/iou/{row['class_name']}"))
        assert row["iou"] == ("" if value is None else repr(value))


def test_iou_of_each_class_under_each_strategy(page: Path) -> None:
    store, told = Store(page.parents[1]), rows(page.parent / "curves/scenes-small_class_iou.csv")
    assert len(told) == 2 * 3 and {row["labels"] for row in told} == {"30"}
    for row in told:
        kept = {(m.round, m.name): m.value for m in store.metrics(f"scenes-small-{row['strategy']}-s0")}
        assert float(row["iou"]) == kept[3, f"test/iou/{row['class_name']}"]
    store.close()


def test_masks_of_every_round_stand_beside_the_truth(page: Path) -> None:
    reader, text = read(page), page.read_text()
    assert reader.text.count("Outlined in white") == 2
    for id in ("test/005", "test/015", "test/025"):
        assert text.count(f'alt="true mask of {id}"') == 2
    assert text.count('alt="Mask predicted in round 3;') == 2 * 3
    assert "no label" in reader.text, "void is in the legend"


def test_heat_lies_beside_the_picks_of_a_strategy_that_sees_places(page: Path) -> None:
    text = page.read_text()
    assert text.count('alt="where the strategy saw what it picked by"') == 3 * 3, (
        "none for the start set and for Random"
    )
    assert text.count("colours of the heat, from") == 3
    assert "on one scale a round" in read(page).text


def test_the_page_stays_whole(page: Path) -> None:
    reader = read(page)
    for link in reader.links:
        assert re.match(r"#|data:", link) or (page.parent / link).is_file(), link
    assert len(reader.ids) == len(set(reader.ids))


def test_pictures_change_no_result(tmp_path: Path) -> None:
    play(tmp_path / "with", Entropy())
    play(tmp_path / "without", Entropy(), gallery=0, scenes=0)
    one, two = content(tmp_path / "with"), content(tmp_path / "without")
    assert {**one, "runs": []} == {**two, "runs": []}
    assert not list((tmp_path / "without").rglob("heat.parquet")) + list((tmp_path / "without").rglob("scenes.parquet"))


def filled(out: Path, truth: np.ndarray, *predicted: np.ndarray, colours=None):
    """A run with one scene, of which each round predicts this."""
    from mcdal.pictures import mask_picture, png
    from mcdal.tasks.segmentation import Segmentation

    example = Example(strategy="random", rounds=len(predicted), classes=("a", "b", "c"), task="segmentation")
    artifacts = Artifacts(out / "runs" / example.fill(out))
    task = Segmentation(("a", "b", "c"), colours=colours)
    artifacts.write_scenes({"t": Scene(png(np.zeros((*truth.shape, 3), np.uint8)), mask_picture(truth, task))})
    for round, mask in enumerate(predicted):
        artifacts.write_predictions(round, {"t": mask_picture(mask, task)})
    return read_runs(out)[0]


def test_a_known_improvement_is_outlined_where_it_is(tmp_path: Path) -> None:
    truth = np.zeros((8, 8), dtype=np.uint8)
    truth[2:6, 2:6] = 1
    truth[0] = VOID
    now = truth.copy()
    now[0], now[7, 7] = 2, 2
    given = ((10, 20, 30), (0, 0, 255), (255, 0, 0))
    figure, colours, remarks = read_scenes(filled(tmp_path, truth, np.zeros_like(truth), now, colours=given), 3)
    assert figure is not None and not remarks and colours.tolist() == list(map(list, given))
    (row,) = figure.rows
    first, second = (pixels(p.uri) for p in row.predicted)
    step = len(first) // 8
    white = (second == 255).all(-1)
    assert not (first == 255).all(-1).any(), "nothing is marked in the first round"
    there = np.argwhere(white)
    assert there.min() == 2 * step and there.max() == 6 * step - 1, "the outline is that of the block"
    assert not white[3 * step : 5 * step, 3 * step : 5 * step].any(), "and not its inside"
    assert second[4 * step, 4 * step].tolist() == [0, 0, 255, 255]
    assert second[-step // 2, -step // 2].tolist() == [255, 0, 0, 255], "what became wrong is not outlined"
    assert (row.predicted[0].right, row.predicted[1].gain) == ("71.4\N{NARROW NO-BREAK SPACE}% right", "+26.8")
    drawn = pixels(row.truth)
    assert (drawn[:step, :, 3] == 0).any() and not (drawn[step:, :, 3] == 0).any(), "the page shows through void"


def test_at_most_five_rounds_stand_side_by_side(tmp_path: Path) -> None:
    truth = np.zeros((8, 8), dtype=np.uint8)
    figure, _, _ = read_scenes(filled(tmp_path, truth, *[truth] * 9), 3)
    assert [name for name, _ in figure.heads] == ["round 0", "round 2", "round 4", "round 6", "round 8"]


def test_specks_and_seams_are_not_outlined() -> None:
    places = np.zeros((200, 300), dtype=bool)
    places[10:60, 10:90] = True  # a place
    places[100, :] = places[150:153, 40:43] = True  # a seam, a speck
    kept = masks.worth_outlining(places)
    assert kept[10:60, 10:90].all() and kept.sum() == 50 * 80


def test_classes_without_colours_of_their_own_are_told_apart() -> None:
    colours = masks.palette(40)
    assert len({tuple(c) for c in colours[:34].tolist()}) == 34 and (colours[34] == colours[0]).all()
    apart = np.abs(colours[:34, None].astype(int) - colours[None, :34]).sum(-1) + 1000 * np.eye(34, dtype=int)
    assert apart.min() > 40


def test_damaged_pictures_and_masks_are_named_and_the_rest_is_shown(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / play(tmp_path, MCDAL())
    (folder / "round_001/predictions.parquet").write_bytes(b"no")
    (folder / "round_002/heat.parquet").write_bytes(b"no")
    next(iter(sorted(tmp_path.glob("masks/*/*.png")))).write_bytes(b"no")
    text = read(write_report(tmp_path)).text
    assert "Round 1: the predicted masks cannot be read" in text and "Round 2: the heat maps cannot be read" in text
    assert "the mask cannot be read" in text and "round 3" in text
    (folder / "scenes.parquet").write_bytes(b"no")
    assert "The kept scenes cannot be read" in read(write_report(tmp_path)).text


def test_a_run_without_kept_scenes_has_no_such_figure(tmp_path: Path) -> None:
    play(tmp_path, Random(), scenes=0, gallery=0)
    text = read(write_report(tmp_path)).text
    assert "Predicted masks" not in text and "Most wanted" not in text and "Test IoU of each class, %" in text


def test_images_and_scenes_of_one_recipe_are_never_in_one_figure(tmp_path: Path) -> None:
    Example(recipe="scenes", scale="small", rounds=2).fill(tmp_path)
    play(tmp_path, Random())
    folder = write_report(tmp_path).parent / "curves"
    assert {"test/accuracy"} == set(rows(folder / "scenes-small_accuracy.csv")[0]) & {"test/accuracy", "test/mean_iou"}
    assert (folder / "scenes-small_2_mean_iou.csv").exists()


def test_runs_begun_before_the_task_was_recorded_are_told_by_their_metrics(page: Path) -> None:
    for known in read_runs(page.parents[1]):
        before = replace(known, record=replace(known.record, config={}))
        assert before.kind is known.kind is MASKS
        assert replace(before, rounds=[]).kind is ONE_CLASS

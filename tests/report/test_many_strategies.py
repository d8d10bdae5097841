"""A report of many strategies: one table instead of paragraphs, runs in brief, figures that answer a pointer."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest
from example_store import Example
from test_report import read, rows

from mcdal.report import write_report
from mcdal.report.curves import looks
from mcdal.report.experiments import experiments
from mcdal.report.queries import read_runs
from mcdal.report.ranking import rankings
from mcdal.report.verdicts import verdicts

STRATEGIES = ("mcdal", "random", "margin", "power_bald", "core_set")
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("many")
    for strategy in STRATEGIES:
        for seed in range(3):
            Example(strategy=strategy, seed=seed).fill(out)
    Example(strategy="margin", seed=7).fill(out)
    Example(strategy="core_set", seed=3, rounds=0, outcomes=("the disk is full",)).fill(out)
    Example(strategy="power_bald", seed=9, rounds=2, outcomes=("stopped",)).fill(out)
    Example(strategy="random", seed=9).fill(out)
    return write_report(out)


def test_the_table_says_what_the_verdicts_say_the_best_first(page: Path) -> None:
    (experiment,) = experiments(read_runs(page.parents[1]))
    (table,) = rankings(experiment, looks([experiment]), verdicts(experiment))
    said = {v.group.title: v for v in verdicts(experiment)}
    values = {row.title: said[row.title].area.value if row.title in said else 0.0 for row in table.rows}
    assert list(values.values()) == sorted(values.values(), reverse=True)
    assert {row.title for row in table.rows} == {"MCDAL", "Random", "Margin", "Power BALD", "Core set"}
    for row in table.rows:
        assert experiment.groups[row.number].title == row.title
        if row.title == "Random":
            assert row.difference == row.interval == row.p == row.factor == "" and row.whisker is None
            continue
        verdict = said[row.title]
        assert row.shown == verdict.shown and bool(row.saved) <= row.shown
        assert row.whisker is not None and 4 <= row.whisker.low < row.whisker.value < row.whisker.high <= 96
        assert (row.whisker.value > row.whisker.zero) == (verdict.area.value > 0)
        assert row.words.startswith(("Better", "Worse", "No difference"))
    narrow = "\N{NARROW NO-BREAK SPACE}"
    assert {row.time for row in table.rows} == {
        f"1{narrow}min 4{narrow}s"
    }  # 3.1 + .2 + 40 + 9 x 2 + 2.5; asking is no cost


def test_few_strategies_have_paragraphs(tmp_path: Path) -> None:
    Example(strategy="mcdal").fill(tmp_path)
    Example(strategy="random").fill(tmp_path)
    (experiment,) = experiments(read_runs(tmp_path))
    assert rankings(experiment, looks([experiment]), verdicts(experiment)) == []
    assert 'class="ranking"' not in write_report(tmp_path).read_text()


def test_what_is_left_out_is_told(page: Path) -> None:
    text = read(page).text
    assert "digits-small-core_set-3: no round is finished yet." in text
    assert "Margin: seed 7 is not compared with Random, which has no such run." in text
    assert "Power BALD: everything beyond 100 labels, since digits-small-power_bald-9 has come no further." in text


def test_a_figure_carries_its_means_and_marks_its_lines(page: Path) -> None:
    html = page.read_text()
    plots = [json.loads(unescape(found)) for found in re.findall(r"data-plot='([^']*)'", html)]
    assert len(plots) == 3  # accuracy, its difference to Random, balanced accuracy
    table = rows(page.parent / "curves/digits-small_accuracy.csv")
    for line in plots[0]["lines"]:
        for labels, mean, _, read_as in line["points"]:
            values = [
                float(r["test/accuracy"]) for r in table if r["group"] == line["title"] and int(r["labels"]) == labels
            ]
            assert mean == pytest.approx(sum(values) / len(values), abs=1e-5)
            assert read_as.startswith(f"{100 * mean:.1f}")
        assert html.count(f'data-line="{line["line"]}"') >= 3  # the mean, its name and the leader to it
    assert len(plots[1]["lines"]) == len(plots[0]["lines"]) - 1  # Random is the zero line


def test_with_many_runs_each_has_its_table_alone(tmp_path: Path) -> None:
    for seed in range(13):
        for strategy in ("mcdal", "random"):
            Example(strategy=strategy, seed=seed, rounds=2).fill(tmp_path)
    page = write_report(tmp_path)
    reader = read(page)
    assert reader.pictures == 0 and not (page.parent / "runs").exists()
    assert "Of so many runs there are tables alone." in reader.text
    assert "What all these runs were set to" in reader.text and "optimizer.milestones" in reader.text
    assert reader.text.count("1 session, in one go.") == 26
    one = write_report(tmp_path, ["digits-small-mcdal-3"])
    assert read(one).pictures == 2 * 12


ACT = """<script>
const chapter = document.querySelector(".chapter");
chapter.querySelector("button.toggle[data-toggle='0']").click();
const svg = chapter.querySelector("[data-plot] svg"), corner = svg.getBoundingClientRect();
const at = {clientX: corner.left + corner.width * 0.3, clientY: corner.top + corner.height * 0.5};
svg.dispatchEvent(new PointerEvent("pointermove", {...at, bubbles: true, pointerType: "mouse"}));
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_hides_lines_and_reads_values(page: Path, tmp_path: Path) -> None:
    acted = tmp_path / "acted.html"
    acted.write_text(page.read_text().replace("</body>", ACT))
    assert BROWSER is not None
    command = [
        BROWSER,
        "--no-sandbox",
        "--headless",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'user'}",
        "--dump-dom",
    ]
    told = subprocess.run([*command, acted.as_uri()], capture_output=True, text=True, timeout=120, check=True).stdout
    body = told[told.index("<main") : told.index("<script>")]
    hidden = re.findall(
        r'data-line="(\d+)"[^>]*class="[^"]*hidden|class="[^"]*hidden[^"]*"[^>]*data-line="(\d+)"', body
    )
    assert {a or b for a, b in hidden} == {"0"}
    assert body.count('aria-pressed="false"') == 1 and body.count('aria-pressed="true"') == len(STRATEGIES) - 1
    (box,) = re.findall(r'<div class="reading-box open"[^>]*>(.*?)</div>', body, re.DOTALL)
    assert "labels</p>" in box and box.count("<li") == len(STRATEGIES) - 1 and box.count('class="nearest"') == 1


def test_each_budget_has_a_table_of_its_own_and_figures_that_say_which(tmp_path: Path) -> None:
    for budget in ("50", "25"):
        for strategy in ("mcdal", "random", "margin"):
            for seed in range(2):
                Example(strategy=strategy, seed=seed, overrides={"protocol.budget": budget}, budget=int(budget)).fill(
                    tmp_path
                )
    (experiment,) = experiments(read_runs(tmp_path))
    tables = rankings(experiment, looks([experiment]), verdicts(experiment))
    assert {t.title for t in tables} == {"protocol.budget=50", "protocol.budget=25"}
    assert all({row.title for row in t.rows} == {"MCDAL", "Random", "Margin"} for t in tables)
    written = write_report(tmp_path)
    figures = [path.read_text() for path in sorted(written.parent.glob("curves/*_penalties_*.svg"))]
    assert len(figures) == 2 and all("protocol.budget=" in figure for figure in figures)
    text = read(written).text
    assert "different start sets" not in text, "budgets are not compared with each other"
    assert "Margin (protocol" not in "".join(figures)


def test_what_cannot_change_a_result_does_not_tell_runs_apart(tmp_path: Path) -> None:
    Example(strategy="random").fill(tmp_path)
    Example(strategy="random", seed=1, overrides={"source.workers": "2"}).fill(tmp_path)
    Example(strategy="margin", overrides={"gallery": "0"}).fill(tmp_path)
    Example(strategy="margin", seed=1).fill(tmp_path)
    (experiment,) = experiments(read_runs(tmp_path))
    assert [(g.title, len(g.runs)) for g in experiment.groups] == [("Margin", 2), ("Random", 2)]
    assert [v.seeds for v in verdicts(experiment)] == [2]


def test_what_a_comparison_lacks_is_on_its_page(tmp_path: Path) -> None:
    runs = [Example(strategy=strategy).fill(tmp_path) for strategy in ("margin", "mcdal")]
    text = read(write_report(tmp_path, runs, excluded=["margin, seed 1, is not here: it failed (no disk)."])).text
    assert "margin, seed 1, is not here: it failed (no disk)." in text
    assert "Random is not among the strategies: no difference to it" in text

"""What the README and the documents show works as shown."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def test_the_library_examples_run(tmp_path, monkeypatch):
    """All python blocks of the README, one after another, as in one notebook."""
    path = tmp_path / "readme.py"
    path.write_text("\n".join(blocks(README, "python")))
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "readme"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    assert names["run_id"] == "custom-MCDAL-s0"
    assert names["page"].exists()
    assert len(set(names["picks"].ids)) == 10
    assert not set(names["picks"].ids) & set(names["labels"])
    assert 0 <= names["accuracy"] <= 1


def test_the_strategy_of_the_readme_keeps_the_contract(tmp_path, monkeypatch):
    from mcdal.registry import load
    from mcdal.testing import check_strategy

    path = tmp_path / "my_strategy.py"
    path.write_text(blocks(README, "python")[-1])
    check_strategy(load("strategies", f"{path}:LeastConfidence"))


def test_the_documents_examples_run():
    for code in blocks((ROOT / "docs" / "add_a_strategy.md").read_text(), "python"):
        exec(compile(code, "add_a_strategy", "exec"), {})


def test_the_recipe_and_the_source_of_the_documents_run(tmp_path, monkeypatch):
    from PIL import Image

    from mcdal.config import build
    from mcdal.loop import run
    from mcdal.plan import Plan
    from mcdal.registry import load
    from mcdal.settings import override

    code = blocks((ROOT / "docs" / "add_data.md").read_text(), "python")
    for text in code:
        (tmp_path / text.split()[1]).write_text(text)
    for i in range(30):
        place = tmp_path / "pets" / ("cat" if i % 2 else "dog") / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40 + i), (8 * i, 200 * (i % 2), 90)).save(place)
    recipe = load("recipes", f"{tmp_path / 'my_recipes.py'}:pets")
    run(Plan(build(recipe, tmp_path / "pets", "tiny"), recipe="pets"), tmp_path / "runs", device="cpu")

    stripes = load("recipes", f"{tmp_path / 'my_source.py'}:Stripes")
    pool = stripes(n=40).open(tmp_path / "cache")
    assert pool.classes == ("lying", "standing")
    assert override(build(recipe, tmp_path, "tiny"), {"source.size": "16"}).source.size == 16


def test_the_shards_of_the_documents_are_read(tmp_path, monkeypatch, capsys):
    from PIL import Image

    (code,) = blocks((ROOT / "docs" / "shards.md").read_text(), "python")
    for i in range(30):
        place = tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40 + i), (8 * i, 200 * (i % 2), 90)).save(place)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "shards", "exec"), {})
    said = capsys.readouterr().out
    assert "cat:0 cat/" in said and "(4, 3, 32, 32)" in said


def test_the_encoder_of_the_documents_runs(tmp_path):
    (code,) = blocks((ROOT / "docs" / "frozen.md").read_text(), "python")
    (tmp_path / "mine.py").write_text(code)
    words = [
        "run",
        "digits",
        "--encoder",
        f"{tmp_path / 'mine.py'}:Mine",
        "--strategy",
        "margin",
        "--set",
        "protocol.rounds=2",
    ]
    said = subprocess.run(
        [sys.executable, "-m", "mcdal", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "round 1: 60 labels" in said.stdout


@pytest.mark.parametrize("which", ["efficientnet_lite0", "timm"])
def test_the_fields_of_the_documents_are_there(which):
    from mcdal.registry import describe

    for field in ("encoder.size", "encoder.weights"):
        assert field in describe("encoders", which)


@pytest.fixture(scope="module")
def session():
    """(command, lines shown) of the README's first session."""
    shown = []
    for line in blocks(README, "console")[0].splitlines():
        if line.startswith("$ "):
            shown.append((line[2:], []))
        else:
            shown[-1][1].append(line)
    return shown


def test_the_first_session_shows_what_a_user_sees(session, tmp_path):
    """Every line but for its numbers, which differ in the last bits between processors."""
    for command, lines in session:
        words = command.split()
        assert words[0] == "mcdal"
        said = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert [shape(line) for line in said] == [shape(line) for line in lines]


def shape(line):
    return re.sub(r"\s+", " ", re.sub(r"\d+(\.\d+)?", "#", line)).strip()


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert "://" in target or (page.parent / target).exists(), f"{page.name} links to {target}"

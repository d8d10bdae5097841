"""What a run on masks asks for becomes tasks that people correct, once, in its order."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mcdal.artifacts import Artifacts
from mcdal.cli import app
from mcdal.command import Command
from mcdal.errors import CampaignError
from mcdal.label_studio.export_masks import export_masks
from mcdal.label_studio.masks import to_mask
from mcdal.label_studio.push_scenes import push_scenes
from mcdal.label_studio.shapes import masks_interface
from mcdal.loop import run
from mcdal.plan import Plan
from mcdal.pool.mask_folder import MaskFolder
from mcdal.store import Store
from mcdal.testing import fake_config, fake_scene_config, fake_scenes

RECIPE = "tests.label_studio.scene_recipes"


@pytest.fixture(scope="session")
def played(tmp_path_factory):
    """A run on masks, and its id."""
    out = tmp_path_factory.mktemp("played")
    return out, run(Command(f"{RECIPE}:blocks").plan(), out, device="cpu")


@pytest.fixture
def scenes(played, tmp_path):
    """A copy of the store, the run, and what its last round asked for."""
    out, id = played
    shutil.copytree(out, tmp_path / "out")
    store = Store(tmp_path / "out")
    asked = store.asked(id, store.rounds(id)[-1].round)
    store.close()
    return tmp_path / "out", id, asked


def test_scenes_come_in_the_order_of_the_run_with_what_its_model_draws(scenes, client, server):
    out, id, asked = scenes
    done = push_scenes(out, id, client, None)
    assert (done.made, done.there) == (len(asked), 0) and len(server.uploads) == len(asked)
    (project,) = server.projects.values()
    given = []
    while (task := server.next(project["id"], 1)) is not None:
        given.append(task["data"]["mcdal_id"])
        result = task["predictions"][0]["result"]
        mask = to_mask(result, fake_scenes().classes)
        assert mask.shape == fake_scenes().shape[1] and 255 not in mask  # every pixel has a class
        server.annotate(task["id"], 1, result=result)
    assert tuple(given) == asked


def test_what_is_drawn_is_what_the_model_of_the_round_before_says(scenes, client, server):
    import torch

    out, id, asked = scenes
    push_scenes(out, id, client, None)
    pool, last = fake_scenes(), server.tasks[server.task_of(asked[0])]["data"]["mcdal_round"]
    plan = Command(f"{RECIPE}:blocks").plan()
    model = plan.config.model.build(len(pool.classes), *pool.shape)
    model.load_state_dict(Artifacts(out / "runs" / id).read_model(last - 1))
    for each in asked:
        view = pool.images.read(pool.position(each)).permute(2, 0, 1)[None].float() / 255
        mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (pool.mean, pool.std))
        with torch.inference_mode():
            said = model.eval()((view - mean) / std).logits.argmax(1)[0].numpy()
        mask = to_mask(server.tasks[server.task_of(each)]["predictions"][0]["result"], pool.classes)
        assert (mask == said).mean() > 0.98  # sums in another order


def test_twice_is_as_once_and_a_push_that_was_cut_off_goes_on(scenes, client, server, monkeypatch):
    out, id, asked = scenes
    monkeypatch.setattr("mcdal.label_studio.push_scenes.AT_ONCE", 2)
    real, calls = client.import_tasks, []

    def once(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(client, "import_tasks", once)
    with pytest.raises(KeyboardInterrupt):
        push_scenes(out, id, client, None)
    done = push_scenes(out, id, client, None)
    assert (done.made, done.there) == (len(asked) - 2, 2)
    again = push_scenes(out, id, client, None)
    assert (again.made, again.there) == (0, len(asked)) and len(server.projects) == 1
    assert sorted(server.ids()) == sorted(asked)


def test_what_was_corrected_comes_back_as_masks_that_a_run_reads(client, server, tmp_path):
    draw, data = np.random.default_rng(0), tmp_path / "own"
    for i in range(40):
        for folder, mask in (("images", False), ("masks", True)):
            path = data / folder / f"mon/v1.{i}.png"  # a dot that begins no ending
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = draw.integers(0, 2 if mask else 256, (8, 8) if mask else (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
    (data / "classes.csv").write_text("name,id,void\nroad,0,\nsky,1,\n")
    id = run(Command(f"{RECIPE}:own", data).plan(), tmp_path / "out", device="cpu")
    done = push_scenes(tmp_path / "out", id, client, None)
    (number,) = server.projects
    for task in server.tasks.values():
        server.annotate(task["id"], 1, result=task["predictions"][0]["result"])
    new = tmp_path / "new"
    assert export_masks(client, number, new).masks == done.made
    for stem in server.ids():
        (new / stem).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / f"{stem}.png", new / f"{stem}.png")
    pool = MaskFolder(new, masks=Path("masks/images")).open(tmp_path / "cache")
    assert pool.classes == ("road", "sky") and len(pool.images.ids) + len(pool.test) == done.made


def test_a_project_that_fits_is_taken_and_another_is_left_alone(scenes, client, server):
    out, id, asked = scenes
    other = client.make_project({"title": "own", "label_config": masks_interface(["sky"], ["brushlabels"])})["id"]
    before = dict(server.projects[other])
    with pytest.raises(CampaignError, match="lacks the labels"):
        push_scenes(out, id, client, other)
    assert server.projects[other] == before
    fits = client.make_project(
        {"title": "own", "label_config": masks_interface(fake_scenes().classes, ["brushlabels", "polygonlabels"])}
    )["id"]
    assert push_scenes(out, id, client, fits).page.endswith(f"/{fits}") and len(server.tasks) == len(asked)
    assert push_scenes(out, id, client, None).made == 0


def test_a_first_round_has_no_model(played, tmp_path, client, server):
    plan = Command(f"{RECIPE}:blocks", settings=("protocol.rounds=1",)).plan()
    id = run(plan, tmp_path, device="cpu")
    done = push_scenes(tmp_path, id, client, None)
    assert not done.drawn and "nothing is drawn" in done.lines()[-1]
    assert all(task["predictions"][0]["result"] == [] for task in server.tasks.values())


def test_runs_that_cannot_be_pushed(scenes, tmp_path, client, server):
    out, id, _ = scenes
    with pytest.raises(CampaignError, match="there is no run nobody"):
        push_scenes(out, "nobody", client, None)
    run(Plan(fake_config()), tmp_path / "classes", device="cpu")
    with pytest.raises(CampaignError, match="asks for classes, not for masks"):
        push_scenes(tmp_path / "classes", "custom-MCDAL-s0", client, None)
    run(Plan(fake_scene_config()), tmp_path / "own", device="cpu")
    with pytest.raises(CampaignError, match="cannot be opened as it was begun"):
        push_scenes(tmp_path / "own", "custom-MCDAL-s0", client, None)
    for model in out.rglob("model.safetensors"):
        model.unlink()
    with pytest.raises(CampaignError, match="copy the whole folder"):
        push_scenes(out, id, client, None)
    assert server.projects == {}


def test_from_the_command_line(scenes, client, server, monkeypatch):
    out, id, asked = scenes
    monkeypatch.setattr("mcdal.label_studio.client.Client", lambda *_: server.client())
    ran = CliRunner().invoke(
        app, ["label-studio", "push-scenes", id, "--out", str(out), "--url", "http://label.test", "--token", "t"]
    )
    assert ran.exit_code == 0 and f"{len(asked)} new tasks, 0 were there already" in ran.output, ran.output
    assert np.isfinite([t["predictions"][0]["score"] for t in server.tasks.values()]).all()

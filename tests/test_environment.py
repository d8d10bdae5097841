"""What a result was computed with."""

import subprocess

import mcdal.environment
from mcdal.device import choose_device, resolve
from mcdal.environment import commit, differences, environment


def test_the_commit_of_somebody_elses_checkout_is_not_ours(tmp_path, monkeypatch):
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    place = tmp_path / ".venv" / "mcdal" / "environment.py"
    place.parent.mkdir(parents=True)
    place.touch()
    monkeypatch.setattr(mcdal.environment, "__file__", str(place))
    assert commit() == "none"
    subprocess.run(["git", "add", "-f", str(place)], cwd=tmp_path, check=True)
    assert commit() != "none"


def test_differences_name_what_may_change_the_last_bits():
    now = environment(resolve(choose_device("cpu")))
    assert differences(now, now) == []
    assert differences({**now, "torch": "1.0", "host": "elsewhere"}, now) == [f"torch 1.0 -> {now['torch']}"]

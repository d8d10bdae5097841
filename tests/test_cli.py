"""The command: what it says of wrong input, and that it records nothing then."""

import json
import sys

import pytest

from mcdal.cli import main

RECIPE = '''
from pathlib import Path
from mcdal.testing import fake_config

def quick():
    """Takes a second."""
    return fake_config()

def needs(data: Path):
    """A folder of pictures."""
    return fake_config()

def wrong():
    """Returns nothing."""
'''


@pytest.fixture
def mcdal(tmp_path, monkeypatch, capsys):
    """Runs the command in an empty folder with a recipe file; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(RECIPE)

    def command(*words):
        monkeypatch.setattr(sys, "argv", ["mcdal", *words])
        with pytest.raises(SystemExit) as end:
            main()
            sys.exit(0)
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return command


def test_run_status_report(mcdal, tmp_path):
    code, out, _ = mcdal("run", "mine.py:quick", "--device", "cpu")
    assert code == 0 and "round 3: 30 labels" in out and "mcdal report quick-mcdal-s0" in out
    code, out, _ = mcdal("run", "mine.py:quick", "--device", "cpu", "--strategy", "random", "--quiet", "--seed", "-1")
    assert code == 0 and out.count("\n") == 4
    code, out, _ = mcdal("status", "--json")
    assert [json.loads(line)["run_id"] for line in out.splitlines()] == ["quick-mcdal-s0", "quick-random-s-1"]
    assert "quick-random-s-1  done   4/4" in mcdal("status")[1]
    code, out, _ = mcdal("report", "quick-mcdal-s0")
    assert code == 0 and (tmp_path / out.strip()).exists()
    code, _, err = mcdal("report", "nothing")
    assert code == 2 and "quick-mcdal-s0" in err


def test_json_lines(mcdal):
    code, out, _ = mcdal("run", "mine.py:quick", "--device", "cpu", "--json")
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert code == 0 and {"run", "round", "measure", "test", "result"} <= set(events)


def test_dry_run_records_nothing(mcdal, tmp_path):
    code, out, _ = mcdal("run", "mine.py:quick", "--device", "cpu", "--dry-run", "--json")
    plan = json.loads(out)
    assert code == 0 and plan["labels"] == [12, 18, 24, 30] and plan["seconds"] > 0
    assert not (tmp_path / "runs" / "mcdal.db").exists()
    assert "quick-mcdal-s0" in mcdal("run", "mine.py:quick", "--device", "cpu", "--dry-run")[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "cifar"], "no recipe 'cifar': did you mean"),
        (["run", "digits", "--strategy", "margn"], "no strategy 'margn': did you mean 'margin'?"),
        (["run", "digits", "--scale", "small"], "digits takes no --scale"),
        (["run", "cifar10"], "cifar10 needs --data DIR"),
        (["run", "cifar10", "--data", "nowhere"], "nowhere does not exist"),
        (["run", "digits", "--set", "strategy.heads"], "write FIELD=VALUE"),
        (["run", "digits", "--set", "strategy.heads=1"], "strategy.heads = 1"),
        (["run", "digits", "--device", "tpu9"], "device 'tpu9' is unknown"),
        (["run", "mine.py:nothing"], "has no 'nothing'"),
        (["run", "nofile.py:x"], "no file nofile.py"),
        (["run", "mine.py:wrong"], "returned NoneType, not a mcdal.Config"),
        (["run", "mine.py:needs"], "needs --data DIR: A folder of pictures."),
        (["run", "no.such.module:x"], "cannot import 'no.such.module'"),
        (["status", "--out", "empty"], "no store in empty"),
    ],
)
def test_wrong_input_is_told_in_a_line(mcdal, tmp_path, words, told):
    code, _, err = mcdal(*words)
    assert code == 2 and told in err and err.count("\n") == 1 and "Traceback" not in err
    assert (
        not (tmp_path / "runs" / "runs").exists()
        or words[0] != "run"
        or not list((tmp_path / "runs").glob("*/*/round*"))
    )


def test_lists(mcdal):
    assert mcdal("strategies")[1].splitlines()[0].startswith("margin  ")
    assert "digits" in mcdal("recipes")[1]
    assert "strategy.heads = 2" in mcdal("strategies", "mcdal")[1]
    assert mcdal("--version")[1].strip() == "0.1.0"

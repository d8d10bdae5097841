"""The command: what it says of wrong input, and that it records nothing then."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from mcdal import trainer, training, work
from mcdal.cli import app, main
from mcdal.store import Store
from tests.runs import content

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(training.__file__).parents[1])}

RECIPE = '''
from dataclasses import dataclass, replace
from pathlib import Path
from mcdal.errors import PoolError, SelectionError
from mcdal.strategies.mcdal import MCDAL
from mcdal.strategies.random import Random
from mcdal.testing import FakeSource, fake_config, fake_training

def quick():
    """Takes a second."""
    return fake_config()

def needs(data: Path):
    """A folder of pictures."""
    return fake_config()

def wrong():
    """Returns nothing."""

def raises():
    """Has a bug."""
    raise RuntimeError("a bug in a recipe")

@dataclass
class Mine(Random):
    """Picks as Random does."""
    power: float = 2.0
    """Has no effect."""

@dataclass
class Explodes(MCDAL):
    """Its loss is not a number."""
    def extra_loss(self, batch, losses, progress):
        return losses.sum() * float("nan")

@dataclass
class Stumbles(Random):
    """Picks what is labeled."""
    def select(self, rows, budget, seed):
        raise SelectionError("nothing to pick from")

@dataclass
class Bugged(Random):
    """Has a bug."""
    def select(self, rows, budget, seed):
        raise KeyError("a bug in a strategy")

@dataclass(frozen=True)
class Slow(FakeSource):
    """Says what it reads."""
    broken: bool = False
    """Whether its images cannot be read."""
    def open(self, cache, listen):
        listen("prepare", done=1, total=2, what="decoding slow")
        if self.broken:
            raise PoolError("photo.jpg cannot be read")
        return super().open(cache, listen)

def slow(data: Path, scale: str = "full"):
    """Pictures."""
    return replace(fake_config(Mine(power=3.0)), source=Slow())
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
        (["run", "cifar10", "--data", ".", "--scale", "huge"], "--scale huge: the recipe cifar10 has full, small"),
        (["run", "mine.py:quick", "--strategy", "mine.py:Path"], "not a class that extends mcdal.Strategy"),
        (["run", "mine.py:quick", "--strategy", "mine.py"], "say which strategy of it: mine.py:Mine, mine.py:Explodes"),
        (["run", "mine.py:Mine"], "Mine is a class, not a function that returns a mcdal.Config"),
        (["run", "broken.py:quick"], "broken.py:2: SyntaxError"),
        (["run", "mine.py:quick", "--strategy", "broken.py:Mine"], "broken.py:2: SyntaxError"),
        (["run", "digits", "--set", "strategy.heads"], "write FIELD=VALUE"),
        (["run", "digits", "--set", "strategy.heads=2", "--set", "strategy.heads=4"], "given twice, as 2 and as 4"),
        (["run", "digits", "--set", "model.depth=2"], "SmallConv has no field 'depth'"),
        (["run", "digits", "--set", "training.optimization.lr=nan"], "training.optimization.lr=nan: it should be"),
        (["run", "digits", "--set", "strategy.heads=1"], "strategy.heads = 1"),
        (["run", "digits", "--device", "tpu9"], "device 'tpu9' is unknown"),
        (["run", "mine.py:nothing"], "has no 'nothing'"),
        (["run", "nofile.py:x"], "no file nofile.py"),
        (["run", "mine.py:wrong"], "returned NoneType, not a mcdal.Config"),
        (["run", "mine.py:needs"], "needs --data DIR: A folder of pictures."),
        (["run", "no.such.module:x"], "no.such.module cannot be imported: ModuleNotFoundError"),
        (["status", "--out", "empty"], "no store in empty"),
    ],
)
def test_wrong_input_is_told_in_a_line(mcdal, tmp_path, words, told):
    (tmp_path / "broken.py").write_text("x = 1\ndef f(:\n    pass\n")
    code, _, err = mcdal(*words)
    assert code == 2 and told in err and err.count("\n") == 1 and "Traceback" not in err
    assert not (tmp_path / "runs").exists() and not (tmp_path / "empty").exists()


def test_lists(mcdal):
    assert any(line.startswith("margin  ") for line in mcdal("strategies")[1].splitlines())
    assert "digits" in mcdal("recipes")[1]
    assert "strategy.heads = 2" in mcdal("strategies", "mcdal")[1]
    assert mcdal("--version")[1].strip() == "0.1.0"


def sessions(out):
    """How each session ended, the oldest first."""
    with Store(out, create=False).read() as connection:
        return list(connection.execute(text("SELECT outcome FROM sessions ORDER BY session_id")).scalars())


def ids(out):
    return [row[0] for row in content(out)["runs"]]


def test_an_own_strategy_with_its_fields(mcdal, tmp_path):
    own = ("run", "mine.py:quick", "--device", "cpu", "--strategy", "mine.py:Mine")
    assert mcdal(*own)[0] == 0
    assert mcdal(*own, "--set", "strategy.power=4")[0] == 0
    assert mcdal("run", "mine:quick", "--device", "cpu", "--strategy", "mine:Mine", "--seed", "1")[0] == 0
    powers = {record.run_id: record.config["strategy"]["power"] for record in Store(tmp_path / "runs").runs()}
    assert powers == {"quick-Mine-s0": 2.0, "quick-Mine-8dc6f1f8-s0": 4.0, "quick-Mine-s1": 2.0}


def test_an_own_recipe_and_source_with_data_and_scale(mcdal, tmp_path):
    assert mcdal("run", "mine.py:slow", "--data", ".", "--scale", "big", "--device", "cpu")[0] == 0
    (record,) = Store(tmp_path / "runs").runs()
    assert (record.run_id, record.recipe, record.scale) == ("slow-big-Mine-s0", "mine.py:slow", "big")
    assert record.strategy == "mine.py:Mine" and record.config["strategy"]["power"] == 3.0


def test_naming_the_recipes_own_strategy_keeps_its_fields(mcdal):
    words = ("run", "mine.py:slow", "--data", ".", "--device", "cpu", "--strategy", "mine.py:Mine")
    assert mcdal(*words)[0] == 0
    code, out, _ = mcdal("run", "mine.py:slow", "--data", ".", "--device", "cpu")
    assert code == 0 and "nothing was left to do" in out, "with and without its name it is one run"


def test_the_same_command_is_the_same_run(mcdal, tmp_path):
    quick = ("run", "mine.py:quick", "--device", "cpu")
    assert mcdal(*quick)[0] == 0
    before = content(tmp_path / "runs")
    code, out, _ = mcdal(*quick, "--set", "checkpoint_seconds=5")
    assert code == 0 and "note: nothing was left to do: this run was finished before" in out
    assert content(tmp_path / "runs") == before
    for setting in ("strategy.heads=4", "strategy.heads= 4"):
        assert mcdal(*quick, "--set", setting, "--quiet")[0] == 0
    assert ids(tmp_path / "runs") == ["quick-mcdal-890e1726-s0", "quick-mcdal-s0"]


def test_ctrl_c_is_told_recorded_and_continued(mcdal, tmp_path, monkeypatch):
    real, calls = trainer.train, []

    def train(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    quick = ("run", "mine.py:quick", "--device", "cpu")
    monkeypatch.setattr(trainer, "train", train)
    code, _, err = mcdal(*quick)
    assert (code, err) == (130, "stopped; the same command continues\n")
    assert sessions(tmp_path / "runs") == ["stopped"]
    assert json.loads(mcdal("status", "--json")[1])["state"] == "interrupted"
    assert mcdal(*quick)[0] == 0
    assert sessions(tmp_path / "runs") == ["stopped", "done"]
    assert mcdal(*quick, "--out", "whole")[0] == 0
    assert content(tmp_path / "runs") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    ("words", "told", "recorded"),
    [
        (["mine.py:quick", "--strategy", "mine.py:Explodes"], "round 0: the training loss is nan", 1),
        (["mine.py:quick", "--strategy", "mine.py:Stumbles"], "round 1: nothing to pick from", 1),
        (["mine.py:slow", "--data", ".", "--set", "source.broken=true"], "photo.jpg cannot be read", 0),
        (["mine.py:quick", "--set", "protocol.budget=50"], "but the pool has 60 samples", 0),
        (["mine.py:quick", "--out", "mine.py"], "cannot write to mine.py", None),
    ],
)
def test_problems_on_the_way_end_with_a_line(mcdal, tmp_path, words, told, recorded):
    code, _, err = mcdal("run", *words, "--device", "cpu")
    assert code == 2 and told in err and err.startswith("error: ") and err.count("\n") == 1
    assert recorded is None or len(ids(tmp_path / "runs")) == recorded


@pytest.mark.parametrize(
    ("words", "error"),
    [(["mine.py:raises"], RuntimeError), (["mine.py:quick", "--strategy", "mine.py:Bugged"], KeyError)],
)
def test_a_bug_keeps_its_traceback(mcdal, words, error):
    with pytest.raises(error, match="a bug in a"):
        mcdal("run", *words, "--device", "cpu")


def test_every_event_is_a_line_of_json(mcdal, monkeypatch):
    monkeypatch.setattr(work, "SECONDS_BETWEEN_WORDS", 0.0)
    words = ("run", "mine.py:slow", "--data", ".", "--strategy", "margin", "--set", "protocol.start=2")
    _, out, err = mcdal(*words, "--device", "cpu", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    kinds = {event["event"] for event in events}
    assert kinds == {"run", "prepare", "round", "train", "measure", "test", "result", "notice"} and err == ""
    for event in events:
        if event["event"] in ("prepare", "train", "measure", "test"):
            assert 0 <= event["done"] <= event["total"]
    results = [event for event in events if event["event"] == "result"]
    assert [event["labels"] for event in results] == [2, 8, 14, 20]
    assert all(0 <= event["test/accuracy"] <= 1 for event in results)
    notice = [json.loads(line) for line in mcdal(*words, "--device", "cpu", "--json")[1].splitlines()][-1]
    assert notice == {"event": "notice", "text": "nothing was left to do: this run was finished before"}


def test_quiet_prints_results_only(mcdal):
    _, out, err = mcdal("run", "mine.py:quick", "--device", "cpu", "--quiet")
    lines = out.splitlines()
    assert len(lines) == 4 and all(line.startswith("round ") for line in lines) and err == ""


def test_a_dry_run_writes_nothing_and_tells_what_it_reads(mcdal, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = mcdal("run", "mine.py:slow", "--data", ".", "--device", "cpu", "--dry-run")
    assert code == 0 and out.startswith("decoding slow\nrun ") and "12, 18, 24, 30" in out
    code, out, _ = mcdal("run", "mine.py:slow", "--data", ".", "--device", "cpu", "--dry-run", "--json")
    assert code == 0 and len(out.splitlines()) == 1 and json.loads(out)["run_id"] == "slow-Mine-s0"
    assert [path for path in sorted(tmp_path.rglob("*")) if "__pycache__" not in path.parts] == before


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mcdal run d", {"digits"}),
        ("mcdal run digits --strategy mar", {"margin"}),
        ("mcdal strategies r", {"random"}),
        ("mcdal recipes cifar100", {"cifar100"}),
    ],
)
def test_the_shell_completes_names(monkeypatch, capsys, line, words):
    monkeypatch.setenv("_MCDAL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split()) - 1))
    with pytest.raises(SystemExit):
        app(prog_name="mcdal")
    assert {said.split(",")[-1] for said in capsys.readouterr().out.split()} == words


@pytest.mark.parametrize("words", [["--help"], ["run", "--help"], ["strategies"], ["recipes"], ["--version"]])
def test_help_and_lists_import_nothing_heavy(mcdal, words):
    code = f"""
import sys
from mcdal.cli import main
sys.argv = ["mcdal", *{words!r}]
try:
    main()
except SystemExit as end:
    assert not end.code
heavy = {{"torch", "numpy", "sqlalchemy", "rich.progress"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=ENVIRONMENT)


def in_a_terminal(command, folder, columns=100):
    """Runs a command whose output goes to a terminal; gives the exit code and all that the terminal was sent."""
    import pty
    import termios

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (30, columns))
    environment = {**ENVIRONMENT, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, cwd=folder, env=environment, close_fds=True
    )
    os.close(follower)
    sent = b""
    try:
        while piece := os.read(leader, 65536):
            sent += piece
    except OSError:  # how Linux says that nobody has the terminal open any more
        pass
    os.close(leader)
    return process.wait(), sent.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_shows_bars_and_keeps_the_results(tmp_path):
    (tmp_path / "mine.py").write_text(
        RECIPE
        + """
def bars():
    training = fake_training(precision="float64", epochs=2, steps_per_epoch=60)
    return replace(fake_config(), training=training)
"""
    )
    command = [sys.executable, "-m", "mcdal", "run", "mine.py:bars", "--device", "cpu"]
    command += ["--set", "protocol.rounds=2"]
    code, sent = in_a_terminal(command, tmp_path)
    assert code == 0
    for words in ("round 0", "0/2", "of the whole run", "training", "/120", "s left", "loss ", "accuracy "):
        assert words in sent, words
    hidden, shown = sent.rfind("\x1b[?25l"), sent.rfind("\x1b[?25h")
    assert 0 <= hidden < shown, "the cursor is given back"
    after = sent[shown:]
    assert "next: mcdal report bars-mcdal-9578fe0d-s0 --out runs" in sent and "\u2501" not in after
    widths = [len(line) for line in sent.replace("\x1b", "\n").splitlines()]
    assert max(widths) < 100, "a full line would begin another when ^C is echoed"

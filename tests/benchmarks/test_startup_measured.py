"""The measurement of the command's start sees what a command imports, and fails where it is torch."""

from benchmarks import startup


def test_the_commands_import_nothing_large():
    found = {check.name: check for check in startup.measured(1)}
    for command in startup.BOUNDS:
        assert found[f"mcdal {command}: large packages imported"].value == 0
        assert found[f"mcdal {command} / Python with typer"].value > 0
        assert found[f"mcdal {command} beyond Python's start"].unit == "CPU s"


def test_a_large_package_is_seen(monkeypatch):
    monkeypatch.setattr(startup, "HEAVY", ("typer", "torch"))
    assert startup.imported("--help") == ["typer"]

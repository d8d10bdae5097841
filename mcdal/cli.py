"""The command line. Heavy imports happen inside the commands, so that `--help` and completion are quick."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mcdal.errors import ConfigError, McdalError
from mcdal.version import __version__

app = typer.Typer(
    name="mcdal",
    help="Active learning for deep vision: decides which images people should label next.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option("--out", help="Folder of the store (mcdal.db) and everything beside it.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and problems.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, for programs.")]


def _complete_strategies() -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed("strategies").items())


def _complete_recipes() -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed("recipes").items())


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, or my_recipes.py:NAME.", autocompletion=_complete_recipes)
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the images, where the recipe needs one.")
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", "-s", help="A strategy's name, or my_file.py:NAME.", autocompletion=_complete_strategies
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides the start set and every random draw.")] = 0,
    out: Out = Path("runs"),
    scale: Annotated[str | None, typer.Option("--scale", help="A size of the recipe, such as small.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field: --set strategy.heads=4")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and how long it will take; run nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Play a run, or continue it where it was interrupted."""
    from mcdal import console, estimate, loop

    plan = _plan(recipe, data, strategy, seed, scale, settings or [])
    if dry_run:
        estimate.show(estimate.estimate(plan, out, device), json)
        return
    with console.listener(quiet, json) as listen:
        run_id = loop.run(plan, out, device=device, listen=listen)
        if not json:
            listen("hint", text=f"mcdal report {run_id} --out {out}")


@app.command()
def status(out: Out = Path("runs"), json: Json = False) -> None:
    """Show what is running, done or broken."""
    from mcdal import status as status_module

    status_module.show(status_module.status(out), json)


@app.command()
def report(
    runs: Annotated[list[str] | None, typer.Argument(help="Ids of runs; all of the store by default.")] = None,
    out: Out = Path("runs"),
) -> None:
    """Draw the report of runs: a page, figures and tables."""
    from mcdal.report import write_report

    typer.echo(write_report(out, runs or []))


@app.command()
def strategies(
    name: Annotated[
        str | None, typer.Argument(help="Show the fields of this one.", autocompletion=_complete_strategies)
    ] = None,
) -> None:
    """List the strategies, or the fields of one."""
    _list("strategies", name)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Say more on this one.", autocompletion=_complete_recipes)] = None,
) -> None:
    """List the recipes, or what one of them needs."""
    _list("recipes", name)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


def _plan(
    recipe: str, data: Path | None, strategy: str | None, seed: int, scale: str | None, settings: list[str]
) -> "loop.Plan":  # type: ignore[name-defined]
    from dataclasses import replace

    from mcdal import registry
    from mcdal.config import build, default_scale, override
    from mcdal.loop import Plan

    overrides: dict[str, str] = {}
    for setting in settings:
        field, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set {setting}: write FIELD=VALUE, such as strategy.heads=4")
        overrides[field] = value
    function = registry.load("recipes", recipe)
    config = build(function, data, scale)
    name = strategy or registry.name_of(config.strategy)
    if strategy is not None:
        config = replace(config, strategy=registry.load("strategies", strategy)())
    return Plan(override(config, overrides), seed, recipe, scale or default_scale(function), overrides, name)


def _list(kind: str, name: str | None) -> None:
    from mcdal import registry

    if name is not None:
        typer.echo(registry.describe(kind, name))
        return
    lines = registry.listed(kind)
    width = max(map(len, lines))
    for each, line in lines.items():
        typer.echo(f"{each:<{width}}  {line}")


def main() -> None:
    """The command `mcdal`. Problems that a person can mend are told in a line; the rest is a bug and shows its traceback."""
    try:
        app()
    except McdalError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues", err=True)
        sys.exit(130)

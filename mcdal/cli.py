"""The command line. Heavy imports happen inside the commands, so that `--help` and completion are quick."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcdal.campaign.result_commands import app as campaign
from mcdal.compare.command import compare
from mcdal.errors import McdalError
from mcdal.label_studio.commands import app as label_studio
from mcdal.options import (
    Data,
    Database,
    Device,
    Json,
    Out,
    Quiet,
    Recipe,
    Scale,
    complete_encoders,
    complete_recipes,
    complete_strategies,
)
from mcdal.stopping import stoppable
from mcdal.version import __version__

if TYPE_CHECKING:
    from mcdal.plan import Plan

app = typer.Typer(
    name="mcdal",
    help="Active learning for deep vision: decides which images people should label next.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(campaign, name="campaign")
app.add_typer(label_studio, name="label-studio")


@app.command()
def run(
    recipe: Recipe,
    data: Data = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", "-s", help="A strategy's name, or my_file.py:NAME.", autocompletion=complete_strategies
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            help="Train heads alone, on features that this network makes once: efficientnet_lite0, "
            "timm:NAME or my_file.py:NAME. `mcdal encoders` lists them.",
            autocompletion=complete_encoders,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides the start set and every random draw.")] = 0,
    out: Out = Path("runs"),
    database: Database = None,
    scale: Scale = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field: --set strategy.heads=4. `mcdal recipes NAME` shows them.",
        ),
    ] = None,
    device: Device = "auto",
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes, or actors of a cluster, that measure a pool in shards."),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ADDRESS",
            help="Measure a pool in shards on a Ray cluster: ray://host:10001, auto: this machine's, local: one of its own.",
        ),
    ] = None,
    train_there: Annotated[
        bool,
        typer.Option(
            "--train-there", help="With --on: the cluster trains as well, by training.processes of its processes."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and how long it will take; run nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Play a run, or continue it where it was interrupted."""
    from mcdal.command import Command

    with stoppable():
        plan = Command(recipe, data, strategy, encoder, seed, scale, tuple(settings or ())).plan()
        _refuse_unmeant(train_there, on, dry_run)
        training = plan.config.training  # a device that is not there is told before anything is written
        if not train_there:
            training.processes_on(training.numerics(device).device)
        if dry_run:
            _estimate(plan, out, device, quiet, json)
        else:
            if database is not None:
                from mcdal.database import Database

                Database(out, url=database).close()
            _play(plan, out, device, quiet, json, workers, on, train_there)


app.command()(compare)


@app.command()
def embed(
    recipe: Recipe,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .npz.")] = Path("features.npz"),
    seed: Annotated[int, typer.Option("--seed", help="Decides the initial weights and every random draw.")] = 0,
    scale: Scale = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change a field: --set simclr.epochs=100, --set model.width=8."
        ),
    ] = None,
    device: Device = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Learn features of a recipe's images without a label (SimCLR), for a cold start and for strategies that use them."""
    from mcdal import console, registry
    from mcdal.config import build
    from mcdal.embed import Embedding
    from mcdal.embed import embed as make
    from mcdal.settings import override, parse_settings

    with stoppable():
        config = build(registry.load("recipes", recipe), data, scale)
        embedding = override(Embedding.of(config), parse_settings(settings or []))
        with console.listener(quiet, json) as listen:
            make(embedding, out, out.parent / "cache", device=device, seed=seed, listen=listen)
            if not json:
                where = [] if data is None else ["--data", str(data)]
                words = ["mcdal", "run", recipe, *where, "--set", f"features={out}", "--set", "cold_start=typiclust"]
                listen("hint", text=shlex.join(words))


@app.command()
def select(
    strategy: Annotated[
        str,
        typer.Option(
            "--strategy", "-s", help="A strategy's name, or my_file.py:NAME.", autocompletion=complete_strategies
        ),
    ],
    budget: Annotated[int, typer.Option("--budget", "-b", help="How many samples to pick.")],
    probabilities: Annotated[
        Path | None, typer.Option("--probabilities", help="Class probabilities (n, C): .npy, .npz, .pt or .parquet.")
    ] = None,
    logits: Annotated[
        Path | None, typer.Option("--logits", help="What comes before the softmax (n, C), in place of probabilities.")
    ] = None,
    features: Annotated[Path | None, typer.Option("--features", help="Features (n, d).")] = None,
    labeled: Annotated[
        Path | None, typer.Option("--labeled", help="What has a label: true or false (n), or a .txt of ids.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Class indices (n) of the labeled samples, -1 of the others.")
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="Ids (n), or a .txt of them; the row number without it.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File for the picks, .csv or .parquet; standard output without it.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides every random draw.")] = 0,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field: --set strategy.clusters=100."),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Pick from the outputs of your own model: columns id, rank and score. `mcdal strategies` has the names."""
    from mcdal import console
    from mcdal.from_files import check_out, csv_lines, named, select_from_files, write_picks

    files = {
        "probabilities": probabilities, "logits": logits, "features": features, "labeled": labeled, "labels": labels,
        "ids": ids,
    }  # fmt: skip
    with stoppable(), console.listener(quiet, False) as listen:
        if out is not None:
            check_out(out)
        given = {name: path for name, path in files.items() if path is not None}
        chosen = named(strategy, settings or [])
        picks = select_from_files(chosen.strategy, budget, given, seed, chosen.search, listen)
    if len(picks) < budget and not quiet:
        typer.echo(f"no more than {len(picks)} samples are unlabeled: all of them are picked", err=True)
    if out is None:
        typer.echo("".join(csv_lines(picks)), nl=False)
    else:
        write_picks(picks, out)
        if not quiet:
            typer.echo(f"{len(picks)} picks of {strategy}: {out}", err=True)


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
    from mcdal.campaign.chapter import section
    from mcdal.report import write_report

    beside = section(out)
    typer.echo(write_report(out, runs or [], [] if beside is None else [beside]))


@app.command()
def strategies(
    name: Annotated[
        str | None, typer.Argument(help="Show the fields of this one.", autocompletion=complete_strategies)
    ] = None,
) -> None:
    """List the strategies, or the fields of one."""
    _list("strategies", name)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(help="Say more on this one.", autocompletion=complete_recipes)] = None,
) -> None:
    """List the recipes, or what one of them needs."""
    _list("recipes", name)


@app.command()
def encoders(
    name: Annotated[str | None, typer.Argument(help="Say more on this one.", autocompletion=complete_encoders)] = None,
) -> None:
    """List the frozen encoders, or the fields of one."""
    _list("encoders", name)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Show the version.", is_eager=True)] = False,
) -> None:
    if show:
        typer.echo(__version__)
        raise typer.Exit


def _estimate(plan: "Plan", out: Path, device: str, quiet: bool, json: bool) -> None:
    from mcdal import console, estimate
    from mcdal.events import nobody

    with nullcontext(nobody) if json else console.listener(quiet, False) as listen:
        found = estimate.estimate(plan, out, device, listen)
    estimate.show(found, json)


def _play(
    plan: "Plan",
    out: Path,
    device: str,
    quiet: bool,
    json: bool,
    workers: int | None,
    on: str | None,
    train_there: bool,
) -> None:
    from mcdal import console, loop
    from mcdal.passes import engine_of
    from mcdal.ray_training import TrainOnRay

    with console.listener(quiet, json) as listen:
        heard = set()

        def tell(kind: str, **fields: object) -> None:
            heard.add(kind)
            listen(kind, **fields)

        engine, train_on = engine_of(workers, on), TrainOnRay(on) if train_there else None
        run_id = loop.run(plan, out, device=device, engine=engine, train_on=train_on, listen=tell)
        if "round" not in heard:
            listen("notice", text="nothing was left to do: this run was finished before")
        if not json:
            listen("hint", text=f"mcdal report {run_id} --out {shlex.quote(str(out))}")


def _refuse_unmeant(train_there: bool, on: str | None, dry_run: bool) -> None:
    from mcdal.errors import ConfigError

    if train_there and on is None:
        raise ConfigError("--train-there says that a cluster trains: give its address as well, --on auto")
    if train_there and dry_run:
        raise ConfigError("--dry-run times steps of this machine, and --train-there trains elsewhere: leave one out")


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

"""The command line. Heavy imports happen inside the commands, so that `--help` and completion are quick."""

import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mcdal.campaign.result_commands import app as campaign
from mcdal.errors import McdalError
from mcdal.label_studio.commands import app as label_studio
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

Out = Annotated[Path, typer.Option("--out", help="Folder of the store (mcdal.db) and everything beside it.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and problems.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, for programs.")]


def _complete_strategies() -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed("strategies").items())


def _complete_recipes() -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed("recipes").items())


def _complete_comparisons() -> list[tuple[str, str]]:
    from mcdal.compare.figures import FIGURES

    return [*_complete_recipes(), *((name, figure.about) for name, figure in FIGURES.items())]


def _complete_encoders() -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed("encoders").items())


@app.command()
def run(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, or my_recipes.py:NAME.", autocompletion=_complete_recipes)
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Folder of the images, where the recipe needs one, or a URL such as s3://..."),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy", "-s", help="A strategy's name, or my_file.py:NAME.", autocompletion=_complete_strategies
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            help="Train heads alone, on features that this network makes once: efficientnet_lite0, "
            "timm:NAME or my_file.py:NAME. `mcdal encoders` lists them.",
            autocompletion=_complete_encoders,
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides the start set and every random draw.")] = 0,
    out: Out = Path("runs"),
    database: Annotated[
        str | None,
        typer.Option("--database", help="postgresql://user@host/name that keeps the rows of --out from now on."),
    ] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="A size of the recipe, such as small.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Change a field: --set strategy.heads=4. `mcdal recipes NAME` shows them.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
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


@app.command()
def compare(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A recipe's name, my_recipes.py:NAME, or a figure of the paper, fig3 to fig10 (docs/reproduce.md).",
            autocompletion=_complete_comparisons,
        ),
    ],
    strategies: Annotated[
        str | None,
        typer.Option(
            "--strategies",
            "-s",
            help="mcdal,random,margin, or with fields set: 'mcdal,mcdal[heads=4],my_file.py:NAME'. A figure has its own.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="0-4, or 0,2,5.")] = "0-4",
    data: Annotated[
        str | None,
        typer.Option("--data", help="Folder of the images, where the recipe needs one, or a URL such as s3://..."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", "-e", help="Train heads alone on this network's features.", autocompletion=_complete_encoders
        ),
    ] = None,
    out: Out = Path("runs"),
    database: Annotated[
        str | None,
        typer.Option("--database", help="postgresql://user@host/name that keeps the rows of --out from now on."),
    ] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="A size of the recipe, such as small.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of all runs: --set protocol.budget=100."),
    ] = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            "--vary", metavar="FIELD=A,B", help="Play all of it with each of these: --vary protocol.budget=50,100."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            help="Runs at once; by default one a processor, one on an accelerator, or as many as a cluster holds.",
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            metavar="ADDRESS",
            help="Play the runs on a Ray cluster: ray://host:10001, auto: this machine's, local: one of its own.",
        ),
    ] = None,
    cpus: Annotated[
        float | None, typer.Option("--cpus", min=0.0, help="With --on: CPUs of a run, by default 1 a process.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option("--gpus", min=0.0, help="With --on: GPUs of a run, by default 1 a process where it runs on CUDA."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what is done and what is missing; run nothing.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Play strategies by seeds under equal conditions, or what is missing of them, and tell what they show."""
    import json as json_module

    from mcdal.command import Command
    from mcdal.compare.asked import entries, variations
    from mcdal.compare.asked import seeds as read_seeds
    from mcdal.compare.compare import compare as play
    from mcdal.compare.compare import missing
    from mcdal.compare.figures import of_figure
    from mcdal.compare.on_ray import cluster_of
    from mcdal.report import write_report

    with stoppable():
        recipe, strategies = of_figure(recipe, strategies)
        of = Command(recipe, data, None, encoder, 0, scale, tuple(settings or ()))
        asked, varied = (entries(strategies), read_seeds(seeds)), variations(vary or [])
        if dry_run:
            for line, counts in missing(of, *asked, out, varied):
                typer.echo(json_module.dumps(counts) if json else line)
            return
        cluster = cluster_of(on, workers, cpus, gpus)
        found = play(
            of, *asked, out, varied=varied, device=device, workers=workers, on=cluster, database=database, quiet=quiet,
            as_json=json,
        )  # fmt: skip
        for strategy, words in found.shown:
            typer.echo(
                json_module.dumps({"event": "shown", "strategy": strategy, "text": words})
                if json
                else f"{strategy}: {words}"
            )
        if found.done and not found.shown and len(asked[0]) > 1:
            typer.echo("no difference is told: it would be one to random, which is not among the strategies", err=True)
        if found.done:
            page = write_report(out, [cell.plan.run_id for cell in found.done], excluded=found.excluded)
            typer.echo(f"report: {page}", err=True)
    if found.failed:
        typer.echo(
            f"{len(found.failed)} of {len(found.cells)} runs failed; the same command tries them again", err=True
        )
        raise typer.Exit(1)


@app.command()
def embed(
    recipe: Annotated[
        str, typer.Argument(help="A recipe's name, or my_recipes.py:NAME.", autocompletion=_complete_recipes)
    ],
    data: Annotated[
        str | None,
        typer.Option("--data", help="Folder of the images, where the recipe needs one, or a URL such as s3://..."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The file to write, .npz.")] = Path("features.npz"),
    seed: Annotated[int, typer.Option("--seed", help="Decides the initial weights and every random draw.")] = 0,
    scale: Annotated[str | None, typer.Option("--scale", help="A size of the recipe, such as small.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="FIELD=VALUE", help="Change a field: --set simclr.epochs=100, --set model.width=8."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")] = "auto",
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
            "--strategy", "-s", help="A strategy's name, or my_file.py:NAME.", autocompletion=_complete_strategies
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


@app.command()
def encoders(
    name: Annotated[str | None, typer.Argument(help="Say more on this one.", autocompletion=_complete_encoders)] = None,
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

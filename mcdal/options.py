"""Options that several commands have, and what a shell may complete them with."""

from pathlib import Path
from typing import Annotated

import typer


def complete_strategies() -> list[tuple[str, str]]:
    return _complete("strategies")


def complete_recipes() -> list[tuple[str, str]]:
    return _complete("recipes")


def complete_encoders() -> list[tuple[str, str]]:
    return _complete("encoders")


def _complete(kind: str) -> list[tuple[str, str]]:
    from mcdal.registry import listed

    return list(listed(kind).items())


Recipe = Annotated[str, typer.Argument(help="A recipe's name, or my_recipes.py:NAME.", autocompletion=complete_recipes)]
Data = Annotated[
    str | None,
    typer.Option("--data", help="Folder of the images, where the recipe needs one, or a URL such as s3://..."),
]
Scale = Annotated[str | None, typer.Option("--scale", help="A size of the recipe, such as small.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
Database = Annotated[
    str | None,
    typer.Option("--database", help="postgresql://user@host/name that keeps the rows of --out from now on."),
]
Out = Annotated[Path, typer.Option("--out", help="Folder of the store (mcdal.db) and everything beside it.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results and problems.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on standard output, for programs.")]

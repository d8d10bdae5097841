"""Files and modules of people's own, imported by their place: a strategy, a recipe, and what they are made of."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from mcdal.errors import ConfigError

FROM_FILE = "mcdal_user_"
"""What the module names of people's own files begin with, so that `random.py` does not hide another module."""


def own_files() -> tuple[str, ...]:
    """The files that were imported by their path, for another process to import."""
    return tuple(module.mcdal_stamp[0] for name, module in sys.modules.items() if name.startswith(FROM_FILE))


def import_own_files(files: Iterable[str]) -> None:
    """Those that a process has imported which sends something made of them."""
    for file in files:
        import_file(Path(file))


def import_module(where: str) -> ModuleType:
    _look_in(Path.cwd())  # where a person's own module lies, and an installed command does not search
    with importing(where):
        return importlib.import_module(where)


def import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"no file {path}: it was looked for in {Path.cwd()}")
    name, file = f"{FROM_FILE}{path.stem}", str(path.resolve())
    stamp = file, path.stat().st_mtime_ns
    known = sys.modules.get(name)
    if getattr(known, "mcdal_stamp", None) == stamp:  # a recipe and a strategy of one file: executed once
        assert known is not None
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["mcdal_stamp"] = stamp
    sys.modules[name] = module  # dataclasses and pickling by workers look their module up there
    _look_in(path.parent.resolve())  # the files beside it can be imported, as in a script
    try:
        with importing(str(path), file):
            spec.loader.exec_module(module)
    except ConfigError:
        del sys.modules[name]
        raise
    return module


def _look_in(folder: Path) -> None:
    """Last, so that no file there hides an installed package."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


@contextmanager
def importing(what: str, file: str = "") -> Iterator[None]:
    """Somebody else's code runs inside: what goes wrong is told with its place."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{what} cannot be imported: {_place(error, file)}{type(error).__name__}: {error}") from error


def _place(error: Exception, file: str) -> str:
    """File and line of an error: in `file` if it passed there, else the last that is not import machinery."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}: "
    machinery = (
        __file__,
        str(Path(__file__).with_name("registry.py")),
        str(Path(importlib.__file__ or "").parent),
        "<frozen",
    )
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    frames = [f for f in frames if not f[0].startswith(machinery)]
    at = next((f for f in reversed(frames) if f[0] == file), frames[-1] if frames else None)
    return f"{at[0]}:{at[1]}: " if at else ""

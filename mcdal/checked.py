"""Checks of number fields, for `__post_init__`: an error that names the field and what is allowed."""

from mcdal.errors import ConfigError


def at_least(part: object, path: str, least: int, *names: str) -> None:
    """Raises ConfigError unless each of these fields of `part` is a finite number of at least `least`. path: as in --set."""
    for name in names:
        value = getattr(part, name)
        if not least <= value < float("inf"):
            raise ConfigError(f"{path}.{name} = {value}: give a number of at least {least}")


def above_zero(part: object, path: str, *names: str) -> None:
    """Raises ConfigError unless each of these fields of `part` is a finite number above 0."""
    for name in names:
        value = getattr(part, name)
        if not 0 < value < float("inf"):
            raise ConfigError(f"{path}.{name} = {value}: give a number above 0")

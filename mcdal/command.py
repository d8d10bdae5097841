"""`mcdal run` as a person writes it: from its words to a Plan, and back."""

from dataclasses import dataclass, replace
from pathlib import Path

from mcdal import registry
from mcdal.config import build, default_scale
from mcdal.errors import ConfigError
from mcdal.plan import Plan
from mcdal.recipes.base import frozen
from mcdal.settings import canonical, override, parse_settings


@dataclass(frozen=True)
class Command:
    """What a run is asked for by. settings: as for `--set`, "strategy.heads=4"."""

    recipe: str
    data: Path | str | None = None
    strategy: str | None = None
    encoder: str | None = None
    seed: int = 0
    scale: str | None = None
    settings: tuple[str, ...] = ()

    def plan(self) -> Plan:
        """The run that it means. ConfigError names what does not exist or does not fit."""
        overrides = parse_settings(self.settings)
        strategy = _one_of("strategy", self.strategy, overrides)
        encoder = _one_of("encoder", self.encoder, overrides)
        function = registry.load("recipes", self.recipe)
        config = build(function, self.data, self.scale)
        if strategy is not None:
            kind = registry.load("strategies", strategy)
            # A recipe may have set fields of its own strategy: naming that strategy keeps them.
            config = config if type(config.strategy) is kind else replace(config, strategy=kind())
        if encoder is not None:
            config = frozen(config, registry.encoder(encoder))
        config = override(config, overrides)
        taken = canonical(config, overrides) | ({"encoder": encoder} if encoder is not None else {})
        name = strategy or registry.name_of(config.strategy)
        return Plan(config, self.seed, self.recipe, self.scale or default_scale(function), taken, name)

    def words(self) -> list[str]:
        """What follows `mcdal run`."""
        options = {
            "--data": self.data, "--strategy": self.strategy, "--encoder": self.encoder, "--scale": self.scale,
        }  # fmt: skip
        given = [word for option, value in options.items() if value is not None for word in (option, str(value))]
        set_to = [word for setting in self.settings for word in ("--set", setting)]
        return [self.recipe, *given, "--seed", str(self.seed), *set_to]


def _one_of(name: str, option: str | None, overrides: dict[str, str]) -> str | None:
    """`--strategy X` and `--set strategy=X` are two ways to the same run; taken out of the overrides."""
    if name not in overrides:
        return option
    if option is not None:
        raise ConfigError(f"--{name} {option} and --set {name}={overrides[name]}: give one of them")
    return overrides.pop(name)

"""The paper's figures as comparisons: `mcdal compare fig8 --data DIR` plays one as it was published, or what is missing of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mcdal.errors import ConfigError


@dataclass(frozen=True)
class Figure:
    """A recipe, and the strategies that the paper draws on it; Random is in all of them, for the report to compare with."""

    about: str
    recipe: str
    strategies: str


OTHERS = "random,core_set,vaal,ll,sraal,mcdal"

FIGURES: Mapping[str, Figure] = {
    "fig3": Figure("Fig. 3: CIFAR-10", "cifar10", OTHERS),
    "fig4": Figure("Fig. 4: CIFAR-100", "cifar100", OTHERS),
    "fig5": Figure("Fig. 5: Caltech-101", "caltech101", OTHERS),
    "fig6": Figure("Fig. 6: Cityscapes", "cityscapes", "random,core_set,vaal,sraal,qbc,mcdal"),
    "fig6_camvid": Figure(
        "Fig. 6 on CamVid, which needs no registration", "camvid", "random,core_set,vaal,sraal,qbc,mcdal"
    ),
    "fig8": Figure("Fig. 8: L1, L2 and KL", "cifar10", "random,mcdal,mcdal[distance=l2],mcdal[distance=kl]"),
    "fig9": Figure("Fig. 9: 2 to 8 heads", "cifar10", "random,mcdal,mcdal[heads=4],mcdal[heads=6],mcdal[heads=8]"),
    "fig10": Figure("Fig. 10: without the discrepancy loss", "cifar10", "random,mcdal,mcdal[discrepancy_loss=false]"),
}


DRAWN_OTHERWISE = ("fig1", "fig2", "fig7", "table1", "table2")
"""What the paper has beside comparisons."""


def of_figure(name: str, strategies: str | None) -> tuple[str, str]:
    """Recipe and strategies: a figure's, with others in place of its own where they are given. ConfigError without any."""
    figure = FIGURES.get(name)
    if figure is not None:
        return figure.recipe, strategies or figure.strategies
    if name in DRAWN_OTHERWISE:
        raise ConfigError(f"{name} is no comparison of strategies: docs/reproduce.md says how it is made, or why not")
    if not strategies:
        known = ", ".join(FIGURES)
        raise ConfigError(
            f"--strategies is missing: name some, such as mcdal,random,margin; figures have their own ({known})"
        )
    return name, strategies

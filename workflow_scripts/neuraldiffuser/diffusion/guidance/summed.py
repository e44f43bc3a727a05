"""The sum of several guidance functions, each with a scale of its own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from neuraldiffuser.diffusion.guidance.base import Guidance, Targets


class SummedGuidance(Guidance):
    """sum_f kappa_f L_f: one decoding and one backward pass, however many functions (Eq. 14)."""

    def __init__(self, terms: Mapping[str, tuple[Guidance, float]]) -> None:
        """Takes functions with their scales kappa, by name."""
        self.terms = dict(terms)
        wanted = (name for function, _ in self.terms.values() for name in function.targets)
        self.targets = tuple(dict.fromkeys(wanted))

    def prepare(self, targets: Targets) -> Targets:
        """What each function makes of its own targets, by ``function/target``."""
        return {
            f"{name}/{target}": prepared
            for name, (function, _) in self.terms.items()
            for target, prepared in function.prepare(only(function, targets)).items()
        }

    def __call__(self, images: Tensor, targets: Targets) -> Tensor:
        """The scaled losses of each image, summed, (n,)."""
        return sum(
            scale * function(images, below(name, targets))
            for name, (function, scale) in self.terms.items()
        )


def only(function: Guidance, targets: Targets) -> Targets:
    """The targets that a function names."""
    return {name: targets[name] for name in function.targets}


def below(name: str, targets: Targets) -> Targets:
    """What ``prepare`` made of the targets of one function."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): target
        for key, target in targets.items()
        if key.startswith(prefix)
    }

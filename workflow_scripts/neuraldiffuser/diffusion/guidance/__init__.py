"""Guidance functions, one in a file, by the names that variants call them by.

A function has settings in neuraldiffuser.config.guidance, which name what builds it, and here a
module with a class and the function that builds it: see docs/extending.md. A module is imported
when its function is built, so it is code of the variants that it guides and of no others.
"""

from functools import partial
from importlib import import_module

from neuraldiffuser.config.guidance import BUILDERS
from neuraldiffuser.diffusion.guidance.base import Builder, Guidance, GuidanceSource, Targets
from neuraldiffuser.diffusion.guidance.summed import SummedGuidance


def build(name: str, source: GuidanceSource) -> Guidance:
    """The guidance function of that name."""
    module, builder = BUILDERS[name].split(":")
    return getattr(import_module(module), builder)(source)


GUIDANCE: dict[str, Builder] = {name: partial(build, name) for name in BUILDERS}

__all__ = ["GUIDANCE", "Guidance", "GuidanceSource", "SummedGuidance", "Targets"]

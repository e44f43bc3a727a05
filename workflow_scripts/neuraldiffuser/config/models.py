"""The model zoo: what every pretrained network is, where it comes from, and who reads it."""

import re
from pathlib import PurePosixPath
from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from neuraldiffuser.config.base import Section

NetworkLoader = Literal[
    "alexnet",
    "inception_v3",
    "inception_fid",
    "efficientnet_b1",
    "swav_resnet50",
    "open_clip",
    "efficientnet_lite0",
]
Loader = Literal["stable_diffusion", "autoencoder", "gnet", "vicregl_convnext", NetworkLoader]
NETWORK_LOADERS = get_args(NetworkLoader)
# Networks that read the file of another one: architecture -> loader of the model it is built from.
BUILT_FROM = {"lpips": "alexnet"}

# What loaders read, in the layouts of diffusers and open_clip; every other loader reads one file.
WEIGHTS = "diffusion_pytorch_model.safetensors"
TEXT_WEIGHTS = "text_encoder/model.safetensors"
CLIP_WEIGHTS = "open_clip_model.safetensors"
AUTOENCODER_FILES = ("config.json", WEIGHTS)
FILES_OF_LOADERS = {
    "stable_diffusion": (
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        TEXT_WEIGHTS,
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/config.json",
        f"unet/{WEIGHTS}",
        *(f"vae/{file}" for file in AUTOENCODER_FILES),
    ),
    "autoencoder": AUTOENCODER_FILES,
    "open_clip": ("open_clip_config.json", CLIP_WEIGHTS),
}
SOURCES = re.compile(
    r"|hf://(datasets/)?[^/@]+/[^/@]+@[^@]+|(https?|s3)://[^/@]+(/.*)?|package://\w+(\.\w+)*"
)
PACKAGE = "package://"


class PinnedFile(Section):
    """What is known of a file before it is fetched."""

    size: int | None = Field(None, ge=0, description="Bytes; null: not known.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of its content; null: not known, then what the server states is "
        "verified, and the log gives the digest to pin.",
    )


class PretrainedModel(Section):
    """A model of the zoo."""

    role: str = Field(description="What it is here for, in words.")
    source: str = Field(
        "",
        description="Where its files come from: hf://organisation/repository@revision "
        "(hf://datasets/... for a dataset), the https:// or s3:// address of their folder, "
        "package://module for files that a Python package brings, or nothing: they are there.",
    )
    licence: str = Field(description="The terms that its owner states.")
    loader: Loader = Field(
        description="How it is read: stable_diffusion (a folder in the diffusers layout), "
        "autoencoder (its part vae alone), open_clip (open_clip_config.json beside safetensors), "
        "gnet (the released pickle), vicregl_convnext (a full checkpoint of VICRegL), or the "
        "network whose state dict its file holds: alexnet, inception_v3, efficientnet_b1 "
        "(torchvision), inception_fid (torch-fidelity), swav_resnet50 or efficientnet_lite0."
    )
    files: dict[str, PinnedFile] = Field(
        min_length=1, description="Its files by their path in the source, with size and sha256."
    )
    folder: str | None = Field(
        None,
        description="A folder of your own that holds the files: read in place, never fetched or "
        "written to; null: the folder of the model's name below paths.models.",
    )

    @property
    def reads_a_folder(self) -> bool:
        """Whether the loader reads several files by their names."""
        return self.loader in FILES_OF_LOADERS

    @property
    def is_packaged(self) -> bool:
        """Whether a Python package brings the files."""
        return self.folder is None and self.source.startswith(PACKAGE)

    @property
    def is_fetched(self) -> bool:
        """Whether files that are missing come over a network."""
        return self.folder is None and bool(self.source) and not self.is_packaged

    @field_validator("source")
    @classmethod
    def _source_is_of_a_known_kind(cls, source: str) -> str:
        if not SOURCES.fullmatch(source):
            raise ValueError(
                "expected hf://organisation/repository@revision, the https:// or s3:// address of "
                "a folder, package://module, or nothing (folder names a copy of your own)"
            )
        return source.rstrip("/")

    @field_validator("files")
    @classmethod
    def _files_stay_inside(cls, files: dict[str, PinnedFile]) -> dict[str, PinnedFile]:
        for file in files:
            path = PurePosixPath(file)
            if path.is_absolute() or ".." in path.parts or str(path) != file:
                raise ValueError(f"{file} must be a plain path inside the model's folder")
        return files

    @model_validator(mode="after")
    def has_what_its_loader_reads(self) -> Self:
        """Folders are complete; a state dict is one file."""
        missing = set(FILES_OF_LOADERS.get(self.loader, ())) - self.files.keys()
        if missing:
            raise ValueError(f"files lacks {min(missing)}, which the loader {self.loader} reads")
        if self.is_packaged and (self.reads_a_folder or self.loader == "gnet"):
            raise ValueError(
                f"the loader {self.loader} cannot read from a Python package; name the folder of "
                "the files instead"
            )
        if not self.reads_a_folder and len(self.files) > 1:
            raise ValueError(
                f"the loader {self.loader} reads one file, but files lists {len(self.files)}; "
                "list only that one"
            )
        return self


UNKNOWN = PinnedFile()  # no source states its digest; a commit's server does
TORCHVISION = "https://download.pytorch.org/models"
TORCHVISION_LICENCE = "BSD-3-Clause (torchvision; none of the weights' own)"
ZOO = {
    "stable-diffusion-v1-4": PretrainedModel(
        role="latent diffusion, decoder of latents, text encoder",
        source="hf://CompVis/stable-diffusion-v1-4@133a221b8aa7292a167afc5127cb63fb5005638b",
        licence="CreativeML OpenRAIL-M",
        loader="stable_diffusion",
        files={
            "scheduler/scheduler_config.json": UNKNOWN,
            "tokenizer/merges.txt": UNKNOWN,
            "tokenizer/special_tokens_map.json": UNKNOWN,
            "tokenizer/tokenizer_config.json": UNKNOWN,
            "tokenizer/vocab.json": UNKNOWN,
            "text_encoder/config.json": UNKNOWN,
            "text_encoder/model.safetensors": PinnedFile(
                size=492265879,
                sha256="7b3a12df205cb3c74dd4eae4354d93f606ae6b3bc29d5d06fd97921cb9ad8a81",
            ),
            "unet/config.json": UNKNOWN,
            f"unet/{WEIGHTS}": PinnedFile(
                size=3438167534,
                sha256="145a07e0f05ec5bbe6e2e9faf608bdb311caf708895cac8c8ed713c59864e1e8",
            ),
            "vae/config.json": UNKNOWN,
            f"vae/{WEIGHTS}": PinnedFile(
                size=334643276,
                sha256="a2b5134f4dbc140d9c11f11cba3233099e00af40f262f136c691fb7d38d2194c",
            ),
        },
    ),
    # Stable Diffusion Image Variations v2.0 holds this autoencoder as a pickle of the same digest.
    "sd-image-variations-vae": PretrainedModel(
        role="autoencoder of the released training latents",
        source="hf://stabilityai/sd-vae-ft-mse@31f26fdeee1355a5c34592e401dd41e45d25a493",
        licence="MIT",
        loader="autoencoder",
        files={
            "config.json": UNKNOWN,
            WEIGHTS: PinnedFile(
                size=334643276,
                sha256="a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815",
            ),
        },
    ),
    "vicregl-convnext-xl": PretrainedModel(
        role="teacher of the low-level decoder",
        source="hf://datasets/pscotti/mindeyev2@e615c3974b6861adbace2eca7411cd2830372d0f",
        licence="CC-BY-NC (facebookresearch/VICRegL)",
        loader="vicregl_convnext",
        files={
            "convnext_xlarge_alpha0.75_fullckpt.pth": PinnedFile(
                size=6546149685,
                sha256="32187554e4acee79c46ec918145055fe1a4cf14a93983bc5f69ea73163f84f86",
            ),
        },
    ),
    "clip-vit-b-32": PretrainedModel(
        role="CLIP image tower that guides",
        source="hf://timm/vit_base_patch32_clip_224.openai"
        "@a6f597a30f7b82c51704746581f9a4e41421e878",
        licence="Apache-2.0",
        loader="open_clip",
        files={
            "open_clip_config.json": UNKNOWN,
            "open_clip_model.safetensors": PinnedFile(
                size=605143284,
                sha256="e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
            ),
        },
    ),
    "clip-vit-l-14": PretrainedModel(
        role="judge",
        source="hf://timm/vit_large_patch14_clip_224.openai"
        "@18d0535469bb561bf468d76c1d73aa35156c922b",
        licence="Apache-2.0",
        loader="open_clip",
        files={
            "open_clip_config.json": UNKNOWN,
            "open_clip_model.safetensors": PinnedFile(
                size=1710517724,
                sha256="9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
            ),
        },
    ),
    "alexnet": PretrainedModel(
        role="judge",
        source=TORCHVISION,
        licence=TORCHVISION_LICENCE,
        loader="alexnet",
        files={
            "alexnet-owt-7be5be79.pth": PinnedFile(
                size=244408911,
                sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            ),
        },
    ),
    "inception_v3": PretrainedModel(
        role="judge",
        source=TORCHVISION,
        licence=TORCHVISION_LICENCE,
        loader="inception_v3",
        files={
            "inception_v3_google-0cc3c7bd.pth": PinnedFile(
                size=108949747,
                sha256="0cc3c7bd75056d25e46cba549dc184522069b81e9787eff6df84f397bd52a5ef",
            ),
        },
    ),
    "inception-2015": PretrainedModel(
        role="judge (FID, KID, Inception Score)",
        source="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights",
        licence="Apache-2.0",
        loader="inception_fid",
        files={
            "pt_inception-2015-12-05-6726825d.pth": PinnedFile(
                size=95628359,
                sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
            ),
        },
    ),
    "efficientnet_b1": PretrainedModel(
        role="judge",
        source=TORCHVISION,
        licence=TORCHVISION_LICENCE,
        loader="efficientnet_b1",
        files={
            "efficientnet_b1-c27df63c.pth": PinnedFile(
                sha256="c27df63ce6eb17ef8bcea58922fd3a254cba910c720f41ee89d64d99fb7a4ddf"
            ),
        },
    ),
    "swav": PretrainedModel(
        role="judge",
        source="https://dl.fbaipublicfiles.com/deepcluster",
        licence="that of github.com/facebookresearch/swav",
        loader="swav_resnet50",
        files={"swav_800ep_pretrain.pth.tar": UNKNOWN},
    ),
    "gnet": PretrainedModel(
        role="released brain-encoding model",
        source="hf://datasets/pscotti/mindeyev2@04150f8a0374c2cf2e331e34c86e2c62f1f3db4d",
        licence="none stated (MIT at its first home, reesekneeland/Second-Sight)",
        loader="gnet",
        files={
            "gnet_multisubject.pt": PinnedFile(
                size=1271493801,
                sha256="62f759aa699e584ca951d0bba3d09c351601c2386bc6859531917c472774027c",
            ),
        },
    ),
}

# Which loaders can play which part.
PARTS = {
    "stable_diffusion": ("stable_diffusion",),
    "clip_image": ("open_clip",),
    "image_variations_autoencoder": ("autoencoder", "stable_diffusion"),
    "gnet": ("gnet",),
    "low_level_teacher": ("vicregl_convnext",),
}


class ModelSettings(Section):
    """Which models of the zoo make targets and reconstructions; see docs/models.md."""

    stable_diffusion: str = Field(
        "stable-diffusion-v1-4",
        description="Stable Diffusion (tokenizer, text encoder, autoencoder, denoiser, schedule). "
        "Paper and released code use v1.4.",
    )
    clip_image: str = Field(
        "clip-vit-b-32",
        description="CLIP image tower that guides. Paper and released code: OpenAI's ViT-B/32.",
    )
    image_variations_autoencoder: str = Field(
        "sd-image-variations-vae",
        description="Autoencoder of Stable Diffusion Image Variations, on which the released code "
        "trains its low-level decoder; of a whole Stable Diffusion, its autoencoder is meant.",
    )
    gnet: str = Field("gnet", description="Released weights of the brain-encoding model.")
    low_level_teacher: str = Field(
        "vicregl-convnext-xl",
        description="ConvNeXt whose features the low-level decoder imitates, where "
        "decoder.low_level.teacher is convnext. Released code: VICRegL's ConvNeXt-XL.",
    )
    zoo: dict[str, PretrainedModel] = Field(
        ZOO,
        description="Every pretrained model by name. Only those that the experiment uses are "
        "fetched, files that are there already never.",
    )

    @field_validator("zoo")
    @classmethod
    def _names_are_folders(cls, zoo: dict[str, PretrainedModel]) -> dict[str, PretrainedModel]:
        for name in zoo:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(
                    f"{name} is no name of a model; use letters, digits, hyphens and underscores"
                )
        return zoo

    @model_validator(mode="after")
    def parts_are_played_by_models_that_fit(self) -> Self:
        """Every part names a model of the zoo whose loader can play it."""
        for part, loaders in PARTS.items():
            self.require(getattr(self, part), loaders, key=f"models.{part}")
        return self

    def require(self, name: str, loaders: tuple[str, ...], *, key: str) -> None:
        """Raises ValueError unless the model ``name``, which ``key`` names, has such a loader."""
        if name not in self.zoo:
            raise ValueError(
                f"{key} names {name}, which models.zoo does not hold; known models are "
                f"{', '.join(self.zoo)}"
            )
        if self.zoo[name].loader not in loaders:
            raise ValueError(
                f"{key} names {name}, whose loader is {self.zoo[name].loader}; choose a model "
                f"whose loader is {' or '.join(loaders)}"
            )


class NetworkSettings(Section):
    """One evaluation network: which it is, its preprocessing and the nodes to read."""

    model: str = Field(description="Which model of models.zoo.")
    nodes: dict[str, str] = Field(
        description="What to read: a name of your choice -> the module's name inside the network, "
        "such as features.4 or avgpool; 'output' is what the network returns."
    )
    architecture: Literal["lpips"] | None = Field(
        None,
        description="null: the network that the model's loader names; lpips: the perceptual "
        "distance's, built from AlexNet's file.",
    )
    first_resize: bool = Field(
        True,
        description="Whether evaluation.first_resize comes first; false: the network sees images "
        "as they are, which FID's expects.",
    )
    size: int | None = Field(
        224,
        ge=32,
        description="Images are resized to this many pixels a side; null: the network does it. "
        "MindEye's evaluation uses 256 for AlexNet, 342 for Inception, 255 for EfficientNet-B1 and "
        "224 for the others.",
    )
    normalisation: Literal["imagenet", "clip", "none"] = Field(
        "imagenet",
        description="Channel means and deviations: ImageNet's, CLIP's for CLIP, or none where the "
        "network normalises itself.",
    )
    antialias: bool = Field(
        True,
        description="Whether shrinking filters before it samples; today's torchvision does, "
        "older ones did not for tensors.",
    )

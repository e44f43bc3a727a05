"""Embeddings of captions: the states of Stable Diffusion's text encoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import neuraldiffuser.torchvision_schemas  # noqa: F401  before transformers

import torch
from torch import nn
from torch.nn import functional

from neuraldiffuser.errors import DataError
from neuraldiffuser.features.pretrained import UNREADABLE, first_sentence, load_pretrained


def use_all_captions(captions: Sequence[str]) -> list[str]:
    """Every caption of an image."""
    return list(captions)


def use_first_caption(captions: Sequence[str]) -> list[str]:
    """An image's first caption alone."""
    return list(captions[:1])


CAPTIONS = {"mean": use_all_captions, "first": use_first_caption}


def clean(captions: Sequence[str]) -> list[str]:
    """Captions with curly quotes, ligatures and HTML entities made plain, as CLIP was trained.

    Stable Diffusion's tokenizer did so when the paper was written; that of transformers 5 does not.
    """
    from open_clip.tokenizer import basic_clean

    return [basic_clean(caption) for caption in captions]


class ClipText:
    """A tokenizer and a text encoder that turn captions into states.

    Args:
        tokenizer: transformers' CLIPTokenizer.
        encoder: transformers' CLIPTextModel.
    """

    def __init__(self, tokenizer, encoder: nn.Module) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder
        self.shape = (encoder.config.max_position_embeddings, encoder.config.hidden_size)

    def tokenise(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions to (n, tokens) int64, on the host.

        Captions are padded, or cut, to the encoder's full length, as Stable Diffusion does.
        """
        encoded = self.tokenizer(
            clean(captions),
            padding="max_length",
            max_length=self.shape[0],
            truncation=True,
            return_tensors="pt",
        )
        return encoded.input_ids

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, tokens) to (n, tokens, width): last hidden states after the final layer norm."""
        return self.encoder(tokens.to(self.encoder.device))[0]

    def embed(self, captions: Sequence[str]) -> torch.Tensor:
        """Captions to (n, tokens, width)."""
        return self.encode(self.tokenise(captions))


def load_clip_text(
    path: Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipText:
    """Loads the tokenizer and the frozen text encoder of a Stable Diffusion folder.

    Args:
        path: folder in the diffusers layout, with tokenizer/ and text_encoder/.
        device: torch device.
        dtype: of weights and states.

    Raises:
        DataError: a part is missing or unreadable.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    encoder = load_pretrained(CLIPTextModel, path / "text_encoder", device=device, dtype=dtype)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
    except UNREADABLE as error:
        raise DataError(
            f"{path}/tokenizer holds no readable tokenizer ({first_sentence(error)}); put the"
            " vocab.json and merges.txt of the model there."
        ) from error
    return ClipText(tokenizer, encoder)


@dataclass(frozen=True)
class Wordings:
    """The captions of n images, each distinct one tokenised once.

    Attributes:
        tokens: (distinct captions, tokens) int64.
        caption: (captions,) int64, the row in ``tokens`` of every caption, image after image.
        start: (n,) int64, where in ``caption`` each image begins.
    """

    tokens: torch.Tensor
    caption: torch.Tensor
    start: torch.Tensor


def tokenise_captions(
    text: ClipText, captions: Sequence[Sequence[str]], *, selection: str = "mean"
) -> Wordings:
    """Tokenises each image's captions, on the host.

    Args:
        text: from ``load_clip_text``.
        captions: for each of n images, its captions.
        selection: a key of ``CAPTIONS``.

    Raises:
        DataError: an image has no caption.
    """
    chosen = [CAPTIONS[selection](of_image) for of_image in captions]
    counts = torch.tensor([len(of_image) for of_image in chosen])
    if not counts.all():
        raise DataError(
            f"Image number {int(counts.argmin())} of {len(chosen)} has no caption; every image "
            "needs at least one."
        )
    flat = [caption for of_image in chosen for caption in of_image]
    row = {caption: number for number, caption in enumerate(dict.fromkeys(flat))}
    return Wordings(
        tokens=text.tokenise(list(row)),
        caption=torch.tensor([row[caption] for caption in flat]),
        start=counts.cumsum(0) - counts,
    )


@torch.inference_mode()
def embed_captions(text: ClipText, wordings: Wordings) -> torch.Tensor:
    """Embeds each distinct caption and averages over those of an image, (n, tokens, width) float32.

    The states of all captions are in memory at once.
    """
    states = text.encode(wordings.tokens).float().flatten(1)
    caption, start = wordings.caption.to(states.device), wordings.start.to(states.device)
    means = functional.embedding_bag(caption, states, start, mode="mean")
    return means.unflatten(1, text.shape)

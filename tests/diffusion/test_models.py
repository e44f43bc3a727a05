"""The model folder is loaded frozen, offline, and as the pipeline of diffusers would use it."""

import logging

import pytest
import torch
from tiny_models import TEXT_SHAPE

from neuraldiffuser import runtime
from neuraldiffuser.diffusion.loading import choose_dtype
from neuraldiffuser.diffusion.models import LatentDiffusion, load_latent_diffusion, load_unet
from neuraldiffuser.errors import DataError


def test_the_unconditional_embedding_is_that_of_an_empty_caption(path_to_stable_diffusion, model):
    from transformers import CLIPTextModel, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(path_to_stable_diffusion / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(path_to_stable_diffusion / "text_encoder").eval()
    tokens = tokenizer(
        "", padding="max_length", max_length=TEXT_SHAPE[0], truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = encoder(tokens.input_ids).last_hidden_state[0]
    assert model.unconditional.shape == TEXT_SHAPE
    assert torch.allclose(model.unconditional.float(), expected, atol=1e-6)


def test_nothing_is_trained(model):
    networks = (model.denoiser.unet, model.autoencoder)
    assert not any(p.requires_grad for network in networks for p in network.parameters())
    assert not any(network.training for network in networks)


def test_precision_is_that_of_the_networks_not_of_the_latents(path_to_stable_diffusion, batch):
    half = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.bfloat16)
    whole = load_latent_diffusion(path_to_stable_diffusion)
    latents, _, condition = (part.float() for part in batch)
    with torch.no_grad():
        rough, exact = (m.denoise(latents, 300, condition).noise for m in (half, whole))
        assert rough.dtype == exact.dtype == half.decode(latents).dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.2


def test_images_stay_within_range(model, batch):
    with torch.no_grad():
        images = model.decode(100 * batch[0])
    assert images.shape == (2, 3, 32, 32)
    assert images.min() == 0
    assert images.max() == 1


def test_a_cpu_keeps_its_layout(path_to_stable_diffusion):
    model = load_latent_diffusion(path_to_stable_diffusion)
    model.prepare()
    assert model.denoiser.unet.conv_in.weight.is_contiguous()
    assert not torch.backends.cudnn.benchmark


def test_a_gpus_layout_changes_no_result(path_to_stable_diffusion, batch, monkeypatch):
    """As on a GPU, but run where the test runs."""
    model = load_latent_diffusion(path_to_stable_diffusion, dtype=torch.float64)
    latents, _, condition = batch

    def results():
        z = latents.clone().requires_grad_()
        outputs = model.denoise(z, 300, condition, attended=2).noise, model.decode(z)
        return [*outputs, *(torch.autograd.grad(each.square().sum(), z)[0] for each in outputs)]

    expected = results()
    monkeypatch.setattr(LatentDiffusion, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    model.prepare()
    assert torch.backends.cudnn.benchmark
    for convolution in (model.denoiser.unet.conv_in, model.autoencoder.decoder.conv_in):
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    for one, other in zip(results(), expected, strict=True):
        assert other.abs().max() > 1e-3
        assert torch.allclose(one, other, atol=1e-10)


def test_what_networks_compute_in_is_recorded(path_to_stable_diffusion, monkeypatch):
    monkeypatch.setattr(runtime, "_measured", {})
    load_latent_diffusion(path_to_stable_diffusion, dtype=torch.bfloat16).prepare()
    assert runtime._measured == {"precision": "bfloat16"}


def test_half_precision_on_a_processor_is_remarked_on(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("neuraldiffuser"), "propagate", True)
    assert choose_dtype("float16", device="cuda") == torch.float16
    assert choose_dtype("float32", device="cpu") == torch.float32
    assert not caplog.messages
    assert choose_dtype("float16", device="cpu") == torch.float16
    assert caplog.messages == [
        "Processors are several times slower in float16; on a machine without a GPU, set"
        " reconstruction.precision to float32."
    ]


def test_a_missing_denoiser_is_named(tmp_path):
    with pytest.raises(DataError) as error:
        load_unet(tmp_path / "unet")
    assert str(error.value) == (
        f"{tmp_path}/unet/config.json is missing; fetch or train the model, or name a folder in the"
        " diffusers layout."
    )


def test_pickled_weights_are_refused(path_to_stable_diffusion, tmp_path):
    weights = load_unet(path_to_stable_diffusion / "unet").state_dict()
    torch.save(weights, tmp_path / "diffusion_pytorch_model.bin")
    config = (path_to_stable_diffusion / "unet" / "config.json").read_text()
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(DataError, match="no readable UNet2DConditionModel"):
        load_unet(tmp_path)

import json

import neuraldiffuser.torchvision_schemas  # noqa: F401

import numpy as np
import open_clip
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from neuraldiffuser.mini import models, quality, scenes, training


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Nets this small are no faster with more threads, and much slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer():
    return models.build_tokenizer(scenes.vocabulary())


@pytest.fixture(scope="module")
def data(tokenizer):
    """Pictures and captions of 24 scenes."""
    return training.draw_training_data(
        seed=5, first=scenes.FIRST_TRAINING_SCENE, count=24, tokenizer=tokenizer
    )


@pytest.fixture(scope="module")
def clip(tokenizer):
    return training.initialised(lambda: models.build_clip(len(tokenizer)), seed=1).eval()


def tower_states(clip, tokens):
    """open_clip's caption tower up to its final norm, written out."""
    embedded = clip.token_embedding(tokens) + clip.positional_embedding
    return clip.ln_final(clip.transformer(embedded, attn_mask=clip.attn_mask))


def count_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


# --- tokenizer


def test_every_word_is_one_token(tokenizer):
    for word in scenes.vocabulary():
        assert len(tokenizer(word)["input_ids"]) == 3, f"{word}: {tokenizer.tokenize(word)}"


def test_tokens_tell_captions_apart_and_are_padded_with_the_end(tokenizer):
    tokens = models.tokenize(tokenizer, ["a red ball", "a ball red", ""])
    assert tokens.shape == (3, models.TOKENS) and tokens.dtype == torch.int64
    assert (tokens[:, 0] == tokenizer.bos_token_id).all()
    assert (tokens[2, 1:] == tokenizer.eos_token_id).all()
    assert not torch.equal(tokens[0], tokens[1])


def test_no_caption_is_cut_off(tokenizer):
    texts = [
        text
        for scene in scenes.draw_scenes(seed=5, scenes=range(300))
        for text in scenes.captions(scene)
    ]
    assert (models.tokenize(tokenizer, texts)[:, -1] == tokenizer.eos_token_id).all()
    assert max(len(text.split()) for text in texts) + 2 <= models.TOKENS


def test_an_unknown_word_is_spelt(tokenizer):
    assert tokenizer.tokenize("zebra") == ["z", "e", "b", "r", "a</w>"] or (
        "".join(tokenizer.tokenize("zebra")) == "zebra</w>"
    )


# --- architectures


def test_sizes_are_those_of_the_shipped_weights(clip):
    assert count_parameters(models.build_autoencoder()) == 681_911
    assert count_parameters(models.build_denoiser()) == 4_400_628
    assert count_parameters(clip.visual) == 960_160


def test_self_attention_guidance_finds_its_layer():
    block = models.build_denoiser().mid_block.attentions[0].transformer_blocks[0]
    assert block.attn1 is not None


def test_converted_text_encoder_equals_the_caption_tower(clip, tokenizer, data):
    tokens = data[1][:, 0]
    encoder = models.convert_text_tower(clip, tokenizer)
    with torch.no_grad():
        converted = encoder(tokens).last_hidden_state
        assert torch.allclose(converted, tower_states(clip, tokens), atol=1e-5)
        pooled = encoder(tokens).pooler_output @ clip.text_projection
        assert torch.allclose(pooled, clip.encode_text(tokens), atol=1e-5)


# --- folders


def test_folders_load_through_the_public_loaders(tmp_path, clip, tokenizer, data):
    models.save_tokenizer(tokenizer, tmp_path / "sd" / "tokenizer")
    models.save_component(models.convert_text_tower(clip, tokenizer), tmp_path / "sd/text_encoder")
    models.save_component(models.build_autoencoder(), tmp_path / "sd" / "vae")
    models.save_component(models.build_denoiser(), tmp_path / "sd" / "unet")
    models.save_scheduler(models.build_scheduler(), tmp_path / "sd" / "scheduler")
    models.save_clip(clip, tmp_path / "clip")
    for kind, name in ((AutoencoderKL, "vae"), (UNet2DConditionModel, "unet")):
        loaded = kind.from_pretrained(tmp_path / "sd", subfolder=name, torch_dtype=torch.float32)
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    encoder = CLIPTextModel.from_pretrained(tmp_path / "sd", subfolder="text_encoder")
    assert encoder.dtype == torch.float32
    again = CLIPTokenizer.from_pretrained(tmp_path / "sd", subfolder="tokenizer")
    text = "a little red heart at the right on gravel"
    assert torch.equal(models.tokenize(again, [text]), models.tokenize(tokenizer, [text]))
    scheduler = DDIMScheduler.from_pretrained(tmp_path / "sd", subfolder="scheduler")
    assert scheduler.config.prediction_type == "epsilon"
    reloaded = open_clip.create_model(f"local-dir:{tmp_path / 'clip'}").eval()
    with torch.no_grad():
        before, after = (
            model.encode_image(training.for_clip(data[0][:4])) for model in (clip, reloaded)
        )
    assert torch.allclose(before, after, atol=0.02)


def test_a_folder_is_replaced_whole(tmp_path):
    models.save_scheduler(models.build_scheduler(), tmp_path / "scheduler")
    (tmp_path / "scheduler" / "stale").touch()
    models.save_scheduler(models.build_scheduler(), tmp_path / "scheduler")
    assert [path.name for path in tmp_path.iterdir()] == ["scheduler"]
    assert not (tmp_path / "scheduler" / "stale").exists()


def test_model_index_names_every_component(tmp_path):
    models.save_model_index(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert {"vae", "unet", "text_encoder", "tokenizer", "scheduler"} <= set(index)


# --- training


BUDGET = training.Budget(steps=4, batch=4, rate=1e-3, warmup=2, checkpoint_every=2)


def fit_autoencoder(path_to_checkpoint, data, *, steps):
    """The averaged weights after `steps` of the same four-step schedule."""
    trainer = training.Trainer(
        training.initialised(models.build_autoencoder, seed=2).train(), BUDGET
    )
    loss_of = training.autoencoder_loss(images=data[0], batch=BUDGET.batch, seed=2)
    trainer.resume(path_to_checkpoint)
    losses = [trainer.advance(loss_of) for _ in range(steps - trainer.step)]
    torch.save(trainer.state(), path_to_checkpoint)
    return trainer, losses


def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, data):
    whole, losses = fit_autoencoder(tmp_path / "whole.pt", data, steps=4)
    fit_autoencoder(tmp_path / "parts.pt", data, steps=2)
    parts, later = fit_autoencoder(tmp_path / "parts.pt", data, steps=4)
    assert later == losses[2:]
    for name, value in whole.average.state_dict().items():
        assert torch.equal(value, parts.average.state_dict()[name]), name


def test_train_writes_its_checkpoint_and_curve(tmp_path, data):
    told = []
    trainer = training.train(
        model=training.initialised(models.build_autoencoder, seed=2),
        loss_of=training.autoencoder_loss(images=data[0], batch=4, seed=2),
        budget=BUDGET,
        path_to_checkpoint=tmp_path / "checkpoint.pt",
        on_checkpoint=lambda trainer: told.append(trainer.step),
    )
    assert told == trainer.curve.steps == [2, 4]
    assert trainer.curve.losses[1] < trainer.curve.losses[0]
    assert set(torch.load(tmp_path / "checkpoint.pt", weights_only=True)) == set(trainer.state())


def test_training_clip_reduces_its_loss(tmp_path, data, tokenizer):
    loss_of = training.contrastive_loss(images=data[0], tokens=data[1], batch=16, seed=0)
    trainer = training.train(
        model=training.initialised(lambda: models.build_clip(len(tokenizer)), seed=0),
        loss_of=loss_of,
        budget=training.Budget(
            steps=8, batch=16, rate=2e-3, warmup=1, checkpoint_every=4, precision="float32"
        ),
        path_to_checkpoint=tmp_path / "clip.pt",
    )
    assert trainer.curve.losses[1] < trainer.curve.losses[0]


def conditions_of(count):
    """Conditions of scenes with five wordings of their own each; the empty caption is all 7."""
    generator = np.random.default_rng(0)
    states = generator.normal(size=(5 * count, models.TOKENS, models.TEXT_WIDTH))
    return training.Conditions(
        states=states.astype(np.float16),
        wordings=np.arange(5 * count).reshape(count, 5),
        empty=torch.full((models.TOKENS, models.TEXT_WIDTH), 7.0),
        mean=torch.zeros(models.TOKENS, models.TEXT_WIDTH),
        deviation=torch.ones(models.TOKENS, models.TEXT_WIDTH),
    )


def test_conditions_are_the_states_of_each_scene_s_own_captions(clip, tokenizer, data):
    encoder = models.convert_text_tower(clip, tokenizer)
    tokens = torch.cat([data[1][:6], data[1][2:3]])  # the last scene says what the third says
    empty = training.encode_empty(encoder, tokenizer)
    conditions = training.gather_conditions(encoder=encoder, tokens=tokens, empty=empty)
    assert len(conditions.states) <= 30
    with torch.no_grad():
        expected = encoder(tokens[4]).last_hidden_state
    got = training.scene_states(conditions, np.array([4, 6, 2]))
    assert torch.allclose(got[0], expected, atol=5e-3)
    assert torch.equal(got[1], got[2])


def test_training_the_denoiser_reduces_its_loss(tmp_path):
    latents = np.random.default_rng(1).normal(size=(24, 4, 16, 16)).astype(np.float16)
    trainer = training.train(
        model=training.initialised(models.build_denoiser, seed=0),
        loss_of=training.denoising_loss(
            latents=latents,
            conditions=conditions_of(24),
            scheduler=models.build_scheduler(),
            batch=8,
            seed=0,
        ),
        budget=training.Budget(steps=6, batch=8, rate=2e-3, warmup=1, checkpoint_every=3),
        path_to_checkpoint=tmp_path / "denoiser.pt",
    )
    assert trainer.curve.losses[1] < trainer.curve.losses[0]


def test_conditions_are_a_mixture():
    conditions = conditions_of(20)
    chosen = np.arange(2000) % 20
    told = training.pick_conditions(conditions, scenes=chosen, numbers=np.random.default_rng(3))
    states = training.scene_states(conditions, chosen)
    untold = (told == 7).all(dim=(1, 2))
    is_mean = torch.isclose(told, states.mean(dim=1)).all(dim=(1, 2))
    is_single = (told[:, None] == states).all(dim=(2, 3)).any(dim=1)
    assert untold.float().mean() == pytest.approx(training.SHARE_WITHOUT_CAPTION, abs=0.03)
    assert is_single.float().mean() == pytest.approx(0.88 * 0.5 * 0.35, abs=0.03)
    assert is_mean.float().mean() == pytest.approx(0.88 * 0.5 * 0.65, abs=0.03)


def test_learning_rate_warms_up_and_falls():
    budget = training.Budget(steps=1000, batch=1, rate=1.0, warmup=100)
    rates = [training.learning_rate(step, budget) for step in range(1000)]
    assert rates[0] == 0.01 and rates[99] == 1.0
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == pytest.approx(0.01, abs=1e-4)


def test_the_average_follows_the_model():
    slow, fast = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    before = slow.weight.clone()
    training.follow(slow, fast, step=0)
    assert torch.allclose(slow.weight, before.lerp(fast.weight, 0.9))


def test_scaled_latents_have_unit_deviation(data):
    autoencoder = training.initialised(models.build_autoencoder, seed=2)
    scaled = training.with_unit_latents(autoencoder, data[0])
    assert quality.encode(scaled, data[0]).std() == pytest.approx(1, abs=0.01)
    assert autoencoder.config.scaling_factor == 0.18215


# --- quality


def test_peak_signal_to_noise_of_a_known_error():
    first = np.full((2, 8, 8, 3), 100, dtype=np.uint8)
    second = first + np.uint8(51)  # a fifth of the range: -20 log10(0.2)
    assert np.allclose(quality.peak_signal_to_noise(first, second), 13.9794)


def test_pixel_correlation_ignores_brightness_and_sees_inversion():
    first = np.random.default_rng(0).integers(60, 200, (3, 8, 8, 3)).astype(np.uint8)
    assert np.allclose(quality.pixel_correlation(first, first + np.uint8(20)), 1)
    assert np.allclose(quality.pixel_correlation(first, 255 - first), -1)


def test_retrieval_counts_within_groups():
    similarity = torch.eye(4)
    similarity[3, 0] = 2.0  # a stranger wins among four, but not in its group of two
    assert quality.share_retrieved(similarity, among=2) == 1.0
    assert quality.share_retrieved(similarity, among=4) == 0.75


def test_denoiser_loss_of_silence_is_the_noise_variance():
    class Silent(torch.nn.Module):
        def forward(self, noisy, *_):
            return type("Output", (), {"sample": torch.zeros_like(noisy)})

    loss = quality.denoiser_loss(
        Silent(),
        latents=torch.zeros(20, 4, 16, 16),
        conditions=torch.zeros(20, 1, 1),
        scheduler=models.build_scheduler(),
    )
    assert loss == pytest.approx(1, abs=0.01)

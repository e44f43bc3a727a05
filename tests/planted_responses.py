"""Four invented voxels whose responses to pictures are known, and a GNet that can learn them."""

import numpy as np
import torch

from neuraldiffuser.config.encoding import EncoderTrainingSettings, EncodingSettings, GnetSettings
from neuraldiffuser.encoding.prediction import StoredEncoder
from neuraldiffuser.encoding.training import Responses

NETWORK = GnetSettings(
    image_size=32,
    prefilter_channels=(8, 12),
    first_kernel=5,
    first_stride=2,
    pass_width=8,
    trunk_width=4,
    unread_width=0,
    dropout=0.0,
)
TRAINING = EncoderTrainingSettings(
    epochs=10,
    patience=10,
    batch_size=16,
    learning_rate=3e-3,
    readout_learning_rate=3e-2,
    held_out_images=40,
)
SETTINGS = EncodingSettings(network=NETWORK, training=TRAINING)


def draw_pictures(count, *, seed):
    """Random coloured blobs, uint8 (count, 32, 32, 3)."""
    coarse = torch.from_numpy(np.random.default_rng(seed).random((count, 3, 8, 8)))
    smooth = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    return (smooth * 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


CENTRES = ((8, 8), (8, 24), (24, 8), (24, 24))


def respond(images, *, noise, seed):
    """Voxels that see the redness of one quarter of the picture each, standardised, with noise."""
    redness = images[..., 0].astype(np.float32) - images[..., 2]
    fields = [redness[:, y - 4 : y + 4, x - 4 : x + 4].mean(axis=(1, 2)) for y, x in CENTRES]
    signal = np.stack(fields, axis=1) / 30
    drawn = np.random.default_rng(seed).standard_normal(signal.shape)
    return (signal + noise * drawn).astype(np.float32)


def plant(count, *, seed):
    """Pictures and the mean responses of three trials to each."""
    images = draw_pictures(count, seed=seed)
    means = respond(images, noise=0.5, seed=seed + 100)
    return Responses(images, means, np.full(count, 3))


def as_stored(network, *, subject="subj01"):
    """A network as that of a subject whose voxels fill a volume."""
    voxels = len(network.readout.bias)
    return StoredEncoder(network, subject, np.arange(voxels), (1, 1, voxels), "train")

"""Decoders from voxels to target embeddings: networks, losses, training, prediction."""

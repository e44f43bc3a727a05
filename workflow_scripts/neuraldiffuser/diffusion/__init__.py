"""Guided latent diffusion: from decoded embeddings to images (Section 4.3, Algorithm 1)."""

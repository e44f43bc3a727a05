"""Ground-truth targets, and the networks that images are seen through."""

"""How good reconstructions, decoded embeddings and retrieval are, with intervals over images."""

"""The miniature world: scenes, models and brains small enough for a laptop without a network."""

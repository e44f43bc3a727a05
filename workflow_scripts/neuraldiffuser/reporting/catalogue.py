"""Which tables and figures exist, and which artefacts each of them reads.

Imports nothing, so that the rules can ask for exactly these artefacts.
"""

FIGURES: dict[str, tuple[str, ...]] = {
    "examples": ("images", "reconstructions", "selections", "stimuli"),
    "differences": ("comparisons",),
    "sweep": ("sweep",),
    "metrics": ("summary",),
    "figure5": ("decoding",),
    "figure6": ("images", "reconstructions", "selections", "stimuli", "rivals"),
    "figure7": ("images", "reconstructions", "selections", "stimuli", "rivals"),
    "figure8": ("images", "reconstructions", "selections", "stimuli"),
    "figure9": ("images", "reconstructions", "selections", "stimuli"),
    "figure10": ("images", "reconstructions", "selections", "stimuli"),
    "figure11": ("images", "reconstructions", "selections", "stimuli"),
    "brain_correlation": ("summary",),
    "predictor_differences": ("predictor_comparisons",),
    "retrieval": ("predictors", "retrieval"),
    "noise_ceiling": ("voxels",),
    "encoder_accuracy": ("encoders",),
    "training_curves": ("curves", "control_curves"),
}

TABLES: dict[str, tuple[str, ...]] = {
    "table1": ("summary", "aggregations", "predictors"),
    "table2": ("summary", "aggregations"),
    "table3": ("summary", "retrieval"),
    "table4": ("summary",),
    "brain_conventions": ("summary",),
    "retrieval_by_embedding": ("predictors", "retrieval"),
    "decoder_sizes": ("decoders",),
    "cost": ("decoders", "reconstructions"),
}

"""The variants of which findings tell: their names, their judge."""

from collections.abc import Mapping

from neuraldiffuser.config.reconstruction import Selection, Variant, name_maker

GUIDED, UNGUIDED = "guided", "unguided"
WRONG_IMAGE, MEAN_FEATURE = "wrong_image", "mean_feature"
FEATURE_WORDS = {WRONG_IMAGE: "another image's features", MEAN_FEATURE: "the mean feature"}


def list_guided_by_encoder(
    variants: Mapping[str, Variant], selections: Mapping[str, Selection]
) -> list[str]:
    """Variants and selections whose images the encoder guided that scores brain correlations."""
    return [
        name
        for name in (*variants, *selections)
        if "encoder" in variants[name_maker(name, selections)].terms
    ]

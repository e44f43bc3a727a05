"""The variants of which findings tell: their names, their judge."""

from collections.abc import Mapping

from neuraldiffuser.config.reconstruction import Selection, Variant, name_maker

GUIDED, UNGUIDED = "guided", "unguided"
WRONG_IMAGE = "wrong_image"
OWN = "own"  # features of the image itself; others guide the controls
FEATURE_WORDS = {
    OWN: "the image's own features",
    "another_image": "another image's features",
    "mean": "the mean feature",
}


def list_guided_by_encoder(
    variants: Mapping[str, Variant], selections: Mapping[str, Selection]
) -> list[str]:
    """Variants and selections whose images the encoder guided that scores brain correlations."""
    return [
        name
        for name in (*variants, *selections)
        if "encoder" in variants[name_maker(name, selections)].terms
    ]

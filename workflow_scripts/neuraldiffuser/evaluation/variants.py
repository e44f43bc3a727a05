"""Names of the variants of which findings tell."""

GUIDED, UNGUIDED = "guided", "unguided"
WRONG_IMAGE, MEAN_FEATURE = "wrong_image", "mean_feature"
FEATURE_WORDS = {WRONG_IMAGE: "another image's features", MEAN_FEATURE: "the mean feature"}

"""Which variants belong together, told by what guides them."""

from neuraldiffuser.config.reconstruction import Reconstruction, Selection
from neuraldiffuser.evaluation import variants

SHIPPED = Reconstruction().variants


def test_what_the_encoder_guided_includes_what_was_chosen_from_it():
    selections = {"best": Selection(of="guided"), "best_encoded": Selection(of="brain_encoding")}
    judged = variants.list_guided_by_encoder(SHIPPED, selections)
    assert judged == ["brain_encoding", "best_encoded"]

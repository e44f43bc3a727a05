"""The table of models."""

from neuraldiffuser import storage
from neuraldiffuser.config.root import Config
from neuraldiffuser.reporting.models_table import SKIPPED, list_models


def test_a_model_without_receipts_is_said_to_be_skipped(tmp_path):
    zoo = Config().models.zoo
    (file,) = zoo["swav"].files
    receipt = tmp_path / "models" / "swav" / f"{file}.json"
    storage.write_json(receipt, {"sha256": "ab" * 32})
    table = list_models({name: zoo[name] for name in ("swav", "alexnet")}, [receipt])
    assert table.set_index("model")["sha256"].to_dict() == {"swav": "ab" * 6, "alexnet": SKIPPED}

"""config.yaml and the schema say exactly what the models say."""

import yaml

from neuraldiffuser.config import documents
from neuraldiffuser.config.root import Config

REMEDY = "run `make config` and commit the result"


def test_config_yaml_is_in_step():
    written = (documents.REPOSITORY / "config.yaml").read_text()
    assert written == documents.config_yaml(), REMEDY


def test_schema_is_in_step():
    written = (documents.REPOSITORY / "config" / "schema.json").read_text()
    assert written == documents.schema_json(), REMEDY


def test_config_yaml_reads_back_as_the_defaults():
    assert Config.model_validate(yaml.safe_load(documents.config_yaml())) == Config()

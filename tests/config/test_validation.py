"""Every mistake in a configuration becomes one sentence that names the key and the remedy."""

import pytest

from neuraldiffuser.config.validation import validate
from neuraldiffuser.errors import ConfigError


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ({"experimnt": "x"}, "config: unknown key experimnt; did you mean experiment?"),
        ({"paths": {"dta": "x"}}, "config: unknown key paths.dta; did you mean paths.data?"),
        (
            {"paths": {"zzz": "x"}},
            "config: unknown key paths.zzz; known keys there are data, models, results.",
        ),
        (
            {"seed": "many"},
            "config: seed is 'many': input should be a valid integer, "
            "unable to parse string as an integer.",
        ),
        (
            {"runtime": {"device": "gpu"}},
            "config: runtime.device is 'gpu': input should be 'auto', 'cpu' or 'cuda'.",
        ),
    ],
)
def test_one_sentence_per_mistake(raw, sentence):
    with pytest.raises(ConfigError) as error:
        validate(raw)
    assert str(error.value) == sentence


def test_two_mistakes_give_two_sentences():
    with pytest.raises(ConfigError) as error:
        validate({"seed": -1, "experimnt": "x"})
    assert len(str(error.value).splitlines()) == 2


def test_numbers_written_as_text_by_yaml_are_read_as_numbers():
    assert validate({"seed": "7"}).seed == 7

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


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        (
            {"subjects": ["subj09"]},
            "config: subjects names subj09, which has no sessions in "
            "nsd.sessions; known subjects are subj01, subj02, subj03, subj04, subj05, subj06, "
            "subj07, subj08.",
        ),
        (
            {"targets": {"clip_image": {"layers": [2, 5], "node": "mlp_projection"}}},
            "config: targets.clip_image: layers names 5, but with node mlp_projection layer 2k is "
            "the projection of block k; name even layers, or set node to block_output.",
        ),
        (
            {"nsd": {"bucket": "data/"}},
            "config: nsd.bucket is data and paths.data is data, which share a folder; name another "
            "folder for the local mirror in paths.data.",
        ),
        (
            {"nsd": {"bucket": "mirror/../data/deep"}},
            "config: nsd.bucket is mirror/../data/deep and paths.data is data, which share a "
            "folder; name another folder for the local mirror in paths.data.",
        ),
        (
            {"nsd": {"source": "local"}},
            "config: nsd: nsd.source is local, but nsd.bucket is s3://natural-scenes-dataset; "
            "name the folder of your copy there, or set nsd.source to nsd.",
        ),
        (
            {"nsd": {"missing_sessions": {"subj04": [31]}}},
            "config: nsd: nsd.missing_sessions.subj04 is [31], but nsd.sessions asks for 30 "
            "sessions of subj04; list some of those, not all.",
        ),
        (
            {"nsd": {"format": "nii.gz"}},
            "config: nsd: nsd.fetch is roi, which nsd.format nii.gz does not allow; set nsd.fetch "
            "to whole, or nsd.format to hdf5.",
        ),
        (
            {"nsd": {"source": "mindeye2"}},
            "config: voxels.normalisation is global_training, but the betas of nsd.source mindeye2 "
            "are normalised already; set voxels.normalisation to none.",
        ),
        (
            {
                "reconstruction": {"run": ["guided", "unguided"]},
                "report": {"gallery_variants": ["guided", "encoder"]},
            },
            "config: report.gallery_variants names encoder, which does not run; reconstruction.run "
            "names guided, unguided.",
        ),
        (
            {"runtime": {"decoder_processes": 4}},
            "config: runtime.decoder_processes is 4, which does not divide the 42 trials that a "
            "batch of decoder.finetuning takes from each subject; choose a divisor or another "
            "batch_size.",
        ),
        (
            {"runtime": {"decoder_processes": 7}},
            "config: runtime.decoder_processes is 7, which does not divide the 6 trials that a "
            "batch of decoder.pretraining takes from each subject; choose a divisor or another "
            "batch_size.",
        ),
    ],
)
def test_contradictions_are_named(raw, sentence):
    with pytest.raises(ConfigError) as error:
        validate(raw)
    assert str(error.value) == sentence

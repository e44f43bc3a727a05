"""From the configuration to a record that the data's terms are accepted, or one sentence."""

from collections.abc import Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.config.nsd import Nsd
from neuraldiffuser.nsd import terms


def accept_terms(
    *,
    path_to_record: Path | str,
    nsd: Nsd,
    data: str,
    subjects: Sequence[str],
    pretraining_subjects: Sequence[str],
) -> None:
    """Records that the NSD data access agreement was accepted.

    Args:
        path_to_record: JSON to write.
        nsd: where the data come from, and whether its terms are accepted.
        data: where they go.
        subjects: who is evaluated.
        pretraining_subjects: whose trials pretrain decoders.

    Raises:
        TermsError: they are not accepted.
    """
    everybody = sorted({*subjects, *pretraining_subjects})
    terms.require_terms(nsd, subjects=everybody, data=data)
    storage.write_json(path_to_record, {"agreement": terms.AGREEMENT, "accepted": True})


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        accept_terms(path_to_record=snakemake.output.record, **settings)  # noqa: F821

"""From the configuration to a record that the data's terms are accepted, or one sentence."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from neuraldiffuser import runtime, storage
from neuraldiffuser.nsd import fetching


def accept_terms(
    *,
    path_to_record: Path | str,
    terms_accepted: bool,
    bucket: str,
    data: str,
    sessions: Mapping[str, int],
    subjects: Sequence[str],
    pretraining_subjects: Sequence[str],
    file_format: str,
) -> None:
    """Records that the NSD data access agreement was accepted.

    Args:
        path_to_record: JSON to write.
        terms_accepted: whether the user says so.
        bucket: where the data come from.
        data: where they go.
        sessions: number of sessions by subject.
        subjects: who is evaluated.
        pretraining_subjects: whose trials pretrain decoders.
        file_format: of the betas.

    Raises:
        TermsError: they are not accepted.
    """
    fetching.require_terms(
        terms_accepted=terms_accepted,
        bucket=bucket,
        data=data,
        sessions=sessions,
        subjects=sorted({*subjects, *pretraining_subjects}),
        file_format=file_format,
    )
    storage.write_json(path_to_record, {"agreement": fetching.AGREEMENT, "accepted": True})


if __name__ == "__main__":
    with runtime.job(snakemake) as settings:  # noqa: F821
        accept_terms(path_to_record=snakemake.output.record, **settings)  # noqa: F821

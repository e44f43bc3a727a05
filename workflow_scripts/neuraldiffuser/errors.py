"""Every error a user can meet, one sentence each: what was found, expected, and what to do.

NeuralDiffuserError
├── ConfigError      a configuration key is unknown, mistyped or contradicts another
├── TermsError       data may not be fetched before its terms are accepted
├── DataError        a file is missing, truncated, non-finite or does not match another
├── StorageError     a folder cannot be written: another run uses it, it is read-only or full
├── FetchError       an object could not be brought from its source
│   ├── MissingObjectError   its source answers that there is no such object
│   └── AlteredObjectError   it arrived otherwise than its source states it
├── TrainingError    a training cannot go on: its loss is not finite, or its time is up
└── MemoryExhaustedError     the smallest piece of work does not fit into memory
"""


class NeuralDiffuserError(Exception):
    """Base of all errors whose message is meant for the person who runs the workflow."""


class ConfigError(NeuralDiffuserError):
    """A configuration key is unknown, mistyped or contradicts another."""


class TermsError(NeuralDiffuserError):
    """Data may not be fetched before its terms are accepted."""


class DataError(NeuralDiffuserError):
    """A file is missing, truncated, holds non-finite values or does not match another."""


class StorageError(NeuralDiffuserError):
    """A folder cannot be written: another run uses it, it is read-only or full."""


class FetchError(NeuralDiffuserError):
    """An object could not be brought from its source."""


class MissingObjectError(FetchError):
    """The source of an object answers that there is no such object."""


class AlteredObjectError(FetchError):
    """An object arrived otherwise than its source states it."""


class TrainingError(NeuralDiffuserError):
    """A training cannot go on: its loss is not finite, or its time is up."""


class MemoryExhaustedError(NeuralDiffuserError):
    """The smallest piece of work does not fit into memory."""

from datetime import timedelta

import pytest

from neuraldiffuser.transfer import stores


@pytest.fixture(autouse=True)
def impatient_retries(monkeypatch):
    """Three retries at once, so that tests of failures are fast."""
    at_once = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2)}
    monkeypatch.setattr(stores, "RETRIES", {"max_retries": 3, "backoff": at_once})

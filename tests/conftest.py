import pytest


@pytest.fixture(scope="session")
def tiny_bucket(tmp_path_factory):
    """Folder of a generated bucket; read it, never write it."""
    from tiny_bucket import write_tiny_bucket

    return write_tiny_bucket(tmp_path_factory.mktemp("bucket"))

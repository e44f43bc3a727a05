import pytest


@pytest.fixture(scope="session")
def tiny_bucket(tmp_path_factory):
    """Folder of a generated bucket; read it, never write it."""
    from tiny_bucket import write_tiny_bucket

    return write_tiny_bucket(tmp_path_factory.mktemp("bucket"))


@pytest.fixture
def s3(monkeypatch):
    """An S3 server on this machine that every ``s3://`` address then leads to."""
    import faulty_s3

    with faulty_s3.serve() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server

"""What stores state as digests, against plain loops and against what servers really state."""

import hashlib
import logging

import faulty_s3
import pytest
from werkzeug.wrappers import Response

from neuraldiffuser.errors import AlteredObjectError, FetchError
from neuraldiffuser.transfer import digests, stores

MEBIBYTE = 1 << 20
CONTENT = bytes(range(251)) * 40_000  # 9.6 MiB, no two parts alike
KEY = "folder/object.bin"
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def arrived(tmp_path):
    path = tmp_path / "object.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def altered(tmp_path):
    path = tmp_path / "altered.bin"
    path.write_bytes(CONTENT[:-1] + b"!")
    return path


def require_told_apart(arrived, altered, remote, *, stated=None):
    digests.verify(arrived, remote)
    with pytest.raises(AlteredObjectError) as error:
        digests.verify(altered, remote)
    assert str(error.value).startswith(f"{remote.address} arrived with digest ")
    assert f", not {stated or remote.etag} as its store states; run again." in str(error.value)


# --- S3 ------------------------------------------------------------------------------------------


def plain_multipart_md5(content, part_bytes):
    parts = [content[start : start + part_bytes] for start in range(0, len(content), part_bytes)]
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f"{hashlib.md5(joined).hexdigest()}-{len(parts)}"


@pytest.mark.parametrize("part_bytes", [1, 7, 99, 100, 101, 5000])
@pytest.mark.parametrize("piece_bytes", [1, 33, 100, 5000])
def test_the_digest_of_parts_does_not_depend_on_how_the_bytes_come(part_bytes, piece_bytes):
    content = CONTENT[:1000]
    hasher = digests.MultipartMd5(part_bytes)
    for start in range(0, len(content), piece_bytes):
        hasher.update(memoryview(content[start : start + piece_bytes]))
    assert hasher.hexdigest() == plain_multipart_md5(content, part_bytes)


@pytest.mark.parametrize("part_bytes", [None, 5 * MEBIBYTE, 1_234_567, len(CONTENT)])
def test_a_file_is_verified_against_the_etag_of_s3(s3, arrived, altered, part_bytes):
    address = s3.put(KEY, CONTENT, part_bytes=part_bytes)
    require_told_apart(arrived, altered, stores.locate(address))


def not_told(_):
    return Response(status=400)


def told_for_the_whole(response):
    response.content_length = len(CONTENT)
    return response


@pytest.mark.parametrize("answer", [not_told, told_for_the_whole])
@pytest.mark.parametrize("mebibytes", [3, 5, 8, 16, 7])
def test_a_part_size_that_the_server_does_not_tell_is_guessed(
    s3, arrived, altered, answer, mebibytes
):
    address = s3.put(KEY, CONTENT, part_bytes=mebibytes * MEBIBYTE)
    remote = stores.locate(address)
    s3.fail(KEY, answer, method="HEAD")
    if mebibytes == 7:  # 2 parts, as the usual 8 and 5 MiB would make
        with pytest.raises(AlteredObjectError, match=r"digest \w+-2 or \w+-2, not "):
            digests.verify(arrived, remote)
    else:
        require_told_apart(arrived, altered, remote)


def test_an_object_without_a_digest_passes_and_the_log_says_so(s3, arrived, altered, caplog):
    caplog.set_level(logging.INFO, logger="neuraldiffuser")
    s3.put(KEY, CONTENT)
    on_another_server = stores.locate(f"{s3.endpoint}/{faulty_s3.BUCKET}/{KEY}")
    assert on_another_server.etag == MD5
    for remote in (on_another_server, stores.locate(str(arrived))):
        digests.verify(altered, remote)
        sentence = f"{remote.address}: its server states no digest; its size is right."
        assert caplog.messages[-1] == sentence


@pytest.mark.parametrize(
    ("host", "is_verified"),
    [
        ("bucket.s3.amazonaws.com", True),
        ("s3.us-east-2.amazonaws.com", True),
        ("amazonaws.com.example.org", False),
    ],
)
def test_the_host_tells_whether_an_etag_is_a_digest(arrived, altered, host, is_verified):
    address = f"https://{host}/object"
    remote = stores.RemoteObject(address, None, "object", len(CONTENT), MD5, address)
    if is_verified:
        require_told_apart(arrived, altered, remote)
    else:
        digests.verify(altered, remote)


# --- Hugging Face --------------------------------------------------------------------------------


SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME_IN_GIT = hashlib.sha1(f"blob {len(CONTENT)}\0".encode() + CONTENT).hexdigest()


@pytest.fixture
def hub(s3):
    """Redirects as Hugging Face does, with headers that state a digest."""
    s3.put(KEY, CONTENT)
    location = f"{s3.endpoint}/{faulty_s3.BUCKET}/{KEY}"
    response = Response(status=302, headers={"Location": location, "X-Repo-Commit": "0" * 40})
    with faulty_s3.listen(response) as endpoint:
        yield f"{endpoint}/organisation/repository/resolve/main/object.bin", response


@pytest.mark.parametrize("digest", [SHA256, NAME_IN_GIT], ids=["sha256", "git"])
def test_a_file_of_a_model_is_verified(hub, arrived, altered, digest):
    address, response = hub
    response.headers["X-Linked-ETag"] = f'"{digest}"'
    require_told_apart(arrived, altered, stores.locate(address), stated=digest)


@pytest.mark.parametrize(
    ("missing", "instead"), [("X-Linked-ETag", {"X-Linked-ETag": "odd"}), ("X-Repo-Commit", {})]
)
def test_what_states_no_digest_passes(hub, altered, missing, instead):
    address, response = hub
    response.headers["X-Linked-ETag"] = SHA256
    del response.headers[missing]
    response.headers.update(instead)
    digests.verify(altered, stores.locate(address))


def test_a_hub_that_cannot_be_asked_is_named(hub, arrived):
    address, response = hub
    remote = stores.locate(address)
    response.status_code = 404
    with pytest.raises(FetchError, match=f"^{address} could not be verified ") as error:
        digests.verify(arrived, remote)
    assert "\n" not in str(error.value)

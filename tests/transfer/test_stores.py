"""What an address leads to: on S3, the web, Hugging Face and the disk; and what may go wrong."""

import socket
import threading
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import faulty_s3
import huggingface_hub.constants
import pytest
from werkzeug.wrappers import Response

from neuraldiffuser.errors import AlteredObjectError, FetchError, MissingObjectError
from neuraldiffuser.transfer import stores

CONTENT = bytes(range(256)) * 40
RETRIES = stores.RETRIES  # before conftest.py shortens them
KEY = "a folder/50%.bin"
ON_THE_WEB = f"{faulty_s3.BUCKET}/a%20folder/50%25.bin"


@pytest.fixture
def addresses(s3, tmp_path, monkeypatch):
    """The same object behind each kind of address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a folder").mkdir()
    (tmp_path / KEY).write_bytes(CONTENT)
    return {
        "s3": s3.put(KEY, CONTENT),
        "web": f"{s3.endpoint}/{ON_THE_WEB}",
        "folder": str(tmp_path / KEY),
        "relative": f"a folder/../{KEY}",
        "file": f"file://{tmp_path / KEY}",
    }


KINDS = ["s3", "web", "folder", "relative", "file"]


def content_of(remote):
    return b"".join(bytes(piece) for piece in stores.read(remote, 0, remote.size))


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_is_found_and_read(addresses, kind):
    remote = stores.locate(addresses[kind])
    assert (remote.address, remote.size) == (addresses[kind], len(CONTENT))
    assert content_of(remote) == CONTENT
    assert b"".join(bytes(piece) for piece in stores.read(remote, 100, 9000)) == CONTENT[100:9000]


def test_a_hugging_face_address_follows_the_redirection(s3, monkeypatch):
    s3.put(KEY, CONTENT)
    asked = []

    def hub(environ, start_response):
        asked.append(environ["PATH_INFO"])
        response = Response(status=302, headers={"Location": f"{s3.endpoint}/{ON_THE_WEB}"})
        return response(environ, start_response)

    with faulty_s3.listen(hub) as endpoint:
        template = f"{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        remote = stores.locate("hf://organisation/repository/unet/config.json")
        assert content_of(remote) == CONTENT
    assert set(asked) == {"/organisation/repository/resolve/main/unet/config.json"}


def test_credentials_in_the_environment_are_never_sent(s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    content_of(stores.locate(s3.put(KEY, CONTENT)))
    exchanges = s3.requests(KEY, method="HEAD") + s3.requests(KEY)
    sent = " ".join(f"{name} {value}" for each in exchanges for name, value in each.headers.items())
    assert len(exchanges) == 2
    for secret in ("authorization", "akiaexample", "x-amz-security-token"):
        assert secret not in sent.lower()


def test_the_etag_has_no_quotes_and_the_time_of_modification_stands_in_for_it(s3):
    def untagged(response):
        del response.headers["ETag"]
        return response

    address = s3.put(KEY, CONTENT).replace("s3://", f"{s3.endpoint}/").replace("%", "%25")
    assert len(stores.locate(address).etag) == 32
    s3.fail(KEY, untagged, method="HEAD")
    assert stores.locate(address).etag.startswith("20")


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_object_is_told_apart_from_other_failures(addresses, kind):
    address = addresses[kind].replace(".bin", ".missing")
    with pytest.raises(MissingObjectError) as error:
        stores.locate(address)
    assert str(error.value) == f"{address} does not exist; check the address."


@pytest.mark.usefixtures("s3")
def test_a_missing_bucket_is_told():
    with pytest.raises(MissingObjectError) as error:
        stores.locate("s3://natural-sceenes-dataset/object")
    assert str(error.value) == (
        "s3://natural-sceenes-dataset/object does not exist, nor does its bucket; check the "
        "address."
    )


def test_an_address_of_an_unknown_kind_is_refused():
    with pytest.raises(FetchError, match="^gs://bucket/object is of no kind that can be fetched; "):
        stores.locate("gs://bucket/object")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://127.0.0.1:9/object", "Connection refused"),
        ("http://no-such-host.invalid/object", "failed to lookup address information: .*"),
        ("http://127.0.0.1:9/an//object", ".* contained empty path segment"),
    ],
)
def test_an_unreachable_object_has_a_reason_in_one_sentence(address, reason):
    with pytest.raises(
        FetchError, match=rf"^{address} could not be fetched \({reason}\); "
    ) as error:
        stores.locate(address)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (403, {}, "403 Forbidden"),
        (500, {}, "500 Internal Server Error"),
        (301, {}, "Received redirect without LOCATION.*incorrectly configured region"),
    ],
)
def test_a_refusal_keeps_only_its_status(s3, status, headers, reason):
    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, lambda _: Response(status=status, headers=headers), method="HEAD")
    with pytest.raises(FetchError, match=rf" could not be fetched \({reason}\); "):
        stores.locate(address)


def test_a_silent_server_is_given_up(s3, monkeypatch):
    def stay_silent(response):
        released.wait(timeout=60)
        return response

    released = threading.Event()
    address = s3.put(KEY, CONTENT)
    monkeypatch.setitem(stores.TIMEOUTS, "read_timeout", "50ms")
    s3.fail(KEY, stay_silent, method="HEAD")
    with pytest.raises(FetchError, match=r" could not be fetched \(it does not answer\); "):
        stores.locate(address)
    released.set()


def test_a_server_that_is_busy_twice_is_asked_again(s3):
    address = s3.put(KEY, CONTENT)
    s3.fail(KEY, faulty_s3.refuse, times=2, method="HEAD")
    assert stores.locate(address).size == len(CONTENT)
    assert [each.status for each in s3.requests(KEY, method="HEAD")] == [503, 503, 200]


@pytest.fixture
def patience(monkeypatch):
    """The retries that users have, at once rather than after seconds."""
    at_once = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=2)}
    monkeypatch.setattr(stores, "RETRIES", RETRIES | {"backoff": at_once})


@pytest.mark.usefixtures("patience")
def test_a_storm_of_refusals_is_waited_out(s3, monkeypatch):
    monkeypatch.setattr(stores, "SHORT_PATIENCE", timedelta(milliseconds=1))
    address = s3.put(KEY, CONTENT)
    for method in ("HEAD", "GET"):
        s3.fail(KEY, faulty_s3.refuse, times=50, method=method)
    assert content_of(stores.locate(address)) == CONTENT


@pytest.mark.usefixtures("patience")
def test_a_storm_that_does_not_end_is_named_once_patience_does(s3, monkeypatch):
    remote = stores.locate(s3.put(KEY, CONTENT))
    monkeypatch.setattr(stores, "SHORT_PATIENCE", timedelta(milliseconds=1))
    monkeypatch.setattr(stores, "PATIENCE", timedelta(milliseconds=2))
    s3.fail(KEY, faulty_s3.refuse, method="HEAD")
    with pytest.raises(FetchError, match="503 Service Unavailable"):
        stores.locate(remote.address)


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_an_unreachable_host_is_not_waited_for(monkeypatch, host):
    monkeypatch.setattr(stores, "SHORT_PATIENCE", timedelta(milliseconds=1))
    monkeypatch.setattr(stores, "PATIENCE", timedelta(hours=1))
    with pytest.raises(FetchError, match="could not be fetched"):
        stores.locate(f"http://{host}/object")


@pytest.mark.usefixtures("patience")
def test_a_host_that_takes_no_connection_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(stores, "SHORT_PATIENCE", timedelta(milliseconds=1))
    monkeypatch.setattr(stores, "PATIENCE", timedelta(hours=1))
    monkeypatch.setitem(stores.TIMEOUTS, "connect_timeout", "50ms")
    with full_port() as port, pytest.raises(FetchError, match="it does not answer"):
        stores.locate(f"http://127.0.0.1:{port}/object")


@contextmanager
def full_port():
    """A port whose queue of connections is full, so that more of them stay unanswered."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_connection_that_breaks_off_goes_on_where_it_was(s3):
    remote = stores.locate(s3.put(KEY, CONTENT))
    s3.fail(KEY, faulty_s3.cut, times=1)
    assert content_of(remote) == CONTENT
    assert s3.bytes_served(KEY) == len(CONTENT)


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:-1]], ids=["content", "size"])
def test_an_object_that_was_replaced_is_not_read_on(s3, other):
    remote = stores.locate(s3.put(KEY, CONTENT))
    s3.put(KEY, other)
    with pytest.raises(AlteredObjectError, match=" changed while it was read; run again.$"):
        content_of(remote)


def test_a_replaced_file_is_not_read_on(tmp_path):
    path = tmp_path / "object"
    path.write_bytes(CONTENT)
    remote = stores.locate(str(path))
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(AlteredObjectError):
        content_of(remote)

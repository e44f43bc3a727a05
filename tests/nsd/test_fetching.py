"""Fetching from a folder, from memory, over HTTP on this machine, and from a make-believe S3."""

import hashlib
import importlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from neuraldiffuser.config.nsd import Nsd
from neuraldiffuser.errors import FetchError, TermsError
from neuraldiffuser.nsd import fetching
from neuraldiffuser.nsd.locations import is_remote

CONTENT = bytes(range(256)) * 5000


def only_content(folder):
    """The one file in a folder; fails if temporary files are left."""
    (path,) = folder.iterdir()
    return path.read_bytes()


def test_object_in_a_folder_arrives_whole(tmp_path):
    source = tmp_path / "bucket" / "deep" / "object.bin"
    source.parent.mkdir(parents=True)
    source.write_bytes(CONTENT)
    fetching.fetch(str(source), tmp_path / "copy" / "object.bin")
    assert only_content(tmp_path / "copy") == CONTENT


def test_object_in_memory_arrives_whole(tmp_path):
    fsspec.filesystem("memory").pipe("/bucket/object.bin", CONTENT)
    fetching.fetch("memory://bucket/object.bin", tmp_path / "copy" / "object.bin")
    assert only_content(tmp_path / "copy") == CONTENT


def test_missing_object_says_what_to_do_and_leaves_nothing(tmp_path):
    url = str(tmp_path / "bucket" / "betas_session38.hdf5")
    with pytest.raises(FetchError) as error:
        fetching.fetch(url, tmp_path / "copy.hdf5")
    assert str(error.value) == (
        f"{url} does not exist; if it is a session, lower the subject's number in nsd.sessions "
        "(some sessions are held out of the public release), otherwise check nsd.bucket."
    )
    assert not list(tmp_path.iterdir())


# --- HTTP -----------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT at /whole and breaks off at /truncated."""

    def log_message(self, *_):
        """Stays silent."""

    def send_headers(self):
        known = self.path in ("/whole", "/truncated")
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(CONTENT) if known else 0))
        self.end_headers()
        return known

    def do_HEAD(self):
        self.send_headers()

    def do_GET(self):
        if self.send_headers():
            self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[: len(CONTENT) // 2])
            self.wfile.flush()
        self.close_connection = True


@pytest.fixture(scope="module")
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_object_over_http_arrives_whole(server, tmp_path):
    fetching.fetch(f"{server}/whole", tmp_path / "copy" / "object.bin")
    assert only_content(tmp_path / "copy") == CONTENT


def test_truncated_body_is_refused_and_leaves_an_older_copy_alone(server, tmp_path):
    path = tmp_path / "copy" / "object.bin"
    path.parent.mkdir()
    path.write_bytes(b"older")
    with pytest.raises(FetchError) as error:
        fetching.fetch(f"{server}/truncated", path)
    assert str(error.value).startswith(f"{server}/truncated ")
    assert "\n" not in str(error.value)
    assert only_content(tmp_path / "copy") == b"older"


def test_absent_object_over_http_is_refused(server, tmp_path):
    with pytest.raises(FetchError, match="/absent does not exist"):
        fetching.fetch(f"{server}/absent", tmp_path / "object.bin")


def test_unreachable_server_is_refused(tmp_path):
    with pytest.raises(FetchError, match="could not be fetched .* check the network"):
        fetching.fetch("http://127.0.0.1:9/object", tmp_path / "object.bin")


# --- size and digest ---------------------------------------------------------------------------


class MakeBelieveS3(MemoryFileSystem):
    """A store that states what the test wants it to state."""

    protocol = "s3"
    store = {}
    pseudo_dirs = [""]
    cachable = False
    stated = {}

    def __init__(self, *args, anon=False, **kwargs):
        assert anon, "NSD's bucket is public; credentials must not be asked for"
        super().__init__(*args, **kwargs)

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://").strip("/")

    def info(self, path, **kwargs):
        return super().info(path, **kwargs) | self.stated


@pytest.fixture
def s3(monkeypatch):
    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setitem(registry._registry, "s3", MakeBelieveS3)
    monkeypatch.setattr(MakeBelieveS3, "store", {})
    MakeBelieveS3(anon=True).pipe("/bucket/object.bin", CONTENT)
    return lambda **stated: monkeypatch.setattr(MakeBelieveS3, "stated", stated)


MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.mark.parametrize("tag", [f'"{MD5}"', '"0123456789abcdef0123456789abcdef-7"', ""])
def test_right_or_absent_or_multipart_digests_pass(s3, tmp_path, tag):
    s3(ETag=tag)
    fetching.fetch("s3://bucket/object.bin", tmp_path / "copy" / "object.bin")
    assert only_content(tmp_path / "copy") == CONTENT


def test_wrong_digest_is_refused(s3, tmp_path):
    s3(ETag='"0123456789abcdef0123456789abcdef"')
    with pytest.raises(FetchError) as error:
        fetching.fetch("s3://bucket/object.bin", tmp_path / "object.bin")
    assert str(error.value) == (
        f"s3://bucket/object.bin arrived with md5 {MD5}, not 0123456789abcdef0123456789abcdef; "
        "run again."
    )
    assert not list(tmp_path.iterdir())


def test_wrong_size_is_refused(s3, tmp_path):
    s3(size=len(CONTENT) + 1)
    with pytest.raises(FetchError) as error:
        fetching.fetch("s3://bucket/object.bin", tmp_path / "object.bin")
    assert str(error.value) == (
        "s3://bucket/object.bin arrived with 1280000 of 1280001 bytes; run again."
    )
    assert not list(tmp_path.iterdir())


def test_other_servers_tags_are_no_digests():
    tag = {"ETag": '"0123456789abcdef0123456789abcdef"'}
    assert fetching.single_part_digest(tag, "https://example.org/x") is None
    assert fetching.single_part_digest(tag, "https://b.s3.amazonaws.com/x") == tag["ETag"].strip(
        '"'
    )


# --- terms -------------------------------------------------------------------------------------


def require(**changes):
    nsd = Nsd()
    fetching.require_terms(
        **{
            "terms_accepted": False,
            "bucket": nsd.bucket,
            "data": "data",
            "sessions": nsd.sessions,
            "subjects": sorted(nsd.sessions),
            "file_format": nsd.format,
        }
        | changes
    )


def test_terms_are_refused_in_one_sentence():
    with pytest.raises(TermsError) as error:
        require()
    assert str(error.value) == (
        "The NSD data access agreement has not been accepted: agree to it at "
        "https://naturalscenesdataset.org and set nsd.terms_accepted to true, after which about "
        "298 GB of hdf5 betas and 40 GB of stimuli are fetched into data/ (paths.data); the "
        "miniature (`make demo`) needs none of it."
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subjects": ["subj01"]}, "42 GB of hdf5"),
        ({"file_format": "nii.gz"}, "159 GB of nii.gz"),
        ({"data": "/mnt/nsd"}, "into /mnt/nsd/"),
        ({"bucket": "https://natural-scenes-dataset.s3.amazonaws.com"}, "298 GB"),
    ],
)
def test_the_sentence_follows_the_configuration(changes, words):
    with pytest.raises(TermsError, match=words):
        require(**changes)


@pytest.mark.parametrize("changes", [{"terms_accepted": True}, {"bucket": "/mnt/nsd"}])
def test_accepted_terms_and_local_folders_pass(changes):
    require(**changes)


@pytest.mark.parametrize(
    ("url", "remote"),
    [("s3://b", True), ("https://h/b", True), ("folder/b", False), ("file:///b", False)],
)
def test_what_is_remote(url, remote):
    assert is_remote(url) is remote

"""Models from Hugging Face: their revision, and a token that no one but the hub ever sees.

The hub and the host that it redirects to for large files are two servers on this machine.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import faulty_s3
import huggingface_hub.constants
import pytest
from werkzeug.wrappers import Request, Response

from neuraldiffuser.errors import AlteredObjectError, FetchError
from neuraldiffuser.transfer import stores, whole

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
REVISION = "133a221b8aa7292a167afc5127cb63fb5005638b"
TOKEN = "hf_secret"


class Server:
    """Answers every request alike, and keeps what it was asked."""

    def __init__(self, answer):
        self.answer = answer
        self.asked = []

    def __call__(self, environ, start_response):
        request = Request(environ)
        self.asked.append(request)
        return self.answer(request)(environ, start_response)

    @property
    def tokens(self):
        """What each request showed."""
        return {request.headers.get("Authorization") for request in self.asked}


def serve_file(request):
    """The file, or a part of it."""
    response = Response(CONTENT, headers={"ETag": '"one"', "Accept-Ranges": "bytes"})
    return response.make_conditional(request, accept_ranges=True, complete_length=len(CONTENT))


@pytest.fixture
def storage():
    server = Server(serve_file)
    with faulty_s3.listen(server) as server.endpoint:
        yield server


@pytest.fixture
def hub(storage, monkeypatch):
    def redirect(_):
        headers = {
            "Location": f"{storage.endpoint}/blob",
            "X-Linked-ETag": f'"{SHA256}"',
            "X-Repo-Commit": REVISION,
        }
        return Response(status=302, headers=headers)

    server = Server(redirect)
    with faulty_s3.listen(server) as server.endpoint:
        template = f"{server.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.mark.parametrize(
    ("address", "path"),
    [
        (
            f"hf://CompVis/stable-diffusion-v1-4@{REVISION}/unet/config.json",
            f"/CompVis/stable-diffusion-v1-4/resolve/{REVISION}/unet/config.json",
        ),
        ("hf://timm/a.openai@main/b.bin", "/timm/a.openai/resolve/main/b.bin"),
        (
            f"hf://datasets/pscotti/mindeyev2@{REVISION}/gnet.pt",
            f"/datasets/pscotti/mindeyev2/resolve/{REVISION}/gnet.pt",
        ),
    ],
)
def test_an_address_names_its_revision(hub, address, path):
    assert stores.locate(address).size == len(CONTENT)
    assert {request.path for request in hub.asked} == {path}


def test_the_token_is_shown_to_the_hub_and_to_no_other_host(hub, storage, tmp_path):
    whole.fetch("hf://org/repo@main/weights.bin", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert storage.asked
    assert storage.tokens == {None}


def test_an_address_on_the_web_is_never_shown_the_token(hub, tmp_path):
    """Not even one that looks like the hub's: only hf:// says that it is."""
    whole.fetch(f"{hub.endpoint}/org/repo/resolve/main/weights.bin", tmp_path / "copy")
    assert hub.tokens == {None}


def test_without_a_token_none_is_sent(hub, tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    whole.fetch("hf://org/repo@main/weights.bin", tmp_path / "copy")
    assert hub.tokens == {None}


def test_another_endpoint_is_asked_where_the_environment_names_one(hub, storage, tmp_path):
    """In a process of its own, because it is read on import."""
    program = (
        "import sys; from neuraldiffuser.transfer import whole; "
        "whole.fetch('hf://org/repo@main/weights.bin', sys.argv[1])"
    )
    named = {"HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(Path(stores.__file__).parents[2])}
    command = [sys.executable, "-c", program, str(tmp_path / "copy")]
    subprocess.run(command, env=os.environ | named, check=True)
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert storage.tokens == {None}


@pytest.mark.parametrize(("status", "word"), [(401, "Unauthorized"), (403, "Forbidden")])
def test_a_gated_model_says_what_to_do(hub, status, word):
    hub.answer = lambda _: Response(status=status)
    with pytest.raises(FetchError) as error:
        stores.locate("hf://org/repo@main/weights.bin")
    assert str(error.value) == (
        f"hf://org/repo@main/weights.bin could not be fetched ({status} {word}); accept its terms "
        "on its page, set HF_TOKEN to a token of yours and run again."
    )


# --- pins ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
def test_the_pinned_file_arrives(tmp_path):
    whole.fetch("hf://org/repo@main/w.bin", tmp_path / "copy", size=len(CONTENT), sha256=SHA256)
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.usefixtures("hub")
def test_another_file_than_the_pinned_one_is_fetched_anew_then_named(storage, tmp_path):
    wrong = "0" * 64
    with pytest.raises(AlteredObjectError) as error:
        whole.fetch("hf://org/repo@main/w.bin", tmp_path / "copy", sha256=wrong)
    assert str(error.value) == (
        f"hf://org/repo@main/w.bin arrived with digest {SHA256}, not {wrong} as it is pinned; name "
        "the source of the pinned file, or, if this is the one you want, pin it."
    )
    assert len([request for request in storage.asked if request.method == "GET"]) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("hub")
def test_another_size_than_the_pinned_one_is_named_before_anything_arrives(storage, tmp_path):
    with pytest.raises(AlteredObjectError) as error:
        whole.fetch("hf://org/repo@main/w.bin", tmp_path / "copy", size=7)
    assert str(error.value).startswith("hf://org/repo@main/w.bin has 10240 bytes, not 7 as it is ")
    assert {request.method for request in storage.asked} == {"HEAD"}


def test_a_transient_alteration_of_a_pinned_file_is_mended(s3, tmp_path):
    address = s3.put("weights.bin", CONTENT)
    s3.fail("weights.bin", faulty_s3.alter, times=1)
    whole.fetch(address, tmp_path / "copy", sha256=SHA256)
    assert (tmp_path / "copy").read_bytes() == CONTENT

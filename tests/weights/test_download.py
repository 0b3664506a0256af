"""Downloads end whole or not at all, against a server on loopback that fails in every known way."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import filelock
import numpy as np
import pytest

from keras_t2t.weights import download
from keras_t2t.weights.checkpoint import read_checkpoint
from keras_t2t.weights.download import DownloadError, cache_folder, fetch

pytestmark = pytest.mark.tensorflow

ROOT = Path(__file__).parents[2]
HALF = 8 << 20  # bytes, about half of the file


def names():
    """What stands in the cache folder, beside the lock."""
    return {path.name for path in cache_folder().iterdir() if path.suffix != ".lock"}


def unknown(entry):
    return dataclasses.replace(entry, size=None, sha384=None)


def test_complete(server, entry, content, state):
    path = fetch(entry)
    assert path == cache_folder() / entry.filename
    assert path.read_bytes() == content
    assert names() == {entry.filename}
    arrays = read_checkpoint(path)
    assert list(arrays) == list(state)
    assert all(np.array_equal(arrays[key], state[key]) for key in state)


def test_fetched_once(server, entry):
    assert fetch(entry) == fetch(entry)
    assert len(server.requests) == 1


def test_complete_where_size_and_checksum_are_unknown(server, entry, content):
    assert fetch(unknown(entry)).read_bytes() == content


def test_continues_within_a_call(server, entry, content, answer):
    server.answers = [answer(sends=HALF)]
    assert fetch(entry).read_bytes() == content
    first, second = server.requests
    assert first["Range"] is None
    assert (second["Range"], second["If-Range"]) == (f"bytes={HALF}-", '"v1"')
    assert names() == {entry.filename}


def test_continues_in_a_later_call(server, entry, content, answer, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.answers = [answer(sends=HALF)]
    with pytest.raises(DownloadError, match=f"ended after {HALF} of {len(content)} bytes"):
        fetch(entry)
    assert entry.filename not in names()
    assert fetch(entry).read_bytes() == content
    assert server.requests[1]["Range"] == f"bytes={HALF}-"


def test_continues_after_the_process_was_killed(server, entry, content, answer, tmp_path):
    server.answers = [answer(sends=HALF, stalls=True)]
    script = (
        "from keras_t2t.weights import download, published\n"
        "download.fetch(published.find('t2t_vit_7', 'imagenet'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    part = cache_folder() / f"{entry.filename}.part"
    assert server.stalled.wait(120)
    while part.stat().st_size < HALF:  # what was sent may still be on its way to the file
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert entry.filename not in names()
    assert fetch(entry).read_bytes() == content
    assert server.requests[1]["Range"] == f"bytes={HALF}-"


def test_needs_no_request_for_a_part_that_is_whole(server, entry, content, answer, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fetch(entry)
    assert entry.filename not in names()
    assert fetch(entry).read_bytes() == content
    assert len(server.requests) == 1


def test_starts_again_where_the_server_has_no_ranges(server, entry, content, answer):
    server.ranges = False
    server.answers = [answer(sends=HALF)]
    assert fetch(entry).read_bytes() == content
    assert server.requests[1]["Range"] is not None


@pytest.mark.parametrize("if_range", [True, False], ids=["if-range", "ignores-if-range"])
def test_starts_again_where_the_file_has_changed(server, entry, answer, monkeypatch, if_range):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.answers = [answer(sends=HALF)]
    with pytest.raises(DownloadError):
        fetch(unknown(entry))
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    changed = bytearray(server.content)
    changed[1000] ^= 255
    server.content, server.validators, server.if_range = changed, {"ETag": '"v2"'}, if_range
    assert fetch(unknown(entry)).read_bytes() == changed


def test_starts_again_where_the_server_names_no_version(server, entry, content, answer):
    server.validators = {}
    server.answers = [answer(sends=HALF)]
    assert fetch(entry).read_bytes() == content
    assert server.requests[1]["Range"] is None


def test_continues_by_date_where_the_etag_is_weak(server, entry, content, answer):
    date = "Wed, 03 Feb 2021 10:00:00 GMT"
    server.validators = {"ETag": 'W/"v1"', "Last-Modified": date}
    server.answers = [answer(sends=HALF)]
    assert fetch(entry).read_bytes() == content
    assert (server.requests[1]["Range"], server.requests[1]["If-Range"]) == (f"bytes={HALF}-", date)


def test_starts_again_where_the_server_lacks_the_range(server, entry, content, answer):
    server.answers = [answer(sends=HALF), answer(status=416)]
    assert fetch(entry).read_bytes() == content
    assert [request["Range"] for request in server.requests] == [None, f"bytes={HALF}-", None]


def test_part_of_another_address_is_not_continued(server, entry, content, answer, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.answers = [answer(sends=HALF)]
    with pytest.raises(DownloadError):
        fetch(entry)
    monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", f"{server.url}/other")
    assert fetch(entry).read_bytes() == content
    assert server.requests[1]["Range"] is None


def test_gives_up_where_the_connection_always_breaks(server, entry, answer):
    server.answers = [answer(sends=1000) for _ in range(download.ATTEMPTS)]
    with pytest.raises(DownloadError, match=f"ended after {1000 * download.ATTEMPTS} of"):
        fetch(entry)
    assert len(server.requests) == download.ATTEMPTS
    assert entry.filename not in names()


def test_content_length_too_long(server, entry, content, answer):
    server.answers = [answer(length=len(content) + 100) for _ in range(download.ATTEMPTS)]
    with pytest.raises(DownloadError, match="the connection ended after|the part of the file"):
        fetch(unknown(entry))
    assert entry.filename not in names()


def test_content_length_too_short(server, entry, content, answer):
    server.answers = [answer(length=len(content) - 1000)]
    with pytest.raises(DownloadError, match="what came is cut short, and was deleted"):
        fetch(unknown(entry))
    assert names() == set()


def test_wrong_size_is_not_downloaded(server, entry, content):
    size = len(content)
    with pytest.raises(DownloadError, match=f"offers {size} bytes, but .* has {size + 1}"):
        fetch(dataclasses.replace(entry, size=size + 1))
    assert names() == set()


def test_wrong_checksum(server, entry):
    with pytest.raises(DownloadError, match=f"has SHA-384 {entry.sha384}, but expected is 0000"):
        fetch(dataclasses.replace(entry, sha384="0" * 96))
    assert names() == set()


@pytest.mark.parametrize(
    ("page", "fault"), [(b"<!DOCTYPE html><p>Log in", "not a PyTorch file"), (b"", "is empty")]
)
def test_page_of_a_portal(server, entry, page, fault):
    server.content = page
    with pytest.raises(DownloadError, match=fault):
        fetch(unknown(entry))
    assert names() == set()


def test_missing_file_is_asked_for_once(server, entry, answer):
    server.answers = [answer(status=404)]
    with pytest.raises(DownloadError) as caught:
        fetch(entry)
    assert str(caught.value) == (
        f"Cannot download {server.url}/{entry.filename}: the server answered 404 Not Found. To "
        f"install the file by hand, put it at {cache_folder() / entry.filename}, or let "
        "KERAS_T2T_WEIGHTS_URL name a mirror or folder that has it."
    )
    assert len(server.requests) == 1


def test_busy_server_is_asked_again(server, entry, content, answer):
    server.answers = [answer(status=503), answer(status=429)]
    assert fetch(entry).read_bytes() == content


def test_slow_server(server, entry, content, answer, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    server.answers = [answer(pause=0.02)]
    assert fetch(entry).read_bytes() == content
    assert len(server.requests) == 1


def test_silent_server(server, entry, content, answer, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.answers = [answer(sends=HALF, stalls=True), answer(sends=0, stalls=True)]
    with pytest.raises(DownloadError, match="the connection broke: timed out"):
        fetch(entry)
    monkeypatch.setattr(download, "TIMEOUT", 5.0)
    assert fetch(entry).read_bytes() == content
    assert server.requests[2]["Range"] is not None


def test_chunked_transfer(server, entry, content, answer):
    server.answers = [answer(framing="chunked", sends=HALF), answer(framing="chunked")]
    assert fetch(unknown(entry)).read_bytes() == content
    assert len(server.requests) == 2


def test_transfer_of_unknown_length(server, entry, content, answer):
    server.answers = [answer(framing="none")]
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        fetch(unknown(entry))
    server.answers = [answer(framing="none", sends=HALF), answer(framing="none")]
    assert fetch(entry).read_bytes() == content


@pytest.mark.parametrize("framing", ["chunked", "none"])
def test_endless_answer(server, entry, content, answer, framing):
    """No more comes to the disk than the file's own size and a piece."""
    server.content = content + bytes(50 << 20)
    server.answers = [answer(framing=framing)]
    with pytest.raises(DownloadError, match=f"the server sent more than {len(content)} bytes"):
        fetch(entry)
    assert names() == set()


def test_endless_answer_of_unknown_size(server, entry, content, answer, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", len(content))
    server.content = content + bytes(1)
    server.answers = [answer(framing="chunked")]
    with pytest.raises(DownloadError, match=f"the server sent more than {len(content)} bytes"):
        fetch(unknown(entry))
    assert names() == set()


def test_trickle(server, entry, content, answer, monkeypatch):
    """Bytes that come too slowly to time out do not hold the lock for ever."""
    monkeypatch.setattr(download, "PATIENCE", 0.5)
    server.answers = [answer(piece=1, pause=0.1) for _ in range(download.ATTEMPTS)]
    with pytest.raises(DownloadError, match=r"[1-9] bytes came in 0 s \(4 attempts\)"):
        fetch(entry)
    assert fetch(entry).read_bytes() == content
    assert server.requests[-1]["Range"] is not None


def test_what_was_first_seen_is_expected_from_then_on(server, entry, content):
    path = fetch(unknown(entry))
    noted = path.with_name(path.name + ".sha384")
    assert noted.read_text() == entry.sha384 + "\n"
    assert fetch(unknown(entry)) == path
    changed = bytearray(content)
    changed[len(content) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DownloadError, match=f"but expected is {entry.sha384}. Delete it to have"):
        fetch(unknown(entry))
    path.unlink()
    assert fetch(unknown(entry)).read_bytes() == content
    # Of a file that was put there by hand too.
    noted.unlink()
    fetch(unknown(entry))
    assert noted.read_text() == entry.sha384 + "\n"
    # The published one goes before.
    noted.write_text("0" * 96)
    assert fetch(entry) == path


def test_no_server(entry, monkeypatch, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/main"
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", url)
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(download, "PAUSE", 0.0)
        with pytest.raises(DownloadError) as caught:
            fetch(entry)
    message = str(caught.value)
    assert message.startswith(f"Cannot download {url}/{entry.filename}: ")
    assert "Connection refused" in message
    assert f"put it at {tmp_path / 'keras_t2t' / entry.filename}" in message


def test_file_put_there_by_hand(server, entry, content):
    cache_folder().mkdir(parents=True)
    (cache_folder() / entry.filename).write_bytes(content)
    assert fetch(entry).read_bytes() == content
    assert server.requests == []


@pytest.mark.parametrize("change", [b"", b"more"], ids=["checksum", "size"])
def test_damaged_file_put_there_by_hand_is_kept_and_refused(server, entry, content, change):
    damaged = content[:-1] + b"x" + change
    cache_folder().mkdir(parents=True)
    target = cache_folder() / entry.filename
    target.write_bytes(damaged)
    with pytest.raises(DownloadError, match="but .*Delete it to have it"):
        fetch(entry)
    assert target.read_bytes() == damaged
    assert server.requests == []


def test_mirror_in_a_folder(server, entry, content, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    monkeypatch.setenv("KERAS_T2T_WEIGHTS_URL", mirror.as_uri())
    with pytest.raises(DownloadError, match="No such file"):
        fetch(entry)
    (mirror / entry.filename).write_bytes(content)
    assert fetch(entry).read_bytes() == content
    assert server.requests == []


def test_at_once(server, entry, content, answer):
    server.answers = [answer(pause=0.01)]
    results = []
    threads = [threading.Thread(target=lambda: results.append(fetch(entry))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [cache_folder() / entry.filename] * 4
    assert results[0].read_bytes() == content
    assert len(server.requests) == 1


def test_lock_that_is_never_released(server, entry, monkeypatch):
    monkeypatch.setattr(download, "LOCK_TIMEOUT", 0.2)
    cache_folder().mkdir(parents=True)
    with filelock.FileLock(f"{cache_folder() / entry.filename}.lock"):
        with pytest.raises(DownloadError, match=f"another process has held .*{entry.filename}"):
            fetch(entry)


def test_cache_folder_that_cannot_be_written(server, entry, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    with pytest.raises(DownloadError, match=f"Cannot write {tmp_path}/file/.*KERAS_HOME chooses"):
        fetch(entry)
    assert server.requests == []


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "keras_t2t"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".keras" / "keras_t2t"

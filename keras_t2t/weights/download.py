"""Published files, fetched once into Keras' cache folder: whole, or not at all.

A few lines of urllib, because neither keras.utils.get_file nor pooch continues a broken download.
"""

import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import filelock
import keras
from tqdm import tqdm

from keras_t2t.files import replacing
from keras_t2t.weights.checkpoint import torch_format
from keras_t2t.weights.published import BASE_ADDRESS_VARIABLE, PublishedWeights, address

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, doubled before each later one
LOCK_TIMEOUT = 3600.0  # seconds to wait for another process that fetches the same file
CHUNK = 1 << 20  # bytes
SLOWEST = 1024  # bytes a second, on average over PATIENCE; what holds the lock has to go on
PATIENCE = 60.0  # seconds
LARGEST = 1 << 32  # bytes, of a file whose size neither the table nor the server tells


class DownloadError(OSError):
    """A published file could not be fetched, or is not the file that was published."""


class _Interrupted(Exception):
    """This attempt failed; another one may not."""


def cache_folder() -> Path:
    """Folder of the fetched files: `keras_t2t` in `KERAS_HOME`, which defaults to `~/.keras`."""
    return Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "keras_t2t"


def fetch(entry: PublishedWeights) -> Path:
    """Path of a published file, which is downloaded if the cache folder does not have it.

    The file grows under the name `<file>.part` and is renamed once its length and, where known,
    its size and SHA-384 are right. A broken download is continued, by this call or a later one,
    where the server supports ranges and names the version of the file (ETag or Last-Modified).
    Processes that want the same file wait for each other. Of a file whose SHA-384 was not
    published, the first seen is noted beside it, as `<file>.sha384`, and expected from then on.

    Args:
        entry: `PublishedWeights`, from `keras_t2t.weights.published.find`.

    Returns:
        `pathlib.Path`.

    Raises:
        DownloadError: no server, no such file, a connection that breaks again and again, a file of
            another size, checksum or kind, or a cache folder that cannot be written. The message
            names the address and the place where the file can be put by hand.
        ValueError: `KERAS_T2T_WEIGHTS_URL` is not a URL.
    """
    target = cache_folder() / entry.filename
    entry = dataclasses.replace(entry, sha384=entry.sha384 or _noted(target))
    url = address(entry)
    if not target.exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{target}.lock", timeout=LOCK_TIMEOUT):
                if not target.exists():  # it may have come while we waited
                    _download(entry, url, target)
                    _note(target, entry)
        except filelock.Timeout:
            held = f"another process has held {target}.lock for {LOCK_TIMEOUT:.0f} s"
            raise DownloadError(f"Cannot download {url}: {held}") from None
        except DownloadError as error:
            raise DownloadError(
                f"Cannot download {url}: {error}. To install the file by hand, put it at {target}, "
                f"or let {BASE_ADDRESS_VARIABLE} name a mirror or folder that has it."
            ) from None
        except OSError as error:
            raise DownloadError(
                f"Cannot write {target}: {error.strerror or error}. The environment variable "
                "KERAS_HOME chooses another cache folder."
            ) from None
        return target
    fault = _fault(target, entry)
    if fault:
        raise DownloadError(f"{target} {fault}. Delete it to have it downloaded from {url}.")
    with contextlib.suppress(OSError):  # of a folder that is not ours to write
        _note(target, entry)
    return target


def _note(target, entry):
    """Notes the SHA-384 of a file of which none is known."""
    if entry.sha384 is None:
        with replacing(_note_path(target), overwrite=True) as temporary:
            temporary.write_text(_sha384(target) + "\n")


def _noted(target):
    try:
        return _note_path(target).read_text().strip() if target.exists() else None
    except (OSError, ValueError):
        return None


def _note_path(target):
    return target.with_name(target.name + ".sha384")


def _sha384(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha384").hexdigest()


def _download(entry, url, target):
    part = target.with_name(target.name + ".part")
    record = target.with_name(target.name + ".part.json")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(entry, url, part, record)
            break
        except _Interrupted as error:
            if attempt == ATTEMPTS:
                raise DownloadError(f"{error} ({ATTEMPTS} attempts)") from None
            pause = PAUSE * 2 ** (attempt - 1)
            _say(f"{entry.filename}: {error}; trying again in {pause:g} s")
            time.sleep(pause)
    fault = _fault(part, entry)
    if fault:
        _discard(part, record)
        raise DownloadError(f"what came {fault}, and was deleted")
    os.replace(part, target)
    record.unlink(missing_ok=True)


def _transfer(entry, url, part, record):
    """One attempt at getting what `part` lacks.

    `record` says which version of the file `part` is the beginning of. A part without a record is
    never continued.
    """
    done, total, validator = _progress(url, part, record)
    if done and done == total:
        return
    headers = {"Range": f"bytes={done}-", "If-Range": validator} if done else {}
    with _open(urllib.request.Request(url, headers=headers)) as response:
        if response.status == 206 and _continues(response.headers, done, total, validator):
            _say(f"Continuing {url}")
        elif response.status in (206, 416):
            _discard(part, record)
            raise _Interrupted("the server does not have the part of the file that was asked for")
        else:
            _say(f"Downloading {url}")
            _discard(part, record)
            done, total = 0, _length(entry, response)
            validator = _validator(response.headers)
            if total and validator:
                record.write_text(json.dumps({"url": url, "total": total, "validator": validator}))
        quiet = not keras.config.is_interactive_logging_enabled() or None  # None: off a terminal
        bar = tqdm(initial=done, total=total, unit="B", unit_scale=True, disable=quiet)
        since, before, most = time.monotonic(), done, total or LARGEST
        with open(part, "ab") as file, bar:
            while chunk := _read(response):
                if done + len(chunk) > most:
                    _discard(part, record)
                    raise DownloadError(f"the server sent more than {most} bytes")
                file.write(chunk)
                done += len(chunk)
                bar.update(len(chunk))
                if time.monotonic() - since > PATIENCE:
                    if done - before < SLOWEST * PATIENCE:
                        raise _Interrupted(f"{done - before} bytes came in {PATIENCE:.0f} s")
                    since, before = time.monotonic(), done
            file.flush()
            os.fsync(file.fileno())  # so that the new name never stands for an empty file
    if total and done != total:
        raise _Interrupted(f"the connection ended after {done} of {total} bytes")


def _progress(url, part, record):
    """(bytes that `part` has, bytes of the whole, version) or (0, None, None)."""
    try:
        state = json.loads(record.read_text())
        done = part.stat().st_size
        if state["url"] == url and done <= state["total"]:
            return done, state["total"], state["validator"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # nothing there, or nothing to go by
    return 0, None, None


def _continues(headers, done, total, validator):
    """Whether a 206 response goes on at byte `done` of the same version of the file."""
    content = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", headers.get("Content-Range", ""))
    return (
        content is not None
        and (int(content[1]), int(content[2])) == (done, total)
        and _validator(headers) in (None, validator)
    )


def _validator(headers):
    """What If-Range can name: an ETag unless it is weak, else the date, else None."""
    etag = headers.get("ETag", "W/")
    return headers.get("Last-Modified") if etag.startswith("W/") else etag


def _length(entry, response):
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdigit() else entry.size
    if total is None and not getattr(response, "chunked", False):
        raise DownloadError("the server does not say how long the file is")
    if entry.size is not None and total != entry.size:
        raise DownloadError(
            f"the server offers {total} bytes, but the published file has {entry.size}"
        )
    return total


def _open(request):
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # range not satisfiable
            return error
        error.close()
        final = error.code < 500 and error.code not in (408, 429)
        answer = f"the server answered {error.code} {error.reason}"
        raise (DownloadError if final else _Interrupted)(answer) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        final = isinstance(reason, (FileNotFoundError, PermissionError))  # of a file:// address
        raise (DownloadError if final else _Interrupted)(reason) from None


def _read(response):
    try:
        return response.read1(CHUNK)  # what has come, so that a trickle is seen as one
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"the connection broke: {error}") from None


def _fault(path, entry):
    """What is wrong with a complete file, as the end of a sentence, or None."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        return f"has {size} bytes, but the published file has {entry.size}"
    if entry.sha384 is not None:
        digest = _sha384(path)
        if digest != entry.sha384:
            return f"has SHA-384 {digest}, but expected is {entry.sha384}"
    try:
        torch_format(path)
    except ValueError as error:
        return str(error).removeprefix(f"{path} ")
    return None


def _discard(part, record):
    # The record goes last: it must never describe a part of another version.
    part.unlink(missing_ok=True)
    record.unlink(missing_ok=True)


def _say(text):
    if keras.config.is_interactive_logging_enabled():
        print(text, file=sys.stderr, flush=True)

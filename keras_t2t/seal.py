"""The seal of files that are written here: their SHA-256, in hexadecimal digits at their end."""

import hashlib
import os
from io import BufferedRandom

# Stands before the digits; what a format needs between them may be two bytes long.
SEAL = b"keras_t2t sha256"
DIGITS = 2 * hashlib.sha256().digest_size
_ZIP_END, _ZIP_END_LENGTH = b"PK\5\6", 22


def seal(file: BufferedRandom) -> None:
    """Ends a file, which is open for reading and writing, in its seal."""
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256")
    digest.update(SEAL)
    file.write(SEAL + digest.hexdigest().encode())


def sealed(content: bytes) -> bytes:
    """A file's content with the digits behind it.

    Args:
        content: bytes that end in `SEAL`, or that and two bytes more.
    """
    return content + hashlib.sha256(content).hexdigest().encode()


def verify_seal(path: str | os.PathLike) -> bool:
    """Whether a file has a seal: earlier versions and other programs wrote none.

    Raises:
        OSError: the file cannot be read.
        ValueError: the seal is of another content.
    """
    with open(path, "rb") as file:
        left = max(0, file.seek(0, os.SEEK_END) - DIGITS)
        file.seek(max(0, left - len(SEAL) - 2))
        end = file.read()
        if SEAL not in end[:-DIGITS]:
            return False
        file.seek(0)
        digest = hashlib.sha256()
        while left and (part := file.read(min(left, 2**20))):
            digest.update(part)
            left -= len(part)
    if end[-DIGITS:] != digest.hexdigest().encode():
        raise ValueError(f"{path} is damaged, or another program changed it: its checksum is wrong")
    return True


def verify_archive(path: str | os.PathLike) -> None:
    """Verifies a zip file that has a seal, or ends where a zip file does.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    if not verify_seal(path):
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _ZIP_END_LENGTH))
            if not file.read().startswith(_ZIP_END):
                raise ValueError(f"{path} is cut short or something else")

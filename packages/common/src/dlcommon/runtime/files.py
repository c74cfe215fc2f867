"""Writes files and folders atomically: beside their target, flushed to disk, then renamed."""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from dlcommon.runtime.errors import UserError


@contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turns the errors of a full disk or a forbidden folder into a `UserError` that names the path."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: "the disk is full; free some space",
            errno.EDQUOT: "the disk quota is used up; free some space",
            errno.EACCES: "this user may not write there; choose another folder",
            errno.EPERM: "this user may not write there; choose another folder",
            errno.EROFS: "the file system is read-only; choose another folder",
            errno.ENOTDIR: "a part of that path is a file; choose another folder",
            errno.EEXIST: "a part of that path is a file; choose another folder",
            errno.EISDIR: "a folder of that name is in the way; move it",
            errno.ELOOP: "a symbolic link on the way leads back to itself; choose another folder",
            errno.ENOENT: "no folder can be made there, or it was removed; choose another",
            errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
        }
        reason = reasons.get(error.errno or 0)
        if reason is None:
            raise
        raise UserError(f"cannot write {path}: {reason}") from error


def full_disk_error(error: BaseException, path: Path) -> UserError | None:
    """Returns the UserError for a full disk if the error, or one that caused it, is one; else None.

    Libraries that write files themselves put it into their own words and types: Rust's "os error 28" (safetensors),
    "No space left on device" in a RuntimeError (torch).
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, UserError):  # says what is full already
            return None
        number = seen.errno if isinstance(seen, OSError) else None
        text = str(seen)
        for code, reason in ((errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk quota is used up")):
            said = f"os error {code}" in text or os.strerror(code) in text
            if number == code or said:
                return UserError(
                    f"cannot write below {path}: {reason}; free some space, then start again, or go on with "
                    f"--resume if the run has saved anything"
                )
        seen = seen.__cause__ or seen.__context__
    return None


def _umask() -> int:
    """Returns the umask, since temporary files are made for their owner alone."""
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a file to write into, renamed to `path` when the block ends well and removed when it does not.

    Until then the previous file stays as it was.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o666 & ~_umask())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: if writing fails, the previous file stays as it was.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, content: Any) -> None:
    write_bytes(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); put that right, or restore it") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); remove it or restore it from a copy") from error


def read_object(path: Path) -> dict[str, Any]:
    """Reads a JSON file that holds an object.

    Raises:
        UserError: the file is missing or damaged, or holds anything else.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (it holds no JSON object); remove it or restore it from a copy")
    return content


def folder_named_by(variable: str) -> Path | None:
    """Returns the absolute path that an environment variable holds; None where it is not set.

    Raises:
        UserError: it leads nowhere, such as a symbolic link to itself.
    """
    if not (chosen := os.environ.get(variable)):
        return None
    try:
        return Path(chosen).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise UserError(f"{variable} is {chosen!r}, which leads nowhere ({error}); name another folder") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a folder to write into, renamed to `path` when the block ends well and removed when it does not."""
    with explained_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield temporary
            for file in (path for path in temporary.rglob("*") if path.is_file()):
                with file.open("rb+") as opened:
                    os.fsync(opened.fileno())
            _sync_folder(temporary)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                shutil.rmtree(path)
            temporary.replace(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def sha256(path: Path) -> str:
    """Returns the sha256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""The folder of a server's uploads, and those that killed servers have left behind."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import filelock

PREFIX, LOCK = "dl-demo-", "server.lock"


class UploadFolder:
    """Makes a folder for this process's uploads, locked until the process ends, however it ends."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        # Named so only once it is locked, so that no other server takes it for one that was left behind.
        new = Path(tempfile.mkdtemp(prefix="dl-new-"))
        self._lock = filelock.FileLock(new / LOCK)
        self._lock.acquire()
        self.path = new.rename(new.with_name(PREFIX + new.name.removeprefix("dl-new-")))

    def cleanup(self) -> None:
        """Deletes the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            self._lock.release()


def files_below(folder: Path) -> tuple[int, int]:
    """Returns how many files a folder holds, and their bytes."""
    sizes = []
    for parent, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                sizes.append(os.stat(os.path.join(parent, name)).st_size)  # noqa: PTH116, PTH118
    return len(sizes), sum(sizes)


def _sweep(parent: Path) -> None:
    """Deletes the folders whose server is gone, as far as this user may."""
    for folder in parent.glob(f"{PREFIX}*"):
        with suppress(OSError, filelock.Timeout):
            if folder.is_symlink() or not (folder / LOCK).is_file() or not os.access(folder, os.W_OK):
                continue
            with filelock.FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)

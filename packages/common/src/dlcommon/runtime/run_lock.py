"""Keeps a second process out of a run: a lock in its folder, and a note of the process that holds it.

The operating system releases the lock when its process ends, however it ends, so nothing that a killed training
leaves behind is in the way. On a network file system the lock holds between machines where the server keeps locks
(NFS 4, NFS 3 with lockd, SMB). Where it keeps none (`nolock`, some FUSE file systems), the note still keeps out the
other processes of the same machine; of a process of another machine, which cannot be looked at, a warning is printed.
"""

import errno
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import filelock
import psutil

from dlcommon.runtime.errors import UserError
from dlcommon.runtime.files import explained_disk_errors, read_json, write_json
from dlcommon.runtime.output import warn

LOCK, OWNER = "run.lock", "owner.json"
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""Error numbers of a file system that keeps no locks: there is the note alone."""
PATIENCE_SECONDS = 1.0
"""A process that only looks whether the run is free holds the lock for a moment."""
LAST_SECONDS = 15.0
"""How long processes that a killed training started, and that hold its lock with it, may take to end."""


@dataclass(frozen=True)
class Owner:
    """Names the process that trains a run."""

    process: int
    host: str
    started: float
    """Time of its start, since numbers of processes are used again."""

    @classmethod
    def this(cls) -> Self:
        return cls(os.getpid(), socket.gethostname(), psutil.Process().create_time())

    @classmethod
    def noted(cls, path: Path) -> Self | None:
        """Reads the note; None where there is none, or a damaged one."""
        try:
            content = read_json(path)
            return cls(int(content["process"]), str(content["host"]), float(content["started"]))
        except (UserError, KeyError, TypeError, ValueError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; of another machine's that is not known, and not assumed."""
        try:
            return self.is_here and abs(psutil.Process(self.process).create_time() - self.started) < 1
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.process}" + ("" if self.is_here else f" on {self.host}")


class RunLock:
    """Locks a run's folder for this process, which may do so several times."""

    def __init__(self, directory: Path) -> None:
        self.directory, self._note = directory, directory / OWNER
        self._lock = filelock.FileLock(directory / LOCK, is_singleton=True)
        self._held = False

    def acquire(self) -> None:
        """Locks the run until `release`, or until this process ends.

        Raises:
            UserError: another process has it, or the folder cannot be written.
        """
        with explained_disk_errors(self.directory / LOCK):
            owner = Owner.noted(self._note)
            gone = owner is not None and owner.is_here and not owner.is_alive
            try:
                self._lock.acquire(timeout=LAST_SECONDS if gone else PATIENCE_SECONDS)
            except filelock.Timeout as error:
                raise UserError(self._refusal(owner)) from error
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
        if owner is not None and owner.is_alive and owner.process != os.getpid():  # a file system that keeps no locks
            self._lock.release()
            raise UserError(self._refusal(owner))
        if owner is not None and not owner.is_here:
            warn(
                f"{self.directory} was last trained by {owner}, which did not say that it has ended. If it still "
                f"runs, stop this one: two would overwrite each other's checkpoints"
            )
        write_json(self._note, asdict(Owner.this()))
        self._held = True

    def release(self) -> None:
        """Unlocks the run; does nothing where this process has not locked it."""
        if self._held:
            self._held = False
            self._note.unlink(missing_ok=True)
            self._lock.release(force=True)

    def _refusal(self, owner: Owner | None) -> str:
        who = f"{owner}, which has it" if owner is not None else "the process that has it"
        if owner is not None and owner.is_here and not owner.is_alive:
            return (
                f"{self.directory}: {owner}, which trained it, has ended, but a process that it started still holds "
                f"the run's lock; end that one, then resume"
            )
        return (
            f"{self.directory} is being trained already: wait for {who}, or stop it first. Another unfinished run is "
            f"resumed by naming it with --run"
        )


def is_locked(directory: Path) -> bool:
    """Tells whether another process trains this run."""
    if not (directory / LOCK).is_file():
        return False
    lock = filelock.FileLock(directory / LOCK, is_singleton=True)
    try:
        lock.acquire(timeout=0)
        lock.release()
    except filelock.Timeout:
        return True
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    owner = Owner.noted(directory / OWNER)
    return owner is not None and owner.is_alive and owner.process != os.getpid()

"""Unpacks archives that a server packs anew for each request, and verifies what is in them."""

import fnmatch
import shutil
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath

from dlcommon.runtime.data.fingerprint import fingerprint
from dlcommon.runtime.errors import DataUnavailableError
from dlcommon.runtime.files import explained_disk_errors


def unzip(
    subfolder: str, files: Collection[str], expected: str, max_bytes: int = 100 * 10**6
) -> Callable[[Path, Path], None]:
    """Returns a function that unpacks a data set from a zip file of a repository, such as GitHub makes.

    The bytes of such a file change with the server's packer, so that it has no checksum; its contents have.

    Args:
        subfolder: where the data set lies, below the one folder that holds the whole repository.
        files: paths and patterns below it: nothing else is unpacked.
        expected: fingerprint of these files.
        max_bytes: the most that they may have together once they are unpacked.

    Raises:
        DataUnavailableError: (the returned function) the file is no whole zip file, or holds something else or more.
    """

    def unpack(archive: Path, folder: Path) -> None:
        unpacked_bytes = 0
        try:
            with zipfile.ZipFile(archive) as opened:
                for member in opened.infolist():
                    inside = PurePosixPath(*PurePosixPath(member.filename).parts[1:])
                    if ".." in inside.parts or not inside.is_relative_to(subfolder):
                        continue
                    name = inside.relative_to(subfolder)
                    if not any(fnmatch.fnmatchcase(str(name), pattern) for pattern in files):
                        continue
                    unpacked_bytes += member.file_size  # zipfile reads no more of the member than this
                    if unpacked_bytes > max_bytes:
                        raise DataUnavailableError(f"{archive.name} unpacks to more than {max_bytes:,} bytes")
                    target = folder / name
                    with explained_disk_errors(target):
                        target.parent.mkdir(parents=True, exist_ok=True)
                        with opened.open(member) as packed, target.open("wb") as unpacked:
                            shutil.copyfileobj(packed, unpacked)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DataUnavailableError(f"{archive.name} is not a whole zip file ({error}); try again") from error
        if fingerprint(folder, files) != expected:
            raise DataUnavailableError(f"{archive.name} does not hold the published files of {subfolder}")

    return unpack

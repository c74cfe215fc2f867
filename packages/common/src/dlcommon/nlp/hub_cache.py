"""Finds files in the cache of the Hugging Face hub, as `huggingface_hub` lays them out; reads, never writes.

models--owner--name/refs/main                     the commit that `main` was, when it was asked last
models--owner--name/snapshots/<commit>/<file>     links to blobs, under the files' own names
models--owner--name/blobs/<checksum>              the contents, once each, however many commits share them
"""

import re
from pathlib import Path
from typing import Literal

Kind = Literal["model", "dataset", "space"]


def repository_folder(repository: str, kind: Kind = "model") -> str:
    """Returns the folder's name of a repository such as `owner/name`.

    Raises:
        ValueError: the name would lead out of the cache.
    """
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", repository) or ".." in repository:
        raise ValueError(f"a repository is called 'owner/name', not {repository!r}")
    return "--".join((f"{kind}s", *repository.split("/")))


def cached_commit(cache: Path, repository: str, revision: str = "main", kind: Kind = "model") -> str | None:
    """Returns the commit that a branch or tag was when it was last asked for, or the revision if it is a cached commit.

    Returns:
        `None` if nothing of that revision is in the cache.
    """
    folder = cache / repository_folder(repository, kind)
    reference = folder / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    return commit if (folder / "snapshots" / commit).is_dir() else None


def cached_file(cache: Path, repository: str, name: str, revision: str = "main", kind: Kind = "model") -> Path | None:
    """Returns the path of a file of a repository, or `None` if that revision of it is not in the cache.

    Equals `huggingface_hub.try_to_load_from_cache` where that finds a file.
    """
    commit = cached_commit(cache, repository, revision, kind)
    if commit is None:
        return None
    path = cache / repository_folder(repository, kind) / "snapshots" / commit / name
    return path if path.is_file() else None

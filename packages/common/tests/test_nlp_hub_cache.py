"""The cache of the hub: what we find in it is what huggingface_hub finds."""

from pathlib import Path

import pytest
from dlcommon.nlp.hub_cache import cached_commit, cached_file, repository_folder
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A cache with two commits of one model; `main` is the new one, the tag `v1` the old one."""
    folder = tmp_path / "models--owner--name"
    for commit, names in ((OLD, ("config.json",)), (NEW, ("config.json", "onnx/model.onnx"))):
        for name in names:
            path = folder / "snapshots" / commit / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{name} of {commit}")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(NEW)
    (folder / "refs" / "v1").write_text(OLD)
    (folder / "refs" / "gone").write_text("3" * 40)
    return tmp_path


@pytest.mark.parametrize("revision", ["main", "v1", OLD, NEW, "gone", "v2", "3" * 40])
@pytest.mark.parametrize("name", ["config.json", "onnx/model.onnx", "vocab.txt"])
def test_files_are_found_where_the_library_finds_them(hub: Path, revision: str, name: str) -> None:
    expected = try_to_load_from_cache("owner/name", name, cache_dir=hub, revision=revision)
    found = cached_file(hub, "owner/name", name, revision)
    assert found == (Path(expected) if isinstance(expected, str) else None)


def test_revisions_are_resolved(hub: Path) -> None:
    assert cached_commit(hub, "owner/name") == NEW
    assert cached_commit(hub, "owner/name", "v1") == OLD
    assert cached_commit(hub, "owner/name", "gone") is None
    assert cached_commit(hub, "owner/other") is None
    assert cached_commit(hub, "owner/name", kind="dataset") is None


def test_folders_are_named_as_by_the_library() -> None:
    for repository in ("owner/name", "bert-base-uncased", "o.w_n-er/na.me"):
        assert repository_folder(repository) == repo_folder_name(repo_id=repository, repo_type="model")
    assert repository_folder("owner/name", "dataset") == repo_folder_name(repo_id="owner/name", repo_type="dataset")


@pytest.mark.parametrize("repository", ["", "a/b/c", "../x", "owner/..", "/etc", "owner/", "a b/c"])
def test_names_that_lead_elsewhere_are_refused(repository: str) -> None:
    with pytest.raises(ValueError, match="a repository is called 'owner/name'"):
        repository_folder(repository)

"""Loads Multi30k: captions of photographs in English, German and French (Elliott et al. 2016, task 1).

Paper: https://aclanthology.org/W16-3210; the French translations are of Elliott et al. 2017,
https://aclanthology.org/W17-4718.
"""

from pathlib import Path

from dlcommon.runtime.data.dataset import DataSet
from dlcommon.runtime.data.parallel_text import ParallelText, read_aligned
from dlcommon.runtime.data.sources import RemoteFile, WebSource, gunzip_into
from dlcommon.runtime.localization import LocalizedText

LANGUAGES = ("en", "de", "fr")
SPLITS = ("train", "val", "test_2016_flickr")
CHECKSUMS = {
    "train.en": "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f",
    "train.de": "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6",
    "train.fr": "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c",
    "val.en": "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28",
    "val.de": "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a",
    "val.fr": "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9",
    "test_2016_flickr.en": "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9",
    "test_2016_flickr.de": "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8",
    "test_2016_flickr.fr": "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90",
}
"""sha256 of the files as they are packed for download."""


def load(folder: Path) -> ParallelText:
    """Reads all nine files.

    Raises:
        DamagedDataError: a file is damaged, or two of a split do not have equally many lines.
    """
    train, validation, test = (
        read_aligned({language: folder / f"{split}.{language}" for language in LANGUAGES}) for split in SPLITS
    )
    return ParallelText(train, validation, test)


DATA_SET = DataSet(
    name="multi30k",
    title=LocalizedText("Multi30k", "Multi30k"),
    description="31,014 captions of photographs in English, German and French: 29,000 to train and 1,000 to test",
    licence="research use (Elliott et al. 2016)",
    home="https://github.com/multi30k/dataset",
    folder="multi30k",
    files=tuple(CHECKSUMS),
    sources=(
        WebSource(
            "github-multi30k",
            (
                "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/",
            ),
            tuple(RemoteFile(f"{name}.gz", f"sha256:{checksum}") for name, checksum in CHECKSUMS.items()),
            gunzip_into("."),
        ),
    ),
    load=load,
)

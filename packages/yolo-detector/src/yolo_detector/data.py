"""The user's own pictures with boxes as a data set: a folder in YOLO's, COCO's or PASCAL VOC's format."""

from dataclasses import dataclass
from pathlib import Path

from dlcommon.runtime.data import DataSet, LocatedDataSet
from dlcommon.runtime.data.annotated_pictures import SPLITS
from dlcommon.runtime.data.detection import ObjectDetection
from dlcommon.runtime.data.detection_folder import list_folder, read_detection_folder
from dlcommon.runtime.data.picture_folder import folder_name, patterns_of
from dlcommon.runtime.errors import UsageError
from dlcommon.runtime.localization import LocalizedText
from dlcommon.runtime.output import Output

from yolo_detector.config import Config


@dataclass(frozen=True)
class FolderReader:
    """Reads a folder of pictures with boxes, and says on stderr what it skips; equal readers read the same."""

    path: Path
    """The folder, or the YAML or JSON file in it that describes the data set."""
    longest_side: int
    """Pixels that larger pictures are shrunk to, so that a folder of photographs fits in memory."""

    def __call__(self, root: Path) -> ObjectDetection:
        try:
            data = read_detection_folder(self.path, self.longest_side)
        except UsageError as error:
            raise UsageError(f"--data-folder {error}") from error
        for line in data.notes:
            Output(as_json=True).say(f"{self.path.name}: {line}")  # stdout may be for one JSON object alone
        return data


def own_data(config: Config) -> LocatedDataSet | None:
    """Returns the pictures of `--data-folder`, if it is given: a folder, or its data.yaml or annotations.json.

    Larger pictures than training keeps are shrunk as they are read.

    Raises:
        UsageError: there is no such folder, or its format or annotations cannot be used.
    """
    if config.data_folder is None:
        return None
    path = Path(config.data_folder).expanduser().resolve()
    try:
        stated, findings = list_folder(path)
    except UsageError as error:
        raise UsageError(f"--data-folder {error}") from error
    root = findings.root
    pictures = [file.path for split in SPLITS for file in stated.splits.get(split, [])]
    pictures += [file.path for file in stated.unsplit]
    files = patterns_of([*stated.annotation_files, *pictures], root)
    title = LocalizedText(root.name, root.name)
    dataset = DataSet(
        folder_name(root),
        title,
        f"the user's own pictures with boxes, in {stated.format} format",
        "the user's own",
        "",
        FolderReader(path, config.kept_side),
        files=files,
    )
    return LocatedDataSet(dataset, root, "file")

"""A finished run, as `eval`, `export` and a capstone's `export_graph` read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from safetensors import SafetensorError

from dlcommon.runtime.config import RunConfig
from dlcommon.runtime.data import LocatedAsset, require_recorded_asset
from dlcommon.runtime.errors import UserError
from dlcommon.runtime.run_directory import WEIGHTS

if TYPE_CHECKING:
    import torch

Config = TypeVar("Config", bound=RunConfig)


@dataclass(frozen=True)
class SavedRun(Generic[Config]):
    """Holds a finished run's config, summary and directory, and reads its weights."""

    directory: Path
    config: Config
    data_name: str
    summary: dict[str, Any]

    def asset(self, name: str) -> LocatedAsset:
        """Returns the very asset that the run was trained with.

        Raises:
            DataUnavailableError: it is not on this machine in that form; says how to get it.
            UserError: it is damaged, another version, or the run names no such asset.
        """
        recorded = next((asset for asset in self.summary.get("assets", []) if asset["name"] == name), None)
        if recorded is None:
            raise UserError(f"{self.directory} was not trained with {name}; name another run with --run")
        return require_recorded_asset(recorded)

    def weights(self) -> "dict[str, torch.Tensor]":
        """Reads the final weights, by parameter name.

        Raises:
            UserError: the file is missing or damaged.
        """
        from dlcommon.runtime.stored_weights import read_weights

        path = self.directory / WEIGHTS
        try:
            return read_weights(path)
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; train again, or name another run with --run") from error
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged ({error}); train again or name another run") from error

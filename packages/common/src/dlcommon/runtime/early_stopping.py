"""The best evaluation so far, and the weights that reached it."""

from pathlib import Path

from dlcommon.runtime.compute import Compute
from dlcommon.runtime.files import write_bytes
from dlcommon.runtime.training_state import PreparedModel, TrainingState


class EarlyStopping:
    """Compares evaluations and counts those without a better one; with a patience, keeps the weights of the best.

    Args:
        folder: of the checkpoints, beside which the best weights lie.
        patience: evaluations without a better one after which training ends; None never ends it.
    """

    def __init__(self, folder: Path, patience: int | None, state: TrainingState, compute: Compute) -> None:
        self.folder, self.patience, self.state, self.compute = folder, patience, state, compute

    def update(self, value: float) -> None:
        """Takes an evaluation, the same on all processes; larger is better."""
        counters = self.state.counters
        if counters.best is not None and value <= counters.best:
            counters.evaluations_without_best += 1
            return
        counters.best, counters.evaluations_without_best = value, 0
        if self.patience is not None:
            for model in self.state.models:
                self._write(model, self._best(model))

    def write_final(self, model: PreparedModel, path: Path) -> None:
        """Writes the model's best weights if they were kept, else its averaged ones, else the current ones."""
        best = self._best(model)
        if self.patience is None or not best.is_file():
            self._write(model, path)
        elif self.compute.is_main:
            write_bytes(path, best.read_bytes())

    def _best(self, model: PreparedModel) -> Path:
        return self.folder / f"best-{self.state.models.index(model)}.safetensors"

    def _write(self, model: PreparedModel, path: Path) -> None:
        module = self.state.averaged_module(model)
        if self.compute.is_main:
            write_bytes(path, model.stored.to_bytes(module))

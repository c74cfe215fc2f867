"""The peer in LitServe: its processes take the class by name, so it stands in a module of its own."""

from pathlib import Path
from typing import Any

import litserve
from serving import MAX_BATCH, MAX_WAIT, answer, service_of


class API(litserve.LitAPI):  # type: ignore[misc]
    """Answers items with a capstone's own service."""

    def __init__(self, package: str, model: Path, threads: int) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=MAX_WAIT)
        self.package, self.path, self.threads = package, model, threads

    def setup(self, device: str) -> None:
        self.service = service_of(self.package, self.path, self.threads)

    def decode_request(self, request: dict[str, Any]) -> tuple[Any, Any]:
        item = self.service.item.model_validate(request)
        return item, self.service.prepare(item)

    def batch(self, inputs: list[Any]) -> list[Any]:
        return list(inputs)

    def predict(self, batch: list[Any]) -> list[dict[str, Any]]:
        return answer(self.service, [item for item, _ in batch], [arrays for _, arrays in batch])

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        return output

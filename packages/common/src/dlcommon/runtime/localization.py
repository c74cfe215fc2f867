"""Text that users read, in both of the project's languages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalizedText:
    """Holds a title or label in English and Chinese."""

    en: str
    zh: str

    def __str__(self) -> str:
        return f"{self.en} · {self.zh}"

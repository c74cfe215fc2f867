"""Options of `serve` and `demo`."""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from dlcommon.runtime.bounds import Count, NotNegative, Positive, check_bounds

MEBIBYTE = 2**20
ROOT_PATH = re.compile(r"(/[\w.~-]{1,100}){1,10}", re.ASCII)
"""A path that can stand in a page's addresses as it is."""
SITE = re.compile(r"https?://(\*\.)?[\w.-]+(:\d{1,5})?", re.ASCII)
"""A web site, as the header Content-Security-Policy names it."""


@dataclass(frozen=True)
class ServeConfig:
    """States where to listen, what to serve, and the bounds of what is accepted."""

    model: Path | None = None
    """ONNX file; by default the newest run's export, else the one that the package carries."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines in."""
    port: Annotated[int, Ge(0), Le(65535)] = 7860
    """Port; 0 takes a free one and says which."""
    token: str | None = None
    """Ask every client for this token (better through the variable DL_TOKEN, which `ps` does not show)."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names for the Host header, such as that of a reverse proxy in front of 127.0.0.1."""
    root_path: str = ""
    """Path under which a reverse proxy shows this server, such as /digits, where it sends no X-Forwarded-Prefix."""
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses or networks of reverse proxies whose X-Forwarded-For tells clients apart; by default this machine."""
    frame_sites: tuple[str, ...] = ()
    """Web sites that may show the page in a frame, such as https://huggingface.co."""
    max_batch: Count = 32
    """Largest number of items in one batch of the model."""
    max_wait_ms: Annotated[float, Ge(0), Le(10_000)] = 2.0
    """Milliseconds that a batch waits for items that are still being read."""
    queue: Count = 256
    """Items that wait or are being answered; further ones get 503."""
    slots: Count = 8
    """Generations in progress at once, which take turns; each keeps its state in memory, further ones wait."""
    max_tokens: Count = 4000
    """Tokens that the items of one request may ask for together, where the model generates."""
    max_items: Count = 64
    """Largest number of items in one request."""
    max_mb: Positive = 10.0
    """Largest size of a request in MiB."""
    max_pixels: Count = 25_000_000
    """Largest width times height of an image."""
    timeout: Positive = 30.0
    """Seconds for a request to arrive, and for its answer; of a stream, for each piece."""
    grace_seconds: NotNegative = 20.0
    """After SIGTERM or Ctrl-C, seconds in which accepted requests may finish. What is left is then told so, and the
    process ends within ten more."""
    threads: Count | None = None
    """Threads of the model; by default one for each core."""
    demo: bool = True
    """Serve the page as well as the REST API."""
    json: bool = False
    """Print one JSON object with the address when ready."""

    renamed: ClassVar[Mapping[str, str]] = {"streams": "slots"}
    """Options of earlier versions, with their names of today."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.root_path and not ROOT_PATH.fullmatch(self.root_path):
            raise ValueError("root_path must be a path such as /digits")
        for proxy in self.trusted_proxies:
            try:
                ipaddress.ip_network(proxy)
            except ValueError as error:
                raise ValueError(
                    f"trusted_proxies must be addresses such as 10.0.0.7 or 10.0.0.0/8: {error}"
                ) from error
        for site in self.frame_sites:
            if not SITE.fullmatch(site):
                raise ValueError(f"frame_sites must be such as https://example.org, not {site!r}")
        if self.token is not None and not (
            self.token and self.token.isascii() and self.token.isprintable() and " " not in self.token
        ):
            raise ValueError("token must be printable ASCII without spaces, and not empty")

    @property
    def is_local(self) -> bool:
        """Says whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def max_bytes(self) -> int:
        return int(self.max_mb * MEBIBYTE)

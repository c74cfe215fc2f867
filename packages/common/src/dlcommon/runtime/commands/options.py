"""Parses command lines into dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import tyro

from dlcommon.runtime.config import RunConfig, flag_of
from dlcommon.runtime.errors import UsageError

Options = TypeVar("Options")
Config = TypeVar("Config", bound=RunConfig)


def parse(options: type[Options], argv: list[str], prog: str, description: str | None = None) -> Options:
    """Reads flags into the dataclass; a wrong one is explained on stderr and ends with exit code 2.

    Raises:
        UsageError: a flag has another name now.
    """
    _check_renamed(getattr(options, "renamed", {}), argv)
    return tyro.cli(options, prog=prog, args=argv, description=description)


def parse_with_config(
    options: type[Options], config: Config, argv: list[str], prog: str, description: str
) -> tuple[Options, Config]:
    """Reads the command's own flags and, on the same level, those of a config with the defaults given.

    Raises:
        UsageError: a flag has another name now, or a value is impossible.
    """
    _check_renamed(config.renamed, argv)
    both = dataclasses.make_dataclass(
        options.__name__,
        [("config", Annotated[type(config), tyro.conf.arg(name="")], dataclasses.field(default=config))],
        bases=(options,),
        frozen=True,
    )
    try:
        parsed: Any = tyro.cli(both, prog=prog, args=argv, description=description)
    except ValueError as error:  # from the config's own checks
        raise UsageError(f"{error}; see {prog} --help") from error
    return parsed, parsed.config


def _check_renamed(renamed: Mapping[str, str], argv: list[str]) -> None:
    for old, new in renamed.items():
        flag = flag_of(old)
        if any(word == flag or word.startswith(f"{flag}=") for word in argv):
            raise UsageError(f"{flag} is called {flag_of(new)} now")


def is_given(argv: list[str], name: str) -> bool:
    """Tells whether the command line sets the option of that name."""
    flags = (flag_of(name), flag_of(f"no_{name}"))
    return any(word.partition("=")[0].replace("_", "-") in flags for word in argv)


def value_of(argv: list[str], flag: str) -> str | None:
    """Reads the value of `flag VALUE` or `flag=VALUE`, for a flag that decides the defaults of all others."""
    value = None
    for index, word in enumerate(argv):
        if word == flag:
            value = argv[index + 1] if index + 1 < len(argv) else None
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value

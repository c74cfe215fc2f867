"""Errors that the person at the terminal can put right."""


class UserError(Exception):
    """A problem outside the code: shown as one message, without a traceback, with exit code 1.

    The message says what is wrong and what to do next.
    """

    exit_code = 1


class UsageError(UserError):
    """The command line, or a value in it, is wrong: exit code 2."""

    exit_code = 2


class DataUnavailableError(UserError):
    """A data set is neither on this machine nor can it be fetched."""


class InvalidInputError(ValueError):
    """One item sent for prediction cannot be used; the message is shown to whoever sent it."""

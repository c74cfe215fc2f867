"""Errors that the person at the terminal can put right."""


class UserError(Exception):
    """Reports a problem outside the code: printed as one message without a traceback, with exit code 1.

    The message says what is wrong and what to do next.
    """

    exit_code = 1


class UsageError(UserError):
    """Reports a mistake on the command line or in a value given there, with exit code 2."""

    exit_code = 2


class DataUnavailableError(UserError):
    """Reports that a data set is not on this machine and cannot be fetched."""


class InvalidInputError(ValueError):
    """Reports that an item sent for prediction cannot be used; the message is shown to whoever sent it."""

"""Exceptions that a user is meant to read."""


class AuditError(Exception):
    """Bad input, in one line: what is wrong, where, and what to do. The command prints it and exits with 2."""


class Unchecked(Exception):
    """A check that cannot be made here, and why; it refuses nothing."""

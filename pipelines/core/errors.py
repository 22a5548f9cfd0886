"""Errors a user can act on: one line of cause, one line of hint, and the exit code of the command line."""


class OmrlError(Exception):
    """Base of every expected failure. `cause` is one line; `hint` (may be empty) says what to do next."""

    exit_code = 1

    def __init__(self, cause: str, hint: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.hint = hint


class StageFailed(OmrlError):
    """The stage ran and failed: NaN in a loss, a full disk, an artifact that another process is writing."""

    exit_code = 1


class UsageError(OmrlError):
    """A wrong argument or config: unknown family, preset, field."""

    exit_code = 2


class InputMissing(OmrlError):
    """A parent artifact or file does not exist."""

    exit_code = 3


class WrongKind(OmrlError):
    """A parent exists but is of the wrong kind, or of a version that this code cannot read."""

    exit_code = 4


class CheckFailed(OmrlError):
    """A check failed: a damaged artifact, a stale one, a target that was not reached."""

    exit_code = 5

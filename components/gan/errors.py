"""What a user can mend, told in one sentence: a class for each kind that some caller answers in its own way."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong and what to do about it, in one sentence that is shown without a traceback."""

    exit_code = 2


class NotThereError(UserError):
    """What was asked for does not exist, or not yet."""


class DamagedError(UserError):
    """What lies there is not what was written."""


class UnreachableError(UserError):
    """A server or storage does not answer: what it holds is not known."""


class RefusedError(UserError):
    """A server or storage answers, and does not do what was asked."""


class DivergedError(UserError):
    """A loss, weight or score is not finite: nothing that came after the last state is of use."""


class BusyError(UserError):
    """Another process works in the workspace."""

    exit_code = 3


class StoppedError(UserError):
    """The user pressed Ctrl-C; an ordinary exception, so that every caller up to the command ends in order."""

    exit_code = 130

    def __init__(self, where: str = "from the last checkpoint") -> None:
        super().__init__(f"stopped; the same command goes on {where}")

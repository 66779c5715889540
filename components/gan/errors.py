"""What a user can mend, told in one sentence."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong and what to do about it, in one sentence that is shown without a traceback."""

    exit_code = 2


class StoppedError(UserError):
    """The user pressed Ctrl-C; an ordinary exception, so that every caller up to the command ends in order."""

    exit_code = 130

    def __init__(self, where: str = "from the last checkpoint") -> None:
        super().__init__(f"stopped; the same command goes on {where}")

"""What `ganflow env` gave to a shell, and ganflow itself does without."""

from __future__ import annotations

import os

# What it set, so that ganflow itself goes on finding the platform by its record.
GIVEN = "GANFLOW_ENV"


def forget_given() -> None:
    """Take what `ganflow env` set out of the environment: ganflow finds its own servers, and none is one too many.

    What the user has set to something else since then stays.
    """
    addresses = os.environ.pop(GIVEN, "").split()
    for name, beside in (
        ("PREFECT_API_URL", ("PREFECT_API_AUTH_STRING",)),
        ("MLFLOW_TRACKING_URI", ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")),
    ):
        if os.environ.get(name) in addresses:
            for variable in (name, *beside):
                os.environ.pop(variable, None)

"""What git is started with in a workspace that a stranger may have made: its own settings then start no program."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

# Stronger than any file of settings. Signatures would be checked by the program that gpg.program names.
_SETTINGS = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "log.showSignature": "false"}
# Objects that are missing would be fetched, by programs that the repository names.
NO_FETCH = {"GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1"}


def harmless(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables to be added to `environment` (git-config(1), GIT_CONFIG_COUNT)."""
    count = environment.get("GIT_CONFIG_COUNT", "")
    # What git itself could not count, it would refuse.
    first = int(count) if re.fullmatch("[0-9]{1,4}", count) else 0
    there = {environment.get(f"GIT_CONFIG_KEY_{number}") for number in range(first)}
    added = [setting for setting in _SETTINGS.items() if setting[0] not in there]
    found = {"GIT_CONFIG_COUNT": str(first + len(added))}
    for number, (key, value) in enumerate(added, first):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found

"""Tells people what happened, by mail or in a chat, at the addresses that the environment names.

An address holds a password or a token, so it stands in the environment alone: in no parameter, log, run or ledger.
"""

from __future__ import annotations

import json
import logging
import os
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..workspace.text import said_in_chat

# Addresses, one after another with spaces between them: those of Apprise, such as mailto://, slack:// and discord://,
# the web addresses that these chats show, and any other one that takes Slack's plain format.
ADDRESSES = "GANFLOW_NOTIFY"
SECONDS = 10


def send(title: str, text: str, links: Mapping[str, str], picture: Path | None) -> Iterator[str]:
    """Tell all that the environment names; a sentence for each that did not take it.

    `text` may hold strangers' names: no mention, link or mark-up comes of it. `links`: addresses by what they show.
    A `picture` goes where the receiver takes one.
    """
    addresses = os.environ.get(ADDRESSES, "").split()
    if not addresses:
        return
    from apprise import Apprise, AppriseAsset, NotifyFormat

    # It says why in its log, with the address.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    asset = AppriseAsset(app_id="ganflow", app_desc="ganflow", app_url="", image_url_mask="", image_url_logo="")
    told = "\n".join([said_in_chat(text), *(f"{name}: {address}" for name, address in links.items())])
    attached = str(picture) if picture and picture.exists() else None
    for number, address in enumerate(addresses, 1):
        receiver = Apprise.instantiate(address, asset=asset, suppress_exceptions=True)
        if receiver is None and address.startswith(("http://", "https://")):
            taken = _post(address, f"{said_in_chat(title)}\n{told}")
        elif receiver is None:
            taken = False
        else:
            all_of = Apprise(asset=asset)
            all_of.add(receiver)
            taken = bool(all_of.notify(told, said_in_chat(title), attach=attached, body_format=NotifyFormat.TEXT))
        if not taken:
            yield f"address {number} of {ADDRESSES} did not take the notification: it is wrong, or does not answer"


def _post(address: str, text: str) -> bool:
    """Send a message in the plain format of Slack, which Mattermost, Rocket.Chat and Google Chat take too."""
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return bool(answer.status < 300)
    except (OSError, ValueError):
        return False

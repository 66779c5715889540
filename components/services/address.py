"""Addresses of the servers that the user named: where they answer, and how they may be shown."""

from __future__ import annotations

import re
import socket
from urllib.parse import urlsplit
from urllib.request import urlopen

# The variables that name servers, each with the port that its tool takes if the address has none.
SERVERS = {"RAY_ADDRESS": 6379, "PREFECT_API_URL": 4200, "MLFLOW_TRACKING_URI": 5000}
# By scheme without a driver, `postgresql+psycopg2`; what is not here has the tool's own.
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
# Not a server that listens, or one that the tool finds by itself.
_ELSEWHERE = ("sqlite", "file", "databricks", "databricks-uc", "uc")
_BY_ITSELF = ("auto", "local", "databricks", "databricks-uc", "uc")
# A password may hold what should have been encoded, /, ? or #; what follows the colon is then no port.
_USER = re.compile(r"(?<=://)(?:[^/\s?#]*|[^/\s?#:]*:(?!\d{1,5}(?:[/?#\s]|$))\S*)@")
# The same where an address has no scheme, or too few or too many slashes.
_BARE_USER = re.compile(
    r"(?<![^\s'\"(=,])((?:[a-z][a-z0-9+.-]*:/{1,4})?)[^/\s?#:@]+:(?!\d{1,5}(?:[/?#\s]|$))[^\s@/]+@", re.IGNORECASE
)
# What may be a password that begins like a port as well as a path with @ behind a port.
_EITHER = re.compile(r"(?:(?<=://)[^/\s?#:]*|(?<![^\s'\"(=,])[^/\s?#:@]+):\d{1,5}[/?#]\S*@")
_QUERY = re.compile(
    r"([?&;#][^=&;\s]*(?:pass|pwd|token|secret|key|sig|credential|auth)[^=&;\s]*=)[^&;#\s'\")]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """`text` as it may be shown, logged and stored: addresses in it without user, password and secret query values."""
    return _QUERY.sub(r"\1***", _EITHER.sub("***@", _BARE_USER.sub(r"\1", _USER.sub("", text))))


def endpoint(address: str, port: int) -> tuple[str, int] | None:
    """(host, port) of an address such as `host:6379` or `http://host/api`; None where there is nothing to connect to.

    `port`: where the address has none, nor its scheme.

    Raises:
        ValueError: the port is no number.
    """
    parts = urlsplit(address if "://" in address or address.startswith("file:") else f"//{address}")
    scheme = parts.scheme.partition("+")[0]
    if not parts.hostname or scheme in _ELSEWHERE or address in _BY_ITSELF:
        return None
    return parts.hostname, parts.port or _PORTS.get(scheme, port)


def unanswered(address: str, port: int) -> str | None:
    """Why nothing answers at `address`, if so."""
    try:
        if where := endpoint(address, port):
            socket.create_connection(where, timeout=5).close()
    except OSError as error:
        return masked(str(error))
    except ValueError:
        # What it says may quote a part of the password.
        return "that is no address with a host and a port"
    return None


def answers(address: str, seconds: float = 2) -> bool:
    """Whether what is at `address` says that it is well."""
    try:
        with urlopen(address, timeout=seconds) as response:
            return bool(response.status == 200)
    except (OSError, ValueError):
        return False

"""Who can reach what: open ports, servers without a password, secrets in files of git."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from ...services.address import SERVERS, masked
from .diagnosis import Diagnosis, some
from .processes import listening, tool_of

_SECRETS = re.compile(
    r"(?P<key>\b(?:AKIA|ASIA)[0-9A-Z]{16}\b)"
    r"|(?P<address>\w://[^/\s:@]*:[^/\s@]+@)"
    r"|(?P<name>[\w-]*(?:password|passwd|secret|token|api_key|auth_string)[\w-]*)[\"']?\s*:\s*"
    r"(?!null\b|~|\{|\$|[\"']?\{\{|#)[\"']?[^\s\"'#]",
    re.IGNORECASE,
)


def ports(processes: Sequence[psutil.Process]) -> Iterator[Diagnosis]:
    """Of these processes the ports that other machines can reach: without a password, and how many with one."""
    check = "open ports"
    reached: dict[str, list[str]] = {}
    guarded: dict[str, int] = {}
    for process in processes:
        with suppress(psutil.Error):
            beyond = sorted(
                {
                    f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
                    for ip, port in listening(process)
                    if not _is_loopback(ip)
                }
            )
            tool = tool_of(process)
            if tool and beyond and _asks_for_password(process, tool):
                guarded[tool] = guarded.get(tool, 0) + len(beyond)
            elif tool and beyond:
                reached.setdefault(tool, []).append(f"process {process.pid} at {', '.join(beyond)}")
    for tool, where in reached.items():
        words = f"{tool} answers other machines without a password: {some(where)}"
        remedy = "start Ray with RAY_AUTH_MODE=token" if tool == "Ray" else "start it with --host 127.0.0.1"
        yield Diagnosis(check, False, words, remedy)
    if not reached:
        behind = "".join(f"; {count} of {tool} are, and ask for a password" for tool, count in guarded.items())
        words = f"no port of Ray, Prefect or MLflow here is open to other machines unguarded{behind}"
        yield Diagnosis(check, True, words)


def _asks_for_password(process: psutil.Process, tool: str) -> bool:
    # Ray's workers have a title in place of their environment; it is that of the raylet above them.
    for each in [process, *process.parents()]:
        with suppress(psutil.Error):
            match tool:
                case "Ray":
                    asks = each.environ().get("RAY_AUTH_MODE", "").lower() == "token"
                case "Prefect":
                    asks = bool(each.environ().get("PREFECT_SERVER_API_AUTH_STRING"))
                case _:
                    asks = "basic-auth" in each.cmdline()
            if asks:
                return True
    return False


def ray_token(home: Path) -> Diagnosis:
    """Whether others can read the token that Ray keeps for clusters that the user starts; ganflow's own needs none."""
    file = home / ".ray" / "auth_token"
    try:
        mode = file.stat().st_mode
    except OSError:
        return Diagnosis("Ray's token", None, f"there is no {file}")
    if mode & 0o077:
        words = f"other users may read {file}, and so run code in the clusters that ask for it"
        return Diagnosis("Ray's token", False, words, f"chmod 600 {file}")
    return Diagnosis("Ray's token", True, f"only you can read {file}")


def authentication(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Whether servers on other machines are asked with a password, and over an encrypted connection."""
    check = "authentication"
    named = {name: address for name in SERVERS if (address := environment.get(name))}
    for name, address in named.items():
        shown = masked(address)
        try:
            parts = urlsplit(shown if "://" in shown else f"//{shown}")
        except ValueError:
            yield Diagnosis(check, False, f"{name} = {shown} is no address", "correct it or unset it")
            continue
        if not parts.hostname or _is_loopback(parts.hostname) or parts.scheme == "file" or address == "auto":
            yield Diagnosis(check, True, f"{name} names nothing on another machine")
            continue
        wrong, remedy = [], []
        if shown == address and not _credentials(name, environment):
            wrong.append("no password is given")
            remedy.append(_CREDENTIALS[name])
        if parts.scheme == "http":
            wrong.append("all is sent in the clear")
            remedy.append("put the server behind https://")
        if wrong:
            yield Diagnosis(check, False, f"{name} = {shown}: {' and '.join(wrong)}", "; ".join(remedy))
        else:
            yield Diagnosis(check, True, f"{name} = {shown} is asked with a password")
    if not named:
        yield Diagnosis(check, None, f"none of {', '.join(SERVERS)} is set")


_CREDENTIALS = {
    "RAY_ADDRESS": "start the cluster with RAY_AUTH_MODE=token and set it and RAY_AUTH_TOKEN here",
    "PREFECT_API_URL": "set PREFECT_SERVER_API_AUTH_STRING there and PREFECT_API_AUTH_STRING here",
    "MLFLOW_TRACKING_URI": "start the server with --app-name basic-auth and set MLFLOW_TRACKING_USERNAME and "
    "MLFLOW_TRACKING_PASSWORD here",
}


def _credentials(name: str, environment: Mapping[str, str]) -> bool:
    match name:
        case "RAY_ADDRESS":
            mode = environment.get("RAY_AUTH_MODE", "").lower()
            token = Path(environment.get("HOME", "/"), ".ray", "auth_token")
            given = environment.get("RAY_AUTH_TOKEN") or environment.get("RAY_AUTH_TOKEN_PATH") or token.exists()
            # Where a token is found, Ray uses it unless told otherwise.
            return mode == "token" or (not mode and bool(given))
        case "PREFECT_API_URL":
            return any(environment.get(key) for key in ("PREFECT_API_KEY", "PREFECT_API_AUTH_STRING"))
        case _:
            return any(environment.get(key) for key in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"))


def _is_loopback(host: str) -> bool:
    try:
        address = ip_address(host)
        # ::ffff:127.0.0.1, as a socket of both versions has it.
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback
    except ValueError:
        return host == "localhost"


def secrets(*files: Path) -> Diagnosis:
    """Lines of files that go into git and look like a password; what they say is not repeated."""
    found = []
    for file in files:
        with suppress(OSError, UnicodeDecodeError):
            for number, line in enumerate(file.read_text().splitlines(), 1):
                if match := _SECRETS.search(line):
                    kind = {"key": "an access key", "address": "an address with a password"}.get(match.lastgroup or "")
                    found.append(f"{file.name} line {number} holds {kind or match['name']}")
    if found:
        remedy = "take it out and set a variable instead, such as AWS_SECRET_ACCESS_KEY; change it, if it was committed"
        return Diagnosis("secrets", False, some(found), remedy)
    return Diagnosis("secrets", True, f"none stands in {', '.join(file.name for file in files)}")

"""Whether Prefect's and MLflow's servers refuse what a stranger's page, or another user of the machine, would ask."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

import psutil

from ...services.address import masked
from .diagnosis import Diagnosis
from .processes import listening, tool_of

_STRANGER = "stranger.example"
_SECONDS = 5.0
# Of each tool something that nobody but its users should learn: path and body, which change nothing.
_ASKED = {
    "Prefect": ("/api/deployments/filter", "{}"),
    "MLflow": ("/api/2.0/mlflow/experiments/search", '{"max_results": 1}'),
}
_NAMED = {"PREFECT_API_URL": "Prefect", "MLFLOW_TRACKING_URI": "MLflow"}
_GUARDED = {
    "Prefect": "start it by `ganflow up`, or with PREFECT_SERVER_API_AUTH_STRING, "
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true and PREFECT_SERVER_CORS_ALLOWED_ORIGINS",
    "MLflow": "start it by `ganflow up` or `ganflow ui`, or with --app-name basic-auth and --allowed-hosts",
}


def guards(processes: Iterable[psutil.Process], environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Ask each server of these processes, and those that the environment names, as a stranger would."""
    found = {(tool, address.removesuffix("/api")) for tool, address in _named(environment)}
    found |= set(_local(processes))
    for tool, address in sorted(found):
        wrong = _open_to_strangers(tool, address)
        if wrong is None:
            continue
        if wrong:
            words = f"{tool} at {masked(address)} {' and '.join(wrong)}: whoever reaches it can do what its users can"
            yield Diagnosis("strangers", False, words, _GUARDED[tool])
        else:
            words = f"{tool} at {masked(address)} answers nobody without a password, nor pages from elsewhere"
            yield Diagnosis("strangers", True, words)
    if not found:
        yield Diagnosis("strangers", None, "no server of Prefect or MLflow runs here or is named")


def _named(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, tool in _NAMED.items():
        address = environment.get(variable, "")
        if address.partition("://")[0].lower() in ("http", "https"):
            yield tool, address.rstrip("/")


def _local(processes: Iterable[psutil.Process]) -> Iterator[tuple[str, str]]:
    for process in processes:
        with suppress(psutil.Error):
            tool = tool_of(process)
            if tool in _ASKED:
                for ip, port in listening(process):
                    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(ip, ip)
                    yield tool, f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _open_to_strangers(tool: str, address: str) -> list[str] | None:
    """Return what a stranger was let do at a server; None if nothing there answers as such a server does."""
    path, body = _ASKED[tool]
    headers = {"Content-Type": "application/json"}
    foreign = {"Origin": f"http://{_STRANGER}"}
    preflight = foreign | {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    try:
        asked, _ = _ask(address, "POST", path, body, headers)
        renamed, _ = _ask(address, "POST", path, body, headers | foreign | {"Host": _STRANGER})
        _, allowed = _ask(address, "OPTIONS", path, "", preflight)
    except (OSError, HTTPException, ValueError):
        return None
    if asked == 404:
        return None
    wrong = []
    if asked < 400:
        wrong.append("answers without a password")
    if renamed < 400:
        wrong.append("answers under the name of a stranger's page")
    if allowed in ("*", foreign["Origin"]):
        wrong.append("lets a stranger's page ask")
    return wrong


def _ask(address: str, method: str, path: str, body: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """Return the status of an answer, and whose pages it may be shown to. No proxy is asked."""
    parts = urlsplit(masked(address))
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with closing(kind(parts.hostname or "", parts.port, timeout=_SECONDS)) as connection:
        connection.request(method, f"{parts.path}{path}", body, dict(headers))
        answer: HTTPResponse = connection.getresponse()
        answer.read(1_000_000)
        return answer.status, answer.headers.get("Access-Control-Allow-Origin", "")

"""A platform that runs in a workspace, and how its servers are asked."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import psutil

from components.services import password
from components.services.address import answers
from components.services.platform import Platform
from components.workspace.workspace import Workspace
from tests.conftest import ganflow, succeeded
from tests.harness.clusters import free_port


class Running:
    """A workspace with its platform."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ports = free_port(), free_port()

    @property
    def platform(self) -> Platform:
        return Platform.model_validate_json((self.root / ".ganflow" / "platform.json").read_text())

    def up(self) -> str:
        ports = ["--prefect-port", str(self.ports[0]), "--mlflow-port", str(self.ports[1])]
        return succeeded(ganflow(self.root, "up", "--detach", *ports))

    @property
    def auth(self) -> tuple[str, str]:
        """User and password of its servers."""
        known = password.known(Workspace(self.root))
        assert known
        return password.USER, known

    @cached_property
    def client(self) -> httpx.Client:
        """What asks Prefect's server as its pages do: with the password, and the token against foreign pages."""
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.ports[0]}/api/", auth=self.auth, timeout=30)
        token = client.get("csrf-token", params={"client": "tests"}).raise_for_status().json()["token"]
        client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "tests"})
        return client

    def post(self, path: str, body: Any) -> httpx.Response:
        return self._asked("POST", path, body)

    def change(self, method: str, path: str, body: dict[str, Any]) -> None:
        """Change something, as the pages do."""
        self._asked(method, path, body).raise_for_status()

    def _asked(self, method: str, path: str, body: Any) -> httpx.Response:
        while True:
            answer = self.client.request(method, path, json=body)
            # Two at once wrote into Prefect's SQLite: its own clients ask again too.
            if answer.status_code != 503:
                return answer
            time.sleep(0.2)

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def start(self, deployment: str, **parameters: Any) -> httpx.Response:
        """Ask for a run, as Prefect's form does."""
        name = f"deployments/name/{deployment}/{deployment}"
        return self.post(f"deployments/{self.get(name)['id']}/create_flow_run", {"parameters": parameters})

    def started(self, deployment: str, **parameters: Any) -> str:
        """The id of a run that was asked for."""
        answer = self.start(deployment, **parameters)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def ended(self, run: str, seconds: float = 240) -> dict[str, Any]:
        """The run, once it has ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found: dict[str, Any] = self.get(f"flow_runs/{run}")
            if found["state"]["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                return found
            time.sleep(0.5)
        raise AssertionError(self.get(f"flow_runs/{run}")["state"])

    def healthy(self) -> bool:
        prefect, mlflow = self.ports
        servers = answers(f"http://127.0.0.1:{prefect}/api/health") and answers(f"http://127.0.0.1:{mlflow}/health")
        return servers and all(part.find() for part in self.platform.parts.values())

    def processes(self) -> list[psutil.Process]:
        parts = [self.platform.supervisor, *self.platform.parts.values()]
        found = [process for part in parts if (process := part.find())]
        return [below for process in found for below in [process, *process.children(recursive=True)]]

"""Who is told of a run, by real runs and a receiver on this machine."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from components.services.notification import ADDRESSES
from tests.conftest import ganflow, succeeded


@pytest.fixture
def chat() -> Iterator[tuple[str, list[str]]]:
    """The address of a chat that takes Slack's plain format, and what it is told."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/hook", heard
        server.shutdown()


@pytest.mark.long
def test_a_promotion_and_a_failure_are_told_and_what_changes_nothing_is_not(
    finished: Path, tmp_path: Path, chat: tuple[str, list[str]]
) -> None:
    address, heard = chat
    root = tmp_path / "digits"
    shutil.copytree(finished, root)
    # Its registry is gone: the same model is registered and judged anew.
    shutil.rmtree(root / "mlruns")
    succeeded(ganflow(root, "run", **{ADDRESSES: address}))
    (text,) = heard
    assert text.startswith("pipeline: version 1 promoted\n")
    assert "ganflow version 1: promote; it is the first that passes the checks" in text
    # A second run has nothing to do.
    succeeded(ganflow(root, "run", **{ADDRESSES: address}))
    assert len(heard) == 1

    shard = next((root / "artifacts" / "dataset").glob("training-*.npy"))
    damaged = bytearray(shard.read_bytes())
    damaged[-1] ^= 1
    shard.write_bytes(damaged)
    failed = ganflow(root, "run", "--set", "train.seed=5", **{ADDRESSES: address})
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert len(heard) == 2
    assert heard[1].startswith("pipeline: failed\n")
    assert shard.name in heard[1]
    # The address holds a token: it stands nowhere in the workspace.
    for file in (root / ".ganflow").rglob("*.jsonl"):
        assert address.encode() not in file.read_bytes(), file

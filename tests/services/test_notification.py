"""What people are told, as receivers on this machine get it."""

from __future__ import annotations

import email
import json
import socketserver
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from components.services import notification

STRANGER = "class <!channel> [x](http://evil.example) @everyone <img src=x>"
LINKS = {"run": "http://127.0.0.1:4200/runs/flow-run/1"}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("L", (20, 10), 200).save(tmp_path / "sheet.png")
    return tmp_path / "sheet.png"


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a chat, and what it is told."""
    heard: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(404 if self.path == "/gone" else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}", heard
        server.shutdown()


@pytest.fixture
def mailbox() -> Iterator[tuple[str, list[Message]]]:
    """The address of a mail server that takes every mail, and the mails."""
    mails: list[Message] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().strip().upper():
                if line == b"DATA":
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.append(email.message_from_bytes(b"".join(lines)))
                self.wfile.write(b"221 bye\r\n" if line == b"QUIT" else b"250 ok\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", mails
        server.shutdown()


def test_nobody_is_told_without_an_address(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(notification.ADDRESSES, raising=False)
    assert list(notification.send("retrain: failed", "no space left", LINKS, picture)) == []


def test_a_chat_is_told_with_a_link_and_takes_no_command_from_a_name(
    webhook: tuple[str, list[dict[str, str]]], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, heard = webhook
    # Any chat that takes Slack's plain format, and one by the name that Apprise has for it.
    monkeypatch.setenv(notification.ADDRESSES, f"http://{address}/hook mmost://{address}/token1234")
    assert list(notification.send("retrain: version 2 vetoed", STRANGER, LINKS, picture)) == []
    assert len(heard) == 2
    for message in heard:
        text = message["text"]
        assert "retrain: version 2 vetoed" in text
        assert LINKS["run"] in text
        assert "<" not in text and "@everyone" not in text and "http://evil" not in text


def test_a_mail_has_the_picture_and_no_mark_up_of_a_name(
    mailbox: tuple[str, list[Message]], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, mails = mailbox
    monkeypatch.setenv(notification.ADDRESSES, f"mailto://{address}/?from=ganflow@example.org&to=me@example.org")
    assert list(notification.send("retrain: version 2 promoted", STRANGER, LINKS, picture)) == []
    (mail,) = mails
    assert "retrain: version 2 promoted" in str(email.header.make_header(email.header.decode_header(mail["Subject"])))
    parts = {part.get_content_type(): part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()}
    assert parts["image/png"] == picture.read_bytes()
    text = b"".join(content for kind, content in parts.items() if kind.startswith("text/")).decode()
    assert LINKS["run"] in text
    assert "<img" not in text


def test_who_cannot_be_told_is_counted_without_the_address(
    webhook: tuple[str, list[dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, heard = webhook
    wrong = f"http://{address}/gone http://{address}/hook nonsense://token"
    monkeypatch.setenv(notification.ADDRESSES, wrong)
    failures = list(notification.send("drift", "new images differ", {}, None))
    assert len(failures) == 2 and len(heard) == 2
    assert "address 1 of" in failures[0] and "address 3 of" in failures[1]
    assert not any("token" in line or address in line for line in failures)

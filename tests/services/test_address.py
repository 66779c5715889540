"""Where the addresses lead that users give to Ray, Prefect and MLflow."""

from __future__ import annotations

import pytest

from components.services.address import endpoint, masked, unanswered


@pytest.mark.parametrize(
    ("address", "where"),
    [
        ("head:6379", ("head", 6379)),
        ("ray://head:10001", ("head", 10001)),
        ("head", ("head", 1)),
        ("http://host/api", ("host", 80)),
        ("https://me:hush@host", ("host", 443)),
        ("postgresql://me:hush@host/db", ("host", 5432)),
        ("postgresql+psycopg2://me:hush@host/db", ("host", 5432)),
        ("mysql+pymysql://host/db", ("host", 3306)),
        ("mssql+pyodbc://host:1/db", ("host", 1)),
        ("sqlite:////tmp/mlflow.db", None),
        ("file:/tmp/mlruns", None),
        ("file:///tmp/mlruns", None),
        ("databricks", None),
        ("databricks://profile", None),
        ("auto", None),
        ("local", None),
        ("", None),
    ],
)
def test_endpoints(address: str, where: tuple[str, int] | None) -> None:
    assert endpoint(address, 1) == where


def test_a_port_that_is_none() -> None:
    assert unanswered("http://host:port", 1) == "that is no address with a host and a port"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("me:hush@head:6379", "head:6379"),
        ("cannot reach me:hush@head:6379", "cannot reach head:6379"),
        ("http:/me:hush@host", "http:/host"),
        ("http:////me:hush@host/api", "http:////host/api"),
        ("http://host/?auth=hush", "http://host/?auth=***"),
        ("http://host/?a=1;password=hush&b=2", "http://host/?a=1;password=***&b=2"),
        ("http://host/#access_token=hush", "http://host/#access_token=***"),
        # What holds none stays.
        ("http://host:80/a", "http://host:80/a"),
        ("http://host/a@b", "http://host/a@b"),
        ("head:6379", "head:6379"),
        ("models:/ganflow@champion", "models:/ganflow@champion"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        ("at 12:30 me@host said: no", "at 12:30 me@host said: no"),
        ("abfs://container@account/prefix?scheme=https", "abfs://account/prefix?scheme=https"),
    ],
)
def test_what_is_shown_of_an_address(address: str, shown: str) -> None:
    assert masked(address) == shown
    assert "hush" not in shown

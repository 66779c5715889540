"""The platform on one machine as its users have it: real servers, a real worker, a real browser."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from components.maintenance.doctor.guards import guards
from components.services import password
from components.services.process import folder_id
from components.workspace.workspace import Workspace
from flows.cli.login import given
from flows.supervisor.members import members
from tests.conftest import PROJECT, environment, ganflow, refused, succeeded
from tests.harness.clusters import free_port
from tests.harness.platforms import Running

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def _yearly(month: int) -> dict[str, str]:
    return {"cron": f"0 4 1 {month} *", "timezone": "UTC"}


def _described(root: Path, **schedules: list[dict[str, str]]) -> None:
    """Write the workspace's own prefect.yaml: the project's, and further deployments of clean with these schedules."""
    described = yaml.safe_load((PROJECT / "prefect.yaml").read_text())
    clean = next(each for each in described["deployments"] if each["name"] == "clean")
    described["deployments"] += [{**clean, "name": name, "schedules": wanted} for name, wanted in schedules.items()]
    (root / "prefect.yaml").write_text(yaml.safe_dump(described))


# A scenario: the tests run in the order in which they are written, on one platform; the last one ends it.
@pytest.fixture(scope="module")
def running(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("platform") / "copy"
    shutil.copytree(finished, root)
    _described(root, yearly=[_yearly(1), _yearly(2), _yearly(3)], gone=[_yearly(1)])
    running = Running(root)
    try:
        running.up()
        yield running
    finally:
        ganflow(root, "down")


def test_a_second_up_finds_the_running_platform(running: Running) -> None:
    said = running.up()
    assert f"runs already (process {running.platform.supervisor.pid})" in said
    assert f"http://127.0.0.1:{running.ports[0]}" in said
    assert set(running.platform.parts) == {"prefect", "mlflow", "worker"}
    connections = [each for process in running.processes() for each in process.net_connections("inet")]
    listening = {each.laddr.port: each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    # Nothing of it can be reached from elsewhere.
    assert {*running.ports} <= listening.keys() and {*listening.values()} <= {"127.0.0.1", "::1"}


STRANGER = {"Origin": "http://stranger.example", "Content-Type": "application/json"}
COMMAND = {"state": {"type": "SCHEDULED"}, "job_variables": {"command": 'sh -c "id > ran.txt"'}}


def test_strangers_are_refused(running: Running) -> None:
    """Neither another user of the machine nor a page that is open in the browser learns or starts anything."""
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in running.ports)
    clean = running.get("deployments/name/clean/clean")["id"]
    asked = [
        ("POST", f"{prefect}/api/deployments/filter", {}),
        ("POST", f"{prefect}/api/deployments/{clean}/create_flow_run", COMMAND),
        ("GET", f"{prefect}/api/csrf-token?client=stranger", None),
        ("GET", f"{prefect}/api/admin/settings", None),
        ("POST", f"{mlflow}/api/2.0/mlflow/experiments/search", {"max_results": 1}),
        ("GET", f"{mlflow}/ajax-api/2.0/mlflow/experiments/search?max_results=1", None),
        ("POST", f"{mlflow}/api/2.0/mlflow/users/create", {"username": "me", "password": "x" * 20}),
        ("GET", f"{mlflow}/get-artifact?path=x&run_uuid=0", None),
    ]
    wrong = ("ganflow", "a password of somebody else")
    for method, url, body in asked:
        for headers in ({}, STRANGER, STRANGER | {"Host": "stranger.example"}):
            for auth in (None, wrong):
                answer = httpx.request(method, url, json=body, headers=headers, auth=auth, timeout=30)
                assert answer.status_code in (401, 403), (method, url, headers, answer.status_code)
    # A page of theirs is not let ask with what the browser knows either, and a form without the token changes nothing.
    allowed = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for server in (prefect, mlflow):
        answer = httpx.options(f"{server}/api/2.0/mlflow/experiments/search", headers=STRANGER | allowed)
        assert "access-control-allow-origin" not in answer.headers
    url = f"{prefect}/api/deployments/{clean}/create_flow_run"
    assert httpx.post(url, json=COMMAND, auth=running.auth, timeout=30).status_code == 403
    local = [psutil.Process(each.pid) for each in running.processes()]
    found = [found for found in guards(local, {}) if found.ok is not None]
    assert len(found) == 2 and all(each.ok for each in found), found


def test_the_password_stands_in_its_file_alone(running: Running) -> None:
    _, known = running.auth
    kept = password.file(Workspace(running.root))
    assert kept.stat().st_mode & 0o777 == 0o600
    holding = [file for file in running.root.rglob("*") if file.is_file() and known.encode() in file.read_bytes()]
    assert holding == [kept]
    assert not any(known in word for process in running.processes() for word in process.cmdline())
    assert known not in succeeded(ganflow(running.root, "status")) + running.up()
    assert "terminal only" in refused(running.root, "login")
    exported = succeeded(ganflow(running.root, "env"))
    # Prefect's own command, as it is typed in such a shell; ganflow finds its servers as before.
    line = f"{exported}\nprefect deployment ls && ganflow status"
    shell = subprocess.run(["sh", "-c", line], cwd=running.root, env=environment(), capture_output=True, text=True)
    assert "retrain/retrain" in succeeded(shell) and "healthy" in shell.stdout


def test_a_port_in_use_is_named_with_its_user(running: Running, make_workspace: Any) -> None:
    root = make_workspace()
    sentence = refused(root, "up", "--prefect-port", str(running.ports[0]), "--mlflow-port", str(free_port()))
    assert f"port {running.ports[0]} is in use by process {running.platform.parts['prefect'].pid}" in sentence
    assert "--prefect-port" in sentence


def test_nothing_new_ends_as_a_success_without_a_stage(running: Running) -> None:
    run = running.ended(running.started("retrain"))
    assert run["state"]["type"] == "COMPLETED"
    assert run["state"]["message"].startswith("Nothing new: ")
    tasks = running.post("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}}).json()
    assert [task["name"] for task in tasks] == ["data: no inbox"]
    assert run["name"] == "retrain: nothing new"
    assert run["tags"] == ["nothing new"]


def test_clean_removes_what_is_left_over_when_told_to(running: Running) -> None:
    scratch = running.root / ".ganflow" / "preprocess" / "0123456789abcdef"
    scratch.mkdir(parents=True)
    (scratch / "part-000000.npy").write_bytes(bytes(2_000_000))
    run = running.ended(running.started("clean", remove=True, keep_days=0))
    assert run["state"]["message"] == "1 thing, 2.0 MB, is removed"
    assert not scratch.exists()


def test_what_was_killed_is_started_again_in_place_of_what_it_left(running: Running) -> None:
    before = running.platform
    left = members(folder_id(Workspace(running.root)))
    for part in before.parts.values():
        # Alone: MLflow's leaves its own child, which holds the port.
        process = part.find()
        assert process
        process.kill()
    assert len(left) > len(before.parts)
    until = time.monotonic() + 180
    while not (set(running.platform.parts.values()).isdisjoint(before.parts.values()) and running.healthy()):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert not psutil.wait_procs(left, 60)[1]
    new = running.platform.parts
    # So long what does not get its port takes to end.
    time.sleep(6)
    assert running.platform.parts == new
    assert running.healthy()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"train": {"images": -5}}, "images"),
        ({"train": {"loss": "wassertsein"}}, "loss"),
        ({"preprocess": {"fit": "squeeze"}}, "fit"),
    ],
)
def test_a_wrong_value_is_refused_in_the_form(running: Running, wrong: dict[str, Any], named: str) -> None:
    answer = running.start("retrain", params=wrong)
    assert answer.status_code in (409, 422)
    assert named in answer.text


def test_what_is_wrong_is_the_state_of_the_run(running: Running) -> None:
    broken = {"preprocess": {"resolution": 28}, "train": {"images": 4096}, "retrain": {"inbox": "/nowhere/at/all"}}
    run = running.ended(running.started("retrain", params=broken))
    assert run["state"]["type"] == "FAILED"
    assert "/nowhere/at/all" in run["state"]["message"]
    assert "Traceback" not in run["state"]["message"]


@pytest.fixture(scope="module")
def told(running: Running) -> Iterator[list[str]]:
    """What a webhook, a block that the parameters name, is told."""
    heard: list[str] = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    block = (
        "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block;"
        f"url = 'http://127.0.0.1:{server.server_port}';"
        "Block(name='ops', url=url, json_data={'text': '{{body}}'}).save('ops')"
    )
    api = environment(**given(Workspace(running.root), running.platform))
    subprocess.run([sys.executable, "-c", block], env=api, check=True, cwd=running.root)
    with (running.root / "params.yaml").open("a") as params:
        params.write("retrain: {notify: custom-webhook/ops}\n")
    yield heard
    server.shutdown()


def _miss_schedules(root: Path) -> None:
    """The runs that are planned for drift and clean become those of the past, as after weeks without power."""
    database = sqlite3.connect(root / ".ganflow" / "prefect" / "prefect.db")
    of_two = "deployment_id IN (SELECT id FROM deployment WHERE name IN ('drift', 'clean'))"
    with database:
        for column in ("expected_start_time", "next_scheduled_start_time"):
            query = f"UPDATE flow_run SET {column} = datetime({column}, '-2000 days') WHERE auto_scheduled AND {of_two}"
            assert database.execute(query).rowcount >= 6
        details, time = "state_details", "'$.scheduled_time'"
        earlier = f"strftime('%Y-%m-%dT%H:%M:%SZ', json_extract({details}, {time}), '-2000 days')"
        chosen = f"flow_run_id IN (SELECT id FROM flow_run WHERE auto_scheduled AND {of_two})"
        database.execute(f"UPDATE flow_run_state SET {details} = json_set({details}, {time}, {earlier}) WHERE {chosen}")
    database.close()


def _change_in_the_pages(running: Running) -> None:
    """What somebody does there who wants something else than prefect.yaml says."""

    def of(name: str) -> dict[str, Any]:
        found: dict[str, Any] = running.get(f"deployments/name/{name}")
        return found

    def schedule_of(name: str, cron: str) -> str:
        found = next(each for each in of(name)["schedules"] if each["schedule"]["cron"] == cron)
        return f"deployments/{of(name)['id']}/schedules/{found['id']}"

    running.change("PATCH", schedule_of("retrain/retrain", "0 3 * * *"), {"active": False})
    running.change("PATCH", schedule_of("clean/yearly", _yearly(1)["cron"]), {"active": False})
    moved = {"schedule": {"cron": "0 9 9 9 *", "timezone": "UTC"}}
    running.change("PATCH", schedule_of("clean/yearly", _yearly(2)["cron"]), moved)
    running.change("PATCH", f"deployments/{of('render/render')['id']}", {"paused": True})
    made = [{"schedule": {"cron": "7 7 7 7 *", "timezone": "UTC"}, "active": True}]
    assert running.post(f"deployments/{of('render/render')['id']}/schedules", made).status_code == 201


@pytest.fixture(scope="module")
def retrained(running: Running, told: list[str]) -> dict[str, Any]:
    """A run of the worker with other parameters, during which everything was killed."""
    params = running.root / "params.yaml"
    params.write_text(params.read_text().replace("images: 4096", "images: 12288"))
    run = running.started("retrain")
    progress = running.root / ".ganflow" / "training"
    before = {*progress.iterdir()}
    until = time.monotonic() + 240
    while not [ready for new in {*progress.iterdir()} - before for ready in new.glob("checkpoints/0*[0-9]")]:
        assert time.monotonic() < until, running.get(f"flow_runs/{run}")["state"]
        time.sleep(0.1)
    _change_in_the_pages(running)
    # The first is another one now, the second as it was, the third and a whole deployment are no more.
    _described(running.root, yearly=[_yearly(11), _yearly(2)])
    # All of it at once, as when the machine loses its power.
    for process in running.processes():
        with suppress(psutil.NoSuchProcess):
            process.kill()
    assert "not running" in succeeded(ganflow(running.root, "status"))
    _miss_schedules(running.root)
    running.up()
    until = time.monotonic() + 180
    while running.get(f"flow_runs/{run}")["state"]["type"] != "RUNNING":
        assert time.monotonic() < until
        time.sleep(0.1)
    # A run outlives its worker.
    worker = running.platform.parts["worker"].find()
    assert worker
    worker.kill()
    return running.ended(run)


def test_a_run_whose_machine_died_goes_on_from_its_checkpoint(running: Running, retrained: dict[str, Any]) -> None:
    assert retrained["state"]["type"] == "COMPLETED", retrained["state"]
    assert "version 2: " in retrained["state"]["message"]
    assert retrained["run_count"] == 2
    states = running.get(f"flow_run_states/?flow_run_id={retrained['id']}")
    crashed = [state for state in states if state["type"] == "CRASHED"]
    assert len(crashed) == 1
    assert "is gone" in crashed[0]["message"]
    told = running.post("task_runs/filter", {"flow_runs": {"id": {"any_": [retrained["id"]]}}}).json()
    assert {task["state"]["type"] for task in told} <= {"COMPLETED", "CRASHED"}
    assert [task["name"].partition(":")[0] for task in told].count("train") == 2
    assert "training goes on at image" in (running.root / ".ganflow" / "platform" / "runs.log").read_text()
    database = sqlite3.connect(running.root / "mlruns" / "mlflow.db")
    assert {status for (status,) in database.execute("SELECT status FROM runs")} == {"FINISHED"}


def test_pauses_and_changes_of_the_pages_stay_and_those_of_the_file_are_followed(
    running: Running, retrained: dict[str, Any]
) -> None:
    def schedules(name: str) -> set[tuple[str, bool]]:
        found = running.get(f"deployments/name/{name}")["schedules"]
        return {(each["schedule"]["cron"], each["active"]) for each in found}

    assert schedules("retrain/retrain") == {("0 3 * * *", False)}
    assert schedules("clean/clean") == {("0 5 * * 0", True)}
    assert schedules("clean/yearly") == {(_yearly(11)["cron"], False), ("0 9 9 9 *", True)}
    assert schedules("render/render") == {("7 7 7 7 *", True)}
    assert running.get("deployments/name/render/render")["paused"]
    deployed = running.post("deployments/filter", {}).json()
    assert {each["name"] for each in deployed} == {"retrain", "drift", "render", "apply", "clean", "yearly"}
    assert [each["name"] for each in deployed if each["paused"]] == ["render"]
    said = (running.root / ".ganflow" / "platform" / "platform.log").read_text()
    assert "clean/gone is not in prefect.yaml any more: its deployment is removed" in said
    assert "clean/yearly: a schedule follows its change in prefect.yaml, and stays paused" in said
    assert "clean/yearly: a schedule is not in prefect.yaml any more, and is removed" in said


@pytest.fixture
def artifacts(running: Running, retrained: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The latest of each key."""
    found = running.post("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [retrained["id"]]}}}).json()
    return {artifact["key"]: artifact for artifact in sorted(found, key=lambda a: a["created"])}


def test_the_run_tells_progress_samples_scores_and_verdict(
    running: Running, artifacts: dict[str, dict[str, Any]]
) -> None:
    assert artifacts["training"]["type"] == "progress"
    assert artifacts["training"]["data"] == 100
    assert artifacts["samples"]["data"].startswith("data:image/png;base64,")
    assert len(artifacts["samples"]["data"]) > 2_000
    assert artifacts["training"]["description"].startswith("12,288 of 12,288 images; score ")
    agreement = json.loads(artifacts["scores"]["data"])[0]
    assert agreement["name"].startswith("agreement_classifier")
    assert agreement["how to read it"].startswith("higher is better")
    address = f"http://127.0.0.1:{running.ports[1]}/#/models/ganflow/versions/2?workflowType=machine_learning"
    assert address in artifacts["verdict"]["data"]
    assert address in artifacts["result"]["data"]


def test_the_logs_say_what_ran_and_why_and_what_the_terminal_shows(running: Running, retrained: dict[str, Any]) -> None:
    asked = {"logs": {"flow_run_id": {"any_": [retrained["id"]]}}, "limit": 200, "sort": "TIMESTAMP_ASC"}
    said = [line["message"] for line in running.post("logs/filter", asked).json()]
    for words in ("train: its parameters changed", "evaluate: train runs", "Skipped: parameters, inputs and code"):
        assert any(words in line for line in said), words
    # By the task, and by the thread that follows the training.
    assert any(line.startswith("training goes on at image") for line in said)
    assert any(line.startswith("train 12,288 of 12,288 images") for line in said)
    assert said[-1].startswith("Finished in state")


def test_the_form_begins_with_what_is_chosen_and_ends_with_the_workspace(running: Running) -> None:
    """A wrong choice is refused before anything runs; what contradicts itself ends the run with a sentence."""
    schema = running.get("deployments/name/retrain/retrain")["parameter_openapi_schema"]["properties"]
    fields = sorted(schema, key=lambda name: schema[name]["position"])
    assert fields == ["preset", "network", "images", "params", "workspace"]
    assert all(schema[name]["description"] for name in fields)
    assert {"params.yaml", "dcgan", "r3gan"} <= {*schema["network"]["enum"]}
    for wrong in ({"network": "dcgna"}, {"preset": "digit"}, {"images": 0}):
        assert running.start("retrain", **wrong).status_code in (409, 422), wrong
    run = running.ended(running.started("retrain", images=4096, params={}))
    assert run["name"] == "retrain: failed"
    assert "params takes the place of all other choices" in run["state"]["message"]


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")
def test_the_pages_show_it(
    running: Running, retrained: dict[str, Any], artifacts: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    from playwright.sync_api import HttpCredentials, sync_playwright

    # GANFLOW_SCREENSHOTS=docs makes those that README shows.
    shots = Path(os.environ.get("GANFLOW_SCREENSHOTS") or tmp_path)
    prefect, mlflow = (f"http://127.0.0.1:{port}" for port in running.ports)
    database = sqlite3.connect(running.root / "mlruns" / "mlflow.db")
    version = "(SELECT run_id FROM model_versions WHERE version = 2)"
    query = f"SELECT run_uuid, name, experiment_id FROM runs WHERE run_uuid IN {version}"
    ((run_id, name, experiment),) = database.execute(query).fetchall()
    errors: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        user, known = running.auth
        asked = HttpCredentials(username=user, password=known, origin=mlflow)
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, http_credentials=asked)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(prefect)
        page.locator("input[type=password]").fill(f"{user}:{known}")
        page.keyboard.press("Enter")
        page.get_by_text("Flow Runs").first.wait_for()
        page.goto(f"{prefect}/runs/flow-run/{retrained['id']}")
        page.get_by_text(retrained["name"]).first.wait_for()
        page.get_by_text("Completed").first.wait_for()
        page.get_by_text("Task Runs").first.wait_for()
        page.get_by_text("train 12,288 of 12,288 images").first.wait_for()
        page.wait_for_timeout(2000)
        page.screenshot(path=shots / "prefect_run.png")
        page.get_by_text("Artifacts", exact=True).last.click()
        for key in ("training", "samples", "scores", "verdict", "result"):
            page.get_by_text(key).first.wait_for()
        # Did last night's run work, and what did it do? The list says so, and the result why, with pictures.
        page.goto(f"{prefect}/runs")
        page.get_by_text("retrain: version 2 ").first.wait_for()
        page.goto(f"{prefect}/artifacts/artifact/{artifacts['result']['id']}")
        page.get_by_text("its parameters changed").first.wait_for()
        page.get_by_role("link", name="version 2").first.wait_for()
        shown = page.locator("img[alt='Finished pictures']")
        shown.wait_for()
        assert shown.evaluate("image => image.complete && image.naturalWidth") > 100
        assert "&#" not in page.locator("body").inner_text()
        page.screenshot(path=shots / "prefect_result.png")
        page.goto(f"{prefect}/deployments/deployment/{retrained['deployment_id']}/run")
        page.get_by_text("the pair of networks").first.wait_for()
        page.screenshot(path=shots / "prefect_form.png")
        page.goto(f"{prefect}/artifacts/artifact/{artifacts['samples']['id']}")
        page.locator("img[src^='data:image/png']").first.wait_for()
        page.goto(f"{prefect}/artifacts/artifact/{artifacts['verdict']['id']}")
        page.get_by_text("version 2").first.wait_for()
        page.screenshot(path=shots / "prefect_verdict.png")
        page.goto(f"{mlflow}/#/experiments/{experiment}/runs/{run_id}")
        page.get_by_text(name).first.wait_for()
        page.get_by_text("Finished").first.wait_for()
        page.goto(f"{mlflow}/#/experiments/{experiment}/runs/{run_id}/model-metrics")
        page.get_by_text("Model metrics").first.wait_for()
        page.goto(f"{mlflow}/#/models/ganflow/versions/2")
        page.get_by_text("challenger").first.wait_for()
        page.get_by_text("How to use it").first.wait_for()
        browser.close()
    assert not errors


def test_of_what_was_missed_one_run_is_made_up_for(running: Running, retrained: dict[str, Any]) -> None:
    def runs(state: str) -> list[dict[str, Any]]:
        body = {"flow_runs": {"state": {"type": {"any_": [state]}}}, "limit": 200}
        found: list[dict[str, Any]] = running.post("flow_runs/filter", body).json()
        return [run for run in found if run["auto_scheduled"]]

    assert len([run for run in runs("CANCELLED") if "Missed while" in run["state"]["message"]]) >= 4
    until = time.monotonic() + 180
    while len(done := runs("COMPLETED")) < 2:
        assert time.monotonic() < until, done
        time.sleep(0.5)
    assert sorted(run["name"].partition(":")[0] for run in done) == ["clean", "drift"]


def test_the_block_that_the_parameters_name_is_told(
    running: Running, told: list[str], retrained: dict[str, Any]
) -> None:
    """Of a new run: Prefect tells of one that its server was killed under a quarter of an hour later."""
    run = running.ended(running.started("drift"))
    assert run["state"]["message"] == "Nothing can arrive: params.yaml names no retrain.inbox"
    until = time.monotonic() + 120
    while not any(f"{run['name']}: Completed. Nothing can arrive" in text for text in told):
        assert time.monotonic() < until, told
        time.sleep(0.2)


def test_down_returns_when_no_process_is_left(running: Running) -> None:
    processes = running.processes()
    assert len(processes) >= 4
    assert "has ended" in succeeded(ganflow(running.root, "down"))
    _, alive = psutil.wait_procs(processes, timeout=0)
    assert not alive
    assert "does not run" in succeeded(ganflow(running.root, "down"))
    assert not (running.root / ".ganflow" / "platform.json").exists()

"""The Ray session of this process: started once in a thread of its own, or joined by `RAY_ADDRESS`."""

from __future__ import annotations

import atexit
import os
import secrets
import shlex
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path

from ...gan.errors import UnreachableError
from .. import signals
from ..address import masked
from ..own_folder import own_folder

# In seconds: how soon a worker that died is seen, one that is frozen given up, the ends of others waited for, and a
# range of workers started with those that found room.
_PATIENCE = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "20",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "3",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "15",
}
_COMPONENTS = Path(__file__).resolve().parents[2]
_thread: threading.Thread | None = None
_ready: Future[None] = Future()
_stop = threading.Event()


def address() -> str | None:
    """Return the cluster that the user named, if any; `local` is Ray's word for none."""
    named = os.environ.get("RAY_ADDRESS", "")
    return named if named not in ("", "local") else None


def start() -> None:
    """Start or join Ray in the background; `wait` for it before use."""
    global _thread, _ready
    if _stop.is_set():
        stop()
    if _thread is None:
        _ready = Future()
        _thread = threading.Thread(target=_run, name="ray", daemon=True)
        _thread.start()
        atexit.register(stop)


def release() -> None:
    """Let Ray end, or leave the cluster that was joined, in the background: what comes next needs the processors."""
    _stop.set()


def stop() -> None:
    """Release Ray and wait until it has ended."""
    global _thread
    _stop.set()
    if _thread is not None:
        _thread.join()
    _thread = None
    _stop.clear()


def wait() -> None:
    """Wait until Ray is ready.

    Raises:
        UserError: the cluster named by RAY_ADDRESS cannot be joined.
    """
    start()
    try:
        _ready.result()
    # A start that takes too long is told by a plain Exception.
    except Exception as error:
        reason = masked(" ".join(str(error).split()))[:300]
        remedy = "start that cluster, or unset RAY_ADDRESS" if address() else "`ganflow doctor` looks for the cause"
        where = masked(address() or "this machine")
        raise UnreachableError(f"cannot use Ray at {where}: {reason}; {remedy}") from None


def _run() -> None:
    """Body of the thread that owns Ray."""
    quiet = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
        # Training is what the machine is for; Ray would run it at the lowest priority.
        "RAY_worker_niceness": "0",
    }
    for name, value in (quiet | _PATIENCE).items():
        os.environ.setdefault(name, value)
    # A terminal that is closed tells all its processes to end: Ray's are needed for the last checkpoint.
    signals.hide_from_children((signal.SIGHUP, signal.SIGQUIT))
    try:
        if address() is None:
            _guard()
        import ray
        from ray._private import ray_constants

        # Of one machine Ray listens on no network: so it does by itself where firewalls ask at every start.
        ray_constants.ENABLE_RAY_CLUSTER = address() is not None
        # Ray's own handler, registered by its import, would end it under a start that is not over: ours comes first.
        atexit.register(stop)
        if _stop.is_set():
            raise ConnectionError("the process ends")
        # A cluster's nodes need our packages only: the code goes along, and nothing else of this folder.
        code = {
            "py_modules": [str(_COMPONENTS)],
            "excludes": ["__pycache__"],
            "worker_process_setup_hook": use_network_of_node,
            "env_vars": {name: os.environ[name] for name in _PATIENCE},
        }
        # Ray writes it into a line of shell as it is.
        python = shlex.quote(sys.executable)
        here = {"py_executable": python} if python != sys.executable else None
        ray.init(
            address=address() or "local",
            runtime_env=code if address() else here,
            log_to_driver=False,
            logging_level="ERROR",
            include_dashboard=False,
            # Ray opens the folder that it is given to everybody.
            **({} if address() else {"_temp_dir": str(own_folder() / "r")}),
        )
    except BaseException as error:
        _ready.set_exception(error)
        return
    _ready.set_result(None)
    _stop.wait()
    ray.shutdown()


def _guard() -> None:
    """Have Ray ask for a token of this session, which stands in no file: no home directory is needed to keep it."""
    os.environ["RAY_AUTH_MODE"] = "token"
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def use_network_of_node() -> None:
    """Let gloo and NCCL use the interface that Ray knows this node by.

    They would take what the hostname resolves to, which on many systems is a loopback address.
    """
    import psutil
    from ray.util import get_node_ip_address

    for name, addresses in psutil.net_if_addrs().items():
        if get_node_ip_address() in (address.address for address in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
            os.environ.setdefault("NCCL_SOCKET_IFNAME", name)

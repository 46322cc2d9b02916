"""The Ray executor against real clusters: one of its own, and two nodes started by `ray start`."""

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from ray_nodes import RayNodes, free_port, kill, wait_until
from small_search import products, small_adaptation, small_options
from test_executors import is_running, orders, run, trainer, training_orders
from torch import Tensor, nn

from netadapt.errors import BudgetError, RunError
from netadapt.lut.store import Table
from netadapt.measure.device import Device
from netadapt.search.executors import make_executor
from netadapt.search.observer import Observer
from netadapt.search.outcome import Order, Outcome
from netadapt.train.task import Classification

pytest.importorskip("ray", reason="Ray is not installed; pip install '.[ray]'")
pytestmark = pytest.mark.timeout(300)

LARGE = 60_000_000


@dataclass
class Scripted:
    """Does with an order what its group says; counts tries in files, as workers are processes of their own."""

    folder: Path

    def __call__(self, order: Order) -> Outcome:
        what = order.proposal.group
        tries = len(list(self.folder.glob(f"{what}.try*")))
        (self.folder / f"{what}.try{tries}").write_text(str(os.getpid()))
        if what == "dies" or (what == "dies once" and tries == 0):
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "raises":
            raise RuntimeError("no such layer\nand more")
        if what == "exhausts memory":
            exhaust_memory()
        if what == "is interrupted" and tries == 0:
            (self.folder / "at it").touch()
            time.sleep(600)
        order.target.write_bytes(order.source.read_bytes() + what.encode())
        if what == "is large":
            order.products[-1].write_bytes(bytes(LARGE))
            (self.folder / f"large{tries}").touch()
        threads = torch.get_num_threads()
        return Outcome(order.proposal, order.look, score=threads, loss=1.0, seconds=0.0, weights=order.target)


def exhaust_memory() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 50_000_000, limits[1]))
    try:
        bytearray(1_000_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def scripted_orders(folder: Path, *doings: str) -> list[Order]:
    (folder / "source").write_bytes(b"weights, then ")
    return [
        replace(order, proposal=replace(order.proposal, group=doing), target=folder / f"{doing}.safetensors")
        for order, doing in zip(orders(folder, len(doings)), doings, strict=True)
    ]


def tries_of(folder: Path, doing: str) -> int:
    return len(list(folder.glob(f"{doing}.try*")))


# --- a cluster of its own ---


def test_a_local_cluster_makes_the_networks_of_serial_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    environment, folders = settings(), own_folders()
    made = []
    for workers in (1, "ray:2"):
        folder = tmp_path / str(workers)
        made_by = trainer()
        outcomes = run(made_by, workers, training_orders(made_by, folder))  # type: ignore[arg-type]
        scores = {group: (outcome.score, outcome.loss) for group, outcome in outcomes.items()}
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert {outcome.weights.parent for outcome in outcomes.values()} == {folder}
        made.append((scores, files))
    assert made[0] == made[1]
    assert len(made[0][0]) == 3
    assert settings() == environment
    assert own_folders() <= folders
    assert not (tmp_path / "home").exists()
    assert not ray_processes()


def own_folders() -> set[Path]:
    return set(Path("/tmp").glob(f"netadapt-{os.getuid()}-*"))


def settings() -> dict[str, str]:
    # torch sets one of its own when it narrows for the first time.
    return {name: value for name, value in os.environ.items() if not name.startswith("TORCH")}


def test_what_goes_wrong_costs_only_its_proposal(tmp_path: Path) -> None:
    doings = ("works", "dies once", "dies", "raises", "exhausts memory")
    missing = replace(scripted_orders(tmp_path, "has no source")[0], source=tmp_path / "missing")
    outcomes: dict[str, Outcome] = {}
    with make_executor(Scripted(tmp_path), "ray:2") as executor:
        executor.run([*scripted_orders(tmp_path, *doings), missing], lambda o: outcomes.update({o.proposal.group: o}))
        executor.run(scripted_orders(tmp_path, "works again"), lambda o: outcomes.update({o.proposal.group: o}))
    assert (tmp_path / "dies once.safetensors").read_bytes() == b"weights, then dies once"
    made = {group: outcome.score for group, outcome in outcomes.items() if not outcome.dropped}
    assert made == {"works": 1, "dies once": 1, "works again": 1}  # each with one thread
    assert outcomes["dies"].dropped.startswith("its worker died 2 times (its worker process has died")
    assert outcomes["raises"].dropped == "RuntimeError: no such layer\nand more"
    assert outcomes["exhausts memory"].dropped.startswith("MemoryError")
    assert outcomes["has no source"].dropped.startswith("FileNotFoundError")
    assert tries_of(tmp_path, "dies") == 2
    assert not outcomes["dies"].weights.exists()


def ray_processes() -> set[int]:
    """Processes of Ray that descend from this one."""
    lines = subprocess.check_output(["ps", "-eo", "pid,ppid,args"], text=True).splitlines()[1:]
    parents = {int(line.split()[0]): int(line.split()[1]) for line in lines}
    rays = {int(line.split()[0]) for line in lines if "ray" in line.split(maxsplit=2)[2].lower()}

    def descends(pid: int) -> bool:
        while pid in parents:
            pid = parents[pid]
            if pid == os.getpid():
                return True
        return False

    return {pid for pid in rays if descends(pid)}


DRIVER = """
import sys
from pathlib import Path
from test_ray import Scripted, scripted_orders
from netadapt.search.executors import make_executor

folder = Path(sys.argv[1])
with make_executor(Scripted(folder), sys.argv[2]) as executor:
    executor.run(scripted_orders(folder, "is interrupted"), print)
"""


def start_driver(folder: Path, workers: str, **settings: str) -> subprocess.Popen[bytes]:
    """A search in a process of its own, when its worker is at it."""
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), workers],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **settings},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_until((folder / "at it").exists)
    return driver


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_local_cluster_ends_with_the_search(tmp_path: Path, ending: signal.Signals) -> None:
    driver = start_driver(tmp_path, "ray:1")
    worker = int((tmp_path / "is interrupted.try0").read_text())
    session = [int(pid) for pid in subprocess.check_output(["pgrep", "-s", str(driver.pid)], text=True).split()]
    assert worker in session
    assert len(session) > 3
    # Ctrl-C reaches all processes of the terminal.
    os.killpg(driver.pid, ending) if ending == signal.SIGINT else driver.send_signal(ending)
    driver.communicate(timeout=60)
    if ending == signal.SIGKILL:
        wait_until(lambda: not is_running(worker), limit_s=10)
        # Of Ray itself two processes that serve the others notice after a minute only.
        left = [pid for pid in session if is_running(pid)]
        assert {Path(f"/proc/{pid}/comm").read_text().strip() for pid in left} <= {"ray::DashboardA", "ray::RuntimeEnv"}
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    else:
        wait_until(lambda: not any(is_running(pid) for pid in session), limit_s=10)


def test_a_local_cluster_ends_even_if_its_raylet_hangs(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, "ray:1")
    session = [int(pid) for pid in subprocess.check_output(["pgrep", "-s", str(driver.pid)], text=True).split()]
    (raylet,) = (pid for pid in session if Path(f"/proc/{pid}/comm").read_text().strip() == "raylet")
    os.kill(raylet, signal.SIGSTOP)
    driver.send_signal(signal.SIGINT)
    driver.communicate(timeout=60)
    wait_until(lambda: not any(is_running(pid) for pid in session), limit_s=10)


def test_a_local_cluster_has_a_token_of_its_own_and_listens_to_this_machine_alone(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, "ray:1", HOME=str(tmp_path / "home"), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="")
    session = subprocess.check_output(["pgrep", "-s", str(driver.pid)], text=True).split()
    inodes = {os.readlink(path) for pid in session for path in readable(Path(f"/proc/{pid}/fd"))}
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and f"socket:[{line.split()[9]}]" in inodes
    ]
    os.kill(driver.pid, signal.SIGTERM)
    driver.communicate(timeout=60)
    assert len(listening) >= 3
    # 127.0.0.1, as the kernel writes it, alone or within IPv6.
    assert {address.split(":")[0][-8:] for address in listening} == {"0100007F"}
    assert not (tmp_path / "home").exists()


def readable(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_symlink()]
    except OSError:
        return []


def test_a_program_that_is_connected_to_ray_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    with pytest.raises(RunError, match="connected to Ray already"):
        make_executor(Scripted(tmp_path), "ray:1").__enter__()


def test_what_cannot_be_sent_is_told(tmp_path: Path) -> None:
    carry_out = Scripted(tmp_path)
    carry_out.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"cannot be sent to other machines \(.*lock"):
        make_executor(carry_out, "ray:1").__enter__()


# --- a running cluster of several nodes ---


@pytest.fixture(scope="module")
def nodes() -> Iterator[RayNodes]:
    started = RayNodes()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def pair(nodes: RayNodes) -> "list[subprocess.Popen[bytes]]":
    """Two nodes of one processor each, beside the head node, which has none."""
    return nodes.have(2)


@pytest.fixture
def lone(nodes: RayNodes) -> Iterator[RayNodes]:
    """A cluster without other nodes than the head node, and those that the test adds."""
    nodes.have(0)
    yield nodes
    nodes.have(0)


class KillsANode(Observer):
    """Kills a node when the first proposal of the second iteration has been made."""

    def __init__(self, node: "subprocess.Popen[bytes]") -> None:
        self.node = node
        self.dropped: list[str] = []

    def proposal(self, outcome: Outcome, done: int, total: int) -> None:
        self.dropped.append(outcome.dropped)
        if outcome.proposal.iteration == 1:
            kill(self.node)


def test_a_search_that_loses_a_node_makes_the_networks_of_serial(
    device: Device, table: Table, tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    small_adaptation(device, table, tmp_path / "serial", small_options()).run()
    observer = KillsANode(pair[0])
    options = small_options(workers=nodes.address)
    small_adaptation(device, table, tmp_path / "ray", options, observer=observer).run()
    assert products(tmp_path / "ray") == products(tmp_path / "serial")
    assert pair[0].poll() is not None
    assert set(observer.dropped) == {""}


def test_a_node_that_dies_in_the_middle_of_a_proposal_costs_its_time_only(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    outcomes: list[Outcome] = []
    work = scripted_orders(tmp_path, "is interrupted", *(f"works {number}" for number in range(4)))

    def kill_its_node() -> None:
        wait_until((tmp_path / "at it").exists)
        worker = int((tmp_path / "is interrupted.try0").read_text())
        kill(next(node for node in pair if os.getsid(worker) == node.pid or descends_from(worker, node.pid)))

    killer = threading.Thread(target=kill_its_node)
    killer.start()
    with make_executor(Scripted(tmp_path), nodes.address) as executor:
        executor.run(work, outcomes.append)
    killer.join()
    assert [outcome.dropped for outcome in outcomes] == [""] * 5
    assert tries_of(tmp_path, "is interrupted") == 2


def descends_from(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return False


@pytest.mark.parametrize("later_s", [0.0, 0.2])
def test_a_node_that_dies_while_its_outcome_is_on_the_way_costs_its_time_only(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]", later_s: float
) -> None:
    def kill_its_node() -> None:
        wait_until((tmp_path / "large0").exists)
        time.sleep(later_s)
        worker = int((tmp_path / "is large.try0").read_text())
        kill(next(node for node in pair if descends_from(worker, node.pid)))

    killer = threading.Thread(target=kill_its_node)
    killer.start()
    outcomes: list[Outcome] = []
    work = scripted_orders(tmp_path, "is large")
    with make_executor(Scripted(tmp_path), nodes.address) as executor:
        executor.run(work, outcomes.append)
    killer.join()
    assert [outcome.dropped for outcome in outcomes] == [""]
    assert work[0].products[-1].stat().st_size == LARGE


def test_idle_workers_of_a_lost_node_cost_no_order_its_tries(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    outcomes: list[Outcome] = []
    with make_executor(Scripted(tmp_path), nodes.address) as executor:
        executor.run(scripted_orders(tmp_path, "a", "b", "c", "d"), outcomes.append)
        kill(pair[0])
        executor.run(scripted_orders(tmp_path, "e", "f", "g", "h"), outcomes.append)
    assert [outcome.dropped for outcome in outcomes] == [""] * 8
    assert all(tries_of(tmp_path, doing) == 1 for doing in "abcdefgh")


class Interrupts(Observer):
    """Ctrl-C in the middle of the second iteration."""

    def proposal(self, outcome: Outcome, done: int, total: int) -> None:
        if outcome.proposal.iteration == 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("ray_first", [True, False])
def test_a_run_is_resumed_with_processes_and_the_other_way_round(
    device: Device,
    table: Table,
    tmp_path: Path,
    nodes: RayNodes,
    pair: "list[subprocess.Popen[bytes]]",
    ray_first: bool,
) -> None:
    small_adaptation(device, table, tmp_path / "serial", small_options()).run()
    first, second = (nodes.address, 2) if ray_first else (2, nodes.address)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        small_adaptation(device, table, out, small_options(workers=first), observer=Interrupts()).run()
    small_adaptation(device, table, out, small_options(workers=second)).run(resume=True)
    assert products(out) == products(tmp_path / "serial")


class Diverging(Classification):
    """A task whose every loss is NaN."""

    def loss(self, module: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return super().loss(module, images, targets) * torch.nan


def test_when_every_proposal_is_dropped_the_reason_is_told(
    device: Device, table: Table, tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    options = small_options(workers=nodes.address)
    with pytest.raises(BudgetError, match=r"all proposals of iteration 0 were dropped: the loss became nan"):
        small_adaptation(device, table, tmp_path, options, task=Diverging()).run()


def test_workers_on_a_cluster_end_when_the_search_is_killed(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    driver = start_driver(tmp_path, nodes.address, RAY_CLIENT_RECONNECT_GRACE_PERIOD="2")
    worker = int((tmp_path / "is interrupted.try0").read_text())
    kill(driver)
    # Ray waits for a client that may come back.
    wait_until(lambda: not is_running(worker), limit_s=60)


def test_a_cluster_leaves_no_temporary_folders(tmp_path: Path, lone: RayNodes) -> None:
    (tmp_path / "temporary").mkdir()
    lone.add(TMPDIR=str(tmp_path / "temporary"))
    run(Scripted(tmp_path), lone.address, scripted_orders(tmp_path, "dies once", "works"))  # type: ignore[arg-type]
    assert not list((tmp_path / "temporary").glob("netadapt-*"))


def test_a_node_with_another_version_is_refused(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netadapt.search.executors.ray.versions", lambda: {"netadapt": "99.0", "torch": "1.13"})
    with pytest.raises(
        RunError, match=r"node \S+ of the Ray cluster has netadapt \S+ instead of 99\.0 and torch \S+ instead of"
    ):
        make_executor(Scripted(tmp_path), nodes.address).__enter__()


def test_a_node_without_netadapt_is_told(tmp_path: Path, lone: RayNodes) -> None:
    (tmp_path / "netadapt").mkdir()
    (tmp_path / "netadapt" / "__init__.py").write_text("")
    lone.add(PYTHONPATH=str(tmp_path))
    with pytest.raises(RunError, match=r"cannot start workers: ModuleNotFoundError: .*netadapt.*; every node needs"):
        make_executor(Scripted(tmp_path), lone.address).__enter__()


def test_a_node_without_the_users_modules_is_told(tmp_path: Path, lone: RayNodes) -> None:
    lone.add(PYTHONPATH="")
    with pytest.raises(RunError, match=r"cannot load the network, data or task \(.*test_ray"):
        make_executor(Scripted(tmp_path), lone.address).__enter__()


def test_a_cluster_without_a_free_processor_is_given_up(
    tmp_path: Path, lone: RayNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netadapt.search.executors.ray._IDLE_LIMIT_S", 3.0)
    monkeypatch.setattr("netadapt.search.executors.ray._LOOK_S", 1.0)
    with pytest.raises(
        RunError, match=r"has had no worker for 3 s \(no processor of it is free\); go on with --resume"
    ):
        make_executor(Scripted(tmp_path), lone.address).__enter__()


# --- clusters that cannot be used ---


def test_a_lost_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_CLIENT_RECONNECT_GRACE_PERIOD", "2")
    cluster = RayNodes(processors=1)
    try:
        killer = threading.Thread(target=lambda: (wait_until((tmp_path / "at it").exists), kill(cluster.head)))
        killer.start()
        with pytest.raises(RunError, match=rf"the Ray cluster at {cluster.address} was lost .*; go on with --resume"):
            run(Scripted(tmp_path), cluster.address, scripted_orders(tmp_path, "is interrupted"))  # type: ignore[arg-type]
        killer.join()
    finally:
        cluster.stop()


def test_something_that_is_no_cluster_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray.util.client.worker as client

    monkeypatch.setattr(client, "INITIAL_TIMEOUT_SEC", 1)
    monkeypatch.setattr(client, "MAX_TIMEOUT_SEC", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"ray://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RunError, match=rf"no Ray cluster answers at {address} \(.*\); .* on its head node run"):
            make_executor(Scripted(tmp_path), address).__enter__()


def test_another_version_of_ray_is_told(tmp_path: Path, nodes: RayNodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.__version__", "2.61.0")
    with pytest.raises(RunError, match=r"has Ray: 2\.\S+ and Python: \S+, this machine Ray: 2\.61\.0 and Python"):
        make_executor(Scripted(tmp_path), nodes.address).__enter__()


IMPATIENT = {"RAY_CLIENT_INITIAL_CONNECTION_TIMEOUT_S": "1", "RAY_CLIENT_MAX_CONNECTION_TIMEOUT_S": "1"}


def test_the_command_line_uses_a_cluster_with_its_token(
    tmp_path: Path, nodes: RayNodes, pair: "list[subprocess.Popen[bytes]]"
) -> None:
    wrong = adapt(tmp_path, nodes.address, {"RAY_AUTH_TOKEN": "b" * 64, **IMPATIENT})
    assert wrong.returncode == 2, wrong.stderr
    last = wrong.stderr.strip().splitlines()[-1]
    assert last.startswith(f"netadapt: no Ray cluster answers at {nodes.address}")
    assert "RAY_AUTH_TOKEN" in last
    right = adapt(tmp_path, nodes.address, {})
    assert right.returncode == 0, right.stderr


def test_the_command_line_refuses_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    refused = adapt(tmp_path, f"ray://127.0.0.1:{free_port()}", {})
    assert refused.returncode == 2
    assert refused.stderr.startswith("netadapt: no Ray cluster can be reached at ray://127.0.0.1:")
    assert not (tmp_path / "run").exists()


def adapt(folder: Path, workers: str, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            *["netadapt", "adapt", "mobilenet_v1:0.25@32", "--data", "fashion-mnist-mini", "--budget", "macs=0.93x"],
            *["--iterations", "1", "--steps", "1", "--long-steps", "1", "--workers", workers, "--resume"],
            *["--out", str(folder / "run"), "--table", str(folder / "table.sqlite"), "--no-correction", "--json"],
        ],
        env={**os.environ, **settings, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

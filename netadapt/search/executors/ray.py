"""Carry out orders on a Ray cluster: of this machine, or of several.

Network, data and task are put in Ray's object store once, and so is the source of each iteration. Orders and outcomes
cross as plain values and the files that they leave as bytes, so nodes share no file system. A worker or a node
that dies costs the time of its proposals: they are made again by others.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray
from ray.exceptions import ActorDiedError, GetTimeoutError, RayError, RayTaskError

from netadapt.errors import RunError
from netadapt.files import write_atomically
from netadapt.search.executors import CarryOut, OnOutcome
from netadapt.search.executors.ray_cluster import first_line, local_cluster, running_cluster
from netadapt.search.executors.ray_worker import Answer, RayWorker, versions
from netadapt.search.executors.workers import LOCAL, Workers
from netadapt.search.outcome import Order, Outcome, dropped

#: An order whose worker died is given to another one once, as by `processes`.
_TRIES = 2
#: How long the cluster may be without any worker: all others are busy with something else, or its nodes are gone.
_IDLE_LIMIT_S = 120.0
#: How often it is looked at while nothing happens.
_LOOK_S = 5.0
#: How often it is looked at while what a worker has made is on its way, and how long the worker may then take to say
#: that it is still there.
_FETCH_LOOKS = 60
_ANSWER_LIMIT_S = 30.0
#: How long workers are given to tidy up.
_CLOSE_LIMIT_S = 5.0


@dataclass(eq=False)
class _Worker:
    """`pending` is the reference of its next sign of life, None if it has nothing to do; `up` once it has begun.

    `result` is the reference of what it makes of its order, never waited for: see `_fetched`.
    """

    actor: Any
    pending: Any
    order: Order | None = None
    result: Any = None
    up: bool = False


@dataclass(frozen=True)
class _Source:
    """A file of weights; `name` says what is in it, `content` is the reference of its bytes."""

    path: Path
    name: str
    content: Any


class _Died(Exception):  # noqa: N818 - a state, not a mistake
    """A worker, or the node it was on, is gone; the message is how."""


class RayExecutor:
    """Keeps the workers of a cluster busy and replaces those that die."""

    def __init__(self, carry_out: CarryOut, asked: Workers) -> None:
        self._carry_out = carry_out
        self._asked = asked
        self._workers: list[_Worker] = []
        self._source: _Source | None = None
        self._last_up = 0.0
        self._last_death = ""

    def run(self, orders: Sequence[Order], on_outcome: OnOutcome) -> None:
        """Carry out all orders, as many at a time as there are workers.

        Raises:
            RunError: the cluster is lost or has no worker for us, or a node has other versions than this machine.

        """
        self._source, self._last_up = None, time.monotonic()
        waiting = deque(orders)
        tries = dict.fromkeys((order.target for order in orders), 0)
        self._grow(min(len(waiting), self._asked.count or self._processors()))
        self._doubt_idle()
        while waiting or any(worker.order for worker in self._workers):
            self._hand_out(waiting, on_outcome)
            for worker in self._heard_from():
                order = worker.order
                if order is None:
                    self._welcome(worker)
                    continue
                try:
                    on_outcome(self._outcome(worker, order))
                except _Died as death:
                    tries[order.target] += 1
                    if tries[order.target] < _TRIES:
                        waiting.appendleft(order)
                    else:
                        on_outcome(dropped(order, f"its worker died {_TRIES} times ({death}); out of memory?"))

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            count, address = self._asked.count, self._asked.ray
            if address == LOCAL:
                # It ends with all its workers, within a limit; to stop them takes a cluster that answers.
                self._scratch = stack.enter_context(local_cluster(count or 1))
            else:
                self._scratch = stack.enter_context(running_cluster(address))
                stack.callback(self._stop)
            self._shared = self._share()
            self._last_up = time.monotonic()
            self._actor = ray.remote(num_cpus=1, max_restarts=0, max_task_retries=0)(RayWorker)
            # On this machine all of them, so that none is still loading while a device is measured.
            self._grow(count or 1)
            while not all(worker.up for worker in self._workers):
                for worker in self._heard_from():
                    self._welcome(worker)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    # --- workers ---

    def _grow(self, count: int) -> None:
        """Have at least so many workers. Those that the cluster has no processor for begin when it has one."""
        with self._connected():
            while len(self._workers) < count:
                self._workers.append(self._start())

    def _start(self) -> _Worker:
        actor = self._actor.remote(self._scratch)
        return _Worker(actor, actor.begin.remote(versions(), [self._shared]))

    def _welcome(self, worker: _Worker) -> None:
        """Hear what a worker says that has begun, or that was asked whether it is still there."""
        reference = worker.pending
        try:
            with self._replaced_if_dead(worker):
                answer = ray.get(reference)
        except _Died:
            return
        except RayTaskError as error:
            raise self._cannot_start(error) from error
        if not worker.up:
            _check(answer)
        worker.up = True

    def _doubt_idle(self) -> None:
        """Give no order to a worker whose node may be gone: it would cost the order one of its tries."""
        with self._connected():
            for worker in self._workers:
                if worker.pending is None:
                    worker.pending = worker.actor.is_there.remote()

    def _heard_from(self) -> list[_Worker]:
        """Workers that have answered or died; none if nothing happens for a while."""
        pending = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        if not pending:
            return []
        with self._connected():
            ready, _ = ray.wait(list(pending), num_returns=1, timeout=_LOOK_S)
        if any(worker.up for worker in self._workers):
            self._last_up = time.monotonic()
        elif time.monotonic() - self._last_up > _IDLE_LIMIT_S:
            cause = self._last_death or "no processor of it is free"
            raise RunError(
                f"{self._place} has had no worker for {_IDLE_LIMIT_S:.0f} s ({cause}); go on with --resume when it has"
            )
        return [pending[reference] for reference in ready]

    @contextmanager
    def _replaced_if_dead(self, worker: _Worker) -> Iterator[None]:
        """Ask a worker for what it has; one that has died is replaced, and `_Died` is raised."""
        worker.pending = worker.order = None
        try:
            with self._connected():
                yield
        except RayTaskError:
            raise
        except RayError as error:
            if isinstance(error, ActorDiedError) and error.actor_init_failed:
                raise self._cannot_start(error) from error
            raise self._replace(worker, error) from error

    def _cannot_start(self, error: RayError) -> RunError:
        needed = " and ".join(f"{name} {version}" for name, version in versions().items())
        return RunError(f"{self._place} cannot start workers: {_innermost(error)}; every node needs {needed}")

    def _replace(self, worker: _Worker, error: RayError) -> _Died:
        self._last_death = _cause(error)
        with self._connected():
            ray.kill(worker.actor)
            self._workers[self._workers.index(worker)] = self._start()
        # What it died of may be its node, and others were on that.
        self._doubt_idle()
        return _Died(self._last_death)

    def _stop(self) -> None:
        """Stop workers at once. The connection may be gone, and then Ray stops them."""
        workers, self._workers = self._workers, []
        if not ray.is_initialized():
            return
        with suppress(Exception):
            idle = [worker.actor.close.remote() for worker in workers if worker.up and worker.order is None]
            if idle:
                ray.wait(idle, num_returns=len(idle), timeout=_CLOSE_LIMIT_S)
        for worker in workers:
            with suppress(Exception):
                ray.kill(worker.actor)

    # --- orders ---

    def _hand_out(self, waiting: deque[Order], on_outcome: OnOutcome) -> None:
        idle = deque(worker for worker in self._workers if worker.pending is None)
        while waiting and idle:
            order = waiting.popleft()
            try:
                source = self._shared_source(order.source)
            except OSError as error:
                on_outcome(dropped(order, f"{type(error).__name__}: {error}"))
                continue
            worker = idle.popleft()
            worker.order = order
            with self._connected():
                worker.result = worker.actor.work.remote(order.to_json(), source.name, source.content)
                # It answers this next, when the order is done.
                worker.pending = worker.actor.is_there.remote()

    def _outcome(self, worker: _Worker, order: Order) -> Outcome:
        """The outcome of an order, whose products are then where it wants them."""
        done = worker.pending
        try:
            with self._replaced_if_dead(worker):
                ray.get(done)
                fields, contents = _fetched(worker)
            for path, content in zip(order.products, contents, strict=True):
                if content is not None:
                    write_atomically(path, content)
        except RayTaskError as error:
            return dropped(order, _innermost(error))
        except OSError as error:
            return dropped(order, f"{type(error).__name__}: {error}")
        return replace(Outcome.from_json(fields), weights=order.target)

    # --- what is shared ---

    def _share(self) -> Any:
        try:
            with self._connected():
                return ray.put(self._carry_out)
        except (TypeError, AttributeError, ValueError) as error:
            raise RunError(
                f"the network, data or task cannot be sent to other machines ({first_line(error.__cause__ or error)}); "
                "give a number of workers to stay on this one"
            ) from error

    def _shared_source(self, path: Path) -> _Source:
        """The weights that an order starts from; kept, as orders with the same come one after another."""
        if self._source is None or self._source.path != path:
            content = path.read_bytes()
            name = hashlib.sha256(content).hexdigest()[:16] + path.suffix
            with self._connected():
                self._source = _Source(path, name, ray.put(content))
        return self._source

    # --- the cluster ---

    @property
    def _place(self) -> str:
        return "Ray on this machine" if self._asked.ray == LOCAL else f"the Ray cluster at {self._asked.ray}"

    def _processors(self) -> int:
        with self._connected():
            return max(1, int(ray.cluster_resources().get("CPU", 1)))

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Tell the loss of the whole cluster from what happens to a worker."""
        try:
            if not ray.is_initialized():  # or Ray would start a cluster here
                raise ConnectionError("the connection is gone")
            yield
        except ConnectionError as error:
            raise RunError(
                f"{self._place} was lost ({first_line(error)}); go on with --resume when it is back"
            ) from error


def _fetched(worker: _Worker) -> Answer:
    """What a worker has made. Ray waits in vain for what was on its way from a node that is lost."""
    for _ in range(_FETCH_LOOKS):
        try:
            answer: Answer = ray.get(worker.result, timeout=_LOOK_S)
            return answer
        except GetTimeoutError:
            ray.get(worker.actor.is_there.remote(), timeout=_ANSWER_LIMIT_S)
    raise GetTimeoutError(f"what it made did not arrive within {_FETCH_LOOKS * _LOOK_S:.0f} s")


def _check(answer: dict[str, Any]) -> None:
    """Refuse a node whose proposals would not be ours."""
    ours = versions()
    different = [
        f"{name} {answer['versions'].get(name, 'none')} instead of {version}"
        for name, version in ours.items()
        if answer["versions"].get(name) != version
    ]
    if different:
        raise RunError(
            f"node {answer['node']} of the Ray cluster has {' and '.join(different)}, and would make other networks; "
            "install the same versions on every node"
        )
    if answer["fault"]:
        raise RunError(
            f"node {answer['node']} of the Ray cluster cannot load the network, data or task ({answer['fault']}); "
            "modules of your own must be importable on every node"
        )


def _cause(error: RayError) -> str:
    """How a worker died, in a few words of Ray's many."""
    found = re.search(r"because (its [^.]+)\.", str(error))
    return found[1] if found else first_line(error)


def _innermost(error: RayError) -> str:
    """The last line of the traceback that Ray sends along: the error itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__

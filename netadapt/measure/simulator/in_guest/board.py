"""An emulated board: the device server that boards run, inside the emulated machine.

On a simulated board sessions can also have the timing plugin count what a library does. That happens in forks of a
process that was forked before the server did anything: what clients send never touches the heap that is measured.

Standard output says `READY` and the port, then nothing. When standard input ends, so does the board.
"""

import contextlib
import encodings
import importlib.metadata
import json
import os
import posix
import select
import shutil
import signal
import sys
import time

from server import FAILED, serve
from tvm_program import TvmProgram

#: As the process that measures finds it: every library has the same name there.
_LIBRARY = "library.so"
#: Exists while the process that measures is at work.
_BUSY = "busy"
_END_LIMIT_S = 0.5


def main():
    """Serve until standard input ends."""
    with_simulator = os.path.exists("warm_up.json")
    simulator = _Simulator() if with_simulator else None
    _end_with_standard_input()
    _show_board()
    with open("board.json") as file:
        options = json.load(file)
    if simulator:
        simulator.start(options)
    sys.path.append(os.getcwd())
    import netadapt_device

    tracker = options["tracker"] and tuple(options["tracker"])
    serving = netadapt_device.Options(tracker=tracker, key=options["key"], work="work")
    netadapt_device.serve(serving, [simulator.register] if simulator else [])


class _Simulator:
    """The process that measures, as sessions of the server reach it."""

    def __init__(self):
        requests, self._requests = os.pipe()
        self._answers, answers = os.pipe()
        self._board = os.getpid()
        self._pid = os.fork()
        if not self._pid:
            os.dup2(requests, 0)
            os.dup2(answers, 1)
            for descriptor in (requests, self._requests, self._answers, answers):
                os.close(descriptor)
            serve(TvmProgram)
            os._exit(0)
        os.close(requests)
        os.close(answers)

    def start(self, options):
        """Await that it is ready."""
        self._folder = os.getcwd()
        self._small_instructions = options["small_instructions"]
        self._answer()

    def register(self, _):
        """Offer `netadapt.simulate` to the client of a session."""
        import tvm_ffi

        tvm_ffi.register_global_func("netadapt.simulate", self._simulate, override=True)

    def _simulate(self, library, request):
        """Count what one run of an uploaded library does; gives the plugin's report.

        The request is a JSON text: `inputs`, shape and type of each, and `alone`, whether the weights are cold.
        """
        if os.path.exists(self._path(_BUSY)):
            self._stop()
        for name in ("report.json", "error.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path(name))
        shutil.copyfile(str(library), self._path(_LIBRARY))
        fixed = {"files": [_LIBRARY], "profile": False, "small_instructions": self._small_instructions}
        with open(self._path("request.json"), "w") as file:
            json.dump({**json.loads(str(request)), **fixed}, file, sort_keys=True)
        self._touch_busy()
        # What has ended gives no answer, either.
        with contextlib.suppress(BrokenPipeError):
            os.write(self._requests, b"\n")
        code = self._answer()
        os.unlink(self._path(_BUSY))
        if code == FAILED:
            raise RuntimeError("the simulated run failed: {type}: {message}".format(**self._read("error.json")))
        if code:
            raise RuntimeError(f"the simulated run {_ended(code)}")
        with open(self._path("report.json")) as file:
            return file.read()

    def _stop(self):
        """End the measurement of a session that was itself ended meanwhile."""
        while not select.select([self._answers], [], [], 0.02)[0]:
            with open(f"/proc/{self._pid}/task/{self._pid}/children") as file:
                for child in file.read().split():
                    os.kill(int(child), signal.SIGKILL)
        self._answer()

    def _answer(self):
        answer = os.read(self._answers, 1)
        if not answer:
            # Without it the board is of no use.
            os.kill(self._board, signal.SIGTERM)
            raise RuntimeError("the process that simulates has ended")
        return answer[0]

    def _read(self, name):
        with open(self._path(name)) as file:
            return json.load(file)

    def _touch_busy(self):
        with open(self._path(_BUSY), "w"):
            pass

    def _path(self, name):
        return os.path.join(self._folder, name)


def _ended(code):
    return f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with code {code}"


def _end_with_standard_input():
    """Have a process that ends all others when the one that started the board is gone, and removes the folder."""
    if os.fork():
        return
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)
    while os.read(0, 1):
        pass
    # The server ends its session, too, which is not of this group.
    os.killpg(0, signal.SIGTERM)
    time.sleep(_END_LIMIT_S)
    shutil.rmtree(posix.getcwd(), ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _show_board():
    """Undo what is hidden where cycles are counted, except that there is one core."""
    os.getcwd = posix.getcwd
    importlib.metadata.distribution = importlib.metadata.Distribution.from_name
    # There are only a few in the archive from which a guest starts.
    encodings.__path__.append(os.path.dirname(os.__file__) + "/encodings")
    os.sched_getaffinity = lambda _: {0}
    os.cpu_count = lambda: 1


main()

"""Runs inside the simulated machine: loads a runtime once and measures each model in a fork of that process.

Every measurement so starts from the same heap, whatever was measured before, and gives the same cycles to the last
digit. For the same reason the parent does the same few things for each measurement and allocates nothing that stays.

The host puts `request.json` and the files it names into the working folder and writes one byte to standard input; the
answer is one byte on standard output: 0, or the exit code or 128 + the signal that ended the fork. The plugin leaves
`report.json`, the fork `answer.json` if a profile was asked for, or `error.json` when the model could not be run. Paths
are relative, and nothing here asks for the working folder's name: the length of a path would move the heap.
"""

import gc
import json
import os

from marks import BEGIN, EMPTY, END, RELEASE, WARM_UP, mark

#: Exit code of a fork that has written `error.json`.
FAILED = 3
#: Turns in which nothing is measured. The first fork leaves things in the heap, and so does Python when it has run a
#: function for the eighth time and specialises it: a model that is measured before would find other addresses.
_IDLE_TURNS = 16
_ANSWERS = [bytes([code]) for code in range(256)]


def serve(open_program):
    """Answer requests until standard input ends.

    `open_program(request)` gives an object with `prepare`, `run`, which is timed, and `profile`.
    """
    gc.disable()
    _warm_up(open_program)
    idle = _IDLE_TURNS
    while idle or os.read(0, 1):
        code = _forked(None if idle else open_program)
        idle -= idle > 0
        if not idle:
            os.write(1, _ANSWERS[code])


def _forked(open_program):
    """Measure in a fork, or nothing; gives its exit code, or 128 + the signal that ended it."""
    child = os.fork()
    if not child:
        os._exit(_measure(open_program) if open_program else 0)
    ended = os.waitpid(child, 0)
    status = ended[1]
    # Not by os.WTERMSIG: the first call of a function sets up what reads its arguments, and that stays.
    code = 128 + (status & 127) if status & 127 else status >> 8
    # Freed in the reverse order, or the next request would find the heap's free blocks in another one.
    del status, ended, child
    return code


def _warm_up(open_program):
    """Run a small model with and without the plugin, so that forks inherit what that makes.

    That is the runtime's own set-up, the instructions that the plugin has decoded, and QEMU's translation of the code
    that loads and runs a model, which a change between the two throws away.
    """
    # QEMU computes on the host's floating-point unit only once the guest has raised its inexact flag.
    third = 1.0 / 3.0
    program = _open_warm_up(open_program)
    _run(program)
    program.prepare()
    mark(WARM_UP)
    program.run()
    mark(RELEASE)
    _run(_open_warm_up(open_program))
    return third


def _open_warm_up(open_program):
    with open("warm_up.json") as file:
        return open_program(json.load(file))


def _measure(open_program):
    try:
        with open("request.json") as file:
            request = json.load(file)
        program = open_program(request)
        if request["profile"]:
            _write("answer.json", {"layers": program.profile()})
        else:
            timed_runs(program, request)
    except Exception as error:
        _write("error.json", {"type": type(error).__name__, "message": str(error)})
        return FAILED
    return 0


def timed_runs(program, request):
    """Time a run, the last of as many as this tells. A first one, not timed, allocates what only a first run does."""
    _run(program)
    _region(program, request["alone"])
    with open("report.json") as file:
        report = json.load(file)
    # What is small is timed when branches are predicted as after many runs; large ones do not depend on that.
    if report["instructions"] >= request["small_instructions"]:
        return 2
    _region(program, request["alone"])
    return 3


def _run(program):
    program.prepare()
    program.run()


def _region(program, alone):
    mark(WARM_UP)
    if alone:
        # Inside a network other layers have pushed a layer's weights out of the caches, but not what the layer before
        # it has just written.
        mark(EMPTY)
    program.prepare()
    run = program.run
    mark(BEGIN)
    run()
    mark(END)


def _write(path, answer):
    with open(path, "w") as file:
        json.dump(answer, file)

"""What tests of the timing plugin share: cores that can be worked out by hand, and running programs on them."""

from __future__ import annotations

import dataclasses
import os
import subprocess

from machine_code import add_imm, cbnz, leave, mov, sub_imm, svc, system_call, write_program

from netadapt.measure.simulator.core import Cache, Form, Prefetch
from netadapt.measure.simulator.core_file import load_core
from netadapt.measure.simulator.counts import Counts

# Of plugin/marks.h.
BEGIN, END, WARM_UP, EMPTY, CLOCK, RELEASE = range(0x4D4B0001, 0x4D4B0007)

#: Ports of the cores worked out by hand: two integer ones, a vector unit, and memory.
I0, I1, V, M = 1, 2, 4, 8
ONE_LEVEL = (Cache(32 << 10, 4, 0),)


def form(latency, ports=(), uops=1, advance=0):
    """A form; `ports` are the sets of ports of which it takes one for a cycle, or pairs of a set and cycles."""
    return Form(latency, uops, advance, tuple(port if isinstance(port, tuple) else (port, 1) for port in ports))


#: What the programs below are made of, on cores worked out by hand.
FORMS = {
    "add x x x": form(1, [I0 | I1]),
    "add x x #": form(1, [I0 | I1]),
    "sub x x #": form(1, [I0 | I1]),
    "subs x x #": form(1, [I0 | I1]),
    "and x x x": form(1, [I0 | I1]),
    "eor x x x": form(1, [I0 | I1]),
    "lsr x x #": form(1, [I0 | I1]),
    "lsl x x #": form(1, [I0 | I1]),
    "mov x #": form(1, [I0 | I1]),
    "movk x # lsl": form(1, [I0 | I1]),
    "mul x x x": form(3, [I1]),
    "udiv x x x": form(10, [(I0, 10)]),
    "fadd v.4s v.4s v.4s": form(4, [V]),
    "fmul v.4s v.4s v.4s": form(4, [V]),
    "fmla v.4s v.4s v.4s": form(8, [V], advance=4),
    "ldr x [x #]": form(3, [M]),
    "ldr x [x x]": form(3, [M]),
    "ldr x [x] #": form(3, [M]),
    "ldr q [x #]": form(3, [M]),
    "ldr q [x x]": form(3, [M]),
    "ldr q [x] #": form(3, [M]),
    "ldur q [x #]": form(3, [M]),
    "str x [x #]": form(1, [M]),
    "str x [x x]": form(1, [M]),
    "str x [x] #": form(1, [M]),
    "str q [x #]": form(1, [M]),
    "str q [x x]": form(1, [M]),
    "str q [x] #": form(1, [M]),
    "b #": form(1),
    "b.ne #": form(1),
    "cbz x #": form(1),
    "cbnz x #": form(1),
    "tbz w # #": form(1),
    "tbz x # #": form(1),
    "svc #": form(1),
}


def core(order="in-order", width=2, window=1, forms=FORMS, caches=ONE_LEVEL, dram=(100, 10), prefetch=None, **changes):
    """A core of which every number that matters is chosen; `dram` is latency and cycles a line."""
    return dataclasses.replace(
        load_core("cortex-a53"),
        order=order,
        width=width,
        window=window,
        branch_penalty=changes.pop("branch_penalty", 7),
        ports=tuple(range(changes.pop("ports", 4))),
        caches=caches,
        prefetch=prefetch or Prefetch(0, 0, 0),
        dram_latency_cycles=dram[0],
        dram_line_cycles=dram[1],
        store_buffer_lines=changes.pop("store_buffer_lines", 4),
        forms={**forms, **changes.pop("more", {})},
        **changes,
    )


def mark(number):
    return system_call(number)


def region(*body):
    """A measured region: the body, then `add x8, x8, #1` and `svc`. The body keeps x8; x0 is lost."""
    assert END == BEGIN + 1
    return [*mark(BEGIN), *body, add_imm(8, 8, 1), svc()]


class Simulator:
    """Runs programs on simulated cores, in a folder of its own."""

    def __init__(self, installation, folder):
        self.installation = installation
        self.folder = folder
        self.report = folder / "report.json"

    def run(self, simulated, *program, replay=True, data_bytes=1 << 16):
        """Counts of the last region of a program."""
        self.start(simulated, *program, replay=replay, data_bytes=data_bytes)
        return Counts.from_report(self.report.read_text())

    def start(self, simulated, *program, replay=True, data_bytes=1 << 16, stdin=None, serves="off"):
        """Run a program to its end; gives its output."""
        (self.folder / "core.model").write_text(simulated.plugin_text())
        write_program(self.folder / "program", [*program, leave()], data_bytes)
        arguments = {"model": "core.model", "capstone": self.installation.capstone_library, "report": "report.json"}
        arguments |= {"replay": "on" if replay else "off", "serves": serves}
        done = self.qemu(arguments, stdin)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return done.stdout

    def qemu(self, arguments, stdin=None):
        """Run `program` with the plugin, given its arguments."""
        self.report.unlink(missing_ok=True)
        plugin = [str(self.installation.plugin), *(f"{name}={value}" for name, value in arguments.items())]
        return subprocess.run(
            [self.installation.qemu, "-cpu", "cortex-a72", "-plugin", ",".join(plugin), "./program"],
            cwd=self.folder,
            stdin=stdin,
            capture_output=True,
            timeout=60,
            env={**os.environ, **self.installation.qemu_environment},
        )

    def cycles_each(self, simulated, instructions, before=(), copies=8):
        """What further instructions cost: between `copies` and twice as many copies of some, in one block.

        For a copy in which register numbers depend on its number, `instructions` may be a function of that.
        """
        few, many = (
            self.run(simulated, *before, *region(*_copies(instructions, count))) for count in (copies, 2 * copies)
        )
        assert few.unmodelled == many.unmodelled == {}
        return (many.cycles - few.cycles) / copies


def _copies(instructions, count):
    return [instructions(number) if callable(instructions) else instructions for number in range(count)]


def loop(counter, times, *body, label="loop"):
    """A loop that counts a register down."""
    return [mov(counter, times), label, *body, sub_imm(counter, counter, 1), cbnz(counter, label)]

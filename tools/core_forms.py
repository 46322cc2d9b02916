"""Regenerate a table of instruction forms (`platforms/cores/forms/*.toml`) from one of LLVM's scheduling models.

    python tools/core_forms.py cortex-a57 LIBRARY... [--sample 12000000]
    python tools/core_forms.py cortex-a57 LIBRARY... --check cortex-a72

Needs llvm-mc and llvm-mca (19), a C compiler and the Python package `capstone`. The libraries are aarch64 ELF files: of
their executable sections, every distinct word is decoded by the plugin's own `decode.c`, up to five words of each form
are looked up in LLVM's model, and the cost of most of them is the form's. `--sample` adds random words, so that code
which is in none of the libraries is covered, too. `--check CORE` only prints how much of the libraries a core file has.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import json
import random
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLUGIN = ROOT / "netadapt" / "measure" / "simulator" / "plugin"
TABLES = ROOT / "platforms" / "cores" / "forms"

#: Hand-written costs of forms that LLVM's models do not have.
COMMON = "common.toml"

WORDS_PER_FORM = 5
#: llvm-mca gives calls this latency because it does not follow them; the return address is ready at once.
CALL_LATENCY = 100
CALLS = ("bl ", "blr ")


@dataclass(frozen=True)
class Model:
    """One of LLVM's models, and what its units are called in the guides of the cores that use it."""

    cpu: str
    attributes: str
    #: LLVM's name without the common start -> port name, in the order of the ports.
    ports: dict[str, str]
    #: Sets of ports of which an instruction takes any one; larger ones first.
    sets: tuple[tuple[str, ...], ...]


MODELS = {
    "cortex-a53": Model(
        "cortex-a53",
        "+crc,+crypto",
        {
            "A53UnitALU.0": "ALU0",
            "A53UnitALU.1": "ALU1",
            "A53UnitB": "B",
            "A53UnitDiv": "DIV",
            "A53UnitFPALU": "FPALU",
            "A53UnitFPMDS": "FPMDS",
            "A53UnitLdSt": "LS",
            "A53UnitMAC": "MAC",
        },
        (("ALU0", "ALU1"),),
    ),
    "cortex-a55": Model(
        "cortex-a55",
        "+crypto",
        {
            "CortexA55UnitALU.0": "ALU0",
            "CortexA55UnitALU.1": "ALU1",
            "CortexA55UnitB": "B",
            "CortexA55UnitDiv": "DIV",
            "CortexA55UnitFPALU.0": "FPALU0",
            "CortexA55UnitFPALU.1": "FPALU1",
            "CortexA55UnitFPDIV": "FPDIV",
            "CortexA55UnitFPMAC.0": "FPMAC0",
            "CortexA55UnitFPMAC.1": "FPMAC1",
            "CortexA55UnitLd": "LD",
            "CortexA55UnitMAC": "MAC",
            "CortexA55UnitSt": "ST",
        },
        (("ALU0", "ALU1"), ("FPALU0", "FPALU1"), ("FPMAC0", "FPMAC1")),
    ),
    "cortex-a57": Model(
        "cortex-a57",
        "+crc,+crypto",
        {
            "A57UnitB": "B",
            "A57UnitI.0": "I0",
            "A57UnitI.1": "I1",
            "A57UnitL": "L",
            "A57UnitM": "M",
            "A57UnitS": "S",
            "A57UnitW": "F0",
            "A57UnitX": "F1",
        },
        (("I0", "I1"), ("F0", "F1")),
    ),
    "neoverse-n1": Model(
        "neoverse-n1",
        "+crypto",
        {
            "N1UnitB": "B",
            "N1UnitD.0": "D0",
            "N1UnitD.1": "D1",
            "N1UnitL.0": "L0",
            "N1UnitL.1": "L1",
            "N1UnitM": "M",
            "N1UnitS.0": "S0",
            "N1UnitS.1": "S1",
            "N1UnitV0": "V0",
            "N1UnitV1": "V1",
        },
        (("M", "S0", "S1"), ("D0", "D1"), ("L0", "L1"), ("S0", "S1"), ("V0", "V1")),
    ),
}


class Instruction(ctypes.Structure):
    """`Instruction` of decode.h."""

    _fields_ = (
        ("form_bytes", ctypes.c_char * 64),
        ("source_array", ctypes.c_uint8 * 8),
        ("source_count", ctypes.c_uint8),
        ("destination_array", ctypes.c_uint8 * 6),
        ("destination_count", ctypes.c_uint8),
        ("written_back", ctypes.c_uint8),
        ("accumulator", ctypes.c_uint8),
        ("class_number", ctypes.c_uint8),
        ("lanes", ctypes.c_uint8),
        ("loads", ctypes.c_bool),
        ("stores", ctypes.c_bool),
        ("branches", ctypes.c_bool),
    )

    @property
    def form(self) -> str:
        """The form as text."""
        return str(self.form_bytes.decode("ascii"))

    @property
    def sources(self) -> list[int]:
        """Registers read, the accumulator last."""
        return list(self.source_array[: self.source_count])

    @property
    def destinations(self) -> list[int]:
        """Registers written."""
        return list(self.destination_array[: self.destination_count])


class Decoder:
    """The plugin's decoder, compiled into `folder`.

    Raises:
        OSError: Capstone or the compiled decoder cannot be loaded.
        subprocess.CalledProcessError: the compiler refuses decode.c.

    """

    def __init__(self, folder: Path, library: Path | None = None) -> None:
        import capstone  # type: ignore[import-untyped]

        package = Path(capstone.__file__).parent
        target = folder / "decode.so"
        flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC", "-shared"]
        include = f"-I{package / 'include'}"
        subprocess.run(["cc", *flags, include, "-o", str(target), str(PLUGIN / "decode.c")], check=True)
        self._functions = ctypes.CDLL(str(target))
        self._functions.decoder_open.restype = ctypes.c_void_p
        self._functions.decode.restype = ctypes.c_bool
        self._functions.decode.argtypes = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_void_p)
        message = ctypes.create_string_buffer(256)
        path = str(library or package / "lib" / "libcapstone.so").encode()
        self._decoder = self._functions.decoder_open(path, message, len(message))
        if not self._decoder:
            raise OSError(message.value.decode())

    def decode(self, word: int) -> Instruction | None:
        """The instruction, or nothing when Capstone does not know the word."""
        instruction = Instruction()
        known = self._functions.decode(self._decoder, word, ctypes.byref(instruction))
        return instruction if known else None


def executable_words(path: Path) -> collections.Counter[int]:
    """How often each word occurs in the executable sections of a little-endian aarch64 ELF file.

    Raises:
        ValueError: it is not one.

    """
    image = path.read_bytes()
    if image[:6] != b"\x7fELF\x02\x01" or image[18:20] != b"\xb7\x00":
        raise ValueError(f"{path}: not an aarch64 ELF file")
    words: collections.Counter[int] = collections.Counter()
    (table,) = struct.unpack_from("<Q", image, 0x28)
    entry_size, entries = struct.unpack_from("<HH", image, 0x3A)
    for index in range(entries):
        kind, flags, _, offset, size = struct.unpack_from("<4xIQQQQ", image, table + index * entry_size)
        if kind == 1 and flags & 4:
            words.update(struct.unpack_from(f"<{size // 4}I", image, offset))
    return words


#: form -> how often each of its words occurs
Forms = dict[str, collections.Counter[int]]


def forms_of(words: Iterable[tuple[int, int]], decoder: Decoder) -> Forms:
    """Words and their numbers by form; words that Capstone does not know are data and left out."""
    forms: Forms = collections.defaultdict(collections.Counter)
    for word, count in words:
        instruction = decoder.decode(word)
        if instruction is not None:
            forms[instruction.form][word] += count
    return forms


def random_words(count: int, seed: int = 1) -> Iterator[tuple[int, int]]:
    """Random words, each counted as never seen; some have many zeros or ones, as special cases of encodings have."""
    source = random.Random(seed)
    for index in range(count):
        word, other = source.getrandbits(32), source.getrandbits(32)
        yield (word, word & other, word | other)[index % 3], 0


@dataclass(frozen=True, order=True)
class Cost:
    """What LLVM knows of an instruction: each of `ports` is any of these ports, for so many cycles."""

    ports: tuple[tuple[tuple[str, ...], int], ...]
    latency: int
    uops: int


def assembly(words: Sequence[int], model: Model) -> dict[int, str]:
    """Text of the words that the model's core has; the others are left out."""
    source = "".join("0x{:02x} 0x{:02x} 0x{:02x} 0x{:02x}\n".format(*word.to_bytes(4, "little")) for word in words)
    command = ["llvm-mc-19", "--disassemble", "-triple=aarch64", f"-mcpu={model.cpu}", f"-mattr={model.attributes}"]
    run = subprocess.run([*command, "-show-encoding"], input=source, capture_output=True, text=True, check=False)
    texts = {}
    for line in run.stdout.splitlines():
        match = re.match(r"(.*)// encoding: \[(.*)\]", line)
        if match:
            word = int.from_bytes(bytes(int(byte, 16) for byte in match[2].split(",")), "little")
            texts[word] = " ".join(match[1].split())
    return {word: texts[word] for word in words if word in texts}


def costs(texts: dict[int, str], model: Model) -> dict[int, Cost]:
    """What the model says of each word; words of which it says nothing are left out."""
    command = ["llvm-mca-19", "-mtriple=aarch64", f"-mcpu={model.cpu}", f"-mattr={model.attributes}", "-json"]
    options = ["-instruction-tables", "-iterations=1", "-skip-unsupported-instructions=any"]
    # llvm-mca leaves out what it cannot model and does not say which, so what it kept is matched with its text.
    words_by_text: dict[str, list[int]] = collections.defaultdict(list)
    for word, text in texts.items():
        words_by_text[text].append(word)
    source = "".join(text + "\n" for text in words_by_text)
    run = subprocess.run([*command, *options], input=source, capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"llvm-mca-19: {run.stderr[-2000:]}")
    report = json.loads(run.stdout)
    names = [re.sub(r"[\0-\x08]", lambda m: str(ord(m[0])), name) for name in report["TargetInfo"]["Resources"]]
    region = report["CodeRegions"][0]
    kept = [" ".join(text.split()) for text in region["Instructions"]]
    pressure: dict[int, dict[str, float]] = collections.defaultdict(dict)
    for use in region["ResourcePressureView"]["ResourcePressureInfo"]:
        if use["InstructionIndex"] < len(kept):
            pressure[use["InstructionIndex"]][model.ports[names[use["ResourceIndex"]]]] = use["ResourceUsage"]
    found = {}
    for index, (text, info) in enumerate(zip(kept, region["InstructionInfoView"]["InstructionList"], strict=True)):
        uops = max(1, info["NumMicroOpcodes"])
        latency = info["Latency"]
        if latency >= CALL_LATENCY and text.startswith(CALLS):
            latency = 1
        cost = Cost(ports_of(pressure[index], uops, model), latency, uops)
        for word in words_by_text[text]:
            found[word] = cost
    return found


def ports_of(pressure: dict[str, float], uops: int, model: Model) -> tuple[tuple[tuple[str, ...], int], ...]:
    """Ports and cycles from the average number of cycles that each port is taken.

    LLVM spreads "one cycle of any of three" over the three. A micro-op that takes every port of a set for whole cycles
    takes them together, as 128-bit operations take two 64-bit pipes.
    """
    left = dict(pressure)
    groups: list[tuple[tuple[str, ...], int]] = []
    for ports in model.sets:
        shares = [left.get(port, 0.0) for port in ports]
        together = uops == 1 and all(abs(share - round(share)) < 0.01 for share in shares)
        cycles = round(min(shares) * len(ports))
        if cycles == 0 or together:
            continue
        groups.append((ports, cycles))
        for port in ports:
            left[port] -= cycles / len(ports)
    for port in model.ports.values():
        cycles = round(left.get(port, 0.0))
        if cycles:
            groups.append(((port,), cycles))
    order = list(model.ports.values())
    return tuple(sorted(groups, key=lambda group: [order.index(port) for port in group[0]]))


@dataclass
class Table:
    """Costs by form, and what is to be known about how they were found."""

    costs: dict[str, Cost] = field(default_factory=dict)
    #: Forms of which the looked-up words differ: form -> costs and number of words.
    disagreements: dict[str, collections.Counter[Cost]] = field(default_factory=dict)
    #: Forms that the core has, but of which the model says nothing.
    without_model: list[str] = field(default_factory=list)
    #: Forms that the core does not have.
    foreign: list[str] = field(default_factory=list)


def look_up(forms: Forms, model: Model) -> Table:
    """Ask LLVM for the most frequent words of each form."""
    chosen = {form: [word for word, _ in words.most_common(WORDS_PER_FORM)] for form, words in sorted(forms.items())}
    texts = assembly([word for words in chosen.values() for word in words], model)
    known = costs(texts, model)
    table = Table()
    for form, words in chosen.items():
        votes = collections.Counter(known[word] for word in words if word in known)
        if votes:
            table.costs[form] = votes.most_common(1)[0][0]
            if len(votes) > 1:
                table.disagreements[form] = votes
        elif any(word in texts for word in words):
            table.without_model.append(form)
        else:
            table.foreign.append(form)
    return table


def write_table(table: Table, model: Model, version: str) -> str:
    """The table as TOML, forms of equal cost together."""
    groups: dict[Cost, list[str]] = collections.defaultdict(list)
    for form, cost in table.costs.items():
        groups[cost].append(form)
    order = list(model.ports.values())

    def place(cost: Cost) -> tuple[list[list[int]], int, int]:
        return [[order.index(port) for port in ports] for ports, _ in cost.ports], cost.latency, cost.uops

    lines = [
        f"# Generated by tools/core_forms.py {model.cpu}; do not edit: correct single forms in the core file.",
        f"# {version}, scheduling model of {model.cpu}, attributes {model.attributes}.",
        "# Forms of equal cost are together, by the ports they use. Latency in cycles; `cycles` of any of these ports.",
        "",
        f'source = "{version}, scheduling model of {model.cpu}"',
        f"ports = {json.dumps(order)}",
    ]
    for cost in sorted(groups, key=place):
        uses = ", ".join(f"{{ any_of = {json.dumps(list(ports))}, cycles = {cycles} }}" for ports, cycles in cost.ports)
        lines += ["", "[[group]]", f"latency = {cost.latency}", f"uops = {cost.uops}", f"ports = [{uses}]", "forms = ["]
        lines += [f"    {json.dumps(form)}," for form in sorted(groups[cost])]
        lines.append("]")
    return "\n".join(lines) + "\n"


def llvm_version() -> str:
    """The version of llvm-mca, such as "LLVM 19.1.7"."""
    text = subprocess.run(["llvm-mca-19", "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"LLVM version ([0-9.]+)", text)
    return f"LLVM {match[1] if match else '19'}"


def check(core_name: str, forms: Forms, model: Model) -> None:
    """Print which forms of the libraries a core has and its file does not."""
    sys.path.insert(0, str(ROOT))
    from netadapt.measure.simulator.core_file import load_core

    table = look_up(forms, model)
    covered = set(load_core(core_name).forms)
    own = set(table.costs) | set(table.without_model)
    total = sum(sum(forms[form].values()) for form in own)
    missing = sorted(own - covered)
    lost = sum(sum(forms[form].values()) for form in missing)
    print(f"{core_name}: {len(own) - len(missing)} of {len(own)} forms of its level, ", end="")
    print(f"{100 - 100 * lost / max(total, 1):.4f} % of {total} words")
    for form in missing:
        print(f"  missing: {form} ({sum(forms[form].values())} words)")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("libraries", nargs="+", type=Path)
    parser.add_argument("--sample", type=int, default=0, help="number of random words to add")
    parser.add_argument("--check", metavar="CORE", help="name or path of a core file to check against the libraries")
    arguments = parser.parse_args()
    model = MODELS[arguments.model]
    with tempfile.TemporaryDirectory() as folder:
        decoder = Decoder(Path(folder))
        words: collections.Counter[int] = collections.Counter()
        for path in arguments.libraries:
            words.update(executable_words(path))
        forms = forms_of(words.items(), decoder)
        if arguments.check:
            check(arguments.check, forms, model)
            return
        for form, more in forms_of(random_words(arguments.sample), decoder).items():
            forms.setdefault(form, more)
    table = look_up(forms, model)
    path = TABLES / f"{arguments.model}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(write_table(table, model, llvm_version()), encoding="utf-8")
    report(path, table, forms)


def report(path: Path, table: Table, forms: Forms) -> None:
    """Print what is in a table and what is to be looked at by a person."""
    groups = len(set(table.costs.values()))
    print(f"{path.name}: {len(table.costs)} forms in {groups} groups; {len(table.foreign)} forms are of other cores")
    print(f"{len(table.without_model)} forms without a model, for {COMMON}:")
    for form in table.without_model:
        print(f"  {form} ({sum(forms[form].values())} words)")
    print(f"{len(table.disagreements)} forms whose words differ (the cost of most of the words looked up is taken):")
    for form, votes in table.disagreements.items():
        print(f"  {form} ({sum(forms[form].values())} words):", *votes.items(), sep="\n    ")


if __name__ == "__main__":
    main()

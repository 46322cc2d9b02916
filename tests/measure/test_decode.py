from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("capstone", reason="the decoder needs Capstone's library: pip install '.[test]'")
if shutil.which("cc") is None:
    pytest.skip("the decoder needs a C compiler named cc", allow_module_level=True)

TOOL = Path(__file__).parents[2] / "tools" / "core_forms.py"

INTEGER, LOAD, STORE, BRANCH, FMA, FP, SIMD = range(7)
NO_REGISTER = 255


def number(name):
    """Of a register as decode.h counts them."""
    names = {"sp": 31, "flags": 64}
    return names[name] if name in names else int(name[1:]) + (32 if name[0] == "v" else 0)


@dataclass
class Case:
    word: int
    text: str
    form: str
    destinations: str
    sources: str
    kind: int
    base: str = ""
    addend: str = ""
    lanes: int = 0


# Assembled with LLVM; the registers were worked out by hand from Arm's manual. An addend is the last source.
CASES = [
    Case(0x4FA21820, "fmla v0.4s, v1.4s, v2.s[3]", "fmla v.4s v.4s v.s[]", "v0", "v1 v2 v0", FMA, addend="v0", lanes=4),
    Case(0x4E22CC00, "fmla v0.4s, v0.4s, v2.4s", "fmla v.4s v.4s v.4s", "v0", "v0 v2 v0", FMA, addend="v0", lanes=4),
    Case(0x4EE5CC83, "fmls v3.2d, v4.2d, v5.2d", "fmls v.2d v.2d v.2d", "v3", "v4 v5 v3", FMA, addend="v3", lanes=2),
    Case(0x4F391907, "fmla v7.8h, v8.8h, v9.h[7]", "fmla v.8h v.8h v.h[]", "v7", "v8 v9 v7", FMA, addend="v7", lanes=8),
    Case(0x5FA21020, "fmla s0, s1, v2.s[1]", "fmla s s v.s[]", "v0", "v1 v2 v0", FMA, addend="v0", lanes=1),
    Case(0x1F020C20, "fmadd s0, s1, s2, s3", "fmadd s s s s", "v0", "v1 v2 v3", FMA, addend="v3", lanes=1),
    Case(0x1F628820, "fnmsub d0, d1, d2, d2", "fnmsub d d d d", "v0", "v1 v2 v2", FMA, addend="v2", lanes=1),
    Case(0x4E629420, "mla v0.8h, v1.8h, v2.8h", "mla v.8h v.8h v.8h", "v0", "v1 v2 v0", SIMD, addend="v0", lanes=8),
    Case(
        0x4F622020,
        "smlal2 v0.4s, v1.8h, v2.h[2]",
        "smlal2 v.4s v.8h v.h[]",
        "v0",
        "v1 v2 v0",
        SIMD,
        addend="v0",
        lanes=4,
    ),
    Case(
        0x4FA2E020,
        "sdot v0.4s, v1.16b, v2.4b[1]",
        "sdot v.4s v.16b v.4b[]",
        "v0",
        "v1 v2 v0",
        SIMD,
        addend="v0",
        lanes=4,
    ),
    Case(0x9B020C20, "madd x0, x1, x2, x3", "madd x x x x", "x0", "x1 x2 x3", INTEGER, addend="x3"),
    Case(0x9BA27C20, "umaddl x0, w1, w2, xzr", "umull x w w", "x0", "x1 x2", INTEGER),
    Case(0x9B027C20, "mul x0, x1, x2", "mul x x x", "x0", "x1 x2", INTEGER),
    Case(0x6E22DC20, "fmul v0.4s, v1.4s, v2.4s", "fmul v.4s v.4s v.4s", "v0", "v1 v2", FP, lanes=4),
    Case(0x7E30D820, "faddp s0, v1.2s", "faddp s v.2s", "v0", "v1", FP, lanes=2),
    Case(0x4E216820, "fcvtn2 v0.8h, v1.4s", "fcvtn2 v.8h v.4s", "v0", "v1 v0", FP, lanes=4),
    Case(0x1E380020, "fcvtzs w0, s1", "fcvtzs w s", "x0", "v1", FP, lanes=1),
    Case(0x1E202008, "fcmp s0, #0.0", "fcmp s #", "flags", "v0", FP, lanes=1),
    Case(0x1E211404, "fccmp s0, s1, #4, ne", "fccmp s s # cond", "flags", "v0 v1 flags", FP, lanes=1),
    Case(0x1E62CC20, "fcsel d0, d1, d2, gt", "fcsel d d d cond", "v0", "v1 v2 flags", SIMD, lanes=1),
    Case(0x9E660020, "fmov x0, d1", "fmov x d", "x0", "v1", SIMD, lanes=1),
    Case(0x9EAF0001, "fmov v1.d[1], x0", "fmov v.d[] x", "v1", "x0 v1", SIMD, lanes=1),
    Case(0x4E0C1C20, "mov v0.s[1], w1", "mov v.s[] w", "v0", "x1 v0", SIMD, lanes=1),
    Case(0x6E0A3420, "mov v0.h[2], v1.h[3]", "mov v.h[] v.h[]", "v0", "v1 v0", SIMD, lanes=1),
    Case(0x0E0C3C20, "mov w0, v1.s[1]", "mov w v.s[]", "x0", "v1", SIMD, lanes=1),
    Case(0x6E621C20, "bsl v0.16b, v1.16b, v2.16b", "bsl v.16b v.16b v.16b", "v0", "v1 v2 v0", SIMD, lanes=16),
    Case(0x2EA21C20, "bit v0.8b, v1.8b, v2.8b", "bit v.8b v.8b v.8b", "v0", "v1 v2 v0", SIMD, lanes=8),
    Case(
        0x4E0323E0,
        "tbl v0.16b, {v31.16b, v0.16b}, v3.16b",
        "tbl v.16b {v.16b v.16b} v.16b",
        "v0",
        "v31 v0 v3",
        SIMD,
        lanes=16,
    ),
    Case(0x4E031020, "tbx v0.16b, {v1.16b}, v3.16b", "tbx v.16b {v.16b} v.16b", "v0", "v1 v3 v0", SIMD, lanes=16),
    Case(0x4E212820, "xtn2 v0.16b, v1.8h", "xtn2 v.16b v.8h", "v0", "v1 v0", SIMD, lanes=8),
    Case(0x4F10A420, "sshll2 v0.4s, v1.8h, #0", "sshll2 v.4s v.8h #", "v0", "v1", SIMD, lanes=4),
    Case(0x4F001420, "orr v0.4s, #1", "orr v.4s #", "v0", "v0", SIMD, lanes=4),
    Case(0x4F002420, "movi v0.4s, #1, lsl #8", "movi v.4s # lsl", "v0", "", SIMD, lanes=4),
    Case(0xF2A00020, "movk x0, #1, lsl #16", "movk x # lsl", "x0", "x0", INTEGER),
    Case(0xB37E0820, "bfi x0, x1, #2, #3", "bfi x x # #", "x0", "x1 x0", INTEGER),
    Case(0x8B021020, "add x0, x1, x2, lsl #4", "add x x x lsl", "x0", "x1 x2", INTEGER),
    Case(0x8B021420, "add x0, x1, x2, lsl #5", "add x x x lsl>4", "x0", "x1 x2", INTEGER),
    Case(0x8B224BE0, "add x0, sp, w2, uxtw #2", "add x x w uxtw #", "x0", "sp x2", INTEGER),
    Case(0x2B02003F, "adds wzr, w1, w2", "cmn w w", "flags", "x1 x2", INTEGER),
    Case(0xBA020020, "adcs x0, x1, x2", "adcs x x x", "x0 flags", "x1 x2 flags", INTEGER),
    Case(0xF100041F, "cmp x0, #1", "cmp x #", "flags", "x0", INTEGER),
    Case(0x6AC10C1F, "tst w0, w1, ror #3", "tst w w ror", "flags", "x0 x1", INTEGER),
    Case(0xFA411804, "ccmp x0, #1, #4, ne", "ccmp x # # cond", "flags", "x0 flags", INTEGER),
    Case(0x1A9F27E0, "cset w0, lo", "cset w cond", "x0", "flags", INTEGER),
    Case(0x9A9FA020, "csel x0, x1, xzr, ge", "csel x x x cond", "x0", "x1 flags", INTEGER),
    Case(0x910003FD, "mov x29, sp", "mov x x", "x29", "sp", INTEGER),
    Case(0x3DC00420, "ldr q0, [x1, #16]", "ldr q [x #]", "v0", "x1", LOAD),
    Case(0x3DC00020, "ldr q0, [x1]", "ldr q [x #]", "v0", "x1", LOAD),
    Case(0x3CC10420, "ldr q0, [x1], #16", "ldr q [x] #", "v0 x1", "x1", LOAD, base="x1"),
    Case(0xF8408C41, "ldr x1, [x2, #8]!", "ldr x [x #]!", "x1 x2", "x2", LOAD, base="x2"),
    Case(0xB862D820, "ldr w0, [x1, w2, sxtw #2]", "ldr w [x w sxtw #]", "x0", "x1 x2", LOAD),
    Case(0x5C000040, "ldr d0, #8", "ldr d #", "v0", "", LOAD),
    Case(0xACC107E0, "ldp q0, q1, [sp], #32", "ldp q q [x] #", "v0 v1 sp", "sp", LOAD, base="sp"),
    Case(0xB8A27820, "ldrsw x0, [x1, x2, lsl #2]", "ldrsw x [x x lsl]", "x0", "x1 x2", LOAD),
    Case(
        0x4CDF2800,
        "ld1 {v0.4s, v1.4s, v2.4s, v3.4s}, [x0], #64",
        "ld1 {v.4s v.4s v.4s v.4s} [x] #",
        "v0 v1 v2 v3 x0",
        "x0",
        LOAD,
        base="x0",
    ),
    Case(0x4DC58000, "ld1 {v0.s}[2], [x0], x5", "ld1 {v.s}[] [x] x", "v0 x0", "v0 x0 x5", LOAD, base="x0"),
    Case(0x4D40C800, "ld1r {v0.4s}, [x0]", "ld1r {v.4s} [x]", "v0", "x0", LOAD),
    Case(0x4C40841E, "ld2 {v30.8h, v31.8h}, [x0]", "ld2 {v.8h v.8h} [x]", "v30 v31", "x0", LOAD),
    Case(0x3CA27820, "str q0, [x1, x2, lsl #4]", "str q [x x lsl]", "", "v0 x1 x2", STORE),
    Case(0xA9BF7BFD, "stp x29, x30, [sp, #-16]!", "stp x x [x #]!", "sp", "x29 x30 sp", STORE, base="sp"),
    Case(0x4D9F8400, "st1 {v0.d}[1], [x0], #8", "st1 {v.d}[] [x] #", "x0", "v0 x0", STORE, base="x0"),
    Case(
        0x4C810000,
        "st4 {v0.16b, v1.16b, v2.16b, v3.16b}, [x0], x1",
        "st4 {v.16b v.16b v.16b v.16b} [x] x",
        "x0",
        "v0 v1 v2 v3 x0 x1",
        STORE,
        base="x0",
    ),
    Case(0xF900001F, "str xzr, [x0]", "str x [x #]", "", "x0", STORE),
    Case(0xC85FFC20, "ldaxr x0, [x1]", "ldaxr x [x]", "x0", "x1", LOAD),
    Case(0xC800FC41, "stlxr w0, x1, [x2]", "stlxr w x [x]", "x0", "x1 x2", STORE),
    Case(0xC8200861, "stxp w0, x1, x2, [x3]", "stxp w x x [x]", "x0", "x1 x2 x3", STORE),
    Case(0xC8E0FC41, "casal x0, x1, [x2]", "casal x x [x]", "x0", "x0 x1 x2", LOAD),
    Case(0x48207C82, "casp x0, x1, x2, x3, [x4]", "casp x x x x [x]", "x0 x1", "x0 x1 x2 x3 x4", LOAD),
    Case(0xB8E00041, "ldaddal w0, w1, [x2]", "ldaddal w w [x]", "x1", "x0 x2", LOAD),
    Case(0xF820003F, "stadd x0, [x1]", "stadd x [x]", "", "x0 x1", LOAD),
    Case(0xF8208041, "swp x0, x1, [x2]", "swp x x [x]", "x1", "x0 x2", LOAD),
    Case(0xF9802000, "prfm pldl1keep, [x0, #64]", "prfm op [x #]", "", "x0", INTEGER),
    Case(0xD50B7420, "dc zva, x0", "dc zva x", "", "x0", STORE),
    Case(0x54000041, "b.ne #8", "b.cond #", "", "flags", BRANCH),
    Case(0xB4000040, "cbz x0, #8", "cbz x #", "", "x0", BRANCH),
    Case(0x37180040, "tbnz w0, #3, #8", "tbnz w # #", "", "x0", BRANCH),
    Case(0x94000002, "bl #8", "bl #", "x30", "", BRANCH),
    Case(0xD63F0020, "blr x1", "blr x", "x30", "x1", BRANCH),
    Case(0xD61F0220, "br x17", "br x", "", "x17", BRANCH),
    Case(0xD65F03C0, "ret", "ret", "", "x30", BRANCH),
    Case(0xD4000001, "svc #0", "svc #", "", "", INTEGER),
    Case(0xD53BD040, "mrs x0, tpidr_el0", "mrs x op", "x0", "", INTEGER),
    Case(0xD5033BBF, "dmb ish", "dmb ish", "", "", INTEGER),
    Case(0xD503201F, "nop", "nop", "", "", INTEGER),
    Case(0x5E024020, "sha256h q0, q1, v2.4s", "sha256h q q v.4s", "v0", "v1 v2 v0", SIMD, lanes=4),
]

ATOMIC = ("casal", "casp", "ldaddal", "stadd", "swp")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("core_forms", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["core_forms"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["core_forms"]


@pytest.fixture(scope="module")
def decoder(tool, tmp_path_factory):
    return tool.Decoder(tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_instruction(decoder, case):
    found = decoder.decode(case.word)
    assert found.form == case.form
    assert found.destinations == [number(name) for name in case.destinations.split()]
    assert sorted(found.sources) == sorted(number(name) for name in case.sources.split())
    assert found.class_number == case.kind
    assert found.lanes == case.lanes
    assert found.written_back == (number(case.base) if case.base else NO_REGISTER)
    assert found.accumulator == (number(case.addend) if case.addend else NO_REGISTER)
    if case.addend:
        assert found.sources[-1] == number(case.addend)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_accesses_and_branches(decoder, case):
    found = decoder.decode(case.word)
    atomic = case.form.startswith(ATOMIC)
    traced = not case.form.startswith("dc zva")
    assert found.loads == (case.kind == LOAD)
    assert found.stores == ((case.kind == STORE and traced) or atomic)
    assert found.branches == (case.kind == BRANCH)


def test_a_factor_that_is_also_the_addend_is_named_twice(decoder):
    # fmla v0.4s, v0.4s, v2.4s: v0 is needed early as a factor and late as the addend.
    assert decoder.decode(0x4E22CC00).sources == [32, 34, 32]


def test_unknown_word(decoder):
    assert decoder.decode(0xFFFFFFFF) is None


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3000, deadline=None)
def test_no_word_breaks_the_decoder(decoder, word):
    found = decoder.decode(word)
    if found is None:
        return
    assert 0 < len(found.form) < 64
    assert found.form.isprintable()
    assert len(found.sources) <= 8
    assert len(found.destinations) <= 6
    assert all(register <= 64 for register in found.sources + found.destinations)
    assert found.written_back == NO_REGISTER or found.written_back in found.destinations
    assert found.accumulator == NO_REGISTER or found.sources[-1] == found.accumulator
    assert found.class_number <= SIMD
    assert found.lanes <= 16
    assert decoder.decode(word).form == found.form


def test_a_library_that_is_not_capstone(tool, tmp_path):
    with pytest.raises(OSError, match="cannot load Capstone"):
        tool.Decoder(tmp_path, tmp_path / "absent.so")
    with pytest.raises(OSError, match="is not Capstone's library"):
        tool.Decoder(tmp_path, tmp_path / "decode.so")


def test_ports_are_found_in_average_pressure(tool):
    model = tool.MODELS["neoverse-n1"]
    third, half = 1 / 3, 0.5
    any_integer = (("M", "S0", "S1"), 1)

    def ports(uops, **pressure):
        return tool.ports_of(pressure, uops, model)

    assert ports(1, M=third, S0=third, S1=third) == (any_integer,)
    assert ports(2, M=1 + third, S0=third, S1=third) == ((("M",), 1), any_integer)
    assert ports(2, V0=half, V1=3 * half) == ((("V0", "V1"), 1), (("V1",), 1))
    assert ports(1, V0=7) == ((("V0",), 7),)
    # One micro-op that takes both pipes takes them together; two may take any.
    assert ports(1, V0=1, V1=1) == ((("V0",), 1), (("V1",), 1))
    assert ports(2, V0=1, V1=1) == ((("V0", "V1"), 2),)

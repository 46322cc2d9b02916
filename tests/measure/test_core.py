from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from netadapt.errors import DefinitionError, UnknownNameError
from netadapt.measure import definitions
from netadapt.measure.simulator.core import Form
from netadapt.measure.simulator.core_file import list_cores, load_core

BUNDLED = Path(__file__).parents[2] / "platforms" / "cores"

SMALL = """
schema_version = 1
name = "small"
title = "A small core"
qemu_cpu = "cortex-a53"
forms = "table.toml"

[clock]
mhz = { value = 1000, source = "x" }

[pipeline]
order = "in-order"
width = { value = 2, source = "x" }
branch_penalty = { value = 7, source = "x" }
ports = ["A", "B", "L"]

[[cache]]
size_bytes = { value = 32768, source = "x" }
ways = { value = 4, source = "x" }
latency_cycles = { value = 0, source = "x" }

[[cache]]
size_bytes = { value = 524288, source = "x" }
ways = { value = 16, source = "x" }
latency_cycles = { value = 13, source = "x" }

[prefetch]
streams = { value = 16, source = "x" }
confidence = { value = 2, source = "x" }
degree = { value = 4, source = "x" }

[dram]
latency_ns = { value = 99.6, source = "x" }
bandwidth_mb_s = { value = 2000, source = "x" }

[store]
buffer_lines = { value = 16, source = "x" }

[energy]
integer = { value = 1.5, source = "x" }
load = { value = 1, source = "x" }
store = { value = 1, source = "x" }
branch = { value = 1, source = "x" }
fp_fma_lane = { value = 1, source = "x" }
fp_lane = { value = 1, source = "x" }
simd = { value = 1, source = "x" }
l1_access = { value = 1, source = "x" }
l2_access = { value = 1, source = "x" }
dram_line = { value = 1, source = "x" }
static_mw = { value = 0, source = "x" }
"""

TABLE = """
source = "x"
[[group]]
latency = 1
uops = 1
ports = [{ any_of = ["A", "B"], cycles = 1 }]
forms = ["add x x x", "add x x #"]
[[group]]
latency = 10
uops = 1
ports = [{ any_of = ["A"], cycles = 1 }, { any_of = ["B"], cycles = 1 }]
forms = ["fmla v.4s v.4s v.4s", "fmla v.4s v.4s v.s[]"]
[[group]]
latency = 4
uops = 1
ports = [{ any_of = ["L"], cycles = 1 }]
forms = ["ldr x [x #]", "ldr x [x x lsl]"]
"""

SMALL_TEXT = """\
netadapt-core 1
order in-order
width 2
window 1
branch_penalty 7
ports 3
store_buffer 16
cache 32768 4 0
cache 524288 16 13
dram 100 32
prefetch 16 2 4
form 1 1 0 1 3:1 | add x x #
form 1 1 0 1 3:1 | add x x x
form 10 1 0 2 1:1 2:1 | fmla v.4s v.4s v.4s
form 10 1 0 2 1:1 2:1 | fmla v.4s v.4s v.s[]
form 4 1 0 1 4:1 | ldr x [x #]
form 4 1 0 1 4:1 | ldr x [x x lsl]
"""


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    folder = tmp_path / "config" / "cores"
    folder.mkdir(parents=True)
    monkeypatch.setattr(definitions.platformdirs, "user_config_path", lambda _: folder.parent)
    return folder


@pytest.fixture
def write(tmp_path):
    def write(text=SMALL, name="small.toml", table=TABLE):
        (tmp_path / "table.toml").write_text(table)
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def fault_of(path):
    with pytest.raises(DefinitionError) as caught:
        load_core(path)
    return str(caught.value)


def test_bundled_cores_load_and_are_named_like_their_files():
    assert list_cores() == sorted(path.stem for path in BUNDLED.glob("*.toml"))
    assert {"cortex-a53", "cortex-a55", "cortex-a72", "cortex-a76"} <= set(list_cores())
    assert [load_core(name).name for name in list_cores()] == list_cores()


@pytest.mark.parametrize(
    ("name", "fma_a_cycle"), [("cortex-a53", 1), ("cortex-a55", 1), ("cortex-a72", 1), ("cortex-a76", 2)]
)
def test_peak_of_the_four_cores(name, fma_a_cycle):
    """8, 8, 8 and 16 flop a cycle: a 128-bit fmla is 8, and each takes its share of the vector ports."""
    core = load_core(name)
    for text in ("fmla v.4s v.4s v.4s", "fmla v.4s v.4s v.s[]"):
        ports = core.forms[text].ports
        most = min(mask.bit_count() / cycles for mask, cycles in ports)
        assert most == fma_a_cycle
        assert len({mask for mask, _ in ports}) == len(ports)


@pytest.mark.parametrize("name", list_cores())
def test_every_form_fits_the_plugin(name):
    core = load_core(name)
    ports = 1 << len(core.ports)
    for text, form in core.forms.items():
        assert len(text) < 64
        assert 0 <= form.accumulator_advance <= form.latency <= 200
        assert form.uops >= 1
        assert len(form.ports) <= 4
        assert all(0 < mask < ports and cycles >= 1 for mask, cycles in form.ports)


def test_plugin_text(write):
    assert load_core(write()).plugin_text() == SMALL_TEXT


def test_values(write):
    core = load_core(write())
    assert (core.name, core.title, core.mhz, core.qemu_cpu) == ("small", "A small core", 1000, "cortex-a53")
    assert (core.dram_latency_cycles, core.dram_line_cycles) == (100, 32)
    assert (core.energy.integer, core.energy.l3_access) == (1.5, 0.0)
    assert core.shown_cpu == "cortex-a53"
    assert core.fitted == ()
    with pytest.raises(TypeError):
        core.forms["add x x x"] = core.forms["add x x #"]


def test_a_core_that_qemu_has_no_model_of():
    core = load_core("cortex-a55")
    assert (core.qemu_cpu, core.shown_cpu) == ("cortex-a76,midr=0x412fd050", "cortex-a55")


def test_memory_takes_at_least_a_cycle(write):
    fast = SMALL.replace("value = 99.6", "value = 0.1").replace("value = 2000", "value = 900000")
    assert "\ndram 1 1\n" in load_core(write(fast)).plugin_text()


def test_digest_is_of_what_changes_the_cost(write):
    def digest(text=SMALL, table=TABLE):
        return load_core(write(text, table=table)).digest

    same = SMALL.replace('"small"', '"other"').replace("A small core", "Other").replace('source = "x"', 'source = "y"')
    assert digest(same) == digest()
    assert len(digest()) == 64
    assert digest(SMALL.replace("value = 1.5", "value = 1.6")) != digest()
    assert digest(SMALL.replace("value = 1000", "value = 1001")) != digest()
    assert digest(SMALL.replace("[clock]", 'shown_cpu = "cortex-a55"\n[clock]')) != digest()
    assert digest(table=TABLE.replace("latency = 4", "latency = 3")) != digest()


def test_fitted_fields_are_named(write):
    text = SMALL.replace('99.6, source = "x"', '99.6, source = "x", fitted = true')
    text = text.replace('524288, source = "x"', '524288, source = "x", fitted = true')
    assert load_core(write(text)).fitted == ("cache.1.size_bytes", "dram.latency_ns")


# ---- extends and corrections


def test_extends_overrides_single_fields(write):
    base = load_core(write())
    path = write(
        'schema_version = 1\nextends = "small"\nname = "b"\n[dram]\n'
        'latency_ns = { value = 200, source = "y", fitted = true }\n',
        "b.toml",
    )
    core = load_core(path)
    assert core == replace(base, name="b", dram_latency_cycles=200, fitted=("dram.latency_ns",))


def test_extends_replaces_caches_and_whole_numbers(write):
    write(SMALL.replace('value = 16, source = "x" }\nconf', 'value = 16, source = "x", fitted = true }\nconf'))
    path = write(
        'extends = "small"\nname = "b"\n[prefetch]\nstreams = { value = 8, source = "y" }\n[[cache]]\n'
        'size_bytes = { value = 16384, source = "y" }\nways = { value = 4, source = "y" }\n'
        'latency_cycles = { value = 0, source = "y" }\n',
        "b.toml",
    )
    core = load_core(path)
    assert [cache.size_bytes for cache in core.caches] == [16384]
    assert (core.prefetch.streams, core.fitted) == (8, ())


def test_a_users_core_may_extend_the_bundled_one_of_its_name(user_folder):
    (user_folder / "cortex-a72.toml").write_text('extends = "cortex-a72"\ntitle = "Mine"\n')
    assert load_core("cortex-a72").title == "Mine"
    assert load_core("cortex-a72").digest == load_core(BUNDLED / "cortex-a72.toml").digest
    assert list_cores().count("cortex-a72") == 1


def test_extends_in_a_circle_or_nothing(write):
    write('extends = "b"\n', "a.toml")
    path = write('extends = "a"\n', "b.toml")
    assert "extends: extends itself (found 'b')" in fault_of(path)
    assert "extends: there is no such core (found 'absent')" in fault_of(write('extends = "absent"'))
    assert "extends: should be the name of a core (found 3)" in fault_of(write("extends = 3"))


CORRECTIONS = """
[[corrections]]
forms = ["fmla *"]
latency = 8
accumulator_advance = 4
source = "x"
[[corrections]]
forms = ["ldr x [x x*]", "fmla *s[]"]
latency = 6
uops = 2
ports = [{ any_of = ["L"], cycles = 2 }]
source = "x"
"""


def test_corrections_are_applied_in_order(write):
    forms = load_core(write(SMALL + CORRECTIONS)).forms
    assert forms["fmla v.4s v.4s v.4s"] == Form(8, 1, 4, ((1, 1), (2, 1)))
    assert forms["fmla v.4s v.4s v.s[]"] == Form(6, 2, 4, ((4, 2),))
    # Brackets in a pattern are those of the form, not a set of characters.
    assert forms["ldr x [x x lsl]"].latency == 6
    assert forms["ldr x [x #]"].latency == 4


def test_corrections_come_after_those_of_the_extended_core(write):
    write(SMALL + CORRECTIONS)
    text = 'extends = "small"\n[[corrections]]\nforms = ["fmla v.4s v.4s v.4s"]\nlatency = 5\nsource = "x"\n'
    assert load_core(write(text, "b.toml")).forms["fmla v.4s v.4s v.4s"] == Form(5, 1, 4, ((1, 1), (2, 1)))


def test_faults_of_corrections(write):
    text = CORRECTIONS.replace("fmla *s[]", "fmal *").replace('"L"', '"M"').replace("advance = 4", "advance = 9")
    message = fault_of(write(SMALL + text))
    assert "3 faults" in message
    assert "  corrections.1.forms: no form of the table matches 'fmal *'" in message
    assert "  corrections.1.ports: the core has no port 'M'; it has A, B, L" in message
    assert "  corrections: accumulator_advance is above the latency of 2 forms, as 'fmla v.4s v.4s v.4s'" in message


def test_common_forms_fill_gaps_only(write, tmp_path):
    (tmp_path / "common.toml").write_text(
        'source = "x"\n[[group]]\nlatency = 9\nuops = 3\nforms = ["svc #", "add x x x"]\n'
    )
    forms = load_core(write()).forms
    assert forms["svc #"] == Form(9, 3, 0, ())
    assert forms["add x x x"].latency == 1


# ---- faults


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"unknown core 'cortex-m4'.*cortex-a72"):
        load_core("cortex-m4")


def test_all_faults_of_fields_at_once(write):
    text = SMALL.replace("value = 1000", "value = -5").replace("value = 7", "value = 3.5")
    text = text.replace("value = 99.6", "value = 0").replace('"in-order"', '"sideways"')
    text = text.replace('ways = { value = 4, source = "x" }', "ways = { value = 4 }")
    text = text.replace('degree = { value = 4, source = "x" }\n', "").replace("[store]", "colour = 1\n[store]")
    path = write(text)
    message = fault_of(path)
    assert message.startswith(f"{path}: 7 faults\n")
    for fault in (
        "clock.mhz.value: Input should be greater than or equal to 1 (found '-5')",
        "pipeline.order: Input should be 'in-order' or 'out-of-order' (found 'sideways')",
        "pipeline.branch_penalty.value: Input should be a valid integer",
        "cache.0.ways.source: missing",
        "prefetch.degree: missing",
        "dram.latency_ns.value: Input should be greater than 0 (found '0')",
        "dram.colour: Extra inputs are not permitted",
    ):
        assert f"\n  {fault}" in message


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("value = 32768", "value = 0", "cache.0.size_bytes.value: Input should be greater than or equal to 64"),
        ("value = 32768", "value = 40000", "cache.0.size_bytes: 40000 bytes are not 4 ways x 64 bytes x a power of"),
        ("value = 524288", "value = 16384", "cache.1.size_bytes: smaller than the level before it"),
        ("value = 13", "value = 0", "cache.1.latency_cycles: not above that of the level before it"),
        ("latency_cycles = { value = 0", "latency_cycles = { value = 2", "cache.0.latency_cycles: is extra to an L1"),
        ("value = 13", "value = 201", "cache.1.latency_cycles.value: Input should be less than or equal to 200"),
        ('order = "in-order"', 'order = "out-of-order"', "pipeline.window: missing; an out-of-order core has one"),
        ("branch_penalty", 'window = { value = 9, source = "x" }\nbranch_penalty', "pipeline.window: an in-order core"),
        ('["A", "B", "L"]', '["A", "B", "L", "A"]', "pipeline.ports: a port is named twice"),
        ('l2_access = { value = 1, source = "x" }', "", "energy.l2_access: missing; the core has 2 levels of cache"),
        ("value = 99.6", "value = nan", "dram.latency_ns.value: Input should be a finite number"),
        ('1000, source = "x"', '1000, source = ""', "clock.mhz.source: String should have at least 1 character"),
        ('mhz = { value = 1000, source = "x" }', "mhz = 1000", "clock.mhz: Input should be a valid dictionary"),
    ],
)
def test_single_fault(write, old, new, fault):
    assert old in SMALL
    path = write(SMALL.replace(old, new, 1))
    message = fault_of(path)
    assert message.startswith(f"{path}: 1 fault\n  {fault}")


def test_faults_of_several_sections_at_once(write):
    text = SMALL.replace("value = 32768", "value = 40000").replace('"in-order"', '"out-of-order"') + CORRECTIONS
    message = fault_of(write(text.replace("fmla *s[]", "fmal *")))
    assert "3 faults" in message
    for fault in ("pipeline.window: missing", "cache.0.size_bytes: 40000", "corrections.1.forms: no form"):
        assert f"\n  {fault}" in message


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("latency = 10", "latency = 201", "group.1.latency: Input should be less than or equal to 200"),
        ("latency = 10", "latency = 1.5", "group.1.latency: Input should be a valid integer"),
        ('any_of = ["L"]', 'any_of = ["X"]', "group.2.ports: the core has no port 'X'; it has A, B, L"),
        ("cycles = 1", "cycles = 0", "group.0.ports.0.cycles: Input should be greater than or equal to 1"),
        ('source = "x"', "", "source: missing"),
    ],
)
def test_faults_of_a_table(write, tmp_path, old, new, fault):
    write(table=TABLE.replace(old, new, 1))
    message = fault_of(tmp_path / "small.toml")
    assert message.startswith(f"{tmp_path / 'table.toml'}: 1 fault\n  {fault}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"name = ", "not a TOML file"), (b"\xff\xfe\x00", "cannot be read as text"), (b"", "faults")],
)
def test_files_that_are_not_cores(tmp_path, content, reason):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    assert reason in fault_of(path)


def test_absent_files(write, tmp_path):
    assert "absent.toml: there is no such core file" in fault_of(tmp_path / "absent.toml")
    assert "no.toml: there is no such table of forms" in fault_of(write(SMALL.replace("table.toml", "no.toml")))
    assert "cannot be read as text" in fault_of(tmp_path)


def test_a_memory_that_takes_forever_for_a_line_is_refused(write):
    path = write(SMALL.replace("value = 99.6", "value = 1e-320"))
    assert "dram.latency_ns.value: below 0.001" in fault_of(path)

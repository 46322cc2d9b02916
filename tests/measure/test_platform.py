from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from netadapt.errors import DefinitionError, UnknownNameError
from netadapt.measure import definitions
from netadapt.measure.device import fingerprint
from netadapt.measure.platform import list_platforms, load_platform

GOOD = """
schema_version = 1
name = "mine"
title = "My machine"
tier = "local"
transport = "local"
width_multiple = 8
card = "For tests."
[runtime]
name = "ort"
"""


@pytest.fixture(autouse=True)
def user_folder(tmp_path, monkeypatch):
    folder = tmp_path / "config" / "platforms"
    folder.mkdir(parents=True)
    monkeypatch.setattr(definitions.platformdirs, "user_config_path", lambda _: folder.parent)
    return folder


def write(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return path


def test_bundled_platforms_load_and_are_named_like_their_files():
    bundled = Path(__file__).parents[2] / "platforms"
    assert list_platforms() == sorted(path.stem for path in bundled.glob("*.toml"))
    assert [load_platform(name).name for name in list_platforms()] == list_platforms()


def test_ort_local():
    platform = load_platform("ort-local")
    assert (platform.tier, platform.runtime.name, platform.runtime.threads) == ("local", "ort", 1)
    assert platform.metrics == ("latency",)
    assert platform.workload_timing().time_limit_ns == 1_000_000_000
    assert platform.network_timing().time_limit_ns == 10_000_000_000
    assert platform.workload_timing().min_cpu_share == 0.97


def test_users_own_by_name_and_by_path(user_folder, tmp_path):
    write(user_folder, GOOD)
    assert "mine" in list_platforms()
    assert load_platform("mine").width_multiple == 8
    other = write(tmp_path, GOOD.replace("mine", "other"), "anything.toml")
    assert load_platform(other).name == load_platform(str(other)).name == "other"


def test_users_own_goes_before_a_bundled_one(user_folder):
    write(user_folder, GOOD.replace("mine", "ort-local"), "ort-local.toml")
    assert load_platform("ort-local").title == "My machine"
    assert list_platforms().count("ort-local") == 1


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"unknown platform 'pixel-9'.*ort-local"):
        load_platform("pixel-9")


def test_all_faults_at_once_with_their_fields(tmp_path):
    text = """
    schema_version = 2
    name = "Not A Name"
    tier = "phone"
    transport = "local"
    width_multiple = 0
    metrics = ["latency", "smell"]
    card = "x"
    colour = "red"
    [runtime]
    name = "ort"
    threads = "two"
    [protocol]
    workload_time_limit_s = -1
    """
    path = write(tmp_path, text)
    with pytest.raises(DefinitionError) as caught:
        load_platform(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: 9 faults")
    for field in ("schema_version", "name", "tier", "width_multiple", "metrics.1", "colour", "title: missing"):
        assert f"\n  {field}" in message
    assert "\n  runtime.threads" in message
    assert "\n  protocol.workload_time_limit_s" in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"name = ", "not a TOML file"), (b"\xff\xfe\x00", "cannot be read as text"), (b"", "faults")],
)
def test_files_that_are_not_definitions(tmp_path, content, reason):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(DefinitionError, match=reason):
        load_platform(path)


def test_absent_file_and_folder_in_its_place(tmp_path):
    with pytest.raises(DefinitionError, match="no such platform definition"):
        load_platform(tmp_path / "absent.toml")
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_platform(tmp_path)


def test_fingerprint_is_of_what_changes_the_cost(tmp_path):
    def of(text):
        return fingerprint(load_platform(write(tmp_path, text)))

    same = GOOD.replace("My machine", "Other title").replace("mine", "other").replace("For tests.", "Else.")
    assert of(GOOD) == of(same) == of(GOOD + "\n[protocol]\nworkload_time_limit_s = 0.5\n")
    assert of(GOOD) != of(GOOD.replace('name = "ort"', 'name = "ort"\nthreads = 2'))
    assert len(of(GOOD)) == 16


def test_listing_platforms_imports_no_runtime():
    code = (
        "import sys, netadapt.measure.platform as p, netadapt.measure.device, netadapt.lut.store, netadapt.lut.fill,"
        " netadapt.measure.compare\n"
        "p.list_platforms(); netadapt.measure.device.fingerprint(p.load_platform('ort-local'))\n"
        "sys.exit(' '.join({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ('tier = "local"\ntransport = "qemu"\ncore = "cortex-a72"', 'gives numbers of tier "simulated"'),
        ('tier = "simulated"\ntransport = "local"', 'gives numbers of tier "simulated"'),
        ('tier = "simulated"\ntransport = "qemu"', "needs a core"),
        ('tier = "local"\ntransport = "local"\ncore = "cortex-a72"', "emulated boards have a core"),
        ('tier = "simulated"\ntransport = "qemu"\ncore = "cortex-a72"', "runs one thread"),
        ('tier = "local"\ntransport = "local"', "float32 only"),
    ],
)
def test_what_does_not_go_together(tmp_path, lines, reason):
    runtime = 'name = "ncnn"\n'
    runtime += "threads = 2\n" if reason == "runs one thread" else 'dtype = "float16"\n'
    text = (
        f'schema_version = 1\nname = "mine"\ntitle = "t"\nwidth_multiple = 1\ncard = "c"\n{lines}\n[runtime]\n{runtime}'
    )
    with pytest.raises(DefinitionError, match=reason):
        load_platform(write(tmp_path, text))

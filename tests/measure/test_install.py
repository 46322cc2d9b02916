"""The set-up of the simulator: with stand-ins for what it fetches and runs, and once for real."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from netadapt import progress
from netadapt.cli import EXIT_ERROR, EXIT_INTERRUPTED, app
from netadapt.errors import SetupError
from netadapt.measure.platform import list_platforms
from netadapt.measure.simulator import guest_process
from netadapt.measure.simulator.fidelity import PublishedBoard, assess
from netadapt.measure.simulator.install import (
    Installation,
    apt,
    guest_root,
    installation,
    installed,
    missing,
    qemu,
    require,
    set_up,
    stages,
    timing_plugin,
    userland,
    wheels,
)
from netadapt.measure.simulator.install.pins import Wheel, installation_folder, pins
from netadapt.progress import lines

CACHE_BYTES = [32 << 10, 1 << 20]
STATIC = "qemu: unknown option 'plugin'"
NEWER = "Could not load plugin t.so: plugin requires API version 1, but this QEMU supports only a minimum of version 2"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """The only folder on PATH; holds nothing but what the test puts there, and a shell."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "sh").symlink_to("/bin/sh")
    monkeypatch.setenv("PATH", str(folder))
    return folder


def tool(folder: Path, name: str, script: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def fake_qemu(folder: Path, version: str = "7.2.22", on_plugin: str = "") -> Path:
    said = f'[ "$1" = --version ] && echo "qemu-aarch64 version {version} (Debian)" && exit 0'
    return tool(folder, "qemu-aarch64", f'{said}\necho "{on_plugin}" >&2; exit 1')


def ignore(stage: str) -> None:
    pass


class TestQemu:
    def test_is_found_on_path(self, tools, tmp_path):
        program = fake_qemu(tools)
        assert qemu.find(tmp_path) == qemu.Emulator(program, "7.2.22")

    def test_is_found_where_it_was_unpacked_with_its_libraries(self, tools, tmp_path):
        (tmp_path / "qemu/usr/bin").mkdir(parents=True)
        (tmp_path / "qemu/usr/lib/x86_64-linux-gnu").mkdir(parents=True)
        (tmp_path / "qemu/usr/lib/x86_64-linux-gnu/libnuma.so.1").touch()
        program = fake_qemu(tmp_path / "qemu/usr/bin")
        found = qemu.find(tmp_path)
        assert found
        assert found.program == program
        assert found.environment == {"LD_LIBRARY_PATH": f"{tmp_path}/qemu/usr/lib/x86_64-linux-gnu"}

    @pytest.mark.parametrize("version", ["5.2.0", "8.2.0", "10.0.2"])
    def test_of_another_version_is_refused_with_the_versions_that_would_do(self, tools, tmp_path, version):
        fake_qemu(tools, version)
        with pytest.raises(SetupError, match=r"is QEMU \d+\.\d; versions from 6\.0 to before 8\.2 .*qemu-user"):
            qemu.find(tmp_path)

    def test_that_is_something_else_is_refused(self, tools, tmp_path):
        tool(tools, "qemu-aarch64", "echo nonsense")
        with pytest.raises(SetupError, match="does not tell its version but says: nonsense"):
            qemu.find(tmp_path)

    @pytest.mark.parametrize(
        ("said", "told"),
        [
            (STATIC, "takes no plugins; it is probably a static build"),
            (NEWER, r"another plugin interface \(the plugin requires API version 1, but .* minimum of version 2\)"),
            ("Could not load plugin t.so: undefined symbol: q", "cannot load the timing plugin: .*undefined symbol"),
        ],
    )
    def test_that_does_not_take_the_plugin_is_refused(self, tools, said, told):
        emulator = qemu.Emulator(fake_qemu(tools, on_plugin=said), "7.2.22")
        with pytest.raises(
            SetupError, match=f"version 7.2.22.*{told}.*needed is .*7.2.*sudo apt-get install qemu-user"
        ):
            qemu.require_plugin(emulator, Path("t.so"))

    def test_may_complain_about_the_arguments_that_the_plugin_lacks(self, tools):
        said = "Could not load plugin t.so: qemu_plugin_install returned error code -1"
        qemu.require_plugin(qemu.Emulator(fake_qemu(tools, on_plugin=said), "7.2.22"), Path("t.so"))

    def test_is_given_the_path_of_the_plugin_with_its_commas(self, tools, tmp_path):
        program = tool(tools, "qemu-aarch64", f'echo "$2" > {tmp_path}/given; exit 1')
        qemu.require_plugin(qemu.Emulator(program, "7.2.22"), Path("a,b/t.so"))
        assert (tmp_path / "given").read_text() == "a,,b/t.so\n"

    def test_is_installed_by_apt_for_root(self, tools, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        shutil.copy(fake_qemu(tmp_path), tmp_path / "qemu")
        tool(tools, "apt-get", f'echo "$@" >> {tmp_path}/log; [ "$2" = install ] || exit 0; {_copy(tmp_path, tools)}')
        assert qemu.ensure(tmp_path / "base", ignore).program == tools / "qemu-aarch64"
        assert (tmp_path / "log").read_text() == "-q update\n-q install --yes --no-install-recommends qemu-user\n"

    @pytest.mark.parametrize("user", [0, 1000])
    def test_that_cannot_be_fetched_is_an_error_with_the_one_command(self, tools, tmp_path, monkeypatch, user):
        monkeypatch.setattr(os, "geteuid", lambda: user)
        tool(tools, "apt-get", "echo 'E: Could not resolve deb.example'; exit 100")
        with pytest.raises(SetupError, match=r"(?s)sudo apt-get install qemu-user\n.*Could not resolve deb.example"):
            qemu.ensure(tmp_path, ignore)
        assert not (tmp_path / "qemu").exists()


def test_a_log_is_told_of_each_stage_and_that_it_goes_on(cache, tools, monkeypatch):
    """With a set-up that takes a moment and then fails."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(lines, "PERIOD_S", 0.3)
    monkeypatch.setattr(progress, "_TICK_S", 0.1)
    tool(tools, "dpkg-deb", "exit 1")
    tool(tools, "apt-get", "/bin/sleep 1; echo 'E: no route'; exit 100")
    done = CliRunner().invoke(app, ["platforms", "setup", "sim-cortex-a72"])
    assert done.exit_code == EXIT_ERROR
    told = done.stderr.splitlines()
    begun = f"stage 1 of {6 + len(pins().guest_wheels)}: QEMU"
    assert told[:2] == [begun, f"{begun}, fetching qemu-user"]
    assert any(line.startswith(f"{begun}, fetching qemu-user, ") and line.endswith(" s so far") for line in told)
    assert any(line.startswith("netadapt: qemu-aarch64 is not on PATH and could not be fetched") for line in told)


class TestWaitingForApt:
    """With a real apt-get, whose lists lie in a folder of the test's, and a process that holds their lock."""

    @pytest.fixture
    def update(self, tmp_path):
        if shutil.which("apt-get") is None:
            pytest.skip("no apt-get")
        (tmp_path / "lists" / "partial").mkdir(parents=True)
        lists = f"-oDir::State::lists={tmp_path}/lists"
        return [
            "apt-get",
            "-q",
            lists,
            "-oDir::Etc::sourcelist=/dev/null",
            "-oDir::Etc::sourceparts=/dev/null",
            "update",
        ]

    @pytest.fixture
    def holder(self, tmp_path):
        code = (
            "import fcntl, sys\n"
            f"lock = open({str(tmp_path / 'lists' / 'lock')!r}, 'w')\n"
            "fcntl.lockf(lock, fcntl.LOCK_EX)\n"
            "print('held', flush=True)\n"
            "sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
            assert holder.stdout.readline()
            yield holder
            holder.kill()

    def test_goes_on_when_another_program_has_released_its_lock(self, update, holder, tmp_path, monkeypatch):
        monkeypatch.setattr(apt, "_LOCK_POLL_S", 0.1)
        told = []

        def release_at_last(what: str) -> None:
            told.append(what)
            if len(told) == 2:
                holder.kill()
                holder.wait()

        apt.run_alone(update, "fetching", release_at_last, time.monotonic() + 60)
        assert len(told) >= 2
        assert told[0].startswith(f"waiting for process {holder.pid} (")
        assert told[0].endswith(f"which holds {tmp_path}/lists/lock")

    def test_gives_up_in_the_end(self, update, holder):
        with pytest.raises(SetupError, match=rf"waited in vain for process {holder.pid} .*run the set-up again"):
            apt.run_alone(update, "fetching", pytest.fail, time.monotonic())

    @pytest.mark.parametrize(
        ("said", "holder"),
        [
            (
                "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)",
                "process 7",
            ),
            (
                "E: Could not get lock /var/lib/dpkg/lock - open (11: Resource temporarily unavailable)",
                "another program",
            ),
        ],
    )
    def test_knows_what_old_and_new_ones_say(self, tools, said, holder):
        tool(tools, "apt-get", f"echo '{said}'; exit 100")
        with pytest.raises(SetupError, match=rf"{holder}.*, which holds /var/lib/dpkg/lock\S*;"):
            apt.run_alone(["apt-get", "install"], "installing", pytest.fail, time.monotonic())

    def test_does_not_wait_for_anything_else(self, tools):
        tool(tools, "apt-get", "echo 'E: no route'; exit 100")
        with pytest.raises(SetupError, match="no route"):
            apt.run_alone(["apt-get", "install"], "installing", pytest.fail, time.monotonic() + 60)


def _copy(source: Path, target: Path) -> str:
    return f"/bin/cp {source}/qemu {target}/qemu-aarch64"


def test_the_advised_command_exists(cache, tmp_path):
    """Also for a platform that a command makes for itself, and for one that only a file has."""
    for name in ("sim-cortex-a72", "qemu-aarch64-tvm", "fidelity", "only-in-a-file"):
        with pytest.raises(SetupError, match=r"run: netadapt platforms setup (\S+)$") as told:
            require(name)
        assert str(told.value).split()[-1] in list_platforms()
    board = PublishedBoard("Raspberry Pi 4 Model B", "cortex-a72", 1500, "float32", {"squeezenet": 1.0})
    with pytest.raises(SetupError, match="netadapt platforms setup sim-cortex-a72"):
        assess([board], lambda _: b"", lambda *_: None)


class TestApt:
    def test_is_needed(self, tools):
        with pytest.raises(SetupError, match="needs apt-get, which is not on PATH; it works on Debian 12"):
            apt.require_apt()

    def test_tells_its_last_lines_and_what_is_needed(self, tools, tmp_path):
        script = (
            'for word; do :; done; case "$*" in *update) echo "E: no route";; *) echo "E: No package";; esac; exit 100'
        )
        tool(tools, "apt-get", script)
        sources = apt.Apt(tmp_path / "apt", "arm64")
        sources.update()
        with pytest.raises(SetupError, match=r"(?s)E: No package.*E: no route.*bookworm.*must be reachable"):
            sources.download(["libc6"])

    @pytest.mark.parametrize(
        ("name", "place"),
        [
            ("./lib/aarch64-linux-gnu/libc.so.6", "usr/lib/aarch64-linux-gnu/libc.so.6"),
            ("./usr/lib/x", "usr/lib/x"),
            ("./sbin/ldconfig", "usr/sbin/ldconfig"),
            ("./etc/lib", "etc/lib"),
            ("./", ""),
        ],
    )
    def test_unpacks_into_usr(self, name, place):
        assert apt.merged(name) == place


class TestWheels:
    WHEEL = Wheel("tiny", "1.0", "0" * 64, ("manylinux_2_17_aarch64",), omit=("tiny/tests/",))

    @pytest.fixture
    def pip(self, tools, tmp_path, monkeypatch):
        """A stand-in for Python and its pip, which "downloads" this file."""
        offered = tmp_path / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(offered, "w") as archive:
            archive.writestr("tiny/__init__.py", "x = 1")
            archive.writestr("tiny/tests/test.py", "")
        find = f'while [ "$1" != --dest ]; do shift; done; /bin/cp {offered} "$2"'
        monkeypatch.setattr(sys, "executable", str(tool(tools, "python", f"{find}; echo x >> {tmp_path}/log")))
        return offered

    def test_that_fail_their_checksum_are_removed_and_named(self, pip, tmp_path):
        found = _sha256(pip)
        with pytest.raises(SetupError, match=rf"tiny-1\.0-py3-none-any\.whl has SHA-256 {found}, expected 0000"):
            wheels.fetch(self.WHEEL, tmp_path / "wheels")
        assert not list((tmp_path / "wheels").rglob("*"))

    def test_are_fetched_once_and_unpacked_without_what_is_omitted(self, pip, tmp_path):
        wheel = Wheel("tiny", "1.0", _sha256(pip), self.WHEEL.tags, self.WHEEL.omit)
        file = wheels.fetch(wheel, tmp_path / "wheels")
        assert wheels.fetch(wheel, tmp_path / "wheels") == file
        assert (tmp_path / "log").read_text() == "x\n"
        wheels.unpack(wheel, file, tmp_path / "site")
        assert [path.name for path in (tmp_path / "site").rglob("*.py")] == ["__init__.py"]

    def test_that_were_damaged_later_are_removed_too(self, pip, tmp_path):
        wheel = Wheel("tiny", "1.0", _sha256(pip), self.WHEEL.tags)
        wheels.fetch(wheel, tmp_path / "wheels").write_bytes(b"damaged")
        with pytest.raises(SetupError, match="run the set-up again"):
            wheels.fetch(wheel, tmp_path / "wheels")
        wheels.fetch(wheel, tmp_path / "wheels")

    def test_need_pip(self, tmp_path, monkeypatch):
        monkeypatch.setattr(wheels.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(SetupError, match=r"tiny 1.0 needs pip, .* -m ensurepip"):
            wheels.fetch(self.WHEEL, tmp_path)

    def test_tell_what_pip_says(self, tools, tmp_path, monkeypatch):
        script = tool(tools, "python", "echo 'ERROR: No matching distribution' >&2; exit 1")
        monkeypatch.setattr(sys, "executable", str(script))
        with pytest.raises(SetupError, match=r"fetching tiny 1.0: .*failed with status 1:\nERROR: No matching"):
            wheels.fetch(self.WHEEL, tmp_path)


def _sha256(path: Path) -> str:
    return subprocess.run(["/usr/bin/sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


class TestPlugin:
    @pytest.fixture
    def sources(self, tmp_path, monkeypatch):
        folder = tmp_path / "sources"
        folder.mkdir()
        (folder / "plugin.c").write_text('#include "one.h"\nint f(void) { return ONE; }\n')
        (folder / "one.h").write_text("#define ONE 1\n")
        monkeypatch.setattr(timing_plugin, "SOURCES", folder)
        return folder

    @pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
    def test_is_compiled_anew_only_when_its_sources_change(self, sources, tmp_path):
        library = tmp_path / "capstone/lib/libcapstone.so"
        first = timing_plugin.build(tmp_path, library).library
        changed = first.stat().st_mtime_ns
        assert timing_plugin.build(tmp_path, library).library == first
        assert first.stat().st_mtime_ns == changed
        (sources / "one.h").write_text("#define ONE 2\n")
        assert timing_plugin.build(tmp_path, library).library != first

    @pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
    def test_with_a_warning_is_an_error_with_the_compilers_words(self, sources, tmp_path):
        (sources / "plugin.c").write_text("int f(int unused) { return 0; }\n")
        with pytest.raises(SetupError, match=r"(?s)compiling the timing plugin: .*unused"):
            timing_plugin.build(tmp_path, tmp_path / "capstone/lib/libcapstone.so")
        assert not list((tmp_path / "plugin").iterdir())

    def test_needs_a_compiler(self, sources, tools, tmp_path):
        with pytest.raises(SetupError, match=r"no cc on PATH; .*sudo apt-get install gcc"):
            timing_plugin.build(tmp_path, tmp_path / "libcapstone.so")

    def test_runs_on_machines_that_capstone_is_pinned_for(self, tmp_path, monkeypatch):
        monkeypatch.setattr(timing_plugin, "pins", lambda: type("Pins", (), {"host_wheel": None}))
        with pytest.raises(SetupError, match="x86-64 and AArch64"):
            timing_plugin.capstone(tmp_path)


class TestStages:
    def test_a_folder_is_made_wholly_or_not_at_all(self, tmp_path):
        def fail(scratch):
            (scratch / "half").touch()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            stages.complete_folder(tmp_path / "part", fail)
        assert not list(tmp_path.iterdir())
        assert stages.complete_folder(tmp_path / "part", lambda scratch: (scratch / "file").touch())
        assert not stages.complete_folder(tmp_path / "part", fail)

    def test_what_a_kill_leaves_is_removed(self, tmp_path):
        code = (
            "import os, pathlib, signal; from netadapt.measure.simulator.install import stages;"
            f"stages.complete_folder(pathlib.Path({str(tmp_path)!r}, 'inner/part'),"
            "lambda _: os.kill(os.getpid(), signal.SIGKILL))"
        )
        assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
        assert len(list((tmp_path / "inner").iterdir())) == 1
        stages.remove_leftovers(tmp_path)
        assert not list((tmp_path / "inner").iterdir())

    def test_a_folder_that_another_process_made_meanwhile_is_taken(self, tmp_path):
        def make(scratch):
            (scratch / "mine").touch()
            (tmp_path / "part").mkdir()
            (tmp_path / "part" / "theirs").touch()

        assert not stages.complete_folder(tmp_path / "part", make)
        assert [path.name for path in tmp_path.rglob("*")] == ["part", "theirs"]

    def test_a_command_that_fills_the_disk_is_told_as_such(self, tools, tmp_path):
        script = tool(tools, "unpack", "echo 'write error: No space left on device' >&2; exit 2")
        told = r"disk of .* is full: [\d,]+ MB are free there, .* needs about 400 MB"
        with pytest.raises(SetupError, match=told), stages.disk_faults_told(tmp_path / "not" / "there"):
            stages.run([script], "unpacking")

    def test_a_command_that_hangs_is_stopped(self, tmp_path):
        with pytest.raises(SetupError, match="waiting: /bin/sleep was stopped after 0 s"):
            stages.run(["/bin/sleep", "30"], "waiting", timeout_s=0.1)


class TestInstallation:
    @pytest.fixture
    def complete(self, cache, tmp_path, monkeypatch):
        """A complete installation, of empty files."""
        (tmp_path / "src").mkdir()
        (tmp_path / "src/plugin.c").touch()
        monkeypatch.setattr(timing_plugin, "SOURCES", tmp_path / "src")
        folder = installation_folder()
        for name in ("root/usr/bin/python3.11", "plugin/0/timing.so", "capstone/lib/libcapstone.so", "qemu-aarch64"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("as installed")
        present = Installation(
            folder / "root",
            folder / "qemu-aarch64",
            folder / "plugin/0/timing.so",
            folder / "capstone/lib/libcapstone.so",
            {"qemu": "7.2.22", "plugin": "0"},
            {"LD_LIBRARY_PATH": "/somewhere"},
        )
        installation._record(folder, present)
        return present

    def test_is_not_there_at_first(self, cache):
        assert installed() is None
        with pytest.raises(SetupError, match="not set up; run: netadapt platforms setup sim-cortex-a53"):
            require("sim-cortex-a53")

    def test_is_read_as_it_was_recorded(self, complete):
        assert installed() == complete == require() == set_up(pytest.fail)

    def test_is_read_quickly(self, complete):
        begin = time.perf_counter()
        installed()
        assert time.perf_counter() - begin < 0.02

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda present, sources: (sources / "plugin.c").write_text("changed"),
            lambda present, sources: present.qemu.write_text("updated"),
            lambda present, sources: present.qemu.unlink(),
            lambda present, sources: present.plugin.unlink(),
            lambda present, sources: shutil.rmtree(present.root),
            lambda present, sources: installation.record_file(present.folder).write_text('{"qemu": 1}'),
            lambda present, sources: installation.record_file(present.folder).write_text("{"),
        ],
    )
    def test_is_not_there_when_something_was_changed(self, complete, tmp_path, spoil):
        spoil(complete, tmp_path / "src")
        assert installed() is None

    def test_what_is_missing_is_told_without_an_error(self, cache, tools):
        fake_qemu(tools, "9.2.0")
        checks = missing()
        assert [check.ok for check in checks] == [False] * 5
        assert "9.2" in checks[0].detail
        assert "sudo apt-get install gcc" in checks[1].detail

    def test_packages_that_the_figures_were_not_made_with_are_told(self):
        tested = pins().tested_packages
        assert userland.untested(tested) == []
        assert userland.untested({**tested, "libc6": "2.36-9"}) == [f"libc6 {tested['libc6']}"]

    def test_needs_linux(self, cache, monkeypatch):
        monkeypatch.setattr(sys, "platform", "darwin")
        with pytest.raises(SetupError, match=r"needs Linux .*not darwin"):
            set_up(ignore)

    def test_in_a_folder_that_cannot_be_written_is_an_error(self, tmp_path, monkeypatch):
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
        monkeypatch.setattr(apt, "require_apt", lambda: None)
        with pytest.raises(SetupError, match=r"cannot write to .*/file/cache/.*Not a directory; set XDG_CACHE_HOME"):
            set_up(ignore)

    def test_on_a_full_disk_says_how_much_is_needed(self, cache, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(apt, "require_apt", lambda: None)
        monkeypatch.setattr(qemu, "ensure", full)
        with pytest.raises(SetupError, match=r"is full: .* needs about 400 MB; make room and run the set-up again"):
            set_up(ignore)

    def test_excludes_another_one(self, complete, monkeypatch):
        monkeypatch.setattr(apt, "require_apt", lambda: None)
        code = (
            "import fcntl, sys, time; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX);"
            "print('held', flush=True); time.sleep(0.5)"
        )
        lock = complete.folder / ".lock"
        lock.touch()
        with subprocess.Popen([sys.executable, "-c", code, lock], stdout=subprocess.PIPE) as other:
            assert other.stdout
            other.stdout.readline()
            told: list[str] = []
            assert set_up(told.append) == complete
        assert told == ["waiting for the set-up by another process"]


class TestGuestRoot:
    @pytest.fixture
    def present(self, tmp_path):
        for name, content in {"usr/bin/python3.11": "program", "etc/os-release": "as installed"}.items():
            (tmp_path / "root" / name).parent.mkdir(parents=True)
            (tmp_path / "root" / name).write_text(content)
        (tmp_path / "root/bin").symlink_to("usr/bin")
        return Installation(tmp_path / "root", Path("q"), Path("p"), Path("c"), {})

    def test_shows_one_core_of_the_kind(self, present):
        root = guest_root(present, "cortex-a72", 1500, CACHE_BYTES)
        cpu = root / "sys/devices/system/cpu"
        assert "CPU part\t: 0xd08\n" in (root / "proc/cpuinfo").read_text()
        assert (root / "proc/cpuinfo").read_text().count("processor") == 1
        assert (cpu / "possible").read_text() == "0\n"
        assert (cpu / "cpu0/regs/identification/midr_el1").read_text() == "0x00000000410fd083\n"
        assert (cpu / "cpu0/cpufreq/cpuinfo_max_freq").read_text() == "1500000\n"
        assert (cpu / "cpu0/cache/index2/size").read_text() == "1024K\n"
        # A72 has no third level; the file is there and empty, so that the host's is not seen.
        assert (cpu / "cpu0/cache/index3/level").read_text() == ""
        assert list((root / "sys/bus/pci/devices").iterdir()) == []

    def test_leaves_the_installed_files_alone_and_takes_no_room(self, present):
        root = guest_root(present, "cortex-a53", 1200, CACHE_BYTES)
        assert (root / "usr/bin/python3.11").samefile(present.root / "usr/bin/python3.11")
        assert (root / "bin").readlink() == Path("usr/bin")
        assert (present.root / "etc/os-release").read_text() == "as installed"
        assert "bookworm" in (root / "etc/os-release").read_text()

    def test_is_made_once_for_each_kind(self, present):
        first = guest_root(present, "cortex-a76", 2400, [64 << 10, 512 << 10, 3 << 20])
        assert guest_root(present, "cortex-a76", 2400, [64 << 10, 512 << 10, 3 << 20]) == first
        other = guest_root(present, "cortex-a55", 1800, [32 << 10, 128 << 10, 1 << 20])
        assert other != first
        # The guest is told this path: its length would move the heap.
        assert len(str(other)) == len(str(first))

    def test_on_a_disk_without_hard_links_copies(self, present, monkeypatch):
        def no_links(*_, **__):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
        root = guest_root(present, "cortex-a72", 1500, CACHE_BYTES)
        assert (root / "usr/bin/python3.11").read_text() == "program"

    def test_of_an_unknown_core_is_an_error(self, present):
        with pytest.raises(SetupError, match="'pentium'; choose one of: cortex-a53, cortex-a55"):
            guest_root(present, "pentium", 100, CACHE_BYTES)


class TestCommand:
    def test_has_nothing_to_do_for_this_machine(self, cache):
        result = CliRunner().invoke(app, ["platforms", "setup", "ort-local"])
        assert (result.exit_code, cache.exists()) == (0, False)
        assert "ort-local measures on this machine; there is nothing to set up" in result.output

    def test_has_nothing_to_do_for_boards_of_ones_own(self, cache):
        result = CliRunner().invoke(app, ["platforms", "setup", "rpi4-tvm"])
        assert (result.exit_code, cache.exists()) == (0, False)
        assert "rpi4-tvm measures on boards of yours; there is nothing to set up" in result.output

    @pytest.mark.parametrize(
        ("error", "code"), [(SetupError("no cc"), EXIT_ERROR), (KeyboardInterrupt(), EXIT_INTERRUPTED)]
    )
    @pytest.mark.parametrize("platform", ["sim-cortex-a72", "qemu-aarch64-tvm", "sim-cortex-a53-tvm"])
    def test_tells_errors(self, cache, monkeypatch, platform, error, code):
        def fail(*_):
            raise error

        monkeypatch.setattr(apt, "require_apt", lambda: None)
        monkeypatch.setattr(qemu, "ensure", fail)
        result = CliRunner().invoke(app, ["platforms", "setup", platform])
        assert result.exit_code == code
        assert result.stderr.splitlines()[-1].startswith("netadapt: ")


# What a guest does from its start to the runtimes' import, except the values that a clock, the kernel's ids and its
# randomness give. Addresses are not taken out: they tell whether the heap is the same.
_PROGRAM = """
import surroundings, sys
sys.path.append("/netadapt/site")
import json, numpy, onnxruntime, ncnn
print(id(object()), numpy.zeros(1000).ctypes.data, numpy.zeros(10**6).ctypes.data, hash("a"), ncnn.get_cpu_count())
"""
# TVM would ask for more, but for what its program does before.
_TVM_PROGRAM = f"""
import surroundings, sys
sys.path.append("/netadapt/site")
{(Path(guest_process.__file__).parent / "in_guest" / "tvm_program.py").read_text()}
print(id(object()), np.zeros(1000).ctypes.data, hash("a"), tvm.runtime.empty((1000,), "float32").data_ptr())
"""
_STAGES_OF_ROOT = [
    "arm64 packages of Debian",
    *(f"{wheel.title} for aarch64" for wheel in pins().guest_wheels),
    "unpacking",
    "compiling Python modules in the guest",
]
_START = (
    "import sys; from netadapt.measure.simulator.install import set_up; set_up(lambda stage: print(stage, flush=True))"
)


@pytest.mark.timeout(300)
def test_the_real_thing_survives_a_kill_and_gives_the_same_guest_everywhere(cache, tmp_path):
    """Needs apt-get, dpkg-deb, a C compiler, and the package mirrors."""
    _kill_while("unpacking")
    told: list[str] = []
    present = set_up(told.append)
    # Everything fetched before the kill was kept.
    expected = ["QEMU", "timing plugin", *_STAGES_OF_ROOT, "starting a guest"]
    assert told == [f"stage {number} of {len(expected)}: {name}" for number, name in enumerate(expected, 1)]
    assert not list(present.folder.rglob("*.partial"))
    begin = time.perf_counter()
    assert set_up(pytest.fail) == present
    assert time.perf_counter() - begin < 1
    assert all(check.ok for check in missing())

    here = guest_root(present, "cortex-a72", 1500, CACHE_BYTES)
    elsewhere = tmp_path / "a folder with a much longer name, so that the heap would move if the guest knew" / "roots"
    shutil.copytree(here, elsewhere / here.name, symlinks=True)
    for program in (_PROGRAM, _TVM_PROGRAM):
        assert _traced(present, here, program) == _traced(present, elsewhere / here.name, program)


def _kill_while(stage: str) -> None:
    for program in ("apt-get", "dpkg-deb", "cc"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}")
    with subprocess.Popen(
        [sys.executable, "-c", _START], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout
        for line in run.stdout:
            if line.strip().endswith(f": {stage}"):
                time.sleep(0.3)
                run.kill()
        said = run.stderr.read() if run.stderr else ""
    if run.returncode != -signal.SIGKILL:
        if "fetching" in said:
            pytest.skip(f"what the set-up fetches cannot be reached: {said.splitlines()[-1]}")
        pytest.fail(said)


def _traced(present: Installation, root: Path, program: str) -> list[str]:
    """All system calls of a guest, and what it printed."""
    name = f"{root.parent.name}/{root.name}"
    machine = ["-R", "0x8000000000", "-s", "8388608", "-seed", "1", "-r", "5.10.0", "-cpu", "cortex-a72"]
    python = ["-0", f"/{userland.PYTHON}", f"{name}/{userland.PYTHON}", "-s", "-P", "-S", "-c", program]
    environment = ["-E", "PYTHONHASHSEED=0", "-E", "PYTHONDONTWRITEBYTECODE=1", "-E", "OMP_NUM_THREADS=1"]
    done = subprocess.run(
        ["setarch", "-R", present.qemu, "-strace", *machine, "-L", name, *environment, *python],
        cwd=root.parent.parent,
        env=present.qemu_environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    calls = [line.split(" ", 1)[-1] for line in done.stderr.splitlines()]
    values = ("clock_gettime", "gettid", "set_tid_address", "sched_getaffinity", "lseek(2")
    return [done.stdout, *(call for call in calls if not call.startswith(values))]

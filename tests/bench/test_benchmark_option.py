"""`pytest --benchmark` in processes of its own: options, bad input, stops and resumption, the gate."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)

LOCAL = "--platform=ort-local"


class TestFinishedRun:
    def test_platforms_each_get_files_of_both_clocks(self, finished):
        suite = finished.suite
        [local], [simulated] = suite.contents("ort-local"), suite.contents("sim-cortex-a72")
        [local_host], [simulated_host] = suite.contents("ort-local", "host"), suite.contents("sim-cortex-a72", "host")

        assert (local["tier"], simulated["tier"]) == ("local", "simulated")
        assert (local_host["tier"], simulated_host["tier"]) == ("local", "local")
        # The second case is not for simulated platforms.
        assert [case["id"] for case in local["cases"]] == ["first", "second"]
        assert [case["id"] for case in simulated["cases"]] == ["first"]
        assert simulated_host["cases"][0]["figures"]["wall"]["value"] == 1.5
        assert simulated_host["fingerprint"] == local_host["fingerprint"] != local["fingerprint"]

    def test_pytest_benchmark_is_shown_the_nanoseconds_of_the_platform(self, finished):
        entries = {entry["name"]: entry for entry in finished.stored["benchmarks"]}

        assert set(entries) == {
            "test_case[first-ort-local]",
            "test_case[second-ort-local]",
            "test_case[first-sim-cortex-a72]",
        }
        for platform in ("ort-local", "sim-cortex-a72"):
            [content] = finished.suite.contents(platform)
            case, entry = content["cases"][0], entries[f"test_case[first-{platform}]"]
            figure = case["figures"]["latency"]
            assert entry["stats"]["data"] == [sample * 1e-9 for sample in figure["samples"]]
            assert entry["stats"]["rounds"] == 7
            assert entry["extra_info"]["digest"] == case["digest"]
            assert entry["extra_info"]["figures"]["latency"]["value"] == figure["value"]
            assert entry["extra_info"]["tier"] == content["tier"]

    def test_simulated_results_hold_only_what_decides_their_digits(self, finished):
        [local], [simulated] = finished.suite.contents("ort-local"), finished.suite.contents("sim-cortex-a72")

        assert {"cpu", "cores", "system"} <= set(local["environment"])
        assert not {"cpu", "cores", "system", "python"} & set(simulated["environment"])
        assert "platform core" in simulated["environment"]

    def test_neither_host_nor_user_nor_folders_are_named(self, finished):
        texts = [path.read_text() for path in finished.suite.results.rglob("*.json")]

        assert len(texts) == 6
        for secret in (os.uname().nodename, str(Path.home()), str(finished.suite.folder)):
            assert not [text for text in texts if secret in text]
        assert "node" not in finished.stored["machine_info"]

    def test_progress_is_shown_under_capture(self, finished):
        assert "first on ort-local (tier: local), profile quick" in finished.process.stderr
        assert "timing the reference model" in finished.process.stderr

    def test_nothing_is_kept_for_another_run_but_what_was_trained(self, finished):
        work = finished.suite.folder / "work"

        assert not list((work / "unfinished").rglob("findings.json"))
        assert not list(work.rglob("measured"))
        assert (work / "first").is_dir()


class TestRun:
    def test_profile_and_cases_can_be_chosen(self, suite):
        assert suite.run(LOCAL, "--profile=full", "--case=second").returncode == 0

        assert suite.runs == ["second full ort-local"]
        [content] = suite.contents("ort-local")
        assert content["profile"] == "full"
        assert len(content["cases"][0]["figures"]["latency"]["samples"]) == 9
        assert content["cases"][0]["parameters"] == {"rounds": 9}
        assert content["cases"][0]["version"] == 3

    def test_next_run_measures_again_and_overwrites_nothing(self, suite):
        suite.run(LOCAL, "--case=first")
        before = {path: path.read_bytes() for path in suite.results.rglob("*-*.json")}

        done = suite.run(LOCAL, "--case=first")

        assert suite.runs == ["first quick ort-local"] * 2
        assert len(suite.contents("ort-local")) == 2
        assert all(path.read_bytes() == content for path, content in before.items())
        assert f"by {suite.files()[0]}" in done.stdout

    def test_simulated_runs_give_the_same_file(self, suite, installation):
        for _ in range(2):
            assert suite.run("--platform=sim-cortex-a72").returncode == 0

        first, second = (json.loads(path.read_text()) for path in suite.files("sim-cortex-a72"))
        # The seal is of when they were made as well.
        own = {"made", "seal"}
        assert {name: first[name] for name in first.keys() - own} == {
            name: second[name] for name in second.keys() - own
        }
        assert suite.runs == ["first quick sim-cortex-a72"] * 2

    def test_installed_package_goes_before_the_checkout(self, suite, tmp_path):
        import netadapt

        site = tmp_path / "site"
        site.mkdir()
        for name in ("netadapt", "platforms"):
            (site / name).symlink_to(Path(netadapt.__file__).parent.parent / name)

        done = suite.call(suite.benchmark(LOCAL, "--case=first"), PYTHONPATH=str(site))

        assert done.returncode == 0, done.stdout + done.stderr
        assert str(site / "netadapt") in (suite.control / "runs").read_text()


class TestSmoke:
    def test_cases_are_run_once_and_nothing_is_written(self, suite):
        done = suite.call(suite.command("bench/test_cases.py", "-v"))

        assert done.returncode == 0, done.stdout + done.stderr
        assert suite.runs == ["first smoke ort-local", "second smoke ort-local"]
        assert "2 passed" in done.stdout
        assert "Rounds" not in done.stdout
        assert not suite.results.exists()

    def test_speed_is_no_part_of_it(self, suite):
        collected = suite.call(suite.command("bench", "--collect-only", "-q")).stdout
        with_speed = suite.call(suite.command("bench/speed", "--collect-only", "-q")).stdout

        assert "test_case[first-ort-local]" in collected
        assert "bench/speed" not in collected
        assert "bench/speed/test_estimator.py" in with_speed


class TestBadInput:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--platform=pixel-99"], "unknown platform 'pixel-99'; choose one of: "),
            (["--case=third"], "unknown case 'third'; choose one of: first, second"),
            (["--profile=huge"], "unknown profile 'huge'"),
            (["-n", "2"], "leave out -n"),
            (["--platform=qemu-aarch64-tvm"], "is of tier emulated"),
            (["--baseline=no-such.json"], "no-such.json: cannot be read"),
        ],
        ids=lambda value: value[0] if isinstance(value, list) else "",
    )
    def test_is_refused_before_anything_is_run(self, suite, options, message):
        done = suite.run(*options)

        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert "Traceback" not in done.stderr + done.stdout
        assert not suite.runs
        assert not list(suite.results.rglob("*.json"))

    def test_options_without_benchmark_are_refused(self, suite):
        done = suite.call(suite.command("--case=first", "tests/bench/test_replay_timer.py"))

        assert done.returncode == 2
        assert done.stderr == "error: --case: only with --benchmark\n"

    def test_results_that_cannot_be_written_are_told_before_the_work(self, suite):
        suite.results.write_text("a file where the folder should be")

        done = suite.run(LOCAL)

        assert done.returncode == 2
        assert "results cannot be written there" in done.stderr
        assert not suite.runs

    def test_case_that_fits_no_platform(self, suite, installation):
        done = suite.run("--platform=sim-cortex-a72", "--case=second")

        assert done.returncode == 2
        assert "second" in done.stderr
        assert "tier simulated" in done.stderr

    def test_platform_that_is_not_set_up_tells_how(self, suite, tmp_path):
        done = suite.call(suite.benchmark("--platform=sim-cortex-a72"), XDG_CACHE_HOME=str(tmp_path / "empty"))

        assert done.returncode == 2
        assert "netadapt platforms setup sim-cortex-a72" in done.stderr

    def test_damaged_baseline(self, suite, finished):
        # What is damaged among the results stops a run as well: which is the newest then cannot be said.
        [whole] = finished.suite.files()
        damaged = suite.results / "ort-local" / whole.name
        damaged.parent.mkdir(parents=True)
        damaged.write_text(whole.read_text()[:-200])

        done = suite.run(LOCAL)

        assert done.returncode == 2
        assert "is truncated" in done.stderr
        assert not suite.runs

    def test_baseline_of_another_platform(self, suite, finished):
        [simulated] = finished.suite.files("sim-cortex-a72")

        done = suite.run(LOCAL, f"--baseline={simulated}")

        assert done.returncode == 2
        assert "is of platform sim-cortex-a72, which is not among those that are run: ort-local" in done.stderr

    def test_lost_write_access_keeps_what_was_found(self, suite):
        (suite.control / "wait-first").touch()
        with suite.started(suite.benchmark(LOCAL, "--case=first")) as process:
            _wait_for(lambda: suite.runs)
            suite.results.rmdir()
            suite.results.write_text("a file where the folder should be")
            (suite.control / "wait-first").unlink()
            output, _ = process.communicate(timeout=60)
        suite.results.unlink()

        assert process.returncode == 2
        assert "error: " in output
        assert suite.run(LOCAL, "--case=first").returncode == 0
        assert suite.runs == ["first quick ort-local"]


class TestStops:
    def test_killed_run_goes_on_where_it_was(self, suite):
        (suite.control / "wait-second").touch()
        with suite.started(suite.benchmark(LOCAL)) as process:
            _wait_for(lambda: "second quick ort-local" in suite.runs)
            process.kill()
        (suite.control / "wait-second").unlink()

        assert suite.run(LOCAL).returncode == 0

        assert suite.runs.count("first quick ort-local") == 1
        assert suite.runs.count("second quick ort-local") == 2
        [content] = suite.contents("ort-local")
        assert [case["id"] for case in content["cases"]] == ["first", "second"]

    def test_interruption_says_how_to_go_on(self, suite):
        (suite.control / "wait-second").touch()
        with suite.started(suite.benchmark(LOCAL)) as process:
            _wait_for(lambda: "second quick ort-local" in suite.runs)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)

        assert process.returncode == 2
        assert "second missing" in output
        assert "the same command goes on there" in output
        assert not list(suite.results.rglob("*.json"))

    def test_failed_case_lets_the_others_go_on_and_only_it_is_run_again(self, suite):
        (suite.control / "fail-first").touch()
        failed = suite.run(LOCAL)
        (suite.control / "fail-first").unlink()
        repaired = suite.run(LOCAL)

        assert failed.returncode == 1
        assert "first-ort-local: the device caught fire" in failed.stdout
        assert "no results of ort-local are written: first missing" in failed.stdout
        assert repaired.returncode == 0
        assert sorted(suite.runs) == ["first quick ort-local"] * 2 + ["second quick ort-local"]
        assert len(suite.contents("ort-local")) == 1

    def test_what_other_code_found_is_not_used(self, suite):
        (suite.control / "fail-second").touch()
        suite.run(LOCAL)
        code = suite.folder / "own_suite" / "cases" / "first.py"
        code.write_text(code.read_text().replace("value=1.5", "value=1.25"))
        (suite.control / "fail-second").unlink()

        suite.run(LOCAL)

        assert suite.runs.count("first quick ort-local") == 2


class TestGate:
    def test_without_a_baseline_says_so_and_fails_only_if_strict(self, suite):
        lenient = suite.run(LOCAL, "--case=first", f"--results={suite.folder / 'other'}")
        strict = suite.run(LOCAL, "--case=first", "--strict")

        assert "NO BASELINE" in lenient.stdout
        assert lenient.returncode == 0
        assert "FAILED: NO BASELINE" in strict.stdout
        assert strict.returncode == 1

    def test_changed_case_is_not_comparable(self, suite):
        suite.run(LOCAL, "--case=first")
        registry = suite.folder / "own_suite" / "cases.toml"
        registry.write_text(registry.read_text().replace("version = 1", "version = 2"))

        done = suite.run(LOCAL, "--case=first")
        strict = suite.run(LOCAL, "--case=first", "--strict", f"--baseline={suite.files()[0]}")

        assert "NOT COMPARABLE (version 1" in done.stdout
        assert done.returncode == 0
        assert "FAILED: NOT COMPARABLE" in strict.stdout
        assert strict.returncode == 1

    def test_slower_case_shuts_it_and_is_named(self, suite):
        suite.run(LOCAL)
        (suite.control / "slow-first").touch()

        done = suite.run(LOCAL)

        assert done.returncode == 1, done.stdout + done.stderr
        assert "first   platform clock  FAILED: 1 SLOWER" in done.stdout
        assert "SLOWER latency: " in done.stdout
        assert "second  platform clock  FAILED" not in done.stdout


def _wait_for(condition, limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)

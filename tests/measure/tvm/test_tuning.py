from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm")

from tvm.ir import load_json
from tvm.script import from_source
from tvm_ffi import structural_equal

from netadapt.errors import DefinitionError, KernelInvalid, TuningError
from netadapt.measure.device import fingerprint, open_device
from netadapt.measure.platform import load_platform
from netadapt.measure.tvm import importing
from netadapt.measure.tvm.checked_library import CheckedLibrary
from netadapt.measure.tvm.compile import compile_model, compiler_target
from netadapt.measure.tvm.cpu import fusing_pipeline, is_fused
from netadapt.measure.tvm.cpu_target import cpu_fields
from netadapt.measure.tvm.records import Records, TunedKernel, records_path, scheduled, workload_of
from netadapt.measure.tvm.tuning import Candidate, MetaScheduleSearch, fused_functions, tune
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)

LAYER = Workload("conv", (8,), 16, (8, 8), kernel=(3, 3), padding=(1, 1), bias=True, activation="relu")
MODEL = workload_to_onnx(LAYER)
LOCAL = load_platform("tvm-local")
TARGET = LOCAL.runtime.target


@pytest.fixture(scope="module")
def convolution():
    """The fused function of the layer, as a network has it."""
    (found,) = [function for function in fused_functions(MODEL, TARGET) if "convolution" in function.name]
    return found


@pytest.fixture(scope="module")
def candidate(convolution):
    """One that MetaSchedule makes of it."""
    return next(MetaScheduleSearch(convolution.function, TARGET, trials=1, seed=0).batches())[0]


@pytest.fixture(scope="module")
def winner(convolution, candidate):
    """A record that says that it is faster than ours."""
    return TunedKernel(
        name=convolution.name,
        workload=workload_of(convolution.function),
        trials=1,
        wrong=0,
        ours_ns=2.0,
        best_ns=1.0,
        ratio=(0.5, 0.4, 0.6),
        trace=candidate.trace,
    )


@pytest.fixture
def records(winner, tmp_path):
    """A file with that record."""
    path = tmp_path / "records.json"
    Records.empty("tvm-local", "local", cpu_fields(TARGET)).with_kernel(winner).write(path)
    return path


class Scripted:
    """A search that makes given candidates, one a batch, and keeps what it is told of them."""

    def __init__(self, *candidates):
        self.candidates = candidates
        self.told = []

    def __call__(self, function, target, trials, seed):
        return self

    def batches(self):
        for candidate in self.candidates:
            yield [candidate]

    def tell(self, costs_ns):
        self.told += costs_ns


def tuned_with(path):
    runtime = LOCAL.runtime.model_copy(update={"tuning": str(path)})
    return LOCAL.model_copy(update={"runtime": runtime})


def edited(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def with_wrong_activation(function):
    """A kernel that computes something else."""
    return from_source(function.with_attr("global_symbol", "main").script().replace("T.max(", "T.min("))


class TestRecords:
    def test_file_gives_the_same_records_again(self, records, winner):
        read = Records.read(records)
        assert read.kernels == (winner,)
        again = records.with_name("again.json")
        read.write(again)
        assert again.read_bytes() == records.read_bytes()

    def test_trace_makes_the_candidate_again(self, convolution, candidate, winner):
        function = load_json(json.dumps(winner.workload))
        assert structural_equal(scheduled(function, winner).body, candidate.kernel.body)
        assert not structural_equal(scheduled(function, winner).body, convolution.function.body)

    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda path: path.unlink(), "no such tuning records"),
            (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not JSON"),
            (lambda path: path.write_text("[]"), "not a file of tuning records"),
            (lambda path: edited(path, lambda file: file.update(schema_version=2)), "schema_version"),
            (lambda path: edited(path, lambda file: file.update(tvm="0.1")), "made with TVM 0.1"),
            (lambda path: edited(path, lambda file: file["target"].update(mcpu="z80")), "mcpu=z80"),
            (lambda path: edited(path, lambda file: file["kernels"][0].pop("ours_ns")), "ours_ns: missing"),
            (lambda path: edited(path, lambda file: file["kernels"][0].update(trace=[[["Fly"]], []])), "damaged"),
            (lambda path: edited(path, lambda file: file["kernels"][0].update(workload={"nodes": 1})), "damaged"),
        ],
        ids=["none", "cut off", "another file", "newer", "other TVM", "other core", "field", "trace", "function"],
    )
    def test_unusable_file_is_refused(self, records, damage, message):
        damage(records)
        with pytest.raises(TuningError, match=message):
            compile_model(MODEL, tuned_with(records).runtime, interior=True)

    def test_name_stands_for_the_file_in_the_users_folder(self):
        path = records_path("tvm-local")
        assert path.parts[-3:] == ("netadapt", "tuning", "tvm-local.json")
        assert records_path("./mine.json") == Path("mine.json")


class TestUse:
    def test_library_has_the_recorded_kernel_and_computes_the_same(self, records):
        ours = compile_model(MODEL, LOCAL.runtime, interior=True)
        tuned = compile_model(MODEL, tuned_with(records).runtime, interior=True)
        assert tuned.content != ours.content
        with open_device(tuned_with(records)) as device:
            # Runs the model, and compares it with ONNX Runtime.
            assert device.details(MODEL)["max_abs_difference"] < 1e-5

    def test_operation_of_the_table_is_the_function_of_the_network(self, convolution):
        target = compiler_target(TARGET)
        with target:
            module = fusing_pipeline(target)(importing.interior(MODEL))
        functions = [function for _, function in module.functions_items() if is_fused(function)]
        assert any(structural_equal(function, convolution.function) for function in functions)

    def test_records_change_the_fingerprint_by_what_they_hold(self, records, winner):
        plain, tuned = fingerprint(LOCAL), fingerprint(tuned_with(records))
        assert tuned != plain
        copy = records.with_name("copy.json")
        copy.write_bytes(records.read_bytes())
        assert fingerprint(tuned_with(copy)) == tuned
        lost = winner.model_copy(update={"name": "other", "workload": {"other": 1}, "trace": None})
        Records.read(records).with_kernel(lost).write(records)
        assert fingerprint(tuned_with(records)) == tuned
        Records.read(records).with_kernel(winner.model_copy(update={"trace": [[], []]})).write(records)
        assert fingerprint(tuned_with(records)) not in (plain, tuned)

    def test_definition_names_records_of_cpus_only(self, tmp_path):
        file = tmp_path / "mine.toml"
        text = (Path(__file__).parents[3] / "platforms" / "tvm-local.toml").read_text()
        file.write_text(text.replace("threads = 1", 'threads = 1\ntuning = "tvm-local"'))
        assert load_platform(file).runtime.tuning == "tvm-local"
        text = (Path(__file__).parents[3] / "platforms" / "opencl-local.toml").read_text()
        file.write_text(text.replace('name = "tvm"', 'name = "tvm"\ntuning = "tvm-local"'))
        with pytest.raises(DefinitionError, match="llvm"):
            load_platform(file)


class TestTuning:
    def test_records_what_metaschedule_found_and_goes_on_from_there(self, tmp_path):
        path = tmp_path / "records.json"
        (first,) = tune(MODEL, LOCAL, path, trials=4, most_kernels=1)
        assert first.new
        assert first.kernel.ours_ns > 0
        assert first.kernel.best_ns > 0
        assert first.kernel.wrong == 0
        written = path.read_bytes()
        # Which kernel takes most time is measured anew, and all are so fast that another one may be first now.
        results = tune(MODEL, LOCAL, path, trials=4)
        assert [result.kernel for result in results if not result.new] == [first.kernel]
        assert json.loads(written)["kernels"][0] in json.loads(path.read_bytes())["kernels"]

    def test_candidate_is_kept_only_if_it_is_faster(self, tmp_path, convolution, candidate):
        path = tmp_path / "records.json"
        search = Scripted(candidate)
        results = tune(MODEL, LOCAL, path, trials=1, make_search=search)
        (kernel,) = [result.kernel for result in results if result.kernel.name == convolution.name]
        # It is an arbitrary one, several times as slow.
        assert kernel.best_ns > kernel.ours_ns
        assert not kernel.won

    def test_fast_candidate_with_a_wrong_result_is_not_kept(self, tmp_path, convolution):
        wrong = Candidate(with_wrong_activation(convolution.function), [[], []])
        search = Scripted(wrong)
        results = tune(MODEL, LOCAL, tmp_path / "records.json", trials=1, make_search=search)
        (kernel,) = [result.kernel for result in results if result.kernel.name == convolution.name]
        assert (kernel.wrong, kernel.best_ns, kernel.trace) == (1, None, None)
        assert set(search.told) == {None}

    def test_records_of_another_platform_are_not_added_to(self, records):
        other = LOCAL.model_copy(update={"name": "other"})
        with pytest.raises(TuningError, match="of platform tvm-local"):
            tune(MODEL, other, records, trials=1)

    @pytest.mark.parametrize("name", ["ort-local", "opencl-local", "qemu-aarch64-tvm"])
    def test_platforms_that_cannot_be_tuned_say_so(self, name, tmp_path):
        with pytest.raises(TuningError, match=f"{name} cannot be tuned"):
            tune(MODEL, load_platform(name), tmp_path / "records.json", trials=1)

    def test_interrupted_run_keeps_what_is_finished(self, tmp_path):
        model, path = tmp_path / "layer.onnx", tmp_path / "records.json"
        model.write_bytes(MODEL)
        arguments = ["tune", str(model), "--trials", "2", "--records", str(path)]
        process = subprocess.Popen(
            [sys.executable, "-c", "from netadapt.cli import main; main()", *arguments],
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            deadline = time.monotonic() + 60
            while not path.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
        assert process.returncode == 130, said
        assert b"what was finished is kept" in said
        assert len(Records.read(path).kernels) in (1, 2)

    def test_simulated_board_decides_by_its_cycles(self, installation, tmp_path):
        platform = load_platform("sim-cortex-a72-tvm")
        path = tmp_path / "records.json"
        (result,) = tune(MODEL, platform, path, trials=2, most_kernels=1)
        assert result.kernel.best_ns > 0
        records = Records.read(path)
        assert (records.tier, records.kernels) == ("simulated", (result.kernel,))
        # One run is exact: the ratio, where it was taken, is that of the two figures, and has no spread.
        if result.kernel.ratio:
            assert result.kernel.ratio == pytest.approx(3 * [result.kernel.best_ns / result.kernel.ours_ns])


class TestCheckedLibrary:
    def test_reaches_another_process_as_it_is(self, convolution):
        checked = CheckedLibrary(convolution.library(convolution.function, TARGET), convolution.example())
        again = CheckedLibrary.from_bytes(checked.to_bytes())
        assert again.library == checked.library
        for kind in ("inputs", "outputs"):
            sent, received = getattr(checked.example, kind), getattr(again.example, kind)
            assert sent.keys() == received.keys()
            assert all(np.array_equal(sent[name], received[name]) for name in sent)

    def test_wrong_result_is_not_timed(self, convolution):
        library = convolution.library(with_wrong_activation(convolution.function), TARGET)
        with (
            open_device(LOCAL) as device,
            pytest.raises(KernelInvalid),
            device.load_library(CheckedLibrary(library, convolution.example()), "wrong"),
        ):
            pytest.fail("it was loaded")

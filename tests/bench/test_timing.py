from __future__ import annotations

import hashlib
from contextlib import contextmanager

import onnx
import pytest

from bench.reference_model import reference_model
from bench.timing import measure_latency
from netadapt.errors import MeasurementError
from netadapt.measure.device import Device, open_device
from netadapt.measure.platform import load_platform
from netadapt.measure.protocol import Block
from netadapt.search.observer import Observer


class Scripted(Device):
    """A device of which a test says what every block costs."""

    def __init__(self, cost, clean=lambda: True):
        super().__init__(load_platform("ort-local"))
        self._cost = cost
        self._clean = clean
        self.loaded = []

    def costs(self, model):
        raise NotImplementedError

    workload_costs = costs

    @contextmanager
    def load(self, model):
        self.loaded.append(model)
        yield Blocks(lambda: Block(self._cost(model), self._clean()))


class Blocks:
    def __init__(self, block):
        self.block = block

    def warm_up(self):
        pass


class TestRealClock:
    def test_each_round_loads_network_and_reference_afresh(self):
        device = Scripted(lambda model: 100.0)

        measure_latency(device, {"a": b"A", "b": b"B"}, rounds=3)

        assert device.loaded.count(b"A") == device.loaded.count(b"B") == 3
        assert device.loaded[1::2] == [reference_model()] * 6

    def test_networks_take_turns_at_being_first(self):
        device = Scripted(lambda model: 100.0)
        measure_latency(device, {"a": b"A", "b": b"B", "c": b"C"}, rounds=20)
        assert {device.loaded[2 * 3 * number] for number in range(20)} == {b"A", b"B", b"C"}

    def test_figure_is_the_median_of_the_rounds(self):
        rounds = (10.0, 30.0, 20.0, 50.0, 40.0, 60.0, 70.0)
        device = Scripted(lambda model: 5.0 if model == reference_model() else rounds[device.loaded.count(b"A") - 1])

        figure = measure_latency(device, {"a": b"A"}, rounds=7)["a"]

        assert figure.samples == rounds
        assert figure.reference_ns == (5.0,) * 7
        assert figure.value == 40.0
        # Distribution-free, 95 %: of seven rounds only all of them enclose the median that surely.
        assert (figure.low, figure.high) == (10.0, 70.0)
        assert (figure.unit, figure.better, figure.origin) == ("ns", "lower", "measured")
        assert figure.status == "stable-noisy"

    def test_equal_rounds_are_converged(self):
        assert measure_latency(Scripted(lambda model: 100.0), {"a": b"A"}, rounds=7)["a"].status == "converged"

    def test_few_rounds_have_no_interval(self):
        figure = measure_latency(Scripted(lambda model: 100.0), {"a": b"A"}, rounds=3)["a"]
        assert (figure.low, figure.high, figure.status) == (None, None, "unconverged")

    def test_disturbed_rounds_are_told(self):
        device = Scripted(lambda model: 100.0, clean=lambda: False)
        figure = measure_latency(device, {"a": b"A"}, rounds=7)["a"]
        assert (figure.value, figure.status) == (100.0, "contended")

    def test_rounds_are_told_to_the_observer(self):
        class Counting(Observer):
            def __init__(self):
                self.told = []

            def measured(self, done, total):
                self.told.append((done, total))

        observer = Counting()
        measure_latency(Scripted(lambda model: 100.0), {"a": b"A", "b": b"B"}, 2, observer)
        assert observer.told == [(1, 4), (2, 4), (3, 4), (4, 4)]


class TestSimulatedClock:
    @pytest.mark.timeout(120)
    def test_one_answer_for_all_rounds(self, installation):
        with open_device("sim-cortex-a72") as device:
            figure = measure_latency(device, {"a": reference_model()}, rounds=7)["a"]
            latency = device.measure(reference_model()).value

        assert len(set(figure.samples)) == 1
        assert len(figure.samples) == len(figure.reference_ns) == 7
        assert figure.samples == figure.reference_ns
        assert round(figure.value) == latency
        assert (figure.low, figure.high, figure.status) == (figure.value, figure.value, "converged")

    def test_clock_that_does_not_repeat_itself_is_refused(self):
        costs = iter((5.0, 6.0))
        device = Scripted(lambda model: next(costs))
        device.platform = load_platform("sim-cortex-a72")
        with pytest.raises(MeasurementError, match=r"not deterministic: the reference model took 5\.0 ns, then 6\.0"):
            measure_latency(device, {"a": b"A"}, rounds=7)


class TestReferenceModel:
    def test_is_the_same_for_ever(self):
        # Another one makes all results incomparable: raise the version of every case with it.
        assert hashlib.sha256(reference_model()).hexdigest()[:16] == "d4c8de80108d5d22"

    def test_is_valid_and_of_fixed_shapes(self):
        model = onnx.load_from_string(reference_model())
        onnx.checker.check_model(model, full_check=True)
        assert [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 48, 48]

"""ONNX files that anybody may have made: every reader of models refuses them in words, or takes them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fuzzing import Fuzz, must_refuse
from mutations import mutated_bytes
from onnx import TensorProto, helper, numpy_helper

from netadapt.measure.model_file import model_bytes
from netadapt.measure.ncnn_model import _read_onnx
from netadapt.measure.ort import OrtProgram
from netadapt.measure.trial import require_runs
from netadapt.measure.zeroed import zeroed_onnx
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

FLOAT = TensorProto.FLOAT


def value(name: str, shape: list[int | str] | None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    **constants: object,
) -> bytes:
    tensors = [numpy_helper.from_array(np.array(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def one(op: str, source: onnx.ValueInfoProto, result: onnx.ValueInfoProto, **attributes: object) -> bytes:
    return model([helper.make_node(op, [source.name], [result.name], **attributes)], [source], [result])


def endless() -> bytes:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go on"]), helper.make_node("Relu", ["before"], ["after"])],
        "body",
        [value("turn", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("before", [1, 4])],
        [value("go on", [], TensorProto.BOOL), value("after", [1, 4])],
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    return model([loop], [value("x", [1, 4])], [value("y", [1, 4])], true=True)


def exabytes() -> bytes:
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ReduceMax", ["zeros"], ["zero"]),
        helper.make_node("Add", ["x", "zero"], ["y"]),
    ]
    return model(nodes, [value("x", [1, 1])], [value("y", None)], shape=np.array([10**9, 10**9]))


NAMED = one("Relu", value("x", [1, 4]), value("yyyy", [1, 4]))
SEQUENCE = helper.make_tensor_sequence_value_info("y", FLOAT, None)
OPTIONAL = helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [1, 2])))

HOSTILE = {
    "a sequence as output": (one("SequenceConstruct", value("x", [1, 2]), SEQUENCE), "output 'y' has type seq"),
    "an optional as output": (one("Optional", value("x", [1, 2]), OPTIONAL), "output 'y' has type optional"),
    "a text as output": (
        model([helper.make_node("Identity", ["c"], ["y"])], [value("x", [1])], [value("y", [1], 8)], c=["text"]),
        "output 'y' has type tensor(string)",
    ),
    "bfloat16 as output": (
        one("Cast", value("x", [1, 2]), value("y", [1, 2], 16), to=16),
        "output 'y' has type tensor(bfloat16)",
    ),
    "an input of 9 GiB": (
        one("ReduceMax", value("x", [3, 900, 900, 1000]), value("y", None)),
        "takes 9.1 GiB; at most",
    ),
    "an input of exabytes": (one("Shape", value("x", [2**62, 2**62]), value("y", [2], 7)), "GiB; at most 1 GiB"),
    "a name that is no UTF-8": (
        one("Relu", value("x", [1]), value("yyyy", [1])).replace(b"yyyy", b"y\xff\xfey"),
        "utf-8",
    ),
    "an operator that is no UTF-8": (
        one("Relu", value("x", [1]), value("y", [1])).replace(b"Relu", b"R\xfflu"),
        "utf-8",
    ),
    "nothing": (b"", "not a model"),
    "a cycle": (
        model(
            [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])],
            [value("x", [1])],
            [value("b", [1])],
        ),
        "not a model",
    ),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_measured_is_refused_in_one_line(content: bytes, message: str) -> None:
    text = must_refuse(lambda: OrtProgram(content))
    assert message in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(endless(), "takes more than 2 s; it may loop without end"), (exabytes(), "needs more memory than is free")],
    ids=["loops without end", "exabytes inside"],
)
def test_what_cannot_be_stopped_is_tried_in_a_process_of_its_own(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    assert message in must_refuse(lambda: require_runs(tmp_path / "net.onnx", time_limit_s=2))


def test_a_sound_model_passes_the_trial_and_so_does_one_that_another_runtime_may_take(tmp_path: Path) -> None:
    for number, content in enumerate((NAMED, SEQUENCE.SerializeToString())):
        (tmp_path / f"{number}.onnx").write_bytes(content)
        require_runs(tmp_path / f"{number}.onnx")


READERS: dict[str, Callable[[Path], object]] = {
    "onnx": model_bytes,
    "ncnn": lambda path: _read_onnx(path, "net"),
    "simulator": lambda path: zeroed_onnx(path.read_bytes()),
    "ONNX Runtime": lambda path: OrtProgram(path)(),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_damaged_models_are_refused(fuzz: Fuzz, reader: Callable[[Path], object]) -> None:
    good = [
        workload_to_onnx(Workload("conv", (4,), 8, (6, 6), (3, 3), (1, 1), (1, 1), bias=True, activation="relu")),
        workload_to_onnx(Workload("concat", (2, 2), 4, (2, 2))),
        one("SequenceConstruct", value("x", [1, 2]), SEQUENCE),
    ]

    def read_damaged(generator: random.Random, folder: Path) -> None:
        path = folder / "net.onnx"
        path.write_bytes(mutated_bytes(generator.choice(good), generator))
        reader(path)

    fuzz(read_damaged, quick=40, full=4000)

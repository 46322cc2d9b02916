"""The kernels for CPUs, compiled for this machine and run, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tvm_models import model

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from netadapt.measure.platform import load_platform
from netadapt.measure.tvm import cpu
from netadapt.measure.tvm.compile import compile_model
from netadapt.measure.tvm.local import TvmProgram
from netadapt.measure.tvm.reference import example
from netadapt.measure.tvm.vector_unit import VectorUnit
from netadapt.measure.tvm.window import Window
from netadapt.network.workload import ACTIVATIONS, Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)
#: Each example is compiled, which takes a second or less; the same ones every time.
few = settings(max_examples=6, deadline=None, derandomize=True, database=None)

channels = st.integers(1, 40)
lengths = st.integers(1, 19)
sizes = st.tuples(lengths, lengths)
batches = st.integers(1, 2)
activations = st.sampled_from(ACTIVATIONS)
#: Whether images come as they do inside a network, or as in a model's file.
inside = st.booleans()


def require_right(workload, interior=True):
    """Compile the workload for this machine, run it and compare; raises KernelInvalid when the result is wrong."""
    library, difference = compiled_and_run(workload_to_onnx(workload), interior)
    assert not interior or library.general_kernels == ()
    # Results are about 1, and the sums are short.
    assert difference < 1e-5


def compiled_and_run(model, interior):
    """The library of a model, and how much its result differs from ONNX Runtime's."""
    library = compile_model(model, load_platform("tvm-local").runtime, interior)
    return library, TvmProgram(library, example(model), "model").difference


@st.composite
def windows(draw, dilated=True):
    """Sizes of an image and of a window on it, which may be larger than the image where padding makes up for it."""
    axes = [_axis(draw, dilated) for _ in range(2)]
    window = {name: tuple(axis[name] for axis in axes) for name in axes[0]}
    # Where all windows lie in the padding alone there is nothing to compute.
    assume(Window(out_size=Workload("conv", (1,), 1, **window).out_size, **window).meets_image)
    return window


def _axis(draw, dilated):
    kernel, stride = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 3)) if dilated else 1
    reach = dilation * (kernel - 1) + 1
    padding = draw(st.integers(0, reach))
    in_size = draw(st.integers(max(1, reach - 2 * padding), 19))
    return {"in_size": in_size, "kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


@few
@given(windows(), st.integers(1, 3), channels, channels, batches, st.booleans(), activations, inside)
def test_convolutions(window, groups, inputs, outputs, batch, bias, activation, interior):
    groups = min(groups, inputs, outputs)
    shape = {"in_channels": (inputs // groups * groups,), "out_channels": outputs // groups * groups}
    rest = {"groups": groups, "batch": batch, "bias": bias, "activation": activation}
    require_right(Workload("conv", **shape, **window, **rest), interior)


@few
@given(sizes, channels, channels, batches, st.booleans(), activations, inside)
def test_pointwise_convolutions(size, inputs, outputs, batch, bias, activation, interior):
    workload = Workload("conv", (inputs,), outputs, size, bias=bias, activation=activation, batch=batch)
    require_right(workload, interior)


@few
@given(windows(), channels, batches, activations, inside)
def test_depthwise_convolutions(window, width, batch, activation, interior):
    workload = Workload("conv", (width,), width, **window, groups=width, batch=batch, bias=True, activation=activation)
    require_right(workload, interior)


@st.composite
def pool_windows(draw, dilated):
    """As `windows`, with less padding than kernel, as ONNX wants it."""
    window = draw(windows(dilated=dilated))
    assume(all(padding < kernel for padding, kernel in zip(window["padding"], window["kernel"], strict=True)))
    return window


@few
@given(pool_windows(dilated=True), channels, batches, st.booleans(), inside)
def test_max_pools(window, width, batch, ceil_mode, interior):
    require_right(Workload("max_pool", (width,), width, **window, batch=batch, ceil_mode=ceil_mode), interior)


@few
@given(pool_windows(dilated=False), channels, batches, st.booleans(), st.booleans(), inside)
def test_average_pools(window, width, batch, ceil_mode, count_padding, interior):
    modes = {"ceil_mode": ceil_mode, "count_include_pad": count_padding}
    require_right(Workload("avg_pool", (width,), width, **window, batch=batch, **modes), interior)


@few
@given(channels, channels, batches, st.booleans(), activations)
def test_linear_layers(inputs, outputs, batch, bias, activation):
    require_right(Workload("linear", (inputs,), outputs, bias=bias, activation=activation, batch=batch))


@few
@given(
    st.sampled_from(["add", "mul", "scale", "batch_norm", "activation", "global_avg_pool"]),
    sizes,
    channels,
    batches,
    activations,
)
def test_what_combines_images_of_one_shape(op, size, width, batch, activation):
    inputs = 2 if op in ("add", "mul", "scale") else 1
    require_right(Workload(op, (width,) * inputs, width, size, activation=activation, batch=batch))


@few
@given(st.lists(channels, min_size=2, max_size=4), sizes, batches, activations)
def test_concatenations(widths, size, batch, activation):
    require_right(Workload("concat", tuple(widths), sum(widths), size, activation=activation, batch=batch))


@pytest.mark.parametrize(
    "workload",
    [
        # Windows at the corners that lie in the padding alone.
        Workload("conv", (5,), 9, (3, 3), (2, 2), (1, 1), (3, 3)),
        Workload("conv", (9,), 9, (3, 3), (2, 2), (2, 2), (2, 2), groups=9),
        Workload("conv", (22,), 28, (13, 1), (3, 1), (1, 3), (0, 3), (2, 1), groups=2, activation="tanh"),
        Workload("conv", (17,), 5, (1, 1), (1, 1), activation="relu"),
        Workload("conv", (17,), 5, (2, 2), (7, 7), (1, 1), (3, 3)),
        Workload("conv", (17,), 17, (2, 2), (7, 7), (1, 1), (3, 3), groups=17),
        Workload("avg_pool", (17,), 17, (2, 2), (7, 7), (1, 1), (3, 3), count_include_pad=False),
        Workload("max_pool", (17,), 17, (2, 2), (7, 7), (1, 1), (3, 3)),
        Workload("conv", (3,), 16, (31, 31), (3, 3), (2, 2), (1, 1), bias=True, activation="hardswish"),
    ],
    ids=str,
)
@pytest.mark.parametrize("interior", [True, False], ids=["interior", "whole"])
def test_windows_that_are_cut(workload, interior):
    require_right(workload, interior)


@pytest.mark.parametrize(
    "workload",
    [
        Workload("conv", (256,), 33, (29, 29), bias=True, activation="relu6"),
        Workload("conv", (250,), 17, (13, 13), batch=5),
        Workload("conv", (65,), 18, (47, 47), (3, 3), (1, 1), (1, 1), activation="relu"),
        Workload("conv", (128,), 36, (47, 31), (3, 3), (2, 2), (1, 1), groups=2),
        Workload("conv", (97,), 97, (53, 53), (5, 5), (2, 2), (2, 2), groups=97, bias=True),
        Workload("conv", (3,), 33, (97, 97), (3, 3), (2, 2), (1, 1), bias=True, activation="hardswish"),
        Workload("linear", (1280,), 1001, bias=True, batch=3),
        Workload("global_avg_pool", (130,), 130, (49, 49)),
    ],
    ids=str,
)
def test_layers_that_are_cut_into_blocks_for_the_caches(workload):
    require_right(workload)


@pytest.mark.parametrize(
    "unit",
    [
        VectorUnit(lanes=4, most_sums=21, by_element=True),
        VectorUnit(lanes=16, most_sums=20, by_element=False),
    ],
    ids=["neon", "avx512"],
)
@pytest.mark.parametrize(
    "workload",
    [
        Workload("conv", (39,), 37, (7, 11), bias=True, activation="relu6"),
        Workload("conv", (13,), 22, (13, 9), (3, 3), (1, 1), (1, 1), activation="hardswish"),
        Workload("conv", (21,), 33, (10, 9), (3, 2), (2, 1), (1, 1), groups=3, bias=True),
        # More than a panel of weights for each group.
        Workload("conv", (6,), 140, (7, 5), (3, 3), (1, 1), (1, 1), groups=2),
        Workload("conv", (33,), 33, (13, 17), (5, 5), (2, 2), (2, 2), groups=33, bias=True),
        Workload("avg_pool", (19,), 19, (9, 9), (3, 3), (2, 2), (1, 1), ceil_mode=True),
        Workload("linear", (51,), 43, bias=True, batch=2),
    ],
    ids=str,
)
def test_kernels_for_the_vector_units_of_other_cores(unit, workload, monkeypatch):
    """Their code is for this machine, which splits or joins the vectors that it does not have."""
    monkeypatch.setattr(cpu, "vector_unit", lambda target: unit)
    require_right(workload)


def test_a_model_of_which_no_window_meets_the_image():
    # Rows -1 and 2 of an image of two.
    workload = Workload("conv", (5,), 9, (2, 12), (1, 4), (3, 2), (1, 1), bias=True)
    library, difference = compiled_and_run(workload_to_onnx(workload), interior=True)
    assert difference < 1e-6
    assert len(library.general_kernels) == 1


def after_a_convolution(*nodes, shape=(1, 8, 6, 6), **constants):
    """A convolution of `x` that gives `a`, and nodes that make `y` of it."""
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32) / 8
    convolution = ("Conv", ["x", "w"], ["a"], {"pads": [1, 1, 1, 1]})
    values = [("w", weight), *constants.items()]
    return model([convolution, *nodes], [("x", (1, 8, 6, 6))], [("y", shape)], values)


GENERAL = {
    "softmax": after_a_convolution(("Softmax", ["a"], ["y"], {"axis": 1})),
    "local response": after_a_convolution(("LRN", ["a"], ["y"], {"size": 3})),
    "instance norm": after_a_convolution(
        ("InstanceNormalization", ["a", "g", "g"], ["y"], {}), g=np.ones(8, np.float32)
    ),
    "global max": after_a_convolution(("GlobalMaxPool", ["a"], ["y"], {}), shape=(1, 8, 1, 1)),
}

_THREE = {"kernel_shape": [3, 3], "pads": [0, 1, 2, 1]}
#: Each element by itself, or the work of kernels of ours.
OURS = {
    "dropout": after_a_convolution(("Dropout", ["a"], ["b"], {}), ("Elu", ["b"], ["y"], {})),
    "transpose": after_a_convolution(("Transpose", ["a"], ["y"], {}), shape=(6, 6, 8, 1)),
    "residual": after_a_convolution(("Conv", ["x", "w"], ["b"], {"pads": [1] * 4}), ("Add", ["a", "b"], ["y"], {})),
    "factors of columns": after_a_convolution(("Mul", ["a", "k"], ["y"], {}), k=np.linspace(-1, 1, 6, dtype="float32")),
    "concat": after_a_convolution(("Concat", ["a", "x", "a"], ["y"], {"axis": 1}), shape=(1, 24, 6, 6)),
    "max pool": after_a_convolution(("MaxPool", ["a"], ["y"], {**_THREE, "strides": [2, 1]}), shape=(1, 8, 3, 6)),
    "average pool": after_a_convolution(("AveragePool", ["a"], ["y"], {**_THREE, "count_include_pad": 1})),
    "mean": after_a_convolution(
        ("ReduceMean", ["a", "axes"], ["y"], {"keepdims": 0}), shape=(1, 8), axes=np.int64([2, 3])
    ),
    "resize": after_a_convolution(
        ("Resize", ["a", "", "scales"], ["y"], {"mode": "linear"}),
        shape=(1, 8, 12, 12),
        scales=np.float32([1, 1, 2, 2]),
    ),
}


@pytest.mark.parametrize("name", GENERAL)
def test_what_none_of_our_kernels_fits_is_right_and_named(name):
    library, difference = compiled_and_run(GENERAL[name], interior=False)
    assert difference < 1e-5
    assert library.general_kernels
    assert not any("conv" in kernel for kernel in library.general_kernels)


@pytest.mark.parametrize("name", OURS)
def test_other_operators_that_our_kernels_fit(name):
    library, difference = compiled_and_run(OURS[name], interior=False)
    assert difference < 1e-5
    assert library.general_kernels == ()

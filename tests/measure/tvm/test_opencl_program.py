"""What is read from TVM's compiler to start kernels without TVM's runtime."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tvm_models import model, pointwise_chain, squeeze_excite

pytest.importorskip("tvm", reason="Apache TVM is not installed")

from netadapt.errors import MeasurementError, ModelError
from netadapt.measure.platform import TvmTarget
from netadapt.measure.tvm.opencl_program import Launch, opencl_program
from netadapt.network.workload import Workload
from netadapt.network.workload_onnx import workload_to_onnx

pytestmark = pytest.mark.timeout(120)
GENERIC = TvmTarget(kind="opencl", gpu="generic")
SIGNATURE = re.compile(r"__kernel void (\w+)\(([^)]*)\) \{")


def compiled(workload):
    return opencl_program(workload_to_onnx(workload), GENERIC, inside=True)


def signatures(program):
    """Names of the arguments of each kernel of the source."""
    return {
        name: [argument.split()[-1].removesuffix("_ptr") for argument in arguments.split(",")]
        for name, arguments in SIGNATURE.findall(program.source)
    }


def test_launch_extents_are_those_that_the_source_counts_on():
    # 4 x 8 pixels of 64 channels: 2048 numbers, 4 for each of 512 work-items, in groups of 16 items along the channels
    # and 4 pixels: a group is 256 numbers in a row.
    program = compiled(Workload("activation", (64,), 64, (4, 8), activation="relu"))
    assert program.launches == (Launch(program.launches[0].kernel, (1, 0), groups=(8, 1, 1), items=(64, 1, 1)),)
    assert program.launches[0].global_size == (512, 1, 1)
    assert program.memories == (2048 * 4, 2048 * 4)
    assert "get_group_id(0))) * 256) + ((convert_int(get_local_id(0))) * 4)" in program.source
    assert "vstore4(max(vload4(0, " in program.source


def test_a_work_item_of_a_convolution_computes_a_tile_of_pixels_and_four_channels():
    program = compiled(Workload("conv", (32,), 64, (32, 32), (3, 3), (1, 1), (1, 1), bias=True, activation="relu"))
    (launch,) = program.launches
    # 32 * 32 * 64 results; with 8 pixels of a row and 4 channels each there are enough work-items left.
    assert launch.global_size[0] == 32 * 32 * 64 // (8 * 4)
    assert launch.items == (64, 1, 1)
    assert "float4 conv2d_nhwc_intermediate_local_ptr[8];" in program.source


@pytest.mark.parametrize(("row", "pixels", "pieces"), [(31, 8, 4), (14, 7, 2), (13, 7, 2), (7, 7, 1), (37, 8, 5)])
def test_rows_of_any_length_are_cut_into_about_equal_tiles(row, pixels, pieces):
    program = compiled(Workload("conv", (8,), 512, (row, row)))
    (launch,) = program.launches
    assert f"float4 conv2d_nhwc_local_ptr[{pixels}];" in program.source
    # Nearly every work-item has something to do.
    assert row * pieces * 128 <= launch.global_size[0] <= 1.1 * row * pieces * 128


def test_few_work_items_get_fewer_pixels_each():
    program = compiled(Workload("conv", (8,), 256, (7, 7)))
    # A tile for each row would leave 7 * 64 = 448 work-items; with two tiles for each there are 896.
    assert "float4 conv2d_nhwc_local_ptr[4];" in program.source
    assert program.launches[0].global_size[0] == 896


def test_work_items_of_a_group_share_long_sums_of_few_results():
    program = compiled(Workload("linear", (256,), 40))
    (launch,) = program.launches
    # 40 results in groups of 16, of which 16 work-items add up each.
    assert (launch.groups, launch.items) == ((3, 1, 1), (16, 16, 1))
    assert "barrier(CLK_LOCAL_MEM_FENCE)" in program.source


def test_a_function_that_starts_two_kernels_has_memory_between_them():
    program = opencl_program(squeeze_excite(), GENERIC)
    # TVM fuses the second convolution with the multiplication that takes each of its results for a whole channel.
    scaled = [launch for launch in program.launches if "multiply" in launch.kernel]
    assert [launch.kernel.removeprefix(scaled[0].kernel) for launch in scaled] == ["", "_1"]
    # What the first writes, in registers' worth of float4, the second reads.
    between = set(scaled[0].arguments) & set(scaled[1].arguments) - set(program.constants)
    assert 24 * 4 in {program.memories[number] for number in between}


def test_arguments_are_in_the_order_of_the_signature():
    program = compiled(Workload("conv", (8,), 12, (5, 5), bias=True))
    (launch,) = program.launches
    (names,) = signatures(program).values()
    sizes = dict(zip(names, (program.memories[number] for number in launch.arguments), strict=True))
    ((_, image),), ((_, result),) = program.inputs, program.outputs
    assert sorted(sizes.values()) == sorted([8 * 5 * 5 * 4, 8 * 12 * 4, 12 * 4, 12 * 5 * 5 * 4])
    assert sizes["param_0"] == 8 * 12 * 4
    assert sizes["param_1"] == 12 * 4
    assert {image, result} <= set(launch.arguments)
    assert set(program.constants) == set(launch.arguments) - {image, result}
    assert program.constant_bytes == (8 * 12 + 12) * 4


def test_every_launch_gives_a_kernel_as_many_arguments_as_it_takes():
    workloads = [
        Workload("concat", (4, 8, 12), 24, (5, 5)),
        Workload("scale", (24, 24), 24, (6, 6)),
        Workload("global_avg_pool", (32,), 32, (7, 7)),
        Workload("linear", (64,), 40, bias=True, activation="hardswish"),
    ]
    for program in map(compiled, workloads):
        names = signatures(program)
        assert program.launches
        for launch in program.launches:
            assert len(launch.arguments) == len(names[launch.kernel])


def test_memory_is_used_again_once_nothing_reads_it():
    three, eight = (opencl_program(pointwise_chain(depth), GENERIC) for depth in (3, 8))

    def shared(program):
        return sum(program.memories) - program.constant_bytes

    assert len(eight.launches) == len(three.launches) + 5
    assert shared(eight) == shared(three)


def test_the_same_weights_are_kept_for_each_layer_and_a_kernel_is_compiled_once():
    program = opencl_program(pointwise_chain(5), GENERIC)
    assert len(program.constants) == 5
    starts = [launch.kernel for launch in program.launches if "conv2d" in launch.kernel]
    assert len(starts) == 5
    assert len(set(starts)) == 1


def test_a_reshape_costs_no_kernel():
    flat = model(
        [("Flatten", ["x"], ["a"], {}), ("MatMul", ["a", "w"], ["y"], {})],
        [("x", (1, 4, 2, 3))],
        [("y", (1, 8))],
        [("w", np.ones((24, 8), np.float32))],
    )
    assert [launch.kernel for launch in opencl_program(flat, GENERIC).launches] == ["matmul_kernel"]


def test_inputs_and_outputs_keep_their_names_and_order():
    both = model(
        [("Sub", ["a", "b"], ["difference"], {}), ("Relu", ["b"], ["positive"], {})],
        [("a", (1, 6)), ("b", (1, 6))],
        [("positive", (1, 6)), ("difference", (1, 6))],
    )
    program = opencl_program(both, GENERIC)
    assert [tensor.name for tensor, _ in program.inputs] == ["a", "b"]
    assert [tensor.name for tensor, _ in program.outputs] == ["positive", "difference"]
    assert len({number for _, number in program.outputs}) == 2


def test_what_is_not_a_model_is_told():
    with pytest.raises(ModelError, match=r"net\.onnx: not a valid ONNX model"):
        opencl_program(b"nonsense", GENERIC, name="net.onnx")


def test_an_operator_that_tvm_lacks_is_told():
    strange = model([("StringNormalizer", ["x"], ["y"], {})], [("x", (1,))], [("y", (1,))])
    with pytest.raises((ModelError, MeasurementError), match=r"^net\.onnx: "):
        opencl_program(strange, GENERIC, name="net.onnx")


def test_constants_are_those_of_the_model():
    weight = np.arange(12, dtype=np.float32).reshape(4, 3, 1, 1)
    conv = model([("Conv", ["x", "w"], ["y"], {})], [("x", (1, 3, 2, 2))], [("y", (1, 4, 2, 2))], [("w", weight)])
    (found,) = opencl_program(conv, GENERIC).constants.values()
    # [OUT, IN, H, W] has become [H, W, IN, OUT].
    np.testing.assert_array_equal(found, weight.transpose(2, 3, 1, 0))

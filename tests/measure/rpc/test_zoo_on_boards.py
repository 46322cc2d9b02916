"""Every network of the zoo takes the path of a real board: compiled, uploaded through a tracker, run on arm64."""

import pytest

from netadapt import zoo
from netadapt.measure.device import open_device
from netadapt.network.export import to_onnx

MOST_DIFFERENCE = 1e-4


@pytest.fixture(scope="module")
def board(installation):
    with open_device("qemu-aarch64-tvm") as device:
        yield device


@pytest.mark.timeout(600)
@pytest.mark.parametrize("network", zoo.NETWORKS)
def test_gives_the_result_of_onnx_runtime(board, network):
    resolved = zoo.resolve(f"{network}@64", classes=None, in_channels=None)
    model = to_onnx(resolved.module, resolved.example_input)

    # An emulator has no time to tell.
    assert board.costs(model) == {}
    details = board.details(model)

    # A difference of more than rounding would have been an error; this is the figure that the project promises.
    assert details["max_abs_difference"] <= MOST_DIFFERENCE
    assert details["general_kernels"] == []
    assert details["board"]["tvm"] == "0.27.0.post1"

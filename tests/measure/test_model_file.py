"""Models as files, with weights inside or beside them."""

from __future__ import annotations

import onnx
import pytest
from small_models import matmul

from netadapt.errors import ModelError
from netadapt.measure.model_file import model_bytes, model_name


def test_contents_are_taken_as_they_are():
    assert model_bytes(b"anything") == b"anything"
    assert model_name(b"anything") == "model"


def test_a_file_is_read_and_errors_call_it_by_its_path(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(matmul(8))
    assert onnx.load_model_from_string(model_bytes(path)) == onnx.load_model_from_string(matmul(8))
    assert model_name(path) == str(path)


def test_weights_beside_the_file_come_along(tmp_path):
    path = tmp_path / "net.onnx"
    proto = onnx.load_model_from_string(matmul(64))
    onnx.save(proto, str(path), save_as_external_data=True, location="net.weights", size_threshold=0)
    weight_bytes = 64 * 64 * 4
    assert path.stat().st_size < weight_bytes <= (tmp_path / "net.weights").stat().st_size
    (read,) = onnx.load_model_from_string(model_bytes(path)).graph.initializer
    (weight,) = onnx.load_model_from_string(matmul(64)).graph.initializer
    assert onnx.numpy_helper.to_array(read).tobytes() == onnx.numpy_helper.to_array(weight).tobytes()
    assert read.data_location == onnx.TensorProto.DEFAULT


def test_absent_files_and_folders(tmp_path):
    for path in (tmp_path / "absent.onnx", tmp_path):
        with pytest.raises(ModelError, match="there is no such file") as error:
            model_bytes(path)
        assert str(path) in str(error.value)


def test_a_file_that_is_not_a_model(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a model")
    with pytest.raises(ModelError, match=r"text\.onnx: not a model that onnx can read"):
        model_bytes(path)


def test_weights_that_are_missing(tmp_path):
    path = tmp_path / "net.onnx"
    proto = onnx.load_model_from_string(matmul(64))
    onnx.save(proto, str(path), save_as_external_data=True, location="net.weights", size_threshold=0)
    (tmp_path / "net.weights").unlink()
    with pytest.raises(ModelError, match=r"net\.onnx: not a model that onnx can read: .*net\.weights"):
        model_bytes(path)

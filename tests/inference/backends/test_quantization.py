"""Quantised networks: 8-bit convolutions, small layers in 32 bits, nothing left beside the files."""

import onnx
import openvino

from fastcell.inference.backends.network_files import files_of_network


def test_convolutions_have_8_bits_and_small_layers_32(prepared_files):
    path = prepared_files.folder / "openvino-int8.xml"
    ops = {op.get_friendly_name(): op for op in openvino.Core().read_model(str(path)).get_ordered_ops()}
    kinds = [op.get_type_name() for op in ops.values()]
    assert kinds.count("FakeQuantize") >= 3
    for op in ops.values():
        sources = {op.input_value(port).get_node().get_type_name() for port in range(op.get_input_size())}
        if op.get_type_name() == "MatMul":
            assert "FakeQuantize" not in sources
    graph = onnx.load(prepared_files.folder / "onnxruntime-int8.onnx").graph
    assert sum(node.op_type == "QuantizeLinear" for node in graph.node) >= 3


def test_only_the_files_are_left(prepared_files):
    names = {path.name for path in prepared_files.folder.iterdir()}
    assert {*files_of_network("openvino", "int8"), *files_of_network("onnxruntime", "int8")} <= names
    assert not [name for name in names if name.endswith(".partial")]

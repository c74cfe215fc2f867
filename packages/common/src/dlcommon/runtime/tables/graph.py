"""Writing an ONNX graph node by node."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSETS = {"": 21, "ai.onnx.ml": 3}
"""20 brought strings and patterns."""
IR_VERSION = 10


class Graph:
    """Builds an ONNX graph node by node; every value gets a unique name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._names = 0

    def _name(self) -> str:
        self._names += 1
        return f"value_{self._names}"

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node of one output, and returns the output's name."""
        name = self._name()
        self.nodes.append(helper.make_node(operator, inputs, [name], domain=domain, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = self._name()
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def cast(self, value: str, to: int = TensorProto.FLOAT) -> str:
        return self.add("Cast", value, to=to)

    def lookup(self, key: str, table: Mapping[str, float], default: float) -> str:
        """Adds a lookup from text to number, float32."""
        keys, values = list(table) or [""], [float(value) for value in table.values()] or [default]
        return self.add(
            "LabelEncoder", key, domain="ai.onnx.ml", keys_strings=keys, values_floats=values, default_float=default
        )

    def embed(self, model: onnx.ModelProto, source: str, output: str) -> str:
        """Embeds another model of one input, fed with `source`; returns the name of its `output` here."""
        prefix = self._name()
        renamed = {model.graph.input[0].name: source, "": ""}

        def name(old: str) -> str:
            return renamed.setdefault(old, f"{prefix}_{old}")

        for tensor in model.graph.initializer:
            kept = onnx.TensorProto()
            kept.CopyFrom(tensor)
            kept.name = name(tensor.name)
            self.initializers.append(kept)
        for node in model.graph.node:
            kept_node = onnx.NodeProto()
            kept_node.CopyFrom(node)
            kept_node.name = name(f"node {node.name}")
            for names in (kept_node.input, kept_node.output):
                names[:] = [name(old) for old in names]
            self.nodes.append(kept_node)
        return name(output)

    def model(self, inputs: Mapping[str, int], outputs: Mapping[str, tuple[str, int]]) -> onnx.ModelProto:
        """Returns the finished model.

        Args:
            inputs: element type of each input [batch, 1] by its name.
            outputs: name of each output [batch, columns] to the value that it is, float32, and its columns.
        """
        for name, (value, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes,
            "pipeline",
            [helper.make_tensor_value_info(name, kind, ["batch", 1]) for name, kind in inputs.items()],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", columns])
                for name, (_, columns) in outputs.items()
            ],
            self.initializers,
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

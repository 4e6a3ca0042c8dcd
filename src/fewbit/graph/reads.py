"""What a node reads, in its subgraphs too."""

from __future__ import annotations

import onnx_ir as ir


def values_read(node: ir.Node) -> set[str]:
    """The names of the values that a node reads and that are computed or fed, not constant."""
    names = {str(v.name) for v in node.inputs if v is not None and v.const_value is None}
    for attribute in node.attributes.values():
        graphs = [attribute.as_graph()] if attribute.type == ir.AttributeType.GRAPH else []
        for graph in graphs:
            for inner in graph.all_nodes():
                names |= {str(v.name) for v in inner.inputs if v is not None and v.graph is not graph}
    return names

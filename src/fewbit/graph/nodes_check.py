"""Check each node against its operator's definition, so that no rule meets a node that cannot be."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from fewbit.errors import ModelError

if TYPE_CHECKING:
    import onnx


@lru_cache(maxsize=1024)
def _schema(op_type: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    import onnx

    try:
        return onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None  # a custom operator, or one of a runtime's own


def check_node(node: onnx.NodeProto, versions: dict[str, int], label: str) -> None:
    """Raise ModelError for a wrong number of inputs or outputs, or an attribute that is missing, unknown or misshapen.

    versions: the operator sets that the model imports. Operators that onnx does not know are not checked.
    """
    where = f"{label}: node {node.name!r} ({node.op_type})"
    for text in (node.name, node.op_type, node.domain, *node.input, *node.output, *(a.name for a in node.attribute)):
        if not isinstance(text, str):
            raise ModelError(f"{where} has a name that is not UTF-8 text; the file is damaged, copy it again")
    domain = "" if node.domain == "ai.onnx" else node.domain
    for attribute in node.attribute:
        if attribute.type == 0 and not attribute.ref_attr_name:
            raise ModelError(f"{where} has an attribute {attribute.name!r} without a type")
        field = {attribute.TENSOR: "t", attribute.GRAPH: "g"}.get(attribute.type)
        if field is not None and not attribute.ref_attr_name and not attribute.HasField(field):
            raise ModelError(f"{where} has an attribute {attribute.name!r} without a value")
    schema = _schema(node.op_type, versions[domain], domain) if domain in versions else None
    if schema is None:
        return
    for kind, names, least, most in (
        ("inputs", node.input, schema.min_input, schema.max_input),
        ("outputs", node.output, schema.min_output, schema.max_output),
    ):
        if not least <= len(names) <= most:
            raise ModelError(f"{where} has {len(names)} {kind}; the operator has {_range(least, most)}")
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in given.items():
        expected = schema.attributes.get(name)
        if expected is None:
            if name.startswith("__"):
                continue  # private marks of a tool; runtimes allow them
            raise ModelError(f"{where} has an attribute {name!r}, which the operator has not")
        if not attribute.ref_attr_name and attribute.type != expected.type.value:  # type: ignore[attr-defined]
            raise ModelError(f"{where} has an attribute {name!r} of a wrong type")
    for name, expected in schema.attributes.items():
        if expected.required and name not in given:
            raise ModelError(f"{where} lacks its attribute {name!r}")


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} or more" if most > 1000 else f"{least} to {most}"

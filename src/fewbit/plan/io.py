"""Plan files: JSON that a person can read and edit, and a safetensors file beside it for arrays.

    {"schema_version": 1, "fingerprint": "…", "target": "ort-cpu", "recipe": "int8", "arrays": "plan-1a2b3c4d.safetensors",
     "sites": [{"name": …, "kind": "edge", "dtype": "uint8", "scale": 0.02, "zero_point": 128, "reason": …}, …],
     "nodes": [{"name": …, "op": "Conv", "form": "integer", "reason": …}, …]}

One scale is written as a number; several are named `@scale:SITE` and stand in the arrays file, which carries the hash of
its contents in its name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import OutputError, PlanError, RecipeError
from fewbit.plan.migrate import migrate
from fewbit.plan.plan import SCHEMA_VERSION, NodePlan, Plan, Rewrite, SitePlan
from fewbit.spec import DType, QParams, QSpec, Rounding, Site
from fewbit.targets.schema import Form

Arrays = dict[str, NDArray[Any]]


def save(plan: Plan, path: str | Path) -> None:
    """Write the plan at `path` and its arrays beside it; both appear whole or not at all.

    Raises:
        OutputError: the files cannot be written.
    """
    from safetensors.numpy import save as serialize

    from fewbit.graph.atomic import atomic_files

    path = Path(path)
    arrays: Arrays = {}
    document = to_dict(plan, arrays)
    if arrays:
        data = serialize({k: np.ascontiguousarray(v) for k, v in sorted(arrays.items())})
        document["arrays"] = f"{path.stem}-{hashlib.sha256(data).hexdigest()[:12]}.safetensors"
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    targets = [path.parent / document["arrays"], path] if arrays else [path]
    with atomic_files(*targets) as files:
        if arrays:
            files[0].write(data)
        files[-1].write(text.encode())


def load(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: not a plan, of an unknown version, a field that is wrong, or arrays that are missing or changed.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"plan {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise PlanError(f"plan {path} is not JSON: {error}") from error
    if not isinstance(document, dict) or "schema_version" not in document or "sites" not in document:
        raise PlanError(f"{path} is not a plan: it has no schema_version and sites")
    document = migrate(document, str(path))
    arrays = _load_arrays(path.parent / document["arrays"]) if document.get("arrays") else {}
    try:
        return from_dict(document, arrays)
    except (KeyError, TypeError, ValueError, RecipeError) as error:
        raise PlanError(f"plan {path} has a wrong or missing field: {type(error).__name__} {error}") from error


def _load_arrays(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load as deserialize

    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlanError(
            f"the plan's arrays {path} cannot be read: {error.strerror}; keep the two files together"
        ) from error
    if hashlib.sha256(data).hexdigest()[:12] != path.stem.rsplit("-", 1)[-1]:
        raise PlanError(f"the plan's arrays {path} were changed: their hash is not the one in the name")
    try:
        return dict(deserialize(data))
    except SafetensorError as error:
        raise PlanError(f"the plan's arrays {path} are damaged: {error}") from error


def to_dict(plan: Plan, arrays: Arrays | None = None) -> dict[str, Any]:
    """The plan as JSON data; arrays of more than one number are put into `arrays` (left out when it is None)."""
    return {
        "schema_version": SCHEMA_VERSION,
        "fingerprint": plan.fingerprint,
        "target": plan.target,
        "recipe": plan.recipe,
        "calibration": dict(plan.calibration),
        "notes": list(plan.notes),
        "sites": [_site(s, arrays) for s in sorted(plan.sites.values(), key=lambda s: (s.site.position, s.site.name))],
        "nodes": [
            _drop_none(
                {
                    "name": n.node,
                    "op": n.op,
                    "form": n.form,
                    "reason": n.reason,
                    "weight": n.weight,
                    "absorbs": n.absorbs,
                    "bias_correction": n.bias_correction or None,
                }
            )
            for n in plan.nodes.values()
        ],
        "rewrites": [
            _drop_none(
                {
                    "kind": r.kind,
                    "value": r.value,
                    "numbers": _array(f"@rewrite:{i}", r.numbers, arrays),
                    "readers": list(r.readers) or None,
                    "reason": r.reason,
                }
            )
            for i, r in enumerate(plan.rewrites)
        ],
        "biases": {name: _array(f"@bias:{name}", bias, arrays) for name, bias in plan.biases.items()},
    }


def from_dict(document: dict[str, Any], arrays: Arrays) -> Plan:
    """The plan that `to_dict` wrote."""

    def array(value: Any) -> NDArray[Any]:
        if isinstance(value, str):
            if value not in arrays:
                raise KeyError(value)
            return arrays[value]
        return np.asarray(value)

    sites = {}
    for item in document["sites"]:
        spec = None
        if item.get("dtype"):
            rounding = item.get("rounding", "half_even")
            if rounding not in get_args(Rounding):
                raise ValueError(f"rounding {rounding!r} of site {item['name']}")
            dtype = DType.parse(item["dtype"])
            block = tuple(int(n) for n in item.get("block_shape", ()))
            symmetric, narrow = item.get("symmetric", False), item.get("narrow", False)
            spec = QSpec(
                dtype,
                block,
                symmetric,
                narrow,
                rounding,
                pair_limit=item.get("pair_limit"),
                codebook=item.get("codebook"),
            )
        params = None
        if spec is not None and "scale" in item:
            scale = np.asarray(array(item["scale"]), np.float32)
            zero = np.asarray(array(item.get("zero_point", 0)), np.int32)
            table = np.asarray(array(item["table"]), np.float32) if spec.codebook is not None else None
            params = _checked(item["name"], QParams(spec, scale, np.broadcast_to(zero, scale.shape), table))
        readers, bounds = item.get("readers"), item.get("bounds")
        sites[item["name"]] = SitePlan(
            Site(item["name"], item["kind"], int(item["position"])),
            spec,
            item.get("reason", ""),
            params,
            item.get("method", ""),
            None if readers is None else tuple(readers),
            item.get("group"),
            item.get("channel_axis"),
            None if bounds is None else (float(bounds[0]), float(bounds[1])),
            item.get("through", "identity"),
            np.asarray(array(item["balance"]), np.float32) if "balance" in item else None,
            np.asarray(array(item["integers"])) if "integers" in item else None,
        )
    nodes = {}
    for item in document["nodes"]:
        if item["form"] not in get_args(Form):
            raise ValueError(f"form {item['form']!r} of node {item['name']}; use {', '.join(get_args(Form))}")
        nodes[item["name"]] = NodePlan(
            item["name"],
            item["op"],
            item["form"],
            item.get("reason", ""),
            item.get("weight"),
            item.get("absorbs"),
            bool(item.get("bias_correction", False)),
        )
    biases = {
        name: np.asarray(array(value), np.float32).reshape(-1) for name, value in document.get("biases", {}).items()
    }
    return Plan(
        document["fingerprint"],
        document["target"],
        document["recipe"],
        sites,
        nodes,
        biases,
        document.get("calibration", {}),
        tuple(document.get("notes", ())),
        tuple(
            Rewrite(
                item["kind"],
                item["value"],
                np.asarray(array(item["numbers"]), np.float32).reshape(-1),
                item.get("reason", ""),
                tuple(item.get("readers", ())),
            )
            for item in document.get("rewrites", ())
        ),
        int(document["schema_version"]),
    )


def _site(site: SitePlan, arrays: Arrays | None) -> dict[str, Any]:
    name, spec, params = site.site.name, site.spec, site.params
    data: dict[str, Any] = {"name": name, "kind": site.site.kind, "position": site.site.position}
    if spec is not None:
        data |= {
            "dtype": str(spec.dtype),
            "block_shape": list(spec.block_shape),
            "symmetric": spec.symmetric,
            "narrow": spec.narrow,
            "rounding": spec.rounding,
        }
        data |= _drop_none({"codebook": spec.codebook, "pair_limit": spec.pair_limit})
    if params is not None:
        data["scale"] = _array(f"@scale:{name}", params.scale, arrays)
        same = params.zero_point.size > 0 and bool((params.zero_point == params.zero_point.flat[0]).all())
        zero = params.zero_point.reshape(-1)[:1] if same else params.zero_point
        if spec is not None and spec.dtype.is_integer and spec.codebook is None:
            data["zero_point"] = _array(f"@zero:{name}", zero, arrays)
        if params.table is not None:
            data["table"] = _array(f"@table:{name}", params.table, arrays)
    data |= _drop_none(
        {
            "method": site.method or None,
            "readers": None if site.readers is None else list(site.readers),
            "group": site.group,
            "channel_axis": site.channel_axis,
            "bounds": site.bounds and [_finite(b) for b in site.bounds],
            "through": site.through if site.through != "identity" else None,
            "balance": None if site.balance is None else _array(f"@balance:{name}", site.balance, arrays),
            "integers": None if site.integers is None else _array(f"@integers:{name}", site.integers, arrays),
        }
    )
    data["reason"] = site.reason
    return data


def _checked(name: str, params: QParams) -> QParams:
    """A person may have edited the numbers."""
    if not (np.isfinite(params.scale).all() and (params.scale > 0).all()):
        raise ValueError(f"scale of site {name} must be positive and finite")
    if params.table is not None:
        most = 1 << params.spec.dtype.bits
        if params.table.ndim != 1 or not 2 <= params.table.size <= most or not np.isfinite(params.table).all():
            raise ValueError(f"table of site {name} must hold 2 to {most} finite levels")
        if (np.diff(params.table) < 0).any():
            raise ValueError(f"table of site {name} must be ascending")
    if not params.spec.dtype.is_integer:
        return params
    low, high = params.spec.dtype.qmin, params.spec.dtype.qmax
    if params.zero_point.size and (params.zero_point.min() < low or params.zero_point.max() > high):
        raise ValueError(f"zero_point of site {name} must be within {low}..{high}")
    return params


def _array(name: str, value: NDArray[Any], arrays: Arrays | None) -> Any:
    if value.size == 1:
        return value.reshape(-1)[0].item()
    if arrays is not None:
        arrays[name] = value
    return name


def _finite(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(value)


def _drop_none(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if value is not None}

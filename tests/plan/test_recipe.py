from __future__ import annotations

from pathlib import Path

import pytest

from fewbit.errors import RecipeError
from fewbit.plan.recipe import RECIPES, Match, Recipe, Rule
from fewbit.spec import INT8, UINT8, DType

NODES = [("a", "Conv", ["a", "va"], True), ("b", "Relu", ["b", "vb"], False), ("c", "Gemm", ["c", "vc"], True)]


def test_later_rules_win_field_by_field() -> None:
    recipe = Recipe(
        "r",
        (
            Rule(compute="integer", activation={"range": "minmax"}),
            Rule(Match(op=("Gemm",)), weight={"range": "absmax"}),
            Rule(Match(name="vc"), compute="float"),
        ),
    )
    settings = recipe.settings(NODES)
    assert settings["a"].compute == "integer" and settings["a"].weight.range == "mse"
    assert settings["c"].compute == "float" and settings["c"].weight.range == "absmax"
    assert settings["c"].activation.range == "minmax"
    assert settings["c"].reason == "rule 3 of recipe r: name 'vc'"


@pytest.mark.parametrize(("position", "node"), [(0, "a"), (-1, "c"), (1, "c")])
def test_positions_count_nodes_with_weights(position: int, node: str) -> None:
    recipe = Recipe("r", (Rule(), Rule(Match(position=position), compute="float")))
    settings = recipe.settings(NODES)
    assert [name for name, s in settings.items() if s.compute == "float"] == [node]


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"rule 2 of recipe r \(op Conv3D\) matches nothing.*Conv, Gemm, Relu"):
        Recipe("r", (Rule(), Rule(Match(op=("Conv3D",)), compute="float"))).settings(NODES)


def test_exclude_takes_op_types_and_name_patterns() -> None:
    settings = RECIPES["int8"].excluding(["Gemm", "v?"]).settings(NODES)
    assert {s.compute for s in settings.values()} == {"float"}
    assert RECIPES["int8"].excluding(["Gemm"]).settings(NODES)["a"].compute == "integer"


def test_demoting_takes_names_literally() -> None:
    nodes = [("conv[0]", "Conv", ["conv[0]"], True), ("conv0", "Conv", ["conv0"], True)]
    settings = RECIPES["int8"].demoting({"conv[0]": "because"}).settings(nodes)
    assert settings["conv[0]"].compute == "storage" and settings["conv[0]"].reason == "because"
    assert settings["conv0"].compute == "integer"


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: mine\nbase: int8\nrules:\n"
        "  - {match: {op: [Gemm, MatMul]}, weight: {dtype: int4, granularity: tensor}}\n"
        "  - {match: {position: first}, compute: float}\n"
    )
    settings = Recipe.get(path).settings(NODES)
    assert settings["a"].compute == "float"
    assert settings["c"].weight.dtype == DType("int", 4) and settings["c"].weight.granularity == "tensor"
    assert settings["b"].activation.dtype == UINT8 and settings["b"].weight.dtype == INT8
    assert Recipe.get({"rules": [{"compute": "storage"}]}).settings(NODES)["a"].compute == "storage"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [{match: {op: Conv}, wieght: {}}]", "rules.0.wieght"),
        ("rules: [{weight: {dtype: int99}}]", "int99"),
        ("{}", "neither rules nor a base"),
        ("rules: [", "not valid yaml"),
    ],
)
def test_wrong_files_say_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=says):
        Recipe.get(path)
    with pytest.raises(RecipeError, match="did you mean int8"):
        Recipe.get("int88")


def test_a_codebook_goes_with_its_dtype() -> None:
    data = {"base": "nf4", "rules": [{"match": {"op": "Gemm"}, "weight": {"dtype": "float16"}}]}
    settings = Recipe.get(data).settings(NODES)
    assert settings["a"].weight.codebook == "nf4" and settings["a"].weight.group_size == 64
    assert settings["c"].weight.codebook is None


def test_a_codebook_in_a_file() -> None:
    weight = {"dtype": "uint3", "codebook": "kmeans", "granularity": "group", "group_size": 32}
    setting = Recipe.get({"rules": [{"compute": "storage", "weight": weight}]}).settings(NODES)["a"].weight
    assert setting.dtype == DType("uint", 3) and setting.codebook == "kmeans"
    assert setting.granularity == "group" and setting.group_size == 32
    with pytest.raises(
        RecipeError, match="codebook 'nf5' is not known; use one of nf4, fp4, fp4_bnb, pot, apot, kmeans"
    ):
        Recipe.get({"rules": [{"weight": {"codebook": "nf5"}}]})

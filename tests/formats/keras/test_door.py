"""Keras files and SavedModels, with a real TensorFlow where there is one."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit
from fewbit.errors import MissingExtraError, ModelError
from fewbit.formats.keras.kinds import is_keras

_HERE = importlib.util.find_spec("tensorflow") is not None


def archive(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "{}")
    return path


def test_what_is_one_its_content_says(tmp_path: Path) -> None:
    assert is_keras(archive(tmp_path / "a.keras", "config.json", "metadata.json", "model.weights.h5"))
    assert not is_keras(archive(tmp_path / "b.zip", "data.pkl"))
    folder = tmp_path / "saved"
    folder.mkdir()
    assert not is_keras(folder) and not is_keras(tmp_path / "absent") and not is_keras(np.zeros(1))
    (folder / "saved_model.pb").write_bytes(b"")
    (tmp_path / "m.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    assert is_keras(folder) and is_keras(str(tmp_path / "m.h5"))


@pytest.mark.skipif(_HERE, reason="tensorflow is installed")
def test_a_missing_package_yields_the_pip_command(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.keras", "config.json", "metadata.json", "model.weights.h5")
    with pytest.raises(MissingExtraError, match=r"pip install 'fewbit\[keras\]'"):
        fewbit.load(path)


@pytest.mark.skipif(not _HERE, reason="tensorflow is not installed: pip install 'fewbit[keras]'")
class TestTensorFlow:
    @pytest.fixture
    def model(self) -> Any:
        import keras

        keras.utils.set_random_seed(0)
        layers = keras.layers
        return keras.Sequential(
            [
                layers.Input((12, 12, 3), name="image"),
                layers.Conv2D(8, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.DepthwiseConv2D(3, padding="same", activation="relu6"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(5, activation="softmax"),
            ]
        )

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of TensorFlow's own variables
    @pytest.mark.parametrize("kind", ["m.keras", "m.h5", "folder"])
    def test_comes_in_and_goes_out_as_integers(self, model: Any, kind: str, tmp_path: Path) -> None:
        path = tmp_path / kind
        model.export(str(path), verbose=False) if kind == "folder" else model.save(path)
        images = np.random.default_rng(0).standard_normal((16, 12, 12, 3)).astype(np.float32)
        hub = fewbit.load(path)
        assert any("converted by TensorFlow" in outcome.reason for outcome in hub.log)
        result = fewbit.quantize(path, images, out=tmp_path / "q.tflite")
        assert result.verification is not None and result.verification.outputs[0].sqnr > 20.0
        assert not result.verification.kernels.float_heavy

    def test_code_in_a_file_is_not_run(self, tmp_path: Path) -> None:
        import keras

        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Lambda(lambda x: x * 2)])
        model.save(tmp_path / "m.keras")
        with pytest.raises(ModelError, match="without running code that it holds") as caught:
            fewbit.load(tmp_path / "m.keras")
        assert "\n" not in str(caught.value)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fewbit.data import InputInfo, open_source
from fewbit.errors import DataError, RecipeError

ONE = [InputInfo("x", np.dtype(np.float32), ("N", 2))]


def feeds_of(source: object, **options: object) -> list[dict[str, np.ndarray]]:
    return [s.feed for s in open_source(source, inputs=options.pop("inputs", ONE), **options)]  # type: ignore[arg-type]


def test_npz_gives_one_sample_a_row_with_its_label(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.arange(6, dtype=np.float32).reshape(3, 2), labels=np.array([7, 8, 9]))
    source = open_source(str(tmp_path / "d.npz"), inputs=ONE)
    samples = list(source)
    assert [s.feed["x"].tolist() for s in samples] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [int(s.label) for s in samples] == [7, 8, 9]
    assert source.count == 3
    assert len(list(source)) == 3  # again
    assert len(feeds_of(str(tmp_path / "d.npz"), limit=2)) == 2


def test_a_fixed_batch_takes_several_samples_at_once() -> None:
    fixed = [InputInfo("x", np.dtype(np.float32), (2, 2))]
    data = {"x": np.zeros((5, 2), np.float32)}
    assert [f["x"].shape for f in feeds_of(data, inputs=fixed)] == [(2, 2), (2, 2)]
    assert open_source(data, inputs=fixed).count == 2
    with pytest.raises(DataError, match="batches of 2 samples, and there are 1"):
        feeds_of({"x": np.zeros((1, 2), np.float32)}, inputs=fixed)


def test_numbered_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        np.savez(tmp_path / f"s{number}.npz", x=np.full((number, 2), number, np.float32))
    assert [f["x"].shape[0] for f in feeds_of(tmp_path)] == [1, 9, 10]


def test_python_sources() -> None:
    array = np.zeros((3, 2), np.float32)
    assert len(feeds_of(array)) == 3
    assert len(feeds_of([{"x": array}, {"x": array}])) == 2
    assert len(feeds_of(lambda: iter([({"x": array}, 1)]))) == 1
    source = open_source(iter([{"x": array}]), inputs=ONE)
    assert len(list(source)) == 1
    with pytest.raises(DataError, match="read already"):
        list(source)


def test_a_file_with_arguments_is_called_for_every_pass(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(
        "import numpy as np\ndef rows(count, value=0.0):\n"
        "    for _ in range(count):\n        yield {'x': np.full((1, 2), value, np.float32)}, 'label'\n"
    )
    source = open_source(f"{tmp_path / 'source.py'}:rows(2, value=1.5)", inputs=ONE)
    assert [s.label for s in source] == ["label", "label"]
    assert [s.feed["x"][0, 0] for s in source] == [1.5, 1.5]


def test_safe_casts_are_made_and_others_refused() -> None:
    assert feeds_of([{"x": np.zeros((1, 2), np.float64)}])[0]["x"].dtype == np.float32
    ids = [InputInfo("ids", np.dtype(np.int64), (1, 2))]
    assert feeds_of([{"ids": np.zeros((1, 2), np.int32)}], inputs=ids)[0]["ids"].dtype == np.int64
    ids = [InputInfo("ids", np.dtype(np.int32), (1, 2))]
    assert feeds_of([{"ids": np.full((1, 2), -(2**31))}], inputs=ids)[0]["ids"].dtype == np.int32
    with pytest.raises(DataError, match="takes int32, and the sample holds 0 to 2147483648"):
        feeds_of([{"ids": np.array([[0, 2**31]])}], inputs=ids)
    with pytest.raises(DataError, match="takes float32, given int64"):
        feeds_of([{"x": np.zeros((1, 2), np.int64)}])


def test_damaged_and_pickled_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match="cannot be read"):
        feeds_of(tmp_path / "d.npz")
    np.savez(tmp_path / "o.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        feeds_of(tmp_path / "o.npz")


IMAGE = [InputInfo("x", np.dtype(np.float32), ("N", 3, 8, 8))]


def test_images_with_presets_and_class_folders(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for folder, value in (("cat", 0), ("dog", 255)):
        (tmp_path / folder).mkdir()
        image.new("RGB", (16, 12), (value, 0, 0)).save(tmp_path / folder / "a.png")
    samples = list(open_source(tmp_path, inputs=IMAGE, preprocess="raw"))
    assert [s.label for s in samples] == [0, 1]
    assert samples[1].feed["x"].shape == (1, 3, 8, 8) and samples[1].feed["x"][0, 0].max() == 255.0
    normal = feeds_of(tmp_path, inputs=IMAGE, preprocess="imagenet")[1]["x"]
    assert np.allclose(normal[0, :, 0, 0], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], atol=1e-5)
    boxed = feeds_of(tmp_path, inputs=IMAGE, preprocess="yolox")[1]["x"]
    assert boxed[0, 2, 0, 0] == 255.0 and boxed[0, 0, 7, 0] == 114.0  # BGR above, the filling below
    last = [InputInfo("x", np.dtype(np.uint8), ("N", 8, 8, 3))]
    assert feeds_of(tmp_path, inputs=last, preprocess="raw")[0]["x"].dtype == np.uint8
    with pytest.raises(RecipeError, match="give --preprocess"):
        feeds_of(tmp_path, inputs=IMAGE)
    with pytest.raises(RecipeError, match="'imagnet' does not exist"):
        feeds_of(tmp_path, inputs=IMAGE, preprocess="imagnet")
    (tmp_path / "mine.yaml").write_text("resize: stretch\ndivide: 127.5\nmean: [1.0]\n")
    assert feeds_of(tmp_path, inputs=IMAGE, preprocess=tmp_path / "mine.yaml")[1]["x"][0, 0, 0, 0] == 1.0
    (tmp_path / "mine.yaml").write_text("resise: stretch\n")
    with pytest.raises(RecipeError, match="resise"):
        feeds_of(tmp_path, inputs=IMAGE, preprocess=tmp_path / "mine.yaml")


def test_a_file_that_is_no_image(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image")
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"a\.png is not a readable image"):
        feeds_of(tmp_path, inputs=IMAGE, preprocess="raw")

"""Files of numbers as data sets: what comes out of them, and what is said of a mistake in them."""

from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from trainer.data.arrays import csv_table, numpy_arrays, safetensors_arrays
from trainer.data.labels import check_labels
from trainer.data.loader import TrainLoader
from trainer.data.order import BatchPlan
from trainer.errors import TrainingError

FLOWERS = "length,width,kind\n1,2,rose\n3.5,-4e1,aster\n\n5,6, rose\n"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def complaint(call: object, *arguments: object, **named: object) -> str:
    with pytest.raises(TrainingError) as caught:
        call(*arguments, **named)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_table_gives_its_numbers_and_its_classes_in_sorted_order(tmp_path: Path) -> None:
    flowers = csv_table(write(tmp_path / "f.csv", FLOWERS))
    assert flowers.inputs.tolist() == [[1, 2], [3.5, -40], [5, 6]]
    assert flowers.targets.tolist() == [1, 0, 1]
    assert (flowers.inputs.dtype, flowers.targets.dtype) == (torch.float32, torch.int64)
    assert (flowers.classes, flowers.columns) == (["aster", "rose"], ["length", "width"])


def test_columns_are_chosen_by_name_and_come_in_the_order_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "a;b;c;d\n1;2;3;x\n4;5;6;y\n")
    chosen = csv_table(path, predict="a", inputs=["c", "b"], task="regression", delimiter=";")
    assert chosen.inputs.tolist() == [[3, 2], [6, 5]]
    assert chosen.targets.tolist() == [[1], [4]]
    assert chosen.targets.dtype == torch.float32
    assert not hasattr(chosen, "classes")
    tabs = csv_table(write(tmp_path / "t.csv", "a\tb\n1\t0\n"), delimiter="tab")
    assert tabs.inputs.tolist() == [[1]]


def test_whole_numbers_are_class_numbers_as_they_are(tmp_path: Path) -> None:
    table = csv_table(write(tmp_path / "n.csv", "x,y\n0,2\n0,0\n"))
    assert table.targets.tolist() == [2, 0]
    assert table.classes == ["0", "1", "2"]


def test_given_classes_keep_their_numbers_where_a_file_lacks_one(tmp_path: Path) -> None:
    path = write(tmp_path / "v.csv", "x,y\n1,rose\n")
    assert csv_table(path).targets.tolist() == [0]
    assert csv_table(path, classes=["aster", "rose", "violet"]).targets.tolist() == [1]
    assert "v.csv:2: column 'y': 'rose' is not one of the classes aster, violet" in complaint(csv_table, path, classes=["aster", "violet"])


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("a,b\n1,2\nx,3\n", {}, ":3: column 'a': 'x' is no number"),
        ("a,b\n1,2\n,3\n", {}, ":3: column 'a': the cell is empty, where a number is expected"),
        ("a,b\n1,2\nnan,3\n", {}, ":3: column 'a': 'nan' is no finite number of 32 bits"),
        ("a,b\n1e39,2\n", {}, ":2: column 'a': '1e39' is no finite number"),
        ("a,b\n1,2\n1, \n", {}, ":3: column 'b': the cell is empty, where a class is expected"),
        ("a,b\n1,x\n", {"task": "regression"}, ":2: column 'b': 'x' is no number"),
        ("a,b\n1,2\n\n1,2,3\n", {}, ":4: 3 cells, and the header has 2 names"),
        ("1,2\n3,4\n", {}, ":1: the first line holds numbers only; it must name the columns"),
        ("a,a\n1,2\n", {}, ":1: two columns are called 'a'"),
        ("a,\n1,2\n", {}, ":1: a column has no name"),
        ("a,b\n", {}, ": no rows below the header"),
        ("", {}, ": empty; a table has a line of names"),
        ("height,b\n1,2\n", {"predict": "heigth"}, ":1: there is no column 'heigth' (did you mean 'height'?)"),
        ("a,b\n1,2\n", {"inputs": ["zzzz"]}, ":1: there is no column 'zzzz'; it has a, b"),
        ("a,b\n1,2\n", {"inputs": ["a", "b"]}, ":1: column 'b' is the target, and among the inputs"),
        ("a\n1\n", {}, ":1: there is no column besides the target 'a'"),
        ('a,b\n1,"2\n', {}, ":2: no CSV, here or soon after"),
        ("a,b\n1,2\n", {"delimiter": "::"}, ": the delimiter must be one character or 'tab'"),
        ("a,b\n1,2\n", {"task": "clustering"}, "there is no task 'clustering'; use classification or regression"),
        (
            "a,b\n" + "".join(f"1,v{i}\n" for i in range(1500)),
            {},
            "1500 classes in 1500 rows; is it a number to predict (task: regression)?",
        ),
    ],
)
def test_a_mistake_in_a_table_is_one_line_that_says_where(tmp_path: Path, text: str, arguments: dict[str, object], said: str) -> None:
    path = write(tmp_path / "bad.csv", text)
    text = complaint(csv_table, path, **arguments)
    assert said in text
    assert text.startswith(path) or "task" in arguments


def test_a_table_is_held_as_lines_and_its_numbers_are_read_at_once(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 200)) * 10.0 ** np.arange(-20, 20).repeat(5)
    path = tmp_path / "wide.csv"
    np.savetxt(path, values, delimiter=",", header=",".join(f"c{i}" for i in range(200)), comments="", fmt="%.17g")
    tracemalloc.start()
    table = csv_table(str(path), task="regression")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(torch.cat([table.inputs, table.targets], 1), torch.from_numpy(values).float())
    assert peak < 4 * path.stat().st_size  # a text for each of its cells is more


@pytest.mark.parametrize("cell", ["1", " 2.5 ", "1_000", "-4e-3", "+.5", "1e-400", "16777217", "0.1"])
def test_a_quote_anywhere_changes_no_number(tmp_path: Path, cell: str) -> None:
    plain = csv_table(write(tmp_path / "p.csv", f"a,b\r\n{cell},3\r\n\r\n7,x\r\n"))
    quoted = csv_table(write(tmp_path / "q.csv", f'a,b\n"{cell}",3\n7,x\n'))
    assert plain.inputs.tolist() == quoted.inputs.tolist() == [[float(np.float32(float(cell)))], [7]]
    assert plain.targets.tolist() == quoted.targets.tolist() == [0, 1]


def test_a_table_that_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    assert "No such file" in complaint(csv_table, str(tmp_path / "none.csv"))
    (tmp_path / "latin.csv").write_bytes("größe,b\n1,2\n".encode("latin-1"))
    assert "not UTF-8 text" in complaint(csv_table, str(tmp_path / "latin.csv"))


def test_a_quoted_cell_over_two_lines_does_not_shift_the_numbers_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "q.csv", '"a","kind"\n1,"two\nlines"\nx,y\n')
    assert ":4: column 'a': 'x' is no number" in complaint(csv_table, path)


def test_arrays_of_numpy_are_converted_as_a_model_takes_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.array([[0.5, 1], [2, 3]]), targets=np.array([3, 1], dtype=np.uint8))
    found = numpy_arrays(str(tmp_path / "a.npz"))
    assert found.inputs.tolist() == [[0.5, 1], [2, 3]]
    assert (found.inputs.dtype, found.targets.dtype) == (torch.float32, torch.int64)
    assert (found.targets.tolist(), found.classes) == ([3, 1], ["0", "1", "2", "3"])
    np.save(tmp_path / "x.npy", np.array([[[0, 255]]], dtype=np.uint8))
    np.save(tmp_path / "y.npy", np.array([0.25]))
    pictures = numpy_arrays(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"))
    assert pictures.inputs.tolist() == [[[0, 1]]]
    assert pictures.targets.tolist() == [[0.25]]
    np.savez(tmp_path / "t.npz", ids=np.array([[7, 9]], dtype=">i2"), names=np.array(["dog"]))
    text = numpy_arrays(str(tmp_path / "t.npz"), inputs_key="ids", targets_key="names", classes=["cat", "dog"])
    assert (text.inputs.dtype, text.inputs.tolist(), text.targets.tolist()) == (torch.int64, [[7, 9]], [1])


def test_a_mistake_in_a_numpy_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, inputs=np.zeros((3, 2)), target=np.zeros(3))
    assert "there is no array 'targets' (did you mean 'target'?)" in complaint(numpy_arrays, str(path))
    np.savez(path, inputs=np.zeros((3, 2)), targets=np.zeros(4))
    assert "3 inputs and 4 targets" in complaint(numpy_arrays, str(path))
    np.savez(path, inputs=np.array([[1.0], [np.nan]]), targets=np.zeros(2))
    assert "the inputs of sample 1 are not all finite" in complaint(numpy_arrays, str(path))
    np.savez(path, inputs=np.array([{"a": 1}]), targets=np.zeros(1))
    assert "it holds Python objects" in complaint(numpy_arrays, str(path))
    np.savez(path, inputs=np.array(1.0), targets=np.zeros(1))
    assert "the inputs are one number" in complaint(numpy_arrays, str(path))
    path.write_bytes(path.read_bytes()[:60])
    assert str(path) in complaint(numpy_arrays, str(path))
    assert "No such file" in complaint(numpy_arrays, str(tmp_path / "none.npz"))
    np.save(tmp_path / "x.npy", np.zeros(2))
    assert "name the file of the targets as well" in complaint(numpy_arrays, str(tmp_path / "x.npy"))


def test_a_pickle_in_a_numpy_file_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "sprung",)

    np.save(tmp_path / "x.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    (tmp_path / "y.npy").write_bytes(pickle.dumps(Trap()))
    for name in ("x.npy", "y.npy"):
        complaint(numpy_arrays, str(tmp_path / name), str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


def test_safetensors_are_a_data_set(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_file({"inputs": torch.tensor([[1.5], [2.5]], dtype=torch.bfloat16), "kinds": torch.tensor([1, 0], dtype=torch.int32)}, path)
    found = safetensors_arrays(str(path), targets="kinds", classes=["a", "b"])
    assert (found.inputs.dtype, found.inputs.tolist(), found.targets.tolist()) == (torch.float32, [[1.5], [2.5]], [1, 0])
    assert found.classes == ["a", "b"]
    assert "there is no tensor 'targets'" in complaint(safetensors_arrays, str(path))
    path.write_bytes(path.read_bytes()[:20])
    assert "no usable safetensors file" in complaint(safetensors_arrays, str(path))
    assert "no usable safetensors file" in complaint(safetensors_arrays, str(tmp_path / "none.safetensors"))


def test_a_table_is_read_a_whole_micro_batch_at_a_time(tmp_path: Path) -> None:
    rows = csv_table(write(tmp_path / "r.csv", "x,y\n" + "".join(f"{i},{i % 3}\n" for i in range(24))))
    plan = BatchPlan(24, 6, 1, seed=3)
    for step, micro_batches in enumerate(TrainLoader(rows, plan).epoch(0)):
        inputs, targets = micro_batches[0]
        assert inputs[:, 0].tolist() == plan.batch(0, step).tolist()
        assert targets.tolist() == [number % 3 for number in plan.batch(0, step).tolist()]
    check_labels(rows, 3)
    with pytest.raises(TrainingError, match="sample 2 has label 2"):
        check_labels(rows, 2)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_the_task_says_what_whole_numbers_are(tmp_path: Path, kind: str) -> None:
    def read(targets: Any, **options: Any) -> Any:
        arrays = {"inputs": np.zeros((3, 2), dtype=np.float32), "targets": np.array(targets)}
        path = tmp_path / f"a.{kind}"
        if kind == "npz":
            np.savez(path, **arrays)
            return numpy_arrays(str(path), **options)
        save_file({name: torch.from_numpy(value) for name, value in arrays.items()}, str(path))
        return safetensors_arrays(str(path), **options)

    ages = read([41, 7, 250], task="regression")
    assert ages.targets.dtype == torch.float32
    assert ages.targets.tolist() == [[41], [7], [250]]
    assert not hasattr(ages, "classes")
    assert read(np.array([41, 7, 250], dtype=np.uint8), task="regression").targets.tolist() == [[41], [7], [250]]
    assert read([1, 0, 2]).targets.dtype == torch.int64
    classes = read([1.0, 0.0, 2.0], task="classification")
    assert (classes.targets.tolist(), classes.targets.dtype, classes.classes) == ([1, 0, 2], torch.int64, ["0", "1", "2"])
    assert read([[0.5, 0.5]] * 3, task="classification").targets.shape == (3, 2)
    assert "the target of sample 1 is 0.5, and no class number" in complaint(read, [1.0, 0.5, 2.0], task="classification")
    assert "there is no task 'ranking'" in complaint(read, [1, 0, 2], task="ranking")

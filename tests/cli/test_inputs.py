"""What is read of files: values, names and labels, and what is refused."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("PIL", reason="the extra cli is not installed")
from PIL import Image

from xplique_sal.cli.inputs import Limits, open_source, read_labels
from xplique_sal.cli.preprocessing import NAMES, Preprocessing
from xplique_sal.errors import InvalidInputError, InvalidParameterError

ANY = [None, None, 3]


def read(source, shape=(), numbers=None):
    numbers = range(len(source.names)) if numbers is None else numbers
    return [record.read() for record in source.records([*numbers], list(shape))]


def png(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_pictures_come_in_the_order_of_their_names_with_their_folders(tmp_path, pixels):
    for name in ("b/2.png", "a/10.PNG", "a/.hidden.png", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png(pixels))
    source = open_source(tmp_path, limits=Limits())
    assert source.names == ["a/10.PNG", "b/2.png"]
    assert source.labels == {"folder": ["a", "b"]}
    np.testing.assert_array_equal(read(source, ANY)[1], pixels)
    grey = read(source, [None, None, 1])[0]
    np.testing.assert_array_equal(grey[..., 0], Image.fromarray(pixels).convert("L"))
    resized = Image.fromarray(pixels).resize((9, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(read(source, [8, 9, 3])[0], resized)
    assert open_source(tmp_path / "b" / "2.png", limits=Limits()).names == ["2.png"]


def test_pictures_of_sixteen_bits_are_read_as_tensorflow_does(tmp_path, rng):
    deep = rng.integers(0, 65536, (5, 7), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png(deep))
    Image.fromarray(deep).save(tmp_path / "b.tiff")
    for number in (0, 1):
        grey = read(open_source(tmp_path, limits=Limits()), [None, None, 1], [number])[0]
        expected = tf.io.decode_png(png(deep), dtype=tf.uint8)
        np.testing.assert_array_equal(grey, expected)
        coloured = read(open_source(tmp_path, limits=Limits()), ANY, [number])[0]
        np.testing.assert_array_equal(coloured, np.repeat(expected, 3, 2))


def test_pictures_of_any_numbers_are_refused(tmp_path, rng):
    Image.fromarray(rng.random((5, 7)).astype("float32")).save(tmp_path / "a.tiff")
    Image.fromarray(rng.integers(0, 9, (5, 7), dtype=np.int32)).save(tmp_path / "b.tiff")
    for number in (0, 1):
        with pytest.raises(InvalidInputError, match="an array"):
            read(open_source(tmp_path, limits=Limits()), ANY, [number])


def test_what_is_no_picture_or_too_large_is_refused(tmp_path, pixels):
    (tmp_path / "a.png").write_bytes(b"words")
    (tmp_path / "b.png").write_bytes(png(pixels)[:60])
    (tmp_path / "c.png").write_bytes(png(np.zeros((300, 300), np.uint8)))
    source = open_source(tmp_path, limits=Limits(pixels=80_000))
    for number, message in enumerate(["a picture", "a picture", "at most 80000 pixels"]):
        with pytest.raises(InvalidInputError, match=message):
            read(source, ANY, [number])
    assert read(open_source(tmp_path, limits=Limits(pixels=90_000)), ANY, [2])[0].shape == (
        *(300, 300, 3),
    )
    with pytest.raises(InvalidInputError, match="none in"):
        (tmp_path / "empty").mkdir()
        open_source(tmp_path / "empty", limits=Limits())


def test_arrays(tmp_path, rng):
    x = rng.random((3, 4, 2)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x, y=np.array([2, 0, 1]), odd=np.arange(5))
    for source in (open_source(tmp_path / name, limits=Limits()) for name in ("x.npy", "x.npz")):
        assert source.names == ["0", "1", "2"]
        np.testing.assert_array_equal(read(source), x)
    assert source.labels == {"y": [2, 0, 1]}
    np.savez(tmp_path / "two.npz", a=x, b=x + 1)
    with pytest.raises(InvalidInputError, match="'a', 'b'"):
        open_source(tmp_path / "two.npz", limits=Limits())
    chosen = open_source(tmp_path / "two.npz", key="b", limits=Limits())
    np.testing.assert_array_equal(read(chosen, numbers=[2])[0], x[2] + 1)


def test_pickles_and_bombs_are_refused(tmp_path):
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidInputError, match=r"Object arrays|pickle"):
        open_source(tmp_path / "pickle.npy", limits=Limits())
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", b"\0" * 3_000_000)
    with pytest.raises(InvalidInputError, match="--most-gigabytes"):
        open_source(tmp_path / "bomb.npz", limits=Limits(bytes=2_000_000))
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY no header")
    with pytest.raises(InvalidInputError, match="can be read"):
        open_source(tmp_path / "x.npy", limits=Limits())
    with pytest.raises(InvalidInputError, match="not there"):
        open_source(tmp_path / "missing.npy", limits=Limits())


def test_tables(tmp_path):
    text = "\ufeffage,kind,height\n30,a,1.5\nold,b,2\n41,a\n7,b,0.25\n"
    (tmp_path / "x.csv").write_text(text, "utf-8")
    source = open_source(tmp_path / "x.csv", target_columns=["kind"], limits=Limits())
    assert source.features == ["age", "height"] and source.labels["kind"][:2] == ["a", "b"]
    np.testing.assert_array_equal(read(source, numbers=[0, 3]), [[30, 1.5], [7, 0.25]])
    for number in (1, 2):
        with pytest.raises(InvalidInputError, match="a number in each of 2 columns"):
            read(source, numbers=[number])


def test_parquet(tmp_path, pixels):
    arrow = pytest.importorskip("pyarrow", reason="the extra cli is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    plain = arrow.table({"a": [1.0, 2.0], "b": [3, 4], "y": [0, 1]})
    parquet.write_table(plain, tmp_path / "plain.parquet")
    source = open_source(tmp_path / "plain.parquet", target_columns=["y"], limits=Limits())
    np.testing.assert_array_equal(read(source), [[1, 3], [2, 4]])
    assert source.features == ["a", "b"] and source.labels["y"] == [0, 1]
    cells = [{"bytes": png(pixels), "path": "a.png"}] * 2
    parquet.write_table(arrow.table({"image": cells, "y": [0, 1]}), tmp_path / "images.parquet")
    source = open_source(tmp_path / "images.parquet", limits=Limits())
    assert source.has_images
    np.testing.assert_array_equal(read(source, ANY)[1], pixels)
    parquet.write_table(arrow.table({"x": [[1.0, 2, 3, 4]] * 2}), tmp_path / "lists.parquet")
    lists = open_source(tmp_path / "lists.parquet", limits=Limits())
    np.testing.assert_array_equal(read(lists, [2, 2])[0], [[1, 2], [3, 4]])


def test_nested_columns_are_chosen_or_refused_before_anything_is_computed(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra cli is not installed")
    parquet = pytest.importorskip("pyarrow.parquet")
    file, rows = tmp_path / "table.parquet", [[1.0, 2.0], [3.0, 4.0]]
    fields = [{"a": 1.0, "b": 2.0}] * 2
    for column in (fields, [[{"a": 1.0}]] * 2):
        parquet.write_table(pyarrow.table({"x": column}), file)
        with pytest.raises(InvalidInputError, match=r"'x' of the type .*struct"):
            open_source(file, limits=Limits())
    parquet.write_table(pyarrow.table({"x": rows, "about": fields}), file)
    with pytest.raises(InvalidInputError, match=r"'x', 'about', but got None.*--key"):
        open_source(file, limits=Limits())
    with pytest.raises(InvalidInputError, match="'about' of the type"):
        open_source(file, key="about", limits=Limits())
    source = open_source(file, key="x", limits=Limits())
    np.testing.assert_array_equal(read(source, [2]), rows)


def test_records(tmp_path, pixels):
    def example(**features):
        kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
        held = {}
        for name, values in features.items():
            kind = kinds[type(values[0])]
            lists = {"bytes_list": tf.train.BytesList, "float_list": tf.train.FloatList}
            held[name] = tf.train.Feature(
                **{kind: lists.get(kind, tf.train.Int64List)(value=values)}
            )
        return tf.train.Example(features=tf.train.Features(feature=held)).SerializeToString()

    with tf.io.TFRecordWriter(str(tmp_path / "images.tfrecord")) as writer:
        for label in range(3):
            writer.write(example(**{"image/encoded": [png(pixels)], "label": [label]}))
    source = open_source(tmp_path / "images.tfrecord", limits=Limits())
    assert source.has_images and source.labels == {"label": [0, 1, 2]}
    np.testing.assert_array_equal(read(source, ANY, [2])[0], pixels)
    with tf.io.TFRecordWriter(str(tmp_path / "rows.tfrecord")) as writer:
        writer.write(example(x=[1.0, 2.0, 3.0, 4.0]))
    rows = open_source(tmp_path / "rows.tfrecord", limits=Limits())
    np.testing.assert_array_equal(read(rows, [2, 2])[0], [[1, 2], [3, 4]])


def test_names_of_classes(tmp_path):
    (tmp_path / "a.txt").write_text("cat\n\ndog \n")
    (tmp_path / "a.json").write_text('{"1": ["n02", "dog"], "0": ["n01", "cat"]}')
    assert read_labels(tmp_path / "a.txt") == read_labels(tmp_path / "a.json") == ["cat", "dog"]
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InvalidInputError, match="on a line of its own"):
        read_labels(tmp_path / "b.json")


@pytest.mark.parametrize("name", [name for name in NAMES if "_" in name or name[-1].isdigit()])
def test_preprocessing_is_that_of_keras(keras, name, pixels):
    module = getattr(keras.applications, name, None)
    if module is None:
        pytest.skip(f"this version of Keras has no {name}")
    expected = module.preprocess_input(pixels.astype("float32")[None])[0]
    np.testing.assert_allclose(Preprocessing(name)(pixels), expected, rtol=1e-6, atol=1e-6)


def test_preprocessing_by_numbers(pixels):
    x = pixels.astype("float64")
    given = {"mean": [1, 2, 3], "std": [4.0]}
    found = Preprocessing("mean-std", **given)(pixels)
    np.testing.assert_allclose(found, (x - [1, 2, 3]) / 4, rtol=1e-6)
    np.testing.assert_allclose(Preprocessing("0-1")(pixels), x / 255, rtol=1e-6)
    np.testing.assert_allclose(Preprocessing("-1-1")(pixels), x / 127.5 - 1, atol=1e-6)
    np.testing.assert_array_equal(Preprocessing("none")(pixels), pixels)
    for wrong in ({"name": "mean-std"}, {"name": "0-1", **given}, {"name": "resnet51"}):
        with pytest.raises(InvalidParameterError):
            Preprocessing(**wrong)
    with pytest.raises(InvalidInputError, match="three channels"):
        Preprocessing("caffe")(pixels[..., :1])

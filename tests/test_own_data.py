"""Data and labels of one's own: every layout of a file, what is refused, runs without true labels, labels written and read."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

import analyze
import train
from lnt import labels_command
from lnt.column_names import METRICS, OF_TEST_TRUTH, OF_TRUTH
from lnt.errors import ConfigError
from lnt.images.attribution import training_images
from lnt.images.datasets import OwnData, digits
from lnt.noise.by_sample import FileLabels
from lnt.noise.observed_labels import Classes, Samples
from lnt.training.batch_order import MiniBatches
from lnt.training.loop import train as trained

RNG = np.random.default_rng(5)
LABELS = np.arange(12) % 3
COLOUR = RNG.integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)  # [N, C, H, W]
GREY = COLOUR[:, 0]
VECTORS = RNG.normal(5e4, 0.1, (12, 4)) * [1, 10, 100, 0] + [0, 0, 0, 7]  # far from 0; the last feature is constant


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def saved(name="mine.npz", **arrays):
    np.savez(name, **arrays)
    return name


def in_parts(images, labels=LABELS, names=("train", "train_labels", "test", "test_labels")):
    """The first eight samples as the training set, the others as the test set."""
    return dict(zip(names, (images[:8], labels[:8], images[8:], labels[8:]), strict=True))


def call(monkeypatch, *overrides):
    monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
    train.main()


@pytest.mark.parametrize(
    ("images", "expected", "names"),
    [
        (GREY, GREY[:, None], ("train", "train_labels", "test", "test_labels")),
        (GREY[..., None], GREY[:, None], ("x_train", "y_train", "x_test", "y_test")),
        (COLOUR, COLOUR, ("train_images", "train_labels", "test_images", "test_labels")),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR, ("X_train", "y_train", "X_test", "y_test")),
    ],
    ids=["NHW", "NHW1", "NCHW", "NHWC"],
)
def test_images_of_each_layout_become_the_same_arrays(images, expected, names):
    data = OwnData(file=saved(**in_parts(images, LABELS[:, None].astype(np.uint8), names), about=np.array("not read")))
    arrays = data.arrays()
    np.testing.assert_array_equal(arrays["train"], expected[:8])
    np.testing.assert_array_equal(arrays["test"], expected[8:])
    np.testing.assert_array_equal(arrays["test_labels"], LABELS[8:])
    assert (data.all_classes, data.is_vectors(), data.size(), data.test_size()) == (3, False, 8, 4)
    assert arrays["train"].flags["C_CONTIGUOUS"], "kernels read it as one run of memory"
    own = OwnData(file=saved("plain.npz", **in_parts(expected)))
    assert own.fingerprint() == data.fingerprint(), "of the same samples, whatever the layout"


def test_a_layout_that_the_shape_leaves_open_is_asked_for():
    cube = COLOUR[:, :, :3, :3]
    file = saved(**in_parts(cube))
    with pytest.raises(ConfigError, match=r"file=mine.npz: holds train of 8 x 3 x 3 x 3, .* need data.layout=nchw or nhwc"):
        OwnData(file=file).arrays()
    np.testing.assert_array_equal(OwnData(file=file, layout="nchw").arrays()["train"], cube[:8])
    np.testing.assert_array_equal(OwnData(file=file, layout="nhwc").arrays()["train"], cube[:8].transpose(0, 3, 1, 2))


def test_tables_hold_what_the_arrays_hold():
    """CSV, parquet with a column for each feature or one of lists, .npz: the same samples, so the same fingerprint."""
    split = np.where(np.arange(12) < 8, "train", "test")
    table = pd.DataFrame(VECTORS, columns=list("abcd")).assign(label=LABELS, split=split)
    table.to_csv("one.csv", index=False)
    table.to_parquet("two.parquet")
    pd.DataFrame({"vector": list(VECTORS), "label": LABELS, "split": split}).to_parquet("three.parquet")
    table.rename(columns={"label": "diagnosis"}).assign(patient="x").to_csv("four.csv", index=False)
    renamed = (("y", "diagnosis"), ("ignore", "patient"))
    own = [OwnData(file=saved(**in_parts(VECTORS))), *(OwnData(file=f) for f in ("one.csv", "two.parquet", "three.parquet"))]
    own.append(OwnData(file="four.csv", keys=renamed))
    assert len({data.fingerprint() for data in own}) == 1
    for data in own:
        np.testing.assert_array_equal(data.arrays()["train"], own[0].arrays()["train"])
        np.testing.assert_array_equal(data.arrays()["test_labels"], LABELS[8:])


def test_folders_of_images_are_read_by_class(tmp_path):
    names = np.array(["cat", "dog", "owl"])
    for i, image in enumerate(COLOUR):
        for place in (tmp_path / "whole", tmp_path / "parts" / ("train" if i < 8 else "test")):
            (place / names[LABELS[i]]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(place / names[LABELS[i]] / f"{i:02}.png")
    for place, count in (("train", 8), ("test", 4)):
        order = sorted(range(count), key=lambda i: (LABELS[i + 8 * (place == "test")], i))
        arrays = OwnData(file="parts").arrays()
        np.testing.assert_array_equal(arrays[place], (COLOUR[:8] if place == "train" else COLOUR[8:])[order])
    whole = OwnData(file="whole", test_share=0.25)
    assert np.bincount(whole.arrays()["test_labels"]).tolist() == [1, 1, 1]
    by_class = COLOUR[np.argsort(LABELS, kind="stable")]
    np.testing.assert_array_equal(whole.arrays()["train"], by_class[whole.rows()])
    run = pd.Series({"data": "arrays", "data.file": "whole", "data.test_share": 0.25})
    np.testing.assert_array_equal(training_images(run, whole.rows()[[8, 4]]), by_class[whole.rows()[[8, 4]]])
    # One grey image among colour ones; all grey ones have one channel.
    Image.fromarray(GREY[0]).save("whole/owl/grey.png")
    assert OwnData(file="whole").arrays()["train"].shape[1:] == (3, 8, 8)
    Image.fromarray(GREY[0][:4, :4]).save("whole/owl/small.png")
    with pytest.raises(ConfigError, match=r"has images of 8 x 8 and, .*small.png, of 4 x 4; bring them to one size first"):
        OwnData(file=str(tmp_path / "whole")).arrays()


def test_a_split_is_drawn_by_class_once_for_all_seeds(experiment):
    labels = np.repeat([0, 1], [80, 20])
    x = np.arange(100.0)[:, None] * np.ones(3)
    settings = ("data=arrays", f"data.file={saved(x=x, y=labels)}", "optimizer.epochs=1", "precision=float64")
    data = experiment(*settings).data
    assert np.bincount(data.arrays()["test_labels"]).tolist() == [16, 4]
    rows = data.rows()
    assert len(rows) == 80
    assert np.bincount(labels[rows]).tolist() == [64, 16]
    other = experiment(*settings, "data.split_seed=1", "data.test_share=0.5").data
    assert np.bincount(labels[other.rows()]).tolist() == [40, 10]
    # Positions count in the file: there the sample has the feature that trains.
    for seed in (0, 1):
        one = experiment(*settings, f"seed={seed}", "data.n_train=30")
        np.testing.assert_array_equal(one.data.rows(), rows)
        chosen, problem = one.positions()[0], one.sample()
        mean, std = x[chosen].mean(), x[rows].std()
        shown = problem.train.at(problem.index)[0, :, 0, 0, 0].numpy()
        np.testing.assert_allclose((shown - shown.mean()) * std, x[chosen, 0] - mean, atol=1e-4)


def test_vectors_are_standardised_feature_by_feature(experiment):
    """Also far from 0, where float32 has three digits left of what varies; a constant feature is 0."""
    file = saved(**in_parts(VECTORS, np.arange(12) % 2))
    one = experiment(
        "data=arrays", f"data.file={file}", "model=linear", "optimizer.epochs=1", "noise=none", "precision=float64"
    )
    problem = one.sample()
    std = VECTORS[:8].std(0)
    expected = (VECTORS - VECTORS[:8].mean(0)) / np.where(np.arange(4) < 3, std, 1)
    np.testing.assert_allclose(problem.train.at(problem.index)[0, :, :, 0, 0].numpy(), expected[:8], atol=1e-6)
    np.testing.assert_allclose(problem.test.at(problem.test_index)[0, :, :, 0, 0].numpy(), expected[8:], rtol=1e-6, atol=1e-6)
    assert np.abs(expected[:, :3]).max() > 1
    features = problem.observed.samples.features(0)
    np.testing.assert_allclose(features, expected[:8], atol=1e-5)


def test_the_digits_from_a_file_train_as_the_digits_do(experiment):
    settings = (
        "data.classes=[3,8]",
        "data.balanced=true",
        "data.n_train=40",
        "data.n_test=30",
        "optimizer.epochs=3",
        "noise.rate=0.2",
    )
    own = ("data=arrays", f"data.file={saved(**digits())}", "model=small_cnn", "model.width=4")
    values = [trained(experiment(*source, *settings)).values for source in (own, ("data=digits", "model.width=4"))]
    assert np.isfinite(values[0][:, METRICS.index("noisy_loss")]).all()
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("model", ["mlp", "linear"])
@pytest.mark.parametrize("of_images", [False, True])
def test_networks_train_as_a_plain_loop(experiment, model, of_images):
    """Nothing of the package but the order of batches and the initial weights."""
    labels = np.arange(30) % 3
    x = (
        np.random.default_rng(1).integers(0, 256, (30, 4, 4)).astype(np.uint8)
        if of_images
        else np.random.default_rng(1).random((30, 5))
    )
    file = saved(train=x[:20], train_labels=labels[:20], test=x[20:], test_labels=labels[20:])
    sizes = ("model.width=7", "model.depth=3") if model == "mlp" else ()
    settings = ("data=arrays", f"data.file={file}", f"model={model}", *sizes, "noise=none", "precision=float64")
    one = experiment(*settings, "optimizer.epochs=4", "optimizer.batch_size=6", "optimizer.momentum=0.5")
    engine = one.start(one.sample())
    engine.advance(one.total_steps())

    flat = x.reshape(30, -1).astype(float)
    pixels = flat[:20].mean(), flat[:20].std()
    mean, std = pixels if of_images else (flat[:20].mean(0), flat[:20].std(0))
    inputs, targets = torch.as_tensor((flat - mean) / std), torch.as_tensor(labels)
    widths = [inputs.shape[1], *([7] * 3 if model == "mlp" else []), 3]
    linear = [nn.Linear(a, b).double() for a, b in itertools.pairwise(widths)]
    network = nn.Sequential(*[part for layer in linear for part in (layer, nn.ReLU())][:-1])
    with torch.no_grad():
        for value, initial in zip(network.parameters(), one.networks()[0].parameters(), strict=True):
            assert value.shape == initial.shape
            value.copy_(initial)
    optimizer, batches = torch.optim.SGD(network.parameters(), 0.1, momentum=0.5), MiniBatches(20, 6, np.array([0]))
    for step in range(16):
        batch = batches.at(step)[0]
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(inputs[:20][batch]), targets[:20][batch]).backward()
        optimizer.step()
    # Statistics of pixels, and vectors themselves, are kept as float32.
    for value, expected in zip(engine.parameters.values(), network.parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    wrong = (network(inputs[20:]).argmax(1) != targets[20:]).double().mean()
    predicted = engine.snapshot().test_predicted[0]
    assert (predicted != targets[20:]).double().mean() == wrong


def with_nan(array):
    return np.where(np.arange(array.size).reshape(array.shape) == 5, np.nan, array)


GOOD = in_parts(VECTORS)
REFUSED = {
    "no file": (None, {}, r"data.file=mine.npz: is not there"),
    "other names": ({"a": VECTORS, "b": LABELS}, {}, "holds no labels"),
    "labels only": ({"y": LABELS}, {}, "must hold either train and test or x"),
    "both forms": ({**GOOD, "x": VECTORS, "y": LABELS}, {}, "must hold either train and test or x"),
    "no test": ({"train": VECTORS, "train_labels": LABELS}, {}, "must hold either train and test or x"),
    "no labels of test": ({k: v for k, v in GOOD.items() if k != "test_labels"}, {}, "holds no labels of test: test_labels"),
    "two names": ({"x": VECTORS, "features": VECTORS, "y": LABELS}, {}, r"holds x and features; say which one is x: data.keys"),
    "no such key": (
        GOOD,
        {"keys": (("test", "z"),)},
        "holds no z, which data.keys names as test; it holds train, train_labels",
    ),
    "lengths": ({"x": VECTORS, "y": LABELS[:9]}, {}, "holds 12 samples in x and 9 values in y"),
    "not finite": ({"x": with_nan(VECTORS), "y": LABELS}, {}, "holds x with nan in row 1, feature 1; all must be finite"),
    "negative label": ({"x": VECTORS, "y": LABELS - 1}, {}, "holds y from -1 to 1; classes count from 0 to K - 1"),
    "fraction": ({"x": VECTORS, "y": LABELS / 2}, {}, "holds y of float64 that are no whole numbers"),
    "one class": ({"x": VECTORS, "y": 0 * LABELS}, {}, "holds one class only"),
    "float images": ({"x": GREY / 255, "y": LABELS}, {}, r"holds x of float64 12 x 8 x 8, which must be images of uint8"),
    "oblong": ({"x": GREY[:, :, :6], "y": LABELS}, {}, "holds x of 8 x 6 pixels; crop or pad them to squares"),
    "sizes": (
        {**GOOD, "test": VECTORS[8:, :3]},
        {},
        "training samples of float64 4 x 1 x 1 and test samples of float64 3 x 1 x 1",
    ),
    "objects": ({"x": np.array([{}, {}]), "y": LABELS[:2]}, {}, "cannot be read: Object arrays cannot be loaded"),
    "share": (GOOD, {"test_share": 0.3}, "data.test_share=0.3: must be null: the file says which are its test samples"),
    "all for the test": ({"x": VECTORS, "y": LABELS}, {"test_share": 0.99}, "has 12 test samples of 12"),
    "text and numbers": (
        {**GOOD, "test_labels": np.array(list("abca"))},
        {},
        "holds text in test_labels and numbers in train_labels",
    ),
    "class kept": (GOOD, {"classes": (0, 3)}, r"data.classes=\[0, 3\]: must lie in 0 to 2"),
}


@pytest.mark.parametrize(("arrays", "settings", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(experiment, arrays, settings, message):
    if arrays is not None:
        saved(**arrays)
    given = [
        f"data.{key}={str(value).replace('(', '[').replace(',)', ']').replace(')', ']')}" for key, value in settings.items()
    ]
    with pytest.raises(ConfigError, match=message) as error:
        experiment("data=arrays", "data.file=mine.npz", "model=linear", *given)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,label\n1,0\n2,\n", "has no y in row 1 .column label."),
        ("a,b,label\n1,x,0\n2,y,1\n", r"has no numbers in column b; leave it out with data.keys=\[\[ignore,b\]\]"),
        (",a,label\n0,1,0\n1,2,1\n", "has a column without a name .Unnamed: 0.: write the table without its index"),
        ("label\n0\n1\n", "has no column of features beside label"),
        ("a,label,split\n1,0,train\n2,1,valid\n", "has valid in its column of splits"),
        ("", "cannot be read: No columns to parse"),
    ],
)
def test_tables_that_do_not_fit_are_refused(text, message):
    Path("mine.csv").write_text(text)
    with pytest.raises(ConfigError, match=f"file=mine.csv: {message}"):
        OwnData(file="mine.csv").arrays()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("model=small_cnn",), "model=small_cnn: is for images, and these are vectors; use mlp or linear"),
        (("model=resnet18",), "model=resnet18: is for images, and these are vectors; use mlp or linear"),
        (("data.augment=shift",), "data.augment=shift: is for images, and these are vectors"),
        (("noise=file",), "noise.file=None: must be given: no observed labels come with this data set"),
        (("noise=file", "noise.column=a"), "noise.column=a: is that of a file"),
        (("data.truth=none",), "noise=symmetric: needs true labels, and the training samples have observed ones only"),
        (("data.truth=none", "noise=none"), "noise=none: needs true labels"),
        (
            ("data.truth=test", "noise=file", "strategy=co_teaching", "strategy.every=1"),
            "strategy.share=None: must be given, or rate=estimated: the noise rate is not known",
        ),
        (
            ("data.truth=test", "noise=file", "strategy=small_loss", "strategy.step=1", "strategy.keep=share"),
            "strategy.share=None: must be given, or rate=estimated",
        ),
        (
            ("data.truth=test", "noise=file", "loss=forward"),
            "loss.matrix=None: must be given, or strategy=estimated_transition",
        ),
        (("data.keys=[[x]]",), r"data.keys=\['x'\]: must be a pair"),
        (("data.keys=[[x,a],[x,b]]",), "must name each part once"),
    ],
)
def test_settings_that_the_data_do_not_allow_are_refused(experiment, overrides, message):
    saved(**in_parts(VECTORS))
    with pytest.raises(ConfigError, match=message):
        experiment("data=arrays", "data.file=mine.npz", "optimizer.epochs=2", *overrides)


def test_a_run_is_known_by_the_content_of_its_file(experiment):
    def run_id(file, *overrides):
        return experiment("data=arrays", f"data.file={file}", "model=linear", *overrides).run_ids()[0]

    changed = VECTORS + np.eye(12, 4)
    files = saved("a.npz", **in_parts(VECTORS)), saved("b.npz", **in_parts(VECTORS)), saved("c.npz", **in_parts(changed))
    one, same, other = (run_id(file) for file in files)
    assert one == same != other
    seen = (saved(f"{k}.npz", **in_parts(VECTORS), train_observed=(LABELS[:8] + k) % 3) for k in range(2))
    assert len({one, *(run_id(file, "noise=file") for file in seen)}) == 3


def few(**arrays):
    """Vectors of two classes that a linear network can tell apart, with some labels wrong."""
    rng = np.random.default_rng(2)
    labels = np.arange(60) % 2
    x = rng.normal(size=(60, 3)) + 3 * labels[:, None]
    observed = np.where(np.arange(60) % 5 == 0, 1 - labels, labels)
    return saved(x=x, **{name: {"y": labels, "observed": observed}[name] for name in arrays.get("names", ("y", "observed"))})


RUN = ("data=arrays", "data.file=mine.npz", "noise=file", "model=linear", "optimizer.epochs=3", "hydra.run.dir=run")


def test_observed_labels_that_come_with_the_data_are_those_that_train(monkeypatch):
    few()
    call(monkeypatch, *RUN)
    samples = pd.read_parquet("run/samples.parquet")
    rows = samples["index"].to_numpy()
    np.testing.assert_array_equal(samples["true"], rows % 2)
    np.testing.assert_array_equal(samples["observed"], np.where(rows % 5 == 0, 1 - rows % 2, rows % 2))
    (run,) = pd.read_parquet("run/runs.parquet").to_dict("records")
    assert run["realised_noise_rate"] == pytest.approx((rows % 5 == 0).mean())
    test = np.setdiff1d(np.arange(60), rows)
    # Some 20 % of the test labels are wrong too: what is wrong against the truth is not against these, and the reverse.
    assert len(test) == 12
    assert run["test_error_observed"] != run["test_error"]
    wrong = round(12 * run["test_error_observed"]) + round(12 * run["test_error"])
    assert wrong >= (test % 5 == 0).sum()


def test_observed_labels_that_are_not_trained_on_are_not_passed_over(experiment):
    few()
    settings = ("data=arrays", "data.file=mine.npz", "model=linear", "optimizer.epochs=1")
    (said,) = experiment(*settings).warnings()
    assert said == (
        "the observed labels that come with the data are not used: noise=symmetric; noise=file with noise.file=null takes them"
    )
    assert experiment(*settings, "noise=file").warnings() == []


@pytest.mark.parametrize(
    ("names", "truth", "test_known"),
    [(("observed",), "all", False), (("y",), "none", False), (("y",), "test", True)],
)
def test_without_true_labels_what_needs_them_is_null(monkeypatch, capsys, names, truth, test_known):
    few(names=names)
    call(monkeypatch, *RUN, f"data.truth={truth}")
    (run,) = pd.read_parquet("run/runs.parquet").to_dict("records")
    curves, samples = pd.read_parquet("run/curves.parquet"), pd.read_parquet("run/samples.parquet")
    unknown = [*OF_TRUTH, *(() if test_known else (*OF_TEST_TRUTH, "best_test_error", "best_test_error_fresh", "best_step"))]
    unknown += ["flip_rate", "flip_rate_positive", "clean_positive", "flipped_negative", "realised_transition", "stage1_step"]
    assert all(pd.isna(run[name]) for name in unknown)
    assert curves[[*OF_TRUTH]].isna().all(axis=None)
    assert curves["test_error"].isna().all() != test_known
    assert np.isfinite(run["train_loss"])
    assert pd.isna(run["test_error_observed"]) == test_known
    assert samples["true"].isna().all()
    assert samples["observed"].isin([0, 1]).all()
    assert run["kept_share"] == 1
    said = capsys.readouterr()
    assert "which samples are mislabelled is not known" in said.out + said.err + Path("run/train.log").read_text()
    monkeypatch.setattr(sys, "argv", ["analyze.py", "path=run"])
    analyze.main()
    assert Path("run/analysis/report.html").is_file()


def test_the_transition_is_estimated_without_true_labels_and_judged_by_none(monkeypatch):
    few(names=("observed",))
    call(monkeypatch, *RUN, "loss=forward", "strategy=estimated_transition", "strategy.epoch=1")
    (run,) = pd.read_parquet("run/runs.parquet").to_dict("records")
    assert 0 <= run["estimated_flip_rate_positive"] <= 1
    assert pd.isna(run["transition_error"])


def test_networks_kept_are_the_best_against_observed_labels_where_there_are_no_others(monkeypatch):
    few(names=("observed",))
    call(monkeypatch, *RUN, "optimizer.lr=0.05", "optimizer.epochs=6")
    curves, samples = pd.read_parquet("run/curves.parquet"), pd.read_parquet("run/samples.parquet")
    best = curves.loc[curves["test_error_observed"].idxmin()]
    assert best["step"] > 0
    assert samples["loss_best"].mean() == pytest.approx(best["train_loss"], rel=1e-5)


def labels_file(kind, labels):
    """A file of labels of each form that noise=file takes."""
    table = pd.DataFrame({"observed": labels, "other": labels * 0})
    if kind == "npy":
        np.save("l.npy", labels.astype(np.uint8))
    elif kind == "npz":
        np.savez("l.npz", observed=labels, other=labels * 0, images=np.zeros((3, 2, 2)))
    elif kind == "csv":
        table.to_csv("l.csv", index=False)
    elif kind == "bare.csv":
        Path("l.bare.csv").write_text("\n".join(map(str, labels)))
    else:
        table.assign(positions=np.arange(len(labels))).sample(frac=1, random_state=0).to_csv("l.shuffled.csv", index=False)
    return f"l.{kind}"


@pytest.mark.parametrize("kind", ["npy", "npz", "csv", "bare.csv", "shuffled.csv"])
@pytest.mark.parametrize("kept", ["[3,8]", "null"])
def test_labels_of_one_s_own_are_taken_by_position(experiment, kind, kept):
    """For all classes, or for a few of which the labels stay among them."""
    truth = digits()["train_labels"]
    swap = np.arange(10)
    swap[[3, 8]] = 8, 3
    observed = np.where(np.arange(len(truth)) % 3 == 0, swap[truth], truth)
    file = labels_file(kind, observed)
    one = experiment(
        "data=digits", f"data.classes={kept}", "data.n_train=60", "noise=file", f"noise.file={file}", "optimizer.epochs=1"
    )
    numbers = np.array(one.classes().numbers)
    np.testing.assert_array_equal(numbers[one.sample().observed.at(0)[0]], observed[one.positions()[0]])
    kept_ones = np.isin(truth, numbers)
    assert one.flip_rate()[0] == pytest.approx((observed != truth)[kept_ones].mean())


def test_labels_that_the_run_lacks_are_asked_for(experiment):
    truth = digits()["train_labels"]
    settings = ("data=digits", "data.n_train=20", "noise=file", "noise.file=l.npz", "optimizer.epochs=1")
    zeros = np.flatnonzero(truth == 0)
    np.savez("l.npz", observed=np.where(np.arange(len(truth)) == zeros[0], 5, truth))
    with pytest.raises(
        ConfigError, match=rf"noise.file=l.npz: has no label of the classes kept for 1 of .* position {zeros[0]}"
    ):
        experiment(*settings, "data.n_train=null")
    np.savez("part.npz", observed=truth[:300], positions=np.arange(300))
    settings = (*settings[:3], "noise.file=part.npz", "optimizer.epochs=1")
    with pytest.raises(ConfigError, match=r"noise.file=part.npz: has no label of the classes kept for \d+ of the samples"):
        experiment(*settings)
    np.save("short.npy", truth[:300])
    with pytest.raises(ConfigError, match=f"noise.file=short.npy: has 300 labels, not {len(truth)}: "):
        experiment(*settings, "noise.file=short.npy")
    for bad in ({"observed": truth[:3], "positions": [0, 1, 1]}, {"observed": truth[:3], "positions": [0, 1, -1]}):
        np.savez("bad.npz", **bad)
        with pytest.raises(
            ConfigError, match=r"noise.file=bad.npz: its positions must be one for each label, different ones from 0"
        ):
            experiment(*settings, "noise.file=bad.npz")
    np.savez("other.npz", observed=truth, true=np.roll(truth, 1))
    with pytest.raises(ConfigError, match="its true is not the data set's label in"):
        experiment(*settings, "noise.file=other.npz")


def test_labels_alone_in_python():
    np.save("l.npy", np.array([2, 0, 0, 2]))
    noise, classes = FileLabels("l.npy"), Classes((2, 0))
    samples = Samples(np.array([[0, 1]]), classes, index=np.array([[3, 1]]))
    np.testing.assert_array_equal(noise.probabilities(samples), [[[1, 0], [0, 1]]])
    few_classes = Samples(np.array([[0, 0]]), Classes((2, 1)), index=np.array([[3, 1]]))
    np.testing.assert_array_equal(noise.covers(few_classes), [[True, False]])
    assert noise.flip_rate(Samples(np.array([[0, 0]]), classes, index=np.array([[3, 1]]))).tolist() == [0.5]


def write_labels(*overrides):
    overrides, target = labels_command.parted(overrides)
    return labels_command.written(labels_command.cli.configuration([*overrides, "device=cpu"]), target)


SOURCES = {
    "digits": ("data=digits", "data.classes=[8,3,1]", "data.n_train=90", "model.width=2"),
    "one split": ("data=arrays", "data.file=mine.npz", "data.n_train=30", "model=linear"),
}
NOISES = {
    "pair": ("noise=pair", "noise.rate=0.3"),
    "symmetric": ("noise=symmetric", "noise.rate=0.45", "noise.exact=true"),
    "instance": ("noise=instance", "noise.rate=0.4"),
}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("source", SOURCES)
def test_written_labels_are_read_back_as_they_were_drawn(experiment, source, noise):
    few(names=("y",))
    data = (*SOURCES[source], "seed=7", "optimizer.epochs=2")
    said = write_labels(*data, *NOISES[noise], "out=labels.npz")
    drawn, read = (experiment(*data, *labels) for labels in (NOISES[noise], ("noise=file", "noise.file=labels.npz")))
    one, other = drawn.sample(), read.sample()
    assert (one.labels != one.observed.at(0)).any()
    assert torch.equal(one.observed.at(0), other.observed.at(0))
    assert torch.equal(one.labels, other.labels)
    curves = [trained(run).values[:, METRICS.index("train_loss")] for run in (drawn, read)]
    np.testing.assert_array_equal(*curves)
    with np.load("labels.npz") as file:
        found = dict(file)
    true, observed = found["true"], found["observed"]
    np.testing.assert_array_equal(found["positions"], drawn.positions()[0])
    assert found["realised_rate"] == (true != observed).mean()
    assert found["seed"] == 7
    counted = pd.crosstab(true, observed, normalize="index").reindex(index=found["classes"], columns=found["classes"]).fillna(0)
    np.testing.assert_allclose(found["realised_transition"], counted.to_numpy(), atol=1e-12)
    np.testing.assert_allclose(found["transition"].sum(1), 1)
    assert str(found["hash"]) == read.noise.fingerprint()
    assert str(found["hash"]) in said
    if noise == "pair" and source == "digits":
        np.testing.assert_allclose(found["transition"], [[0.7, 0.3, 0], [0, 0.7, 0.3], [0.3, 0, 0.7]])


def test_labels_are_never_written_over(tmp_path):
    settings = ("data=digits", "data.n_train=20", "out=labels.npz")
    write_labels(*settings)
    before = Path("labels.npz").read_bytes()
    with pytest.raises(ConfigError, match=r"out=labels.npz: is there already, and is not overwritten"):
        write_labels(*settings)
    config = labels_command.cli.configuration(["data=digits", "data.n_train=20", "device=cpu"])
    with pytest.raises(ConfigError, match="is there already"):  # another process was faster
        labels_command.written(config, Path("labels.npz"))
    assert Path("labels.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["labels.npz"]


def test_a_changed_label_does_not_pass_for_a_written_one():
    write_labels("data=digits", "data.n_train=20", "out=labels.npz")
    with np.load("labels.npz") as file:
        found = dict(file)
    found["observed"][0] = 1 - found["observed"][0]
    np.savez("changed.npz", **found)
    with pytest.raises(ConfigError, match=r"file=changed.npz: is damaged: its hash does not fit its labels"):
        FileLabels("changed.npz").labels()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data=digits",), "out=None: must name a new .npz file"),
        (("data=digits", "out=labels.csv"), "out=labels.csv: must name a new .npz file"),
        (("data=digits", "out=no/labels.npz"), "out=no/labels.npz: there is no folder no"),
        (("out=labels.npz",), "data=signal_noise: has no samples at positions of a file"),
        (("data=digits", "noise.resample=true", "out=labels.npz"), "noise.resample=True: draws other labels at every step"),
        (
            ("data=arrays", "data.file=mine.npz", "noise=file", "data.truth=none", "out=l.npz"),
            "data=arrays: has no true labels",
        ),
    ],
)
def test_what_cannot_be_written_is_refused(words, message):
    few(names=("y",))
    with pytest.raises(ConfigError, match=message):
        write_labels(*words)
    assert not list(Path().glob("l*.npz"))


def test_the_command_writes_and_says_so(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lnt.noise", "data=digits", "data.n_train=20", "noise.rate=0.2", "out=labels.npz"])
    labels_command.main()
    assert capsys.readouterr().out.startswith("20 labels, ")
    assert Path("labels.npz").is_file()
    with pytest.raises(SystemExit, match=r"^error: out=labels.npz: is there already, and is not overwritten$"):
        labels_command.main()

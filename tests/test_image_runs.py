"""Runs on images as users call them: real formats end to end, alone, in a sweep, killed and resumed, analysed."""

import json
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from image_sets import write_all, write_cifar

import analyze
import train
from lnt.errors import ConfigError
from lnt.images import attribution
from lnt.images.datasets import digits
from lnt.runs import train_runs
from lnt.training.experiment import Data, Model

ROOT = Path(__file__).parents[1]
DIGITS = ("data=digits", "data.classes=[3,8]", "data.n_train=60", "model.width=4", "optimizer.epochs=8", "noise.rate=0.2")
WITHOUT_TIME = ["wall_seconds"]


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """call(*overrides) runs train.py in an empty directory and returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides):
        monkeypatch.setattr(sys, "argv", ["train.py", *overrides])
        train.main()
        return capsys.readouterr().out

    return run


def rows(directory, table="runs"):
    """A table of all jobs below a directory, by run_id."""
    parts = [pd.read_parquet(path) for path in sorted(Path(directory).rglob(f"{table}.parquet"))]
    return pd.concat(parts).set_index("run_id").sort_index(kind="stable")


def assert_identical(one, other):
    """Bit for bit, but for the time that it took."""
    for table in ("runs", "curves", "samples"):
        tables = [rows(directory, table).drop(columns=WITHOUT_TIME, errors="ignore") for directory in (one, other)]
        pd.testing.assert_frame_equal(*tables, check_exact=True)
    files = ({path.name: path for path in Path(directory).rglob("networks/*.pt")} for directory in (one, other))
    networks = [{name: torch.load(path, weights_only=True) for name, path in found.items()} for found in files]
    assert set(networks[0]) == set(networks[1]) != set()
    for name, states in networks[0].items():
        for state, tensors in states.items():
            assert all(torch.equal(value, networks[1][name][state][key]) for key, value in tensors.items())


def test_a_run_on_digits_leaves_everything_on_disk(call):
    call(*DIGITS, "hydra.run.dir=run")
    files = {path.name for path in Path("run").iterdir()}
    tables = {"runs.parquet", "curves.parquet", "samples.parquet", "networks"}
    assert files == {*tables, "config.yaml", "provenance.json", "status.json", "train.log"}
    (run,) = rows("run").to_dict("records")
    assert (run["data"], run["model"], run["optimizer"], run["data.classes"]) == ("digits", "small_cnn", "sgd", "[3, 8]")
    curves, samples = rows("run", "curves"), rows("run", "samples")
    assert curves["step"].tolist() == list(range(0, 17, 2)), "every epoch of two steps"
    assert len(samples) == 60
    wrong = samples["true"] != samples["observed"]
    assert wrong.mean() == pytest.approx(run["realised_noise_rate"])
    assert samples["loss_last"].mean() == pytest.approx(run["train_loss"], rel=1e-5)
    best = curves[curves["step"] == run["best_step"]]["train_loss"].item()
    assert samples["loss_best"].mean() == pytest.approx(best, rel=1e-5)
    counts = samples.groupby(["true", "observed"]).size().unstack(fill_value=0)
    shares = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    np.testing.assert_allclose(json.loads(run["realised_transition"]), shares, atol=1e-6)


def test_alone_in_a_sweep_and_resumed_a_run_is_the_same_bit_for_bit(call, tmp_path):
    call("-m", *DIGITS, "seed=range(3)", "hydra.sweep.dir=sweep")
    for seed in range(3):
        call(*DIGITS, f"seed={seed}", f"hydra.run.dir=alone/{seed}")
    assert_identical("sweep", "alone")


@pytest.mark.slow
def test_killed_with_signal_9_and_started_again_a_run_ends_the_same(tmp_path, call):
    """The real command, killed as soon as it has written a checkpoint, several times."""
    long = [*DIGITS[:-2], "optimizer.epochs=80", "optimizer.momentum=0.9", "checkpoint_seconds=0.01"]
    command = [sys.executable, str(ROOT / "train.py"), *long, "hydra.run.dir=killed"]
    kills = 0
    for pause in (0.05, 0.4):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("checkpoints/**/*.pt")}
        while process.poll() is None and before == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("checkpoints/**/[!.]*.pt")}:
            time.sleep(0.01)
        time.sleep(pause)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert kills >= 1
    call(*long, "hydra.run.dir=killed")
    call(*long, "hydra.run.dir=undisturbed")
    assert_identical(tmp_path / "killed", tmp_path / "undisturbed")
    assert not (tmp_path / "killed" / "checkpoints").exists()
    with pytest.raises(SystemExit, match="holds results already"):
        call(*long, "hydra.run.dir=killed")


def test_an_unfinished_run_goes_on_only_with_the_same_configuration(call, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "train_chunk", interrupt)
        with pytest.raises(SystemExit, match=r"interrupted; to go on: .*hydra.run.dir=.*run"):
            call(*DIGITS, "hydra.run.dir=run")
    with pytest.raises(SystemExit, match=r"another configuration \(seed: 0 there, 1 now\)"):
        call(*DIGITS, "hydra.run.dir=run", "seed=1")
    call(*DIGITS, "hydra.run.dir=run", "checkpoint_seconds=5")
    assert rows("run")["status"].tolist() == ["completed"]


@pytest.mark.parametrize("data", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_every_data_set_trains_from_files_in_its_format(call, tmp_path, monkeypatch, data):
    write_all(tmp_path / "files", monkeypatch)
    call(
        f"data={data}",
        f"data.root={tmp_path}/files",
        "data.classes=[0,1]",
        "noise.rate=0.25",
        "optimizer.epochs=2",
        "hydra.run.dir=run",
    )
    (run,) = rows("run").to_dict("records")
    assert run["status"] == "completed"
    assert run["data"] == data


@pytest.mark.slow
def test_vgg11_learns_a_set_in_the_format_of_cifar10(call, tmp_path, monkeypatch):
    write_cifar(tmp_path / "files", 10, monkeypatch, per_class=12)
    vgg = ("data=cifar10", f"data.root={tmp_path}/files", "model=vgg11", "noise.rate=0.2")
    call(*vgg, "optimizer=adam", "optimizer.epochs=4", "optimizer.batch_size=20", "hydra.run.dir=run")
    curves = rows("run", "curves")
    assert curves["clean_loss"].iloc[-1] < 0.7 * curves["clean_loss"].iloc[0]
    assert curves["test_error"].min() <= 0.25, "chance is one half"


def test_strategies_count_in_epochs_on_images(call):
    settings = ("strategy=small_loss", "strategy.epoch=3", "strategy.keep=share")
    call(*DIGITS, *settings, "hydra.run.dir=selected")
    kept = rows("selected", "curves").set_index("step")["kept_share"]
    assert (kept.loc[:6] == 1).all(), "three epochs of two steps, the selection after the last"
    assert (kept.loc[8:] < 1).all()
    call(*DIGITS, "strategy=co_teaching", "optimizer.epochs=20", "hydra.run.dir=taught")
    assert rows("taught", "curves")["kept_share"].nunique() > 2


def test_an_unfinished_run_whose_files_have_moved_goes_on(call, tmp_path, monkeypatch):
    """Neither device nor the place of the data are part of a run."""
    write_cifar(tmp_path / "here", 10, monkeypatch, per_class=2)
    run = ("data=cifar10", "optimizer.epochs=1", "hydra.run.dir=run")
    with monkeypatch.context() as patch:
        patch.setattr(train_runs, "train_chunk", lambda *arguments: 1 / 0)
        with pytest.raises(SystemExit):
            call(*run, f"data.root={tmp_path}/here")
    (tmp_path / "here").rename(tmp_path / "there")
    call(*run, f"data.root={tmp_path}/there", "device=cpu")
    assert rows("run")["status"].tolist() == ["completed"]


def test_a_sweep_over_classes_models_and_noise(call):
    small = ("data=digits", "data.n_train=12", "data.n_test=9", "optimizer.epochs=2", "model.width=2")
    said = call("-m", *small, "data.classes=[0,1],[3,8]", "noise=symmetric,pair,instance", "seed=0,1", "hydra.sweep.dir=sweep")
    assert "12 runs: 12 completed" in said
    found = rows("sweep")
    assert found.groupby("data.classes").size().to_dict() == {"[0, 1]": 6, "[3, 8]": 6}
    assert "12 runs: 12 completed" in call(
        "-m", *small, "data.classes=[0,1],[3,8]", "noise=symmetric,pair,instance", "seed=0,1", "hydra.sweep.dir=sweep"
    )
    assert len(rows("sweep")) == 12


def test_a_dry_run_says_how_long_and_trains_nothing(call, tmp_path):
    said = call("-m", *DIGITS, "seed=range(4)", "dry_run=true", "hydra.sweep.dir=sweep")
    assert "4 runs  n = 60, K = 2, 16 steps of 32" in said
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model=small_cnn",), r"model=small_cnn: is for images; use two_layer_cnn"),
        (("data=digits", "model=two_layer_cnn"), r"model=two_layer_cnn: is for vector data; use small_cnn, "),
        (("data=digits", "engine=span"), r"engine=span: is for signal-noise data"),
        (("data=digits", "data.classes=[1,1]"), r"data.classes=\[1, 1\]: must differ"),
        (("data=digits", "data.classes=[1,12]"), r"data.classes=\[1, 12\]: must lie in 0 to 9"),
        (("data=digits", "data.classes=3"), r"data.classes=3: must be a list or null"),
        (("data=digits", "data.n_train=9999"), r"data.n_train=9999: must be at most"),
        (("data=cifar10", "data.root=nowhere"), r"^error: data.root=nowhere: CIFAR10 needs data_batch_1 there"),
        (("data=digits", "noise=matrix", "noise.matrix=[[0.9,0.2],[0,1]]"), r"noise.matrix=.*row 0 sums to 1.1, must sum to 1"),
        (("data=digits", "noise=human", "noise.file=no.pt"), r"noise.file=no.pt: is not a file"),
        (("noise=instance",), r"noise=instance: is for images; use symmetric"),
        (("data=digits", "data.classes=null", "noise=asymmetric"), r"are for two classes, of 10 here; give source_rate"),
        (
            ("data=digits", "strategy=small_loss"),
            r"strategy.t1=0.2: Stage I has .* give step or epoch instead",
        ),
        (("data=digits", "optimizer=gd", "optimizer.t1_steps=5"), r"optimizer.t1_steps=5.0: has no meaning on images"),
        (
            ("data=digits", "strategy=small_loss", "strategy.epoch=1", "strategy.restart=true", "optimizer.schedule=cosine"),
            r"strategy.restart=True: starts again in the middle of the schedule",
        ),
        (("precision=bf16",), r"precision=bf16: is for images"),
        (("data=digits", "optimizer.schedule=steps"), r"optimizer.schedule=steps: must be one of constant, step"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(call, tmp_path, overrides, said):
    with pytest.raises(SystemExit, match=said):
        call(*overrides)
    assert not list(tmp_path.iterdir())


def test_human_labels_of_the_wrong_length_are_refused(call, tmp_path):
    np.save(tmp_path / "labels.npy", np.zeros(17, int))
    with pytest.raises(SystemExit, match=r"noise.file=labels.npy: has 17 labels, not 1198: one for each training sample, or"):
        call("data=digits", "data.classes=null", "noise=human", "noise.file=labels.npy")


def test_the_place_of_a_label_file_is_no_part_of_the_run_and_its_content_is(experiment, tmp_path):
    truth = digits()["train_labels"]
    for name, labels in (("a", truth), ("b", truth), ("c", np.where(truth == 3, 8, truth))):
        np.save(tmp_path / f"{name}.npy", labels)
    human = ("data=digits", "data.classes=null", "noise=human")
    one, same, other = (experiment(*human, f"noise.file={tmp_path}/{name}.npy").run_ids() for name in "abc")
    assert one == same != other


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A small sweep in which mislabelled samples come to be memorised."""
    path = tmp_path_factory.mktemp("study")
    digits = ("data=digits", "data.classes=[3,8]", "data.n_train=100", "optimizer.epochs=60", "optimizer.momentum=0.9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", "-m", *digits, "noise.rate=0,0.2", "seed=0,1", f"hydra.sweep.dir={path}"])
        train.main()
    return path


@pytest.mark.slow
def test_analysis_of_images(study, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["analyze.py", f"path={study}", "attributions=6", "attributions_background=clean"])
    analyze.main()
    folder = study / "analysis"
    figures = json.loads((folder / "manifest.json").read_text())["figures"]
    assert {"stages", "losses", "attributions_2"} <= set(figures)
    for name in figures:
        assert {(folder / f"{name}.{kind}").stat().st_size > 0 for kind in ("pdf", "png", "csv")} == {True}
    summary = pd.read_csv(folder / "attributions_summary.csv")
    assert summary[["condition", "kind", "runs"]].values.tolist() == [
        ["noise.rate=0.2", "mislabelled", 2],
        ["noise.rate=0.2", "clean", 2],
    ]
    assert summary["centre_share_best"].between(0, 1).all()
    # A null takes another sample of the same kind and labels, which one of the two runs may lack.
    measured = [name for name in attribution.NUMBERS if not name.endswith("_null")]
    assert summary[[f"{name}_sem" for name in measured]].gt(0).all(axis=None)
    assert summary["centre_share_null"].between(0.3, 0.5).all(), (
        "of the digits' own variation: more than the quarter of the area"
    )
    assert "attributions_numbers" in figures
    assert all("margin of the observed class" in figures[name] for name in figures if name.startswith("attributions_2"))
    with np.load(folder / "attributions.npz", allow_pickle=False) as arrays:
        assert len(arrays.files) == 2 * 3
        assert all(arrays[name].shape[1:] == (1, 8, 8) for name in arrays.files)
    histogram = pd.read_csv(folder / "losses.csv").groupby(["condition", "state", "kind"])["share"].sum()
    np.testing.assert_allclose(histogram, 1)
    shares = pd.read_csv(folder / "transitions.csv").groupby(["condition", "true_class"])["share"].sum()
    np.testing.assert_allclose(shares, 1)


@pytest.mark.slow
def test_deep_shap_adds_up_to_the_change_of_the_margin(study):
    """Completeness: values sum to f(x) minus the mean of f over the background, here for the margin of two outputs."""
    runs, samples = pd.read_parquet(study / "0" / "runs.parquet"), pd.read_parquet(study / "0" / "samples.parquet")
    run = runs[runs["noise.rate"] == 0.2].iloc[0]
    weights = study / "0" / "networks" / f"{run['run_id']}.pt"
    own = samples[samples["run_id"] == run["run_id"]]
    found = attribution.explain_run(run, own, weights, 4)
    assert found.method == "deep"
    data = attribution.component("data", run, Data)
    network, states = attribution.rebuild(run, data, weights)
    network.load_state_dict(states["last"])
    mean, std = attribution.pixel_statistics(data)
    batches = attribution.Batches(torch.as_tensor(data.arrays()["train"]), mean, std, torch.float32)
    index = np.random.default_rng(0).choice(own["index"].to_numpy(np.int64), attribution.BACKGROUND, replace=False)
    with torch.no_grad():
        background = network(batches.at(torch.as_tensor(index)[None])[0]).mean(0)
        shown = batches.at(torch.as_tensor(found.samples["index"].to_numpy(np.int64))[None])[0]
        mean_image = batches.at(torch.as_tensor(index)[None])[0].mean(0)
        np.testing.assert_allclose(found.deviations, shown - mean_image, atol=1e-6)
        logits = network(batches.at(torch.as_tensor(found.samples["index"].to_numpy(np.int64))[None])[0]) - background
    sign = torch.as_tensor(1 - 2 * data.as_classes(found.samples["observed"].to_numpy(np.int64)))
    wanted = sign * (logits[:, 0] - logits[:, 1])
    np.testing.assert_allclose(found.values["last"].sum((1, 2, 3)), wanted, rtol=1e-2, atol=1e-2)


def test_a_clean_background_is_that_of_the_correctly_labelled_samples(study):
    """As large as there are any: values add up to the margin minus its mean over exactly these, in NumPy's own words."""
    runs, samples = pd.read_parquet(study / "0" / "runs.parquet"), pd.read_parquet(study / "0" / "samples.parquet")
    run = runs[runs["noise.rate"] == 0.2].iloc[0]
    own, weights = samples[samples["run_id"] == run["run_id"]], study / "0" / "networks" / f"{run['run_id']}.pt"
    clean, everything = (
        attribution.explain_run(run, own, weights, 3, background=kind, background_size=10**6) for kind in ("clean", "all")
    )
    arrays = attribution.component("data", run, Data).arrays()
    train = arrays["train"]
    spread = train[np.isin(arrays["train_labels"], own["true"].unique())].std()
    taken = train[own["index"]].astype(float)
    shown = train[clean.samples["index"]].astype(float)
    for found, pool in ((clean, own["true"] == own["observed"]), (everything, own["true"] >= 0)):
        wanted = (shown - taken[pool].mean(0)) / spread
        np.testing.assert_allclose(found.deviations, wanted, atol=1e-5)
    assert np.abs(clean.deviations - everything.deviations).max() > 0.01
    difference = [found.values["last"].sum((1, 2, 3)) for found in (clean, everything)]
    sign = 1 - 2.0 * (clean.samples["observed"].to_numpy() == clean.samples["observed"].max())
    shift = sign * (difference[1] - difference[0])
    np.testing.assert_allclose(
        shift, shift[0], rtol=0.05, atol=0.02, err_msg="one constant: the difference of the mean margins"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("attributions=-1", "attributions=-1: must be an integer of at least 0"),
        ("attributions_background=noisy", "attributions_background=noisy: must be all or clean"),
        ("attributions_background_size=0", "attributions_background_size=0: must be an integer of at least 1"),
    ],
)
def test_attributions_that_cannot_be_are_refused(setting, said):
    from lnt.analysis.study_images import Attributions

    key, value = setting.split("=")
    given = {"attributions": 1, "attributions_background": "all", "attributions_background_size": 5}
    given[key] = value if key == "attributions_background" else int(value)
    with pytest.raises(ConfigError, match=said):
        Attributions(*given.values())


def test_where_deep_shap_fails_expected_gradients_take_over(study, monkeypatch):
    import shap

    def fail(*arguments, **keywords):
        raise AssertionError("does not add up")

    runs, samples = pd.read_parquet(study / "0" / "runs.parquet"), pd.read_parquet(study / "0" / "samples.parquet")
    run = runs[runs["noise.rate"] == 0.2].iloc[0]
    own, weights = samples[samples["run_id"] == run["run_id"]], study / "0" / "networks" / f"{run['run_id']}.pt"
    deep = attribution.explain_run(run, own, weights, 4)
    monkeypatch.setattr(shap.DeepExplainer, "shap_values", fail)
    gradient = attribution.explain_run(run, own, weights, 4)
    assert gradient.method == "gradient"
    # At the end the margins, and with them the attributions, may be as small as their errors.
    assert attribution.agreement(deep.values["best"], gradient.values["best"]).mean() > 0.7, "two estimates of one thing"


@pytest.mark.slow
def test_a_resnet_whose_deep_shap_breaks_off_is_explained_by_gradients(call, monkeypatch):
    """What DeepExplainer leaves on the network must not reach the gradients."""
    digits = ("data=digits", "data.classes=[3,8]", "data.n_train=16", "data.n_test=4", "noise.rate=0.3", "model=resnet18")
    call(*digits, "optimizer.epochs=1", "hydra.run.dir=run")
    monkeypatch.setattr(attribution, "GRADIENT_SAMPLES", 4)
    run, samples = pd.read_parquet("run/runs.parquet").iloc[0], pd.read_parquet("run/samples.parquet")
    wrong = samples["true"] != samples["observed"]
    samples = samples.assign(loss_best=np.where(wrong, 2.0, 0.1), loss_last=0.1)
    found = attribution.explain_run(run, samples, Path("run/networks") / f"{run['run_id']}.pt", 1)
    assert found.method == "gradient"
    assert all(np.isfinite(values).all() and np.abs(values).max() > 0 for values in found.values.values())


def test_numbers_of_attributions_on_known_maps():
    centre = np.zeros((1, 1, 8, 8))
    centre[..., 2:6, 2:6] = -1
    even = np.ones((1, 3, 32, 32))
    assert attribution.centre_share(centre) == 1
    assert attribution.centre_share(even) == 0.25, "its share of the area"
    noise = np.random.default_rng(0).standard_normal((1, 1, 8, 8))
    assert attribution.agreement(noise, 3 * noise + 1) == pytest.approx(1)
    assert attribution.agreement(noise, -noise) == pytest.approx(-1)
    values = np.stack([noise, 2 * noise, 4 * noise], -1)
    np.testing.assert_allclose(attribution.margin(values, np.array([2])), 4 * noise - 1.5 * noise)


def test_the_null_of_the_share_on_the_centre_is_that_of_linear_functions_without_a_place():
    """Its SHAP values are w (x - mean): over random weights w their share on the centre is that of the pixels."""
    rng = np.random.default_rng(2)
    deviations = rng.standard_normal((1, 1, 8, 8)) * np.where(np.abs(np.arange(8) - 3.5) < 2, 3, 1)
    weights = rng.standard_normal((20_000, 1, 8, 8))
    size = np.abs(weights * deviations).mean(0)[0]
    share = size[2:6, 2:6].sum() / size.sum()
    assert share == pytest.approx(attribution.centre_share(deviations)[0], abs=0.01)
    assert share > 0.3, "more than its share of the area"


def explained(best, last, kinds, labels):
    samples = pd.DataFrame({"kind": kinds, "index": range(len(kinds)), "true": 0, "observed": labels})
    images = np.zeros(best.shape, np.uint8)
    return attribution.Explained(samples, images, {"best": best, "last": last}, best, "deep")


def test_maps_that_share_nothing_but_their_group_agree_as_much_as_the_null_says():
    """Each map is a common part of its group and a part of its own; only the second group keeps its own part to the end."""
    rng, n = np.random.default_rng(4), 40
    common = np.repeat(rng.standard_normal((2, 1, 8, 8)), n, 0)
    own, later = rng.standard_normal((2, 2 * n, 1, 8, 8))
    kinds, labels = np.repeat(["mislabelled", "clean"], n), np.repeat([1, 0], n)
    found = attribution.numbers_of(
        explained(common + own, common + np.where(np.arange(2 * n)[:, None, None, None] < n, later, own), kinds, labels)
    )
    means = found.groupby("kind")[["agreement", "agreement_null"]].mean()
    assert means.loc["mislabelled", "agreement"] == pytest.approx(0.5, abs=0.05)
    assert means["agreement_null"].tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert means.loc["clean", "agreement"] == pytest.approx(1)


def test_nulls_by_hand():
    """Correlations of maps that are rows of a Hadamard matrix are 0, 1 and -1; who is alone in a group has no null."""
    a, b = (np.array(signs, float).reshape(1, 1, 4, 4) for signs in ([1, 1, -1, -1] * 4, [1, -1, 1, -1] * 4))
    best, last = np.concatenate([a, a, b, a]), np.concatenate([a, -a, b, a])
    np.testing.assert_allclose(attribution.agreement(best, last), [1, -1, 1, 1])
    null = attribution.agreement_with_others(best, last, np.array([0, 0, 0, 1]))
    np.testing.assert_allclose(null, [-0.5, 0.5, 0, np.nan])


def test_a_change_of_sign_is_no_change_of_place():
    """A network that gives the opposite answer for the same reasons: the maps of |SHAP| are the same."""
    maps = np.random.default_rng(5).standard_normal((3, 1, 8, 8))
    found = attribution.numbers_of(explained(maps, -2 * maps, ["mislabelled"] * 3, [1] * 3))
    np.testing.assert_allclose(found["agreement"], -1)
    np.testing.assert_allclose(found["overlap"], 1)
    assert found["overlap_null"].abs().max() < 0.5


def test_means_of_attributions_are_over_runs_and_their_errors_too():
    """Runs of 2 and of 6 on average: 4 with the standard error 2. One run, whose samples are 1 and 3, has 2 and no error."""
    rows = [("two", "a", 1.0), ("two", "a", 3.0), ("two", "b", 6.0), ("one", "c", 1.0), ("one", "c", 3.0)]
    numbers = pd.DataFrame(rows, columns=["condition", "run_id", "value"]).assign(kind="clean")
    found = attribution.summary(numbers.assign(**dict.fromkeys(attribution.NUMBERS, numbers["value"]))).set_index("condition")
    assert found[["runs", "samples"]].values.tolist() == [[2, 3], [1, 2]]
    for name in attribution.NUMBERS:
        np.testing.assert_allclose(found[[name, f"{name}_sem"]], [[4, 2], [2, np.nan]])


class Bomb:
    """Unpickled, it would leave a mark."""

    def __reduce__(self):
        return Path.touch, (Path("mark"),)


def test_nothing_in_a_results_directory_is_executed(study, tmp_path, monkeypatch):
    """Neither a pickle in place of weights, nor a class named in a configuration."""
    monkeypatch.chdir(tmp_path)
    runs, samples = pd.read_parquet(study / "0" / "runs.parquet"), pd.read_parquet(study / "0" / "samples.parquet")
    run = runs[runs["noise.rate"] == 0.2].iloc[0]
    weights = tmp_path / "weights.pt"
    weights.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ConfigError, match=r"is damaged|cannot be read as weights"):
        attribution.explain_run(run, samples, weights, 4)
    torch.save({"best": Bomb()}, weights)
    with pytest.raises(ConfigError, match=r"is damaged|cannot be read as weights"):
        attribution.explain_run(run, samples, weights, 4)
    with pytest.raises(ConfigError, match=r"model=os\.system: is no option of conf/model"):
        attribution.component("model", run.replace({run["model"]: "os.system"}), Model)
    assert yaml.safe_load((study / "sweep.yaml").read_text())
    assert not (tmp_path / "mark").exists()

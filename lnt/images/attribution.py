"""Where a network looks: SHAP values of training images at two of its states, and numbers that sum them up.

Networks are rebuilt from the numbers in a table of runs with the classes that conf/, or the user's own --config-dir, names;
nothing that a results directory holds is executed.
"""

import copy
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from lnt.column_names import STATES
from lnt.errors import ConfigError, require
from lnt.files import check_zip
from lnt.images.augment import Batches
from lnt.images.datasets import Images, on_device, pixel_statistics
from lnt.losses import LOG2
from lnt.options import CONF, read_option
from lnt.settings import build_component, class_of, type_hints
from lnt.training.experiment import Data, Model

log = logging.getLogger(__name__)
BACKGROUND = 50  # training images whose mean output an explanation starts from
GRADIENT_SAMPLES = 200  # of expected gradients, for each image
NUMBERS = (  # of each explained sample; *_null: what is expected of maps without any preference, or of other samples
    *("centre_share_best", "centre_share_last", "centre_share_null"),
    *("agreement", "agreement_null", "overlap", "overlap_null"),
)


@dataclass(frozen=True)
class Explained:
    """SHAP values of one run's samples, for the margin of the observed class over the mean of the others."""

    samples: pd.DataFrame  # kind, index, true, observed: one row for each of n samples
    images: np.ndarray  # [n, C, H, W] uint8
    values: Mapping[str, np.ndarray]  # best, last: [n, C, H, W]
    deviations: np.ndarray  # [n, C, H, W]: the standardised image minus the mean one that explanations start from
    method: str  # deep or gradient


def explain_run(
    run: pd.Series,
    samples: pd.DataFrame,
    weights: Path,
    count: int,
    folders: Sequence[Path] = (CONF,),
    background: str = "all",
    background_size: int = BACKGROUND,
) -> Explained | None:
    """Explain up to `count` samples of each kind of a run, None without mislabelled ones that it came to memorise.

    `run` is its row, `samples` its rows of samples.parquet. Mislabelled samples are chosen among those that were not predicted
    as labelled at the lowest test error and are at the end, clean ones among those that are at both, at random
    ("predicted": with probability above 1/2, that is a loss below log 2). Explanations start from
    `background_size` samples of `background`: all, or clean ones only.
    Raises ConfigError if images or weights cannot be read.
    """
    data = component("data", run, Data, folders)
    require(not data.is_vectors(), "data", run["data"], "is of vectors, and attributions are about pixels")
    network, states = rebuild(run, data, weights, folders)
    mean, std = pixel_statistics(data)
    batches = Batches(on_device(data, torch.device("cpu"))[0], mean, std, torch.float32)
    chosen = choose(samples, count)
    if chosen is None:
        return None
    # A fixed seed: another call of analyze.py explains with the same background.
    rng = np.random.default_rng(0)
    pool = samples if background == "all" else samples[samples["true"] == samples["observed"]]
    others = rng.choice(pool["index"].to_numpy(np.int64), min(background_size, len(pool)), replace=False)
    places = [places_of(data, rows) for rows in (others, chosen["index"].to_numpy(np.int64))]
    base, images = (batches.at(torch.as_tensor(place)[None])[0] for place in places)
    observed = data.as_classes(chosen["observed"].to_numpy(np.int64))
    try:
        values, method = {state: deep(network, states[state], base, images) for state in STATES}, "deep"
    except Exception as error:  # any type: an error inside the hooks of shap, or its failed additivity check
        log.info("DeepExplainer does not apply (%s): expected gradients instead", str(error).partition("\n")[0])
        values, method = {state: gradients(network, states[state], base, images) for state in STATES}, "gradient"
    # The original pixels, for figures; the network has seen them standardised.
    pixels = data.arrays()["train"][places[1]]
    deviations = (images - base.mean(0)).numpy()
    return Explained(chosen, pixels, {state: margin(values[state], observed) for state in STATES}, deviations, method)


def training_images(run: pd.Series, index: np.ndarray, folders: Sequence[Path] = (CONF,)) -> np.ndarray:
    """The training images of a run by `index` in samples.parquet, [n, C, H, W] uint8. Raises ConfigError if there are none."""
    data = component("data", run, Data, folders)
    return np.asarray(data.arrays()["train"][places_of(data, index)])


def places_of(data: Images, index: np.ndarray) -> np.ndarray:
    """Where training samples stand among all, by `index`, which counts in the files: these may hold test samples, too."""
    return np.searchsorted(data.rows(), index)


def component(group: str, run: pd.Series, base: type, folders: Sequence[Path] = (CONF,)) -> Any:
    """The component of a run's row: its class as conf/ has it, its numbers from the row. Raises ConfigError."""
    target = read_option(group, str(run[group]), folders)["_target_"]
    known = type_hints(class_of({"_target_": target}))
    numbers = {key: plain(run[f"{group}.{key}"]) for key in known if f"{group}.{key}" in run}
    if "download" in numbers:
        numbers["download"] = False  # analysis reads files, it fetches none
    return build_component(group, {"_target_": target, **numbers}, base)


def plain(value: Any) -> Any:
    """A value of a table as a configuration has it: null for a missing one, a list for JSON."""
    if isinstance(value, str):
        return json.loads(value) if value.startswith("[") else value
    return None if pd.isna(value) else value.item() if isinstance(value, np.generic) else value


def rebuild(
    run: pd.Series, data: Images, weights: Path, folders: Sequence[Path] = (CONF,)
) -> tuple[nn.Module, Mapping[str, Mapping[str, Tensor]]]:
    """A run's network, in evaluation mode and free of in-place operations, and its two states. Raises ConfigError."""
    check_zip(weights)
    try:
        states = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ConfigError("path", weights, f"cannot be read as weights: {error}") from error
    _, channels, pixels, _ = data.arrays()["train"].shape
    network = component("model", run, Model, folders).build(channels, pixels, data.task().count, seed=0).eval()
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # SHAP's hooks need the values that these would overwrite
    return network, states


def choose(samples: pd.DataFrame, count: int) -> pd.DataFrame | None:
    """Up to `count` samples of each kind, None if there is no mislabelled one."""
    wrong = samples["true"] != samples["observed"]
    before, after = samples["loss_best"] < LOG2, samples["loss_last"] < LOG2
    # The loss needs no network to be run: below log 2 the observed class has a probability above 1/2.
    pools = {"mislabelled": samples[wrong & ~before & after], "clean": samples[~wrong & before & after]}
    if any(pool.empty for pool in pools.values()):
        return None
    parts = [pool.sample(min(count, len(pool)), random_state=0).assign(kind=kind) for kind, pool in pools.items()]
    return pd.concat(parts, ignore_index=True)


def deep(network: nn.Module, state: Mapping[str, Tensor], background: Tensor, images: Tensor) -> np.ndarray:
    """SHAP values [n, C, H, W, K] by DeepLIFT; raises an error if they do not add up to the outputs.

    Source: Shrikumar et al., ICML 2017; Lundberg & Lee, NeurIPS 2017 (shap.DeepExplainer).
    """
    import shap  # takes seconds to import

    network = fresh(network, state)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about modules that it does not know: the check decides
        return shap.DeepExplainer(network, background).shap_values(images, check_additivity=True)


def fresh(network: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A copy with this state: an explainer that fails leaves its hooks behind."""
    network = copy.deepcopy(network)
    network.load_state_dict(state)
    return network


def gradients(network: nn.Module, state: Mapping[str, Tensor], background: Tensor, images: Tensor) -> np.ndarray:
    """SHAP values [n, C, H, W, K] by expected gradients.

    Source: Erion et al., Nature Machine Intelligence 2021 (shap.GradientExplainer).
    """
    import shap

    network = fresh(network, state)
    return shap.GradientExplainer(network, background).shap_values(images, nsamples=GRADIENT_SAMPLES, rseed=0)


def margin(values: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Values of the observed class minus the mean of the others, from those of all outputs [n, C, H, W, K]."""
    # A difference of outputs: a constant added to all logits changes no prediction, and must not show up as attribution.
    own = np.take_along_axis(values, observed[:, None, None, None, None], -1)[..., 0]
    others = (values.sum(-1) - own) / (values.shape[-1] - 1)
    return own - others


def centre_share(values: np.ndarray) -> np.ndarray:
    """Share of |values| [n, C, H, W] in the central half of the image each way, a quarter of its area, [n].

    Of SHAP values it is to be compared with that of `Explained.deviations`: a linear function whose weights know nothing of
    the place gives pixel x the value w (x - mean), so the share is that of the pixels' own variation.
    """
    size = np.abs(values).sum(1)  # [n, H, W]
    height, width = size.shape[1] // 4, size.shape[2] // 4
    return size[:, height:-height, width:-width].sum((1, 2)) / size.sum((1, 2))


def agreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation over pixels of two explanations of the same images, [n]."""
    flat = [values.reshape(len(values), -1) - values.mean((1, 2, 3))[:, None] for values in (one, other)]
    norms = np.linalg.norm(flat[0], axis=1) * np.linalg.norm(flat[1], axis=1)
    return (flat[0] * flat[1]).sum(1) / norms


def agreement_with_others(one: np.ndarray, other: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean correlation of each sample's first explanation with the second ones of the other samples of its group, [n].

    This is what `agreement` is where the two explanations share nothing but what the group brings; NaN for one alone.
    """
    found = np.full(len(one), np.nan)
    for i, group in enumerate(groups):
        others = np.flatnonzero((groups == group) & (np.arange(len(groups)) != i))
        if len(others):
            found[i] = agreement(np.broadcast_to(one[i], other[others].shape), other[others]).mean()
    return found


def numbers_of(explained: Explained) -> pd.DataFrame:
    """The samples with their numbers: shares on the centre and agreements of both states, each with its null.

    By completeness a map adds up to the margin. Mislabelled samples are chosen among those whose margin changes its sign, so
    their maps agree less by construction; the null of `agreement` is therefore taken from other samples of the same kind with
    the same labels, and `overlap`, of the maps of |SHAP|, does not see signs.
    """
    best, last = (explained.values[state] for state in STATES)
    groups = explained.samples.groupby(["kind", "true", "observed"], sort=False).ngroup().to_numpy()
    numbers = {f"centre_share_{state}": centre_share(values) for state, values in explained.values.items()}
    numbers["centre_share_null"] = centre_share(explained.deviations)
    for name, one, other in (("agreement", best, last), ("overlap", np.abs(best), np.abs(last))):
        numbers |= {name: agreement(one, other), f"{name}_null": agreement_with_others(one, other, groups)}
    return explained.samples.assign(**numbers, method=explained.method)


def summary(numbers: pd.DataFrame) -> pd.DataFrame:
    """Means by condition and kind of sample over runs, with standard errors; NaN of one run.

    Samples of one run share a network and are no independent evidence.
    """
    columns = list(NUMBERS)
    keys, rows = ["condition", "kind"], []
    for (condition, kind), group in numbers.groupby(keys, sort=False):
        of_runs = group.groupby("run_id")[columns].mean()
        counts = {"runs": len(of_runs), "samples": len(group)}
        errors = of_runs.sem().add_suffix("_sem")
        rows.append({"condition": condition, "kind": kind, **counts, **of_runs.mean(), **errors})
    return pd.DataFrame(rows)

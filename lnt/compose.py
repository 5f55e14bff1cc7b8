"""From a plain, resolved configuration to an experiment: the one place that knows which kinds there are."""

from collections.abc import Mapping
from typing import Any

from lnt.config import COMPONENTS, build, build_component, keys_under, require
from lnt.experiment import Experiment, Settings
from lnt.images import Images
from lnt.imaging import ImageExperiment
from lnt.seeding import STREAMS, Seeds
from lnt.synthetic import SyntheticExperiment


def experiment_from(config: Mapping[str, Any], runs: int = 1) -> Experiment:
    """Validate a configuration whose values may be arrays [R]; raises ConfigError."""
    for name in (*COMPONENTS, "seeds"):
        require(isinstance(config.get(name), Mapping), name, config.get(name), "must be given")
    parts = {name: build_component(name, config[name]) for name in COMPONENTS}
    settings = build(Settings, {key: value for key, value in config.items() if key not in (*COMPONENTS, "seeds", "choices")})
    unknown = set(config["seeds"]) - set(STREAMS)
    require(not unknown, "seeds", sorted(unknown), f"unknown streams; known are {', '.join(STREAMS)}")
    own = {name: config["seeds"].get(name) for name in STREAMS}
    with keys_under("seeds"):
        seeds = build(Seeds, {name: settings.seed if own[name] is None else own[name] for name in STREAMS})
    kind = ImageExperiment if isinstance(parts["data"], Images) else SyntheticExperiment
    experiment = kind(**parts, seeds=seeds, settings=settings, choices=config["choices"], runs=runs).completed()
    experiment.check()
    return experiment

"""The text of --help: every setting with its default and its meaning, from conf/*.yaml and the comments there."""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from lnt.column_names import COMPONENTS
from lnt.options import CONF

TRAIN = """Train one run, or with -m a sweep.

  python train.py noise.rate=0.2 data.dim=1e6                one run; results land in outputs/
  python train.py -m noise.rate=0,0.2,0.4 'seed=range(10)'   a sweep; results land in multirun/
  python train.py experiment=han2025_dynamics                a named study
  python train.py data=digits noise=pair model=small_cnn     real images
  python train.py from=outputs/DIR noise.rate=0.3            a saved run again, with another value
  python train.py noise=instance --help                      the settings of one option

Sweeps take 1,2,3  range(0,1,0.1)  linspace(a,b,num)  geomspace(a,b,num)  logspace(a,b,num)  and glob(*) for options.
A setting that some of the swept options lack goes to the others: -m optimizer=gd,sam optimizer.rho=0.05,0.1.
"""
ANALYZE = """Turn results into tables and figures, in DIR/analysis/.

  python analyze.py path=multirun/DIR                        everything that can be drawn
  python analyze.py path=DIR x=data.dim y=noise.rate value=test_error level=0.1
  python analyze.py path=DIR x=noise.rate hue=strategy       options beside each other
  python analyze.py path=DIR against=FILE.csv                published cells beside one's own
"""
HYDRA = "Hydra's own flags (--cfg job, --info, --multirun, ...): --hydra-help"
LINE = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: .*?)?(?:#\s*(?P<meaning>.*))?$")


def help_text(config_name: str, arguments: Sequence[str]) -> str:
    """Help for the settings under these command line arguments: of the groups whose option they choose, or of all.

    Hydra's own --help lists every option of every plugin first, which takes longer than all the rest.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    known, rest = parser.parse_known_args(arguments)
    overrides = [argument for argument in rest if not argument.startswith("-")]
    sources = [CONF, *([known.config_dir.resolve()] if known.config_dir else [])]
    # compose() has no --config-dir; a search path does the same.
    searched = [f"hydra.searchpath=[{','.join(f'file://{source}' for source in sources[1:])}]"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(config_name, overrides + searched, return_hydra_config=True)
    choices = config.hydra.runtime.choices
    groups = {key: choices[key] for key in (*COMPONENTS, "tracker") if key in config}
    # "noise=instance --help" asks for one group only, plain --help for all of them.
    asked = [key for key in groups if any(override.startswith(f"{key}=") for override in overrides)]
    lines = [line for group in asked or groups for line in _group(group, groups[group], sources, config)]
    if not asked:
        lines += ["settings of the run" if groups else "settings"]
        lines += _values(config, comments(_find(f"{config_name}.yaml", sources)), "")
        lines += ["", *_wrapped("experiment=", _options("experiment", sources))] if groups else []
    return "\n".join([TRAIN if groups else ANALYZE, *lines, "", HYDRA])


def _group(group: str, option: str, sources: Sequence[Path], root: DictConfig) -> Iterator[str]:
    """A group: its options, what the chosen one is, and its settings."""
    file = _find(f"{group}/{option}.yaml", sources)
    yield from _wrapped(f"{group}={option}", [name for name in _options(group, sources) if name != option])
    yield from (f"  {line[1:].strip()}" for line in file.read_text().splitlines() if line.startswith("#"))
    yield from _values(root[group], comments(file, sources), f"{group}.")
    yield ""


def _wrapped(head: str, options: Sequence[str]) -> list[str]:
    """The options of a group in lines that fit a terminal."""
    lines, room = [f"{head:24}"], 110
    for name in options:
        if len(lines[-1]) + len(name) > room:
            lines.append(" " * 24)
        lines[-1] += f" {name}"
    return [line.rstrip() for line in lines]


def _values(node: DictConfig, meanings: dict[str, str], prefix: str) -> Iterator[str]:
    """key=value and its meaning, a line each."""
    for key, meaning in meanings.items():
        value = OmegaConf.select(node, key, throw_on_missing=False)
        missing = OmegaConf.is_missing(node, key) if "." not in key else False
        shown = "???" if missing else _shown(value)
        yield f"  {f'{prefix}{key}={shown}':34} {meaning}".rstrip()


def _shown(value: Any) -> str:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, list):
        return f"[{','.join(map(_shown, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def comments(file: Path, sources: Sequence[Path] = ()) -> dict[str, str]:
    """Dotted key -> comment, for each value of a YAML file and of the options that it rests on."""
    text = file.read_text()
    found: dict[str, str] = {}
    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_" and sources:
            found |= comments(_find(f"{file.parent.name}/{entry}.yaml", sources), sources)
    # Line by line: yaml.safe_load drops comments.
    outer = ""
    for line in text.splitlines():
        match = LINE.match(line)
        if not match or match["key"] in ("defaults", "_target_", "hydra"):
            outer = "hydra" if match and match["key"] in ("defaults", "hydra") else outer
            continue
        key, nested = match["key"], bool(match["indent"])
        if nested and outer == "hydra":
            continue
        outer = outer if nested else key
        found[f"{outer}.{key}" if nested else key] = match["meaning"] or ""
    # A key with keys below it is a heading, not a value.
    return {key: text for key, text in found.items() if not any(other.startswith(f"{key}.") for other in found)}


def _find(name: str, sources: Sequence[Path]) -> Path:
    """The file in the last of the sources that has it: a user's --config-dir comes before conf/."""
    return next(source / name for source in reversed(sources) if (source / name).is_file())


def _options(group: str, sources: Sequence[Path]) -> list[str]:
    """The names of a group's options."""
    return sorted({file.stem for source in sources for file in (source / group).glob("*.yaml")})

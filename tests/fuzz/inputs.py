"""Random command lines for train.py, and what each of them does: `make fuzz`, or python -m tests.fuzz.inputs [count] [seed].

An input must end in a plan (all of them are dry runs) or in one line `error: ...`. Anything else is a finding: a traceback, an
answer that takes longer than SECONDS, or nonsense that was accepted, such as a word where a number belongs.
"""

import contextlib
import dataclasses
import io
import math
import os
import random
import signal
import sys
import tempfile
import traceback
import typing
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from hydra.core.global_hydra import GlobalHydra

import train
from lnt import cli
from lnt.options import CONF
from lnt.settings import class_of, type_hints
from lnt.training.experiment import Settings

SECONDS = 60  # on a busy machine
GROUPS = ("data", "noise", "model", "loss", "optimizer", "strategy")
NUMBERS = (
    *("0", "-1", "1", "2", "3", "7", "0.5", "-0.5", "0.999999999", "1e-300", "1e300", "1e400", "nan", "inf", "-inf", "1e12"),
    *("9" * 40, "-" + "9" * 25, "007", "1_000", "0x10", "1e", "--1", "1,", "½", "1.", ".5"),
)
WORDS = (
    *("null", "true", "false", "abc", "''", "'a b'", "[]", "[1]", "[1,2]", "[a,b]", "[null]", "[[1,0],[0,1]]", "{a:1}", "???"),
    *("${seed}", "${oc.env:HOME}", "${x}", "${", "../x", "/etc/passwd", "a=b", "é", "\U0001d54f", "x" * 300, "*", "~", "%s"),
    *("\\", "'", '"', "a:b", "#", "$", "@", "\x1b[2J", "\t", "[", "}", "int", "os.system", "None"),
)
SWEEPS = (
    *("1,2", "1,1", "a,b", "null,1", "range(3)", "range(0,1,0)", "range(1,0)", "range(1e9)", "range(0,1,1e-9)", "range(nan)"),
    *("linspace(0,1,3)", "linspace(0,1,0)", "linspace(0,1,1e9)", "linspace(0,1,2.5)", "linspace(0,1)", "logspace(0,400,3)"),
    *(
        "geomspace(0,1,3)",
        "geomspace(1,8,4)",
        "interval(0,1)",
        "glob(*)",
        "glob(x*)",
        "shuffle(1,2)",
        "sort(3,1,2)",
        "choice()",
    ),
    *("tag(a,choice(1,2))", "tag(a,1,2,3)", "choice(1,choice(2))", "range(1,2,3,4)", "int(1.5)", "range(10000000,0,-1)", ","),
)
OTHER_KEYS = ("hydra.sweep.dir", "hydra.run.dir", "hydra.sweeper.runs_per_job", "hydra/launcher", "experiment", "seeds.data")
STRANGE_KEYS = ("nois.rate", "noise.rat", "data", "data.", ".data", "noise.rate.x", "+noise.rate", "~noise.rate", "++a.b", "x")


def options(group: str) -> list[str]:
    """The options of a group."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def fields_of(group: str, option: str) -> dict[str, typing.Any]:
    """Dotted key -> annotation, of the settings of an option."""
    component = class_of(yaml.safe_load((CONF / group / f"{option}.yaml").read_text()))
    return {f"{group}.{field.name}": type_hints(component)[field.name] for field in dataclasses.fields(component)}


TYPES = {field.name: type_hints(Settings)[field.name] for field in dataclasses.fields(Settings)}
for _group in GROUPS:
    for _option in options(_group):
        TYPES |= fields_of(_group, _option)


def command_lines(seed: int) -> Iterator[list[str]]:
    """Random command lines, always the same ones for a seed."""
    rng = random.Random(seed)
    while True:
        sweep = rng.random() < 0.4
        chosen = [f"{group}={rng.choice([*options(group), 'abc', 'null'])}" for group in GROUPS if rng.random() < 0.15]
        keys = [
            rng.choice([*TYPES, *TYPES, *OTHER_KEYS, *GROUPS, *STRANGE_KEYS]) for _ in range(rng.choice([0, 1, 1, 1, 2, 3]))
        ]
        pools = [NUMBERS, NUMBERS, WORDS] + ([SWEEPS, SWEEPS] if sweep else [SWEEPS] if rng.random() < 0.1 else [])
        yield [*(["-m"] if sweep else []), *chosen, *(f"{key}={rng.choice(rng.choice(pools))}" for key in keys)]


def is_nonsense(override: str) -> bool:
    """Whether the value of a key is none of its type, by the annotation of its field; only for values without a sweep."""
    key, _, value = override.partition("=")
    hint = TYPES.get(key.lstrip("+"))
    if hint is None or "(" in value or "," in value or value.startswith("${"):
        return False
    said = str(hint)
    if value == "null":
        # A setting of one option may be null, and one of the same name of another option may not.
        return "." not in key and "None" not in said
    numeric = any(kind in said for kind in ("float", "int")) and "tuple" not in said and "str" not in said
    if not numeric:
        return "bool" in said and value.lower() not in ("true", "false")
    try:
        number = float(value)
    except ValueError:
        return not value.startswith("0x")
    return not math.isfinite(number) or ("float" not in said and number != round(number))


def outcome(arguments: list[str]) -> str:
    """plan, refused, or what is wrong."""
    text, errors = io.StringIO(), io.StringIO()
    GlobalHydra.instance().clear()
    before, sys.argv = sys.argv, ["train.py", *arguments, "dry_run=true"]
    code: object = 0
    signal.alarm(SECONDS)
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(errors):
            cli.run(train.main, "config")
    except SystemExit as end:
        code = end.code
    except TimeoutError:
        return f"hangs: {traceback.format_exc().splitlines()[-3].strip()}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"traceback: {type(error).__name__}: {str(error)[:150]} ({Path(place.filename).name}:{place.lineno})"
    finally:
        signal.alarm(0)
        sys.argv = before
        cli.TYPED.clear()
    if code in (0, None):
        accepted = [override for override in arguments if is_nonsense(override)]
        return f"accepted nonsense: {accepted[0]}" if accepted else "plan"
    said = str(code) if isinstance(code, str) else errors.getvalue().strip()
    if not said.startswith("error: ") or "Traceback" in said or "\n" in said.strip() or not said.isprintable():
        return f"no single line: {said[-300:]!r}"
    return "refused"


def _too_long(*arguments: object) -> None:
    raise TimeoutError


def main(count: int = 10_000, seed: int = 0) -> int:
    """Try `count` inputs; print the findings, and how many ended in which way. The number of findings."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    signal.signal(signal.SIGALRM, _too_long)
    np.seterr(all="ignore")
    found: Counter[str] = Counter()
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number, arguments in zip(range(count), command_lines(seed), strict=False):
            before = set(Path(folder).iterdir())
            result = outcome(arguments)
            if result == "refused" and set(Path(folder).iterdir()) - before:
                result = "refused, and left files behind"
            found[result if result in ("plan", "refused") else "findings"] += 1
            if result not in ("plan", "refused"):
                print(f"{number}: {result}\n    {arguments}", flush=True)
            elif number % 500 == 499:
                print(f"{number + 1} inputs: {dict(found)}", file=sys.stderr, flush=True)
        os.chdir(here)
    print(f"{count} inputs, seed {seed}: {found['plan']} planned, {found['refused']} refused, {found['findings']} findings")
    return found["findings"]


if __name__ == "__main__":
    sys.exit(min(1, main(*map(int, sys.argv[1:]))))

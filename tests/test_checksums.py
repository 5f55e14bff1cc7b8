"""A disk that flips a bit: what is read is what was written, or the file is named as damaged."""

import contextlib
import os
import random
import signal
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from train_process import train_py

from lnt import table_files
from lnt.files import DamagedFile, check_zip, read_json, read_yaml
from lnt.plan_file import read_plan
from lnt.table_files import read_table, write_table


def content_of(file):
    """What the program reads of a file, in a form that can be compared."""
    if file.suffix == ".parquet":
        return read_table(file).to_pandas()
    if file.name == "sweep.yaml":
        return read_plan(file)
    if file.suffix == ".yaml":
        return read_yaml(file)
    if file.suffix == ".json":
        return read_json(file)
    check_zip(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # all who load weights or states take any of them for a damaged file
        raise DamagedFile(file, str(error)) from error


def equal(one, other):
    if isinstance(one, pd.DataFrame):
        return one.equals(other) and list(one) == list(other) and (one.dtypes == other.dtypes).all()
    if isinstance(one, torch.Tensor):
        return one.shape == other.shape and torch.equal(one.nan_to_num(7), other.nan_to_num(7))
    if isinstance(one, dict):
        # A key that a flipped bit has made of the checksum's name says nothing about the others.
        return all(key in other and equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A sweep on images that was stopped as it ran: tables, plan, configuration, status, weights and a checkpoint."""
    path = tmp_path_factory.mktemp("written")
    images = ("data=digits", "data.classes=[3,8]", "data.n_train=20", "data.n_test=8", "model.width=1", "checkpoint_seconds=0")
    process = train_py("-m", *images, "optimizer.epochs=300", "seed=range(4)", "hydra.sweep.dir=sweep", cwd=path)
    while not (list(path.glob("sweep/0/runs.parquet/*.parquet")) and list(path.glob("sweep/checkpoints/0/*.pt"))):
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return path / "sweep"


@pytest.mark.slow
def test_no_flipped_bit_goes_unnoticed(written, tmp_path):
    """1000 of them, over all kinds of files; a bit that changes nothing that is read is no damage."""
    kinds = ("sweep.yaml", "*/runs.parquet/*", "*/curves.parquet/*", "*/samples.parquet/*", "*/config.yaml", "*/status.json")
    kinds += ("*/provenance.json", "*/networks/*.pt", "checkpoints/*/*.pt")
    files = [next(written.glob(kind)) for kind in kinds]
    rng, silent, noticed = random.Random(0), [], 0
    for number in range(1000):
        file = files[number % len(files)]
        bits = bytearray(file.read_bytes())
        place = rng.randrange(8 * len(bits))
        bits[place // 8] ^= 1 << place % 8
        flipped = tmp_path / file.name
        flipped.write_bytes(bits)
        try:
            found = content_of(flipped)
        except DamagedFile:
            noticed += 1
        else:
            if not equal(content_of(file), found):
                silent.append((file, place))
    assert not silent
    assert noticed > 600, "most bits carry something"


def test_a_flipped_bit_in_a_table_is_noticed(tmp_path):
    rng = np.random.default_rng(0)
    columns = {"run_id": list("abcd"), "x": rng.random(4), "n": pd.array([1, None, 3, 4], dtype="Int64"), "b": [True] * 4}
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    file = tmp_path / "t.parquet"
    write_table(file, table)
    good = file.read_bytes()
    assert read_table(file).equals(table)
    pd.testing.assert_frame_equal(pd.read_parquet(file), pd.DataFrame(columns), check_dtype=False)
    for place in random.Random(1).sample(range(8 * len(good)), 150):
        bits = bytearray(good)
        bits[place // 8] ^= 1 << place % 8
        file.write_bytes(bits)
        with contextlib.suppress(DamagedFile):
            assert read_table(file).to_pandas().equals(table.to_pandas())


def test_a_table_that_would_not_fit_into_memory_is_one_line(tmp_path, monkeypatch):
    write_table(tmp_path / "t.parquet", pa.table({"x": [0.0] * 1000}))
    monkeypatch.setattr(table_files, "SHARE_OF_MEMORY", 1e-12)
    with pytest.raises(DamagedFile, match=r"needs 0 MiB of memory, of \d+ MiB that are free"):
        read_table(tmp_path / "t.parquet")

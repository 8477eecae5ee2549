"""Libraries that people read data with, on versions: each the real one, on tables that pyarrow wrote."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import vfs

ROWS = 5000


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """A table with numbers and texts."""
    numbers = np.arange(ROWS)
    return pd.DataFrame({"key": numbers, "value": np.sin(numbers), "name": [f"n{number % 7}" for number in numbers]})


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory, frame: pd.DataFrame) -> Iterator[vfs.Version]:
    """A version with the table as CSV, as Parquet in one file and in parts, and as an array of zarr."""
    import zarr

    top = tmp_path_factory.mktemp("libraries")
    (top / "data" / "parts").mkdir(parents=True)
    frame.to_csv(top / "data" / "table.csv", index=False)
    frame.to_parquet(top / "data" / "table.parquet", index=False)
    for number in range(4):
        part = frame[number * ROWS // 4 : (number + 1) * ROWS // 4]
        part.to_parquet(top / "data" / "parts" / f"part-{number}.parquet", index=False)
    array = zarr.create_array(str(top / "data" / "array.zarr"), shape=(100, 100), chunks=(10, 10), dtype="f8")
    array[:] = np.arange(10_000).reshape(100, 100)
    with vfs.init(top / "repo") as repository, repository.working() as layer:
        for path in sorted((top / "data").rglob("*")):
            if path.is_file():
                layer.write(path.relative_to(top / "data"), path.read_bytes())
        yield layer.commit("tables")


def test_pandas(version: vfs.Version, frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(pd.read_parquet(f"{version.url}/table.parquet"), frame)
    pd.testing.assert_frame_equal(pd.read_csv(f"vfs://{version.repository}@v1/table.csv"), frame)
    pd.testing.assert_frame_equal(pd.read_csv(version.open("table.csv")), frame)


def test_pyarrow(version: vfs.Version, frame: pd.DataFrame) -> None:
    import pyarrow.dataset as ds

    assert pq.read_table("table.parquet", filesystem=version.fs).to_pandas().equals(frame)
    parts = ds.dataset("parts", filesystem=version.fs)
    found = parts.to_table(filter=ds.field("key") >= ROWS - 10, columns=["key"])
    assert sorted(found["key"].to_pylist()) == list(range(ROWS - 10, ROWS))
    assert isinstance(found, pa.Table)


def test_duckdb(version: vfs.Version) -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.register_filesystem(fsspec.filesystem("vfs"))
        asked = f"select count(*), sum(key) from read_parquet('{version.url}/parts/*.parquet')"
        assert connection.execute(asked).fetchone() == (ROWS, ROWS * (ROWS - 1) // 2)
        asked = f"select count(*) from read_csv('{version.url}/table.csv')"
        assert connection.execute(asked).fetchone() == (ROWS,)


def test_polars(version: vfs.Version, frame: pd.DataFrame) -> None:
    import polars as pl

    assert pl.read_parquet(version.open("table.parquet"))["value"].to_list() == frame["value"].to_list()
    assert pl.read_csv(version.open("table.csv")).height == ROWS


def test_hugging_face_datasets(version: vfs.Version, tmp_path: Path) -> None:
    import datasets

    for kind, path in (("parquet", "parts/*.parquet"), ("csv", "table.csv")):
        found = datasets.load_dataset(
            kind, data_files={"train": f"{version.url}/{path}"}, split="train", cache_dir=str(tmp_path)
        )
        assert found.num_rows == ROWS
    streamed = datasets.load_dataset(
        "parquet", data_files={"train": f"{version.url}/table.parquet"}, split="train", streaming=True
    )
    assert sum(1 for _ in streamed) == ROWS


def test_dask(version: vfs.Version) -> None:
    import dask
    import dask.dataframe as dd

    found = dd.read_parquet(f"{version.url}/parts/*.parquet")
    assert found.npartitions == 4
    for scheduler in ("threads", "processes"):
        with dask.config.set(scheduler=scheduler):
            assert found["key"].sum().compute() == ROWS * (ROWS - 1) // 2
            assert len(dd.read_csv(f"{version.url}/table.csv")) == ROWS


def test_dask_takes_open_files_to_its_workers(version: vfs.Version) -> None:
    import dask

    for file in (version.open("table.csv"), version.fs.open("table.csv", cache_type="readahead", block_size=1000)):
        first = dask.delayed(lambda opened: opened.readline())(file)
        assert dask.compute(first, scheduler="processes", num_workers=1) == (b"key,value,name\n",)


def test_zarr(version: vfs.Version) -> None:
    import zarr

    array = zarr.open_array(f"{version.url}/array.zarr", mode="r")
    assert array[3, 4] == 304
    assert float(np.asarray(array[:]).sum()) == float(np.arange(10_000).sum())


def test_ray(version: vfs.Version) -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        found = ray.data.read_parquet("parts", filesystem=version.fs)
        assert found.sum("key") == ROWS * (ROWS - 1) // 2
    finally:
        ray.shutdown()


def length(_path: str, data: bytes) -> int:
    """Is a transform that spawned workers can load."""
    return len(data)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pytorch_loads_with_workers(version: vfs.Version, method: str) -> None:
    from torch.utils.data import DataLoader

    files = version.dataset("parts/*.parquet", length)
    expected = sorted(entry.size for entry in version.ls("parts"))
    for _ in range(2):
        loader = DataLoader(files, batch_size=2, shuffle=True, num_workers=2, multiprocessing_context=method)
        assert sorted(int(each) for batch in loader for each in batch) == expected
        assert [files[number] for number in range(4)] == [entry.size for entry in version.ls("parts")]

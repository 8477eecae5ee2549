"""Reads CSV and Parquet with pandas and pyarrow, whose threads open files, and by memory maps."""

import os
import sys

import pandas
import pyarrow
import pyarrow.dataset
import pyarrow.parquet

data = sys.argv[1]
tables = os.path.join(data, "tables")
frames = [pandas.read_csv(os.path.join(tables, name), header=None) for name in sorted(os.listdir(tables))[:5]]
parts = os.path.join(data, "parquet")
whole = pyarrow.dataset.dataset(parts, format="parquet").to_table()
first = pyarrow.parquet.read_table(os.path.join(parts, "part-0.parquet"), memory_map=True)
with pyarrow.memory_map(os.path.join(data, "files", "f001")) as mapped:
    mapped.read()
print(
    sum(map(len, frames)),
    whole.num_rows,
    first.num_rows,
    pandas.read_parquet(os.path.join(parts, "part-1.parquet")).shape,
)

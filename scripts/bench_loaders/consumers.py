"""Programs that read data sets as their users do. Run by benchmarks/loading.py, in an environment of their own.

    python consumers.py epochs WORKERS EPOCHS ROOT...    images a second, for each root and epoch in turn
    python consumers.py make DIRECTORY BYTES             writes table.csv, table.parquet, array.npy, model.safetensors
    python consumers.py NAME ROOT                        MB/s of one of READERS over one of those files

Each prints one number a line. It imports nothing of the project, whose Python it does not run in.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

IMAGE_FOLDERS = "images"
BATCH = 64
PATCH_BYTES = 4096
NPY_HEADER_BYTES = 128


def epochs(workers: int, count: int, roots: list[Path]) -> None:
    """Trains a small network for some epochs over each folder-per-class tree, shuffled anew in each epoch."""
    import torch
    from torch.utils.data import DataLoader, Dataset

    class Images(Dataset):
        """Whole files as tensors: what an image folder is without the decoder, which is the same for every subject."""

        def __init__(self, root: Path) -> None:
            folders = sorted((root / IMAGE_FOLDERS).iterdir())
            self.samples = [
                (str(path), label) for label, folder in enumerate(folders) for path in sorted(folder.iterdir())
            ]
            self.classes = len(folders)

        def __len__(self) -> int:
            return len(self.samples)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            path, label = self.samples[index]
            data = Path(path).read_bytes()
            pixels = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return pixels[:PATCH_BYTES].float() / 255, label

    torch.manual_seed(0)
    torch.set_num_threads(1)
    for root in roots:
        images = Images(root)
        network = torch.nn.Linear(PATCH_BYTES, images.classes)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        loader = DataLoader(images, batch_size=BATCH, shuffle=True, num_workers=workers)
        for _ in range(count):
            started = time.perf_counter()
            for pixels, labels in loader:
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(pixels), labels).backward()
                optimizer.step()
            print(len(images) / (time.perf_counter() - started))


def make(directory: Path, size: int) -> None:
    """Writes one table and one array in the forms that people keep them in, each of about `size` bytes."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet
    from safetensors.numpy import save_file

    directory.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    rows = max(1000, size // 40)
    table = pa.table(
        {
            "id": np.arange(rows),
            "label": random.choice(["cat", "dog", "bird"], rows),
            "value": random.normal(20, 5, rows).round(4),
            "score": random.random(rows).round(6),
        }
    )
    pyarrow.csv.write_csv(table, directory / "table.csv")
    pyarrow.parquet.write_table(table, directory / "table.parquet")
    array = random.random((max(1, size // 8192), 1024))
    np.save(directory / "array.npy", array)
    save_file(
        {"weight": array.astype(np.float32), "bias": array[0].astype(np.float32)}, directory / "model.safetensors"
    )


def pandas_csv(root: Path) -> Path:
    """Reads the CSV file with pandas."""
    import pandas as pd

    pd.read_csv(root / "table.csv").value.sum()
    return root / "table.csv"


def pandas_parquet(root: Path) -> Path:
    """Reads the Parquet file with pandas."""
    import pandas as pd

    pd.read_parquet(root / "table.parquet").value.sum()
    return root / "table.parquet"


def pyarrow_column(root: Path) -> Path:
    """Reads one column of the Parquet file with pyarrow."""
    import pyarrow.parquet

    pyarrow.parquet.read_table(root / "table.parquet", columns=["score"])
    return root / "table.parquet"


def duckdb_csv(root: Path) -> Path:
    """Sums up the CSV file by group with DuckDB."""
    import duckdb

    duckdb.sql(f"select label, avg(value) from '{root / 'table.csv'}' group by label").fetchall()
    return root / "table.csv"


def duckdb_parquet(root: Path) -> Path:
    """Sums up the Parquet file by group with DuckDB."""
    import duckdb

    duckdb.sql(f"select label, avg(value) from '{root / 'table.parquet'}' group by label").fetchall()
    return root / "table.parquet"


def numpy_mmap(root: Path) -> Path:
    """Maps the array and sums all of it, with any bytes: the header is skipped."""
    import numpy as np

    np.memmap(root / "array.npy", dtype=np.float64, mode="r", offset=NPY_HEADER_BYTES).sum()
    return root / "array.npy"


def safetensors_mmap(root: Path) -> Path:
    """Loads the tensors, which maps the file."""
    from safetensors.numpy import load_file

    load_file(root / "model.safetensors")["weight"].sum()
    return root / "model.safetensors"


READERS: dict[str, Callable[[Path], Path]] = {
    reader.__name__: reader
    for reader in (
        pandas_csv,
        pandas_parquet,
        pyarrow_column,
        duckdb_csv,
        duckdb_parquet,
        numpy_mmap,
        safetensors_mmap,
    )
}


def _import_of(name: str) -> None:
    """Imports what a reader needs, so that it is not timed."""
    library = name.partition("_")[0]
    __import__(library)
    if library in ("pandas", "pyarrow"):
        __import__("pyarrow.parquet")


def main(words: list[str]) -> None:
    """Runs the command line."""
    match words:
        case ["epochs", workers, count, *roots]:
            epochs(int(workers), int(count), [Path(root) for root in roots])
        case ["make", directory, size]:
            make(Path(directory), int(size))
        case [name, root]:
            _import_of(name)
            started = time.perf_counter()
            path = READERS[name](Path(root))
            print(path.stat().st_size / (time.perf_counter() - started) / 1e6)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])

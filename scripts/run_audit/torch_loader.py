"""Reads files in a DataLoader of PyTorch with so many workers, started in one of three ways."""

import os
import sys

import torch
from torch.utils.data import DataLoader, Dataset

data, workers, method = sys.argv[1], int(sys.argv[2]), sys.argv[3]


class Files(Dataset):
    def __init__(self, directory):
        self.paths = [os.path.join(directory, name) for name in sorted(os.listdir(directory))]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, place):
        with open(self.paths[place], "rb") as file:
            return torch.tensor(list(file.read(8)), dtype=torch.float32)


if __name__ == "__main__":
    context = torch.multiprocessing.get_context(method) if workers else None
    loader = DataLoader(
        Files(os.path.join(data, "files")),
        batch_size=8,
        shuffle=True,
        num_workers=workers,
        multiprocessing_context=context,
    )
    print(sum(float(batch.sum()) for batch in loader))

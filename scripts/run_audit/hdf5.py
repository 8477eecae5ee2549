"""Reads HDF5: a file, a file that links to another, and a virtual dataset over two."""

import os
import sys

import h5py

data = os.path.join(sys.argv[1], "hdf5")
with h5py.File(os.path.join(data, "a.h5"), "r") as file:
    total = file["x"][:].sum()
with h5py.File(os.path.join(data, "links.h5"), "r") as file:
    total += file["linked"][:].sum() + file["virtual"][:].sum()
print(total)

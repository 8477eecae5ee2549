"""Makes the data that the audited programs read."""

import os
import random
import sys

import h5py
import numpy
import pandas

data = sys.argv[1]
random.seed(1)
for name in ("files", "tables", "parquet", "hdf5"):
    os.mkdir(os.path.join(data, name))
for number in range(120):
    with open(os.path.join(data, "files", f"f{number:03}"), "wb") as file:
        file.write(random.randbytes(random.choice((10, 5000, 200_000))))
numbers = numpy.random.default_rng(1)
for number in range(20):
    numpy.savetxt(os.path.join(data, "tables", f"t{number:02}.csv"), numbers.random((50, 4)), delimiter=",")
for number in range(6):
    frame = pandas.DataFrame(numbers.random((2000, 3)), columns=list("abc"))
    frame.to_parquet(os.path.join(data, "parquet", f"part-{number}.parquet"))
hdf5 = os.path.join(data, "hdf5")
for name in ("a", "b", "c"):
    with h5py.File(os.path.join(hdf5, f"{name}.h5"), "w") as file:
        file["x"] = numbers.random(1000)
with h5py.File(os.path.join(hdf5, "links.h5"), "w") as file:
    file["linked"] = h5py.ExternalLink("b.h5", "/x")
    layout = h5py.VirtualLayout(shape=(2, 1000), dtype="f8")
    for place, name in enumerate(("a", "c")):
        layout[place] = h5py.VirtualSource(os.path.join(hdf5, f"{name}.h5"), "x", shape=(1000,))
    file.create_virtual_dataset("virtual", layout)

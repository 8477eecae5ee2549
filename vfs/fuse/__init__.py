"""WHAT THE KERNEL SEES: the only package that imports `pyfuse3` and `trio`; imports `repo` and what is below it."""

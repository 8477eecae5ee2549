"""What the kernel sees: the only package that imports `pyfuse3` and `trio`; imports `control` and the layers below."""

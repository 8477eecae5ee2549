"""Builders, fakes, the reference model: the only code that tests share."""

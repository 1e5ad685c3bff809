"""Suites of measurements: one module each, with `run(stand) -> list[Figure]`."""

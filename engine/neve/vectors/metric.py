"""The distance metrics of the API."""

from enum import StrEnum


class Metric(StrEnum):
    """How far two vectors are: cosine distance 1 - cos in [0, 2], or the squared euclidean distance."""

    COSINE = "cosine"
    EUCLIDEAN = "euclidean"

"""Codes of 4 bits a dimension: what a search scans before it reads exact vectors.

A point x is coded by its offset from a center, turned by a fixed rotation R:

    R(x - center) ~ factor · levels,   level = nibble - 8, in -8 … 7
    -|q - x|² / 2 ~ factor · ⟨R(q - center), levels⟩ - |x - center|² / 2 - |q - center|² / 2

Two rules keep the error small. The factor is |y|² / ⟨y, levels⟩ for y = R(x - center), so that the code's error e
stands at right angles to y: a score errs by ⟨R(q - x), e⟩ only, less the nearer they are (RaBitQ, arXiv 2405.12497,
§3.2). And center and rotation make data sets look alike: a few large dimensions, or a mean longer than the
differences, would otherwise take most of the levels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import cast

import numkong
import numpy as np

from neve.dataclass import dataclass

_ZERO = 8
_STEPS = np.geomspace(0.6, 1.0, 5, dtype=np.float32)
"""Steps tried, as shares of the one that clips nothing: within 2 % of the squared error of sixty-four steps."""
_CHUNK_BYTES = 1 << 18
"""Floats encoded at a time: the passes over them stay in the second-level cache."""
_FLOAT_MAX = float(np.finfo(np.float32).max)


def encode(points: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of points float32 [n, d], finite: packed uint8 [n, (d + 1) // 2], factors and biases float32 [n].

    Points are unit vectors for cosine. `center` float32 [d]: their mean, or one like it.
    Byte j of a row holds dimension j in its low and dimension (d + 1) // 2 + j in its high nibble, or 0.
    The bias is |x - center|² / 2. Factors and biases beyond float32 become its largest number.
    """
    count, dimension = points.shape
    packed = np.empty((count, (dimension + 1) // 2), np.uint8)
    factors = np.empty(count, np.float32)
    biases = np.empty(count, np.float32)
    rotation = Rotation.of(dimension)
    rows = max(1, _CHUNK_BYTES // (4 * dimension))
    for start in range(0, count, rows):
        chunk = slice(start, start + rows)
        shapes, lengths = _shapes(points[chunk], center)
        squares = np.einsum("ij,ij->i", shapes, shapes, dtype=np.float64)
        levels, shares = _quantise(rotation.turn(shapes))
        packed[chunk] = _pack(levels)
        factors[chunk] = np.clip(lengths * shares, -_FLOAT_MAX, _FLOAT_MAX)
        biases[chunk] = np.minimum(lengths**2 * squares / 2.0, _FLOAT_MAX)
    return packed, factors, biases


def _shapes(points: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from the center: shapes float32 [n, d] within -1 … 1, to be multiplied by lengths float64 [n].

    Apart, they keep subnormal and huge points within the range of float32 sums.
    """
    offsets = points.astype(np.float64)
    offsets -= center
    lengths = np.maximum(offsets.max(axis=1), -offsets.min(axis=1))
    offsets /= np.where(lengths, lengths, 1.0)[:, None]
    return offsets.astype(np.float32), lengths


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A fixed orthogonal map that spreads every component over all: signs and Hadamard matrices, O(d log d).

    With 2^k the largest power of two in d: all dimensions are multiplied by signs, then the first 2^k by the Hadamard
    matrix of that order; where 2^k < d, all again by other signs, and the last 2^k by the matrix.
    """

    signs: np.ndarray
    """float32 [1 or 2, d]: -1 for each 1 among the bits, highest first, of SHAKE-128 of b"neve"."""
    left: np.ndarray
    right: np.ndarray
    """Orthogonal Hadamard matrices (Sylvester's); the one of order 2^k is their Kronecker product."""

    @staticmethod
    @lru_cache(maxsize=64)
    def of(dimension: int) -> Rotation:
        """The rotation of a dimension."""
        exponent = dimension.bit_length() - 1
        windows = 1 if dimension == 1 << exponent else 2
        noise = hashlib.shake_128(b"neve").digest((windows * dimension + 7) // 8)
        bits = np.unpackbits(np.frombuffer(noise, np.uint8))[: windows * dimension]
        signs = 1 - 2 * bits.reshape(windows, dimension).astype(np.float32)
        return Rotation(signs, _hadamard(exponent // 2), _hadamard(exponent - exponent // 2))

    def turn(self, vectors: np.ndarray) -> np.ndarray:
        """Turn vectors float32 [n, d]; within -1 … 1, their sums stay within float32."""
        count, dimension = vectors.shape
        order = (len(self.left), len(self.right))
        size = order[0] * order[1]
        for start, signs in zip((0, dimension - size), self.signs, strict=False):
            vectors = vectors * signs
            window = vectors[:, start : start + size]
            squares = window.reshape(count, *order)
            window[...] = (self.left @ (squares @ self.right)).reshape(count, size)
        return vectors


def _hadamard(exponent: int) -> np.ndarray:
    matrix = np.ones((1, 1), np.float32)
    for _ in range(exponent):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    matrix /= np.sqrt(np.float32(len(matrix)))
    return matrix


def _quantise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Levels float32 [n, d] in -8 … 7 of the best angle among the steps tried, and factors float64 [n]."""
    largest = vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)]
    # the largest component goes to -8, the longer side
    shapes = vectors / np.where(largest, -largest, np.float32(1))[:, None]
    levels = np.empty_like(shapes)
    best, steps = np.zeros(len(shapes), np.float32), np.ones(len(shapes), np.float32)
    for step in _STEPS:
        along, square = _project(shapes, step, levels)
        cosines = along / np.sqrt(np.maximum(square, 1))
        steps[cosines > best] = step
        best = np.maximum(best, cosines)
    along, _ = _project(shapes, steps[:, None], levels)
    squares = np.einsum("ij,ij->i", shapes, shapes)
    return levels, -largest.astype(np.float64) * squares / np.where(along, along, 1)


def _project(shapes: np.ndarray, step: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill `levels` with the shapes' levels at a step; give ⟨shape, levels⟩ and |levels|² [n]."""
    np.multiply(shapes, np.float32(_ZERO) / step, out=levels)
    np.rint(levels, out=levels)
    np.clip(levels, -_ZERO, _ZERO - 1, out=levels)
    return np.einsum("ij,ij->i", shapes, levels), np.einsum("ij,ij->i", levels, levels)


def _pack(levels: np.ndarray) -> np.ndarray:
    nibbles = (levels + _ZERO).astype(np.uint8)
    half = (nibbles.shape[1] + 1) // 2
    packed = nibbles[:, :half].copy()
    packed[:, : nibbles.shape[1] - half] |= nibbles[:, half:] << 4
    return packed


def levels_of(nibbles: np.ndarray, dimension: int) -> np.ndarray:
    """Levels int8 [n, dimension] of codes as they lie in memory (see PackedCodes): what `CodedQuery` scans."""
    half = nibbles.shape[1]
    levels = np.empty((len(nibbles), dimension), np.int8)
    np.right_shift((nibbles << 4).view(np.int8), 4, out=levels[:, :half])
    np.right_shift(nibbles[:, : dimension - half].view(np.int8), 4, out=levels[:, half:])
    return levels


def unpack(packed: np.ndarray, dimension: int) -> np.ndarray:
    """Levels int8 [n, dimension] of packed codes uint8 [n, (dimension + 1) // 2]: what `CodedQuery` scans."""
    return levels_of(np.bitwise_xor(packed, np.uint8(_ZERO << 4 | _ZERO)), dimension)


@dataclass(frozen=True, slots=True, eq=False)
class PackedCodes:
    """Codes as they are kept in memory: `nibbles` uint8 [n, (d + 1) // 2] in two's complement, for the kernel to read.

    Half the bytes of their levels: a scan of many lists is bound by memory (7 GB/s on one core, lists of 50 KB).
    """

    nibbles: np.ndarray
    tensor: numkong.Tensor

    @classmethod
    def of(cls, packed: np.ndarray) -> PackedCodes:
        """Take over packed codes uint8 [n, (d + 1) // 2], n >= 1, by a copy."""
        codes = cls.room(*packed.shape)
        codes.put(0, packed)
        return codes

    @classmethod
    def room(cls, count: int, width: int) -> PackedCodes:
        """Room for codes of so many bytes, to be put in."""
        nibbles = np.empty((count, width), np.uint8)
        return cls(nibbles, numkong.from_pointer(nibbles.ctypes.data, nibbles.shape, "int4", owner=nibbles))

    @property
    def width_bytes(self) -> int:
        return int(self.nibbles.shape[1])

    def rows(self, start: int, stop: int) -> numkong.Tensor:
        """Rows [start, stop) for the kernel; no copy."""
        return cast(numkong.Tensor, self.tensor[start:stop])

    def put(self, start: int, packed: np.ndarray) -> None:
        """Take over packed codes uint8 [m, (d + 1) // 2] from row `start` on."""
        np.bitwise_xor(packed, np.uint8(_ZERO << 4 | _ZERO), out=self.nibbles[start : start + len(packed)])


@dataclass(frozen=True, slots=True, eq=False)
class CodedQuery:
    """A query in 8 bits a dimension, whose rounding is less than a tenth of the codes' own; and in 4 bits to skim."""

    levels: np.ndarray
    """int8 [1, d]; the turned query is levels · scale."""
    scale: np.float32
    coarse: PackedCodes
    """One row; the turned query is about its levels · coarse_scale."""
    coarse_scale: np.float32
    offset: np.float32
    """|q - center|² / 2."""

    @classmethod
    def of(cls, query: np.ndarray, center: np.ndarray) -> CodedQuery:
        """Quantise a query float32 [d], finite, for codes of this center; for cosine a unit vector."""
        shapes, lengths = _shapes(query[None, :], center)
        turned = Rotation.of(len(query)).turn(shapes)
        largest, length = float(np.abs(turned).max()) or 1.0, float(lengths[0])
        scale, coarse_scale = largest / 127, largest / (_ZERO - 1)
        offset = length**2 * float(np.sum(shapes**2)) / 2.0
        coarse = np.full((1, 2 * ((len(query) + 1) // 2)), 0, np.float32)
        coarse[:, : len(query)] = np.rint(turned / np.float32(coarse_scale))
        return cls(
            np.rint(turned / np.float32(scale)).astype(np.int8),
            np.float32(min(length * scale, _FLOAT_MAX)),
            PackedCodes.of(_pack(coarse)),
            np.float32(min(length * coarse_scale, _FLOAT_MAX)),
            np.float32(min(offset, _FLOAT_MAX)),
        )

    def skim(
        self, runs: Sequence[numkong.Tensor], starts: Sequence[int], factors: np.ndarray, biases: np.ndarray
    ) -> np.ndarray:
        """Scores as of `scan`, of runs of packed codes and by the coarser query: to choose which to scan.

        The rows of run i are [starts[i], starts[i + 1]).
        """
        scores = np.empty((1, len(factors)), np.float32)
        query, cdist = self.coarse.tensor, numkong.cdist
        for run, (start, stop) in zip(runs, pairwise(starts), strict=True):
            cdist(query, run, "dot", out=scores[:, start:stop], out_dtype="float32")
        return self._scored(scores, self.coarse_scale, factors, biases)

    def scan(self, lists: Sequence[np.ndarray], factors: np.ndarray, biases: np.ndarray) -> np.ndarray:
        """Scores float32 [n] of the rows of some lists of levels int8 [., d], n rows together: larger is nearer.

        A score approximates -|q - x|² / 2, for unit vectors cos - 1: scores of codes with different centers compare.
        Factors and biases are float32 [n]. Scores are finite: beyond float32 they become its last number.
        """
        scores = np.empty((1, len(factors)), np.float32)
        start = 0
        for levels in lists:
            stop = start + len(levels)
            if stop > start:  # the kernel refuses arrays of no rows
                # sums of integers below 2^23, hence exact in float32: at most 127 · 8 for each of 4,096 dimensions
                numkong.cdist(self.levels, levels, "dot", out=scores[:, start:stop], out_dtype="float32")
            start = stop
        return self._scored(scores, self.scale, factors, biases)

    def _scored(self, scores: np.ndarray, scale: np.float32, factors: np.ndarray, biases: np.ndarray) -> np.ndarray:
        """Scores float32 [n] from the products float32 [1, n] of levels, in place."""
        # in this order inf appears only where the product is beyond float32, and never meets a factor 0
        first, second = (scale, factors) if scale < 1 else (factors, scale)
        with np.errstate(over="ignore"):
            scores *= first
            scores *= second
            scores -= biases
            scores -= self.offset
        np.clip(scores, -_FLOAT_MAX, _FLOAT_MAX, out=scores)
        scored: np.ndarray = scores[0]
        return scored


def best(scores: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """Places of the best `count` distinct rows, best first; fewer where there are fewer. Places of -inf are left out.

    `scores` float32 [n]; `rows` integers [n], each at most twice (it stands in two lists): the better place counts, of
    equal ones the first. So what is best of some places is so of the best of their parts, taken in order.
    `count` is at least 1.
    """
    places = _above(scores, 2 * count)
    places = places[np.argsort(-scores[places], kind="stable")]  # of equal scores the first place comes first
    _, firsts = np.unique(rows[places], return_index=True)
    firsts.sort()
    chosen: np.ndarray = places[firsts[:count]]
    return chosen


def _above(scores: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest scores, of equal ones the first, rising; -inf left out."""
    groups = max(4 * count, 512)
    depth = len(scores) // groups
    floor = -np.inf
    if depth > 1:
        # as many groups have a member at or above this floor as rows are wanted: few pass that are not among them
        maxima = scores[: depth * groups].reshape(depth, groups).max(axis=0)
        floor = np.partition(maxima, groups - count)[groups - count]
    places = np.flatnonzero(scores >= floor) if floor > -np.inf else np.flatnonzero(scores > floor)
    if len(places) > count:
        some = scores[places]
        least = np.partition(some, len(some) - count)[len(some) - count]
        chosen = some > least
        chosen[np.flatnonzero(some == least)[: count - int(np.count_nonzero(chosen))]] = True
        places = places[chosen]
    return places

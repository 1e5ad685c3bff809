"""How LanceDB is measured.

IVF_RQ: of 1, 4 and 8 bits a dimension with lists of 500, 1,250 and 4,000 rows (its default) these are the fastest at a
recall of 0.98, or equal to the fastest, on both sets, and read the least when cold. IVF_PQ: the same lists, and a byte
for 8 dimensions, twice as fine as its default. Lists probed and the refine factor are tuned in each run.
"""

ROWS_PER_LIST = 1_250
BITS = 4
DIMENSIONS_PER_CODE = 8

"""Label-noise theory: exact, dimension-free experiments on how label noise shapes feature learning.

Letters for tensor dimensions, used in every shape comment of the package:

    R  runs trained side by side      n  training samples       N  test samples
    m  filters per output sign        P  filters, P = 2m        d  data dimension (patch length)
    D  coordinates that are stored    S  signal patches         K  distinct training patches, K = S + n
    U  distinct random draws among R  T  recorded steps         M  metrics
"""

__version__ = "0.1.0"

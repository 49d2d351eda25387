"""Makes cells ready on a Dask cluster: its workers train, compress and compile into the shared cache, this host measures.

Workers and host share one cache, a folder or a URL, in which each file is made once (`bench.cache`). So a task's answer is
only that the files are there: the host makes the cell ready as without a cluster, and finds everything made.
"""

from bench.line.cluster.fill import Called, check_found
from bench.line.cluster.tasks import Cluster
from bench.line.cluster.workers import open_cluster

__all__ = ["Called", "Cluster", "check_found", "open_cluster"]

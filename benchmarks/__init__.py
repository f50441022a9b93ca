"""Cost and speed of the node agent, each figure beside a Go peer that is measured in the same run.

One module per benchmark; `harness/` is shared, `peers/` is the Go side. `make bench` runs them against a real
kube-apiserver and etcd with fsync and writes docs/reference/benchmarks.md. Nothing here is imported by the product.
"""

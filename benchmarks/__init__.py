"""What the node agent costs and how fast it is, each figure beside a Go peer measured in the same run.

One module a benchmark, `harness/` for what they share, `peers/` the Go side. `make bench` runs them against a real
kube-apiserver and etcd with fsync and writes docs/reference/benchmarks.md. Nothing here is imported by the product.
"""

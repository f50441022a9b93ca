"""Shipped fakes of the world around the product: API server, kubelet, scheduler, GPUs, scenarios.

May live here: what `gpuvitals demo` and the tests run instead of a cluster and hardware, held to the truth by
the contract suite. May not: anything the node agent or the controller imports.
"""

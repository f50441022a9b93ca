"""The simulated cluster and hardware on which `gpuvitals demo` and the tests run the product.

May live here: simulated parts (API server, controllers, scheduler, kubelet, GPUs), compared with the real ones by the
contract suite, and the scenarios played on them. May not: anything that the node agent or the controller imports.
"""

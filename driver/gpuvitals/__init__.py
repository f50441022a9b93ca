"""gpuvitals: a Kubernetes DRA driver for NVIDIA GPUs in which health is a property of the device.

The packages are layers, drawn in ARCHITECTURE.md; `tests/unit/test_import_contracts.py` keeps the arrows.
"""

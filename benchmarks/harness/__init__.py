"""The parts that all benchmarks share: control plane, both drivers, kubelet, watcher, figures."""

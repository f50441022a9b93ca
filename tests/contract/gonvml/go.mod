// A reader of NVML that was not written for the mock library: NVIDIA go-nvml (Apache-2.0), as driver and toolkit use it.
module vitals.internal/tests/gonvml

go 1.26.0

require github.com/NVIDIA/go-nvml v0.13.3-0

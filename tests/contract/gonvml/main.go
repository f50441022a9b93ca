// Prints as JSON what NVIDIA's go-nvml gets of the library that the loader finds: a foreign reader of tools/nvml_mock.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

type gpu struct {
	UUID, Name, BusID     string
	Domain, Bus, Device   uint32
	Total, Free, Used     uint64
	MigMode               int
	Instances             []string
	BySlot, ByUUID        bool
	Remapped, GpuInstance string
	Links                 []uint32
}

func main() {
	out := map[string]any{}
	out["init"] = word(nvml.Init())
	version, ret := nvml.SystemGetDriverVersion()
	out["driver"] = fmt.Sprintf("%s (%s)", version, word(ret))
	count, ret := nvml.DeviceGetCount()
	out["count"] = fmt.Sprintf("%d (%s)", count, word(ret))
	var gpus []gpu
	for index := range count {
		device, ret := nvml.DeviceGetHandleByIndex(index)
		if ret != nvml.SUCCESS {
			gpus = append(gpus, gpu{Name: word(ret)})
			continue
		}
		gpus = append(gpus, read(device))
	}
	out["gpus"] = gpus
	out["slots"] = map[string]string{}
	for _, slot := range os.Args[1:] {
		_, ret := nvml.DeviceGetHandleByPciBusId(slot)
		out["slots"].(map[string]string)[slot] = word(ret)
	}
	out["shutdown"] = word(nvml.Shutdown())
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		panic(err)
	}
}

func read(device nvml.Device) gpu {
	var found gpu
	found.UUID, _ = device.GetUUID()
	found.Name, _ = device.GetName()
	if pci, ret := device.GetPciInfo(); ret == nvml.SUCCESS {
		for _, char := range pci.BusId {
			if char == 0 {
				break
			}
			found.BusID += string(rune(char))
		}
		found.Domain, found.Bus, found.Device = pci.Domain, pci.Bus, pci.Device
	}
	if memory, ret := device.GetMemoryInfo(); ret == nvml.SUCCESS {
		found.Total, found.Free, found.Used = memory.Total, memory.Free, memory.Used
	}
	mode, _, ret := device.GetMigMode()
	found.MigMode = mode
	if ret != nvml.SUCCESS {
		found.MigMode = -1
	}
	instances, _ := device.GetMaxMigDeviceCount()
	for index := range instances {
		if instance, ret := device.GetMigDeviceHandleByIndex(index); ret == nvml.SUCCESS {
			uuid, _ := instance.GetUUID()
			found.Instances = append(found.Instances, uuid)
		}
	}
	bySlot, ret := nvml.DeviceGetHandleByPciBusId(found.BusID)
	found.BySlot = ret == nvml.SUCCESS && bySlot == device
	byUUID, ret := nvml.DeviceGetHandleByUUID(found.UUID)
	found.ByUUID = ret == nvml.SUCCESS && byUUID == device
	_, _, _, _, ret = device.GetRemappedRows()
	found.Remapped = word(ret)
	_, ret = device.GetGpuInstanceId()
	found.GpuInstance = word(ret)
	for link := range 18 {
		values := []nvml.FieldValue{{FieldId: nvml.FI_DEV_NVLINK_GET_STATE, ScopeId: uint32(link)}}
		if device.GetFieldValues(values) == nvml.SUCCESS && values[0].NvmlReturn == uint32(nvml.SUCCESS) {
			found.Links = append(found.Links, values[0].ValueType)
		}
	}
	return found
}

func word(ret nvml.Return) string { return nvml.ErrorString(ret) }

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	resource "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

const libraries = 12

// prepared is one claim's entry in the checkpoint.
type prepared struct {
	Devices []kubeletplugin.Device `json:"devices"`
}

// preparations keeps prepared claims as the reference drivers do: a CDI file a claim, then the checkpoint with all of
// them, each durable before the answer. A claim that is prepared already costs no write.
type preparations struct {
	driver, folder, checkpoint string

	mutex  sync.Mutex
	claims map[types.UID]prepared
}

func (p *preparations) prepare(claim *resource.ResourceClaim) ([]kubeletplugin.Device, error) {
	p.mutex.Lock()
	known, found := p.claims[claim.UID]
	p.mutex.Unlock()
	if found {
		return known.Devices, nil
	}
	var devices []kubeletplugin.Device
	for _, result := range claim.Status.Allocation.Devices.Results {
		if result.Driver == p.driver {
			devices = append(devices, kubeletplugin.Device{
				Requests:     []string{result.Request},
				PoolName:     result.Pool,
				DeviceName:   result.Device,
				CDIDeviceIDs: []string{fmt.Sprintf("%s/gpu=%s-%s", p.driver, claim.UID, result.Device)},
			})
		}
	}
	content, err := json.Marshal(specification(p.driver, claim.UID, devices))
	if err != nil {
		return nil, err
	}
	if err := durable(p.file(claim.UID), content); err != nil {
		return nil, err
	}
	return devices, p.record(func() { p.claims[claim.UID] = prepared{Devices: devices} })
}

func (p *preparations) release(claim types.UID) error {
	if err := p.record(func() { delete(p.claims, claim) }); err != nil {
		return err
	}
	if err := os.Remove(p.file(claim)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (p *preparations) record(change func()) error {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	change()
	content, err := json.Marshal(p.claims)
	if err != nil {
		return err
	}
	return durable(p.checkpoint, content)
}

func (p *preparations) file(claim types.UID) string {
	return filepath.Join(p.folder, fmt.Sprintf("%s-%s.json", p.driver, claim))
}

// specification is as large as one that injects the driver's libraries.
func specification(driver string, claim types.UID, devices []kubeletplugin.Device) map[string]any {
	var entries, mounts []map[string]any
	for _, device := range devices {
		node := map[string]any{"path": "/dev/nvidia0", "hostPath": "/dev/nvidia0"}
		entries = append(entries, map[string]any{
			"name":           fmt.Sprintf("%s-%s", claim, device.DeviceName),
			"containerEdits": map[string]any{"deviceNodes": []any{node}},
		})
	}
	for number := range libraries {
		path := fmt.Sprintf("/usr/lib/x86_64-linux-gnu/libnvidia-part-%d.so.595.45.04", number)
		mounts = append(mounts, map[string]any{
			"hostPath": path, "containerPath": path, "options": []string{"ro", "nosuid", "nodev", "bind"},
		})
	}
	return map[string]any{
		"cdiVersion": "0.8.0", "kind": driver + "/gpu", "devices": entries,
		"containerEdits": map[string]any{"mounts": mounts},
	}
}

// durable replaces the file: its bytes and its name are on disk when this returns.
func durable(path string, content []byte) (err error) {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	directory, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

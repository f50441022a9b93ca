package main

import (
	"context"
	"log"
	"slices"
	"sync"
	"time"

	resource "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
)

const heartbeat = 5 * time.Second

// plugin has the callbacks of the helper.
type plugin struct {
	preparations *preparations
	health       *health
}

var _ kubeletplugin.DRAPlugin = &plugin{}

func (p *plugin) PrepareResourceClaims(
	_ context.Context, claims []*resource.ResourceClaim,
) (map[types.UID]kubeletplugin.PrepareResult, error) {
	results := map[types.UID]kubeletplugin.PrepareResult{}
	for _, claim := range claims {
		devices, err := p.preparations.prepare(claim)
		results[claim.UID] = kubeletplugin.PrepareResult{Devices: devices, Err: err}
	}
	return results, nil
}

func (p *plugin) UnprepareResourceClaims(
	_ context.Context, claims []kubeletplugin.NamespacedObject,
) (map[types.UID]error, error) {
	results := map[types.UID]error{}
	for _, claim := range claims {
		results[claim.UID] = p.preparations.release(claim.UID)
	}
	return results, nil
}

func (p *plugin) HandleError(_ context.Context, err error, message string) {
	log.Printf("%s: %v", message, err)
}

func (p *plugin) WatchHealthStatus(
	ctx context.Context, reports chan<- kubeletplugin.DeviceHealthReport,
) error {
	for {
		report, changed := p.health.report()
		select {
		case <-ctx.Done():
			return nil
		case reports <- report:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(heartbeat):
		}
	}
}

// health is the devices' health by the caller's last order.
type health struct {
	mutex   sync.Mutex
	node    string
	names   []string
	faulty  []string
	changed chan struct{}
}

func newHealth(node string, devices []resource.Device) *health {
	ours := &health{node: node, changed: make(chan struct{})}
	for _, device := range devices {
		ours.names = append(ours.names, device.Name)
	}
	return ours
}

func (h *health) set(faulty []string) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.faulty = faulty
	close(h.changed)
	h.changed = make(chan struct{})
}

// report returns the current health, and a channel that is closed by the next change.
func (h *health) report() (kubeletplugin.DeviceHealthReport, <-chan struct{}) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	var report kubeletplugin.DeviceHealthReport
	for _, name := range h.names {
		state := kubeletplugin.HealthStatusHealthy
		if slices.Contains(h.faulty, name) {
			state = kubeletplugin.HealthStatusUnhealthy
		}
		report.Devices = append(report.Devices, kubeletplugin.DeviceHealth{
			PoolName: h.node, DeviceName: name, Health: state, LastUpdated: time.Now(),
		})
	}
	return report, h.changed
}

package main

import (
	"context"
	"fmt"
	"slices"

	resource "k8s.io/api/resource/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	applymeta "k8s.io/client-go/applyconfigurations/meta/v1"
	apply "k8s.io/client-go/applyconfigurations/resource/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"
	"k8s.io/dynamic-resource-allocation/resourceslice"

	"vitals.internal/benchmarks/peers/internal/lines"
)

// order makes exactly these devices faulty. If Claim is set, its status gets the health of Device, which it holds.
type order struct {
	Faulty []string `json:"faulty"`
	Claim  string   `json:"claim"`
	Device string   `json:"device"`
}

// publisher carries out orders: it writes the slice and the claim's status, and reports to the kubelet.
type publisher struct {
	settings settings
	client   kubernetes.Interface
	helper   *kubeletplugin.Helper
	health   *health
	devices  []resource.Device
}

func (p *publisher) take(ctx context.Context, wanted order) error {
	at := lines.Now()
	if err := p.publish(ctx, wanted.Faulty); err != nil {
		return err
	}
	p.health.set(wanted.Faulty)
	if wanted.Claim != "" {
		if err := p.patchClaim(ctx, wanted); err != nil {
			return err
		}
	}
	lines.Say(map[string]int64{"at": at})
	return nil
}

// publish never puts more devices into a slice than may carry taints.
func (p *publisher) publish(ctx context.Context, faulty []string) error {
	devices := make([]resource.Device, len(p.devices))
	for i, device := range p.devices {
		devices[i] = *device.DeepCopy()
		if slices.Contains(faulty, device.Name) {
			devices[i].Taints = []resource.DeviceTaint{{
				Key: p.settings.driver + "/unhealthy", Value: "Xid95", Effect: resource.DeviceTaintEffectNoSchedule,
			}}
		}
	}
	var parts []resourceslice.Slice
	for part := range slices.Chunk(devices, resource.ResourceSliceMaxDevicesWithAdvancedFeatures) {
		parts = append(parts, resourceslice.Slice{Devices: part})
	}
	return p.helper.PublishResources(ctx, resourceslice.DriverResources{
		Pools: map[string]resourceslice.Pool{p.settings.node: {Slices: parts}},
	})
}

func (p *publisher) patchClaim(ctx context.Context, wanted order) error {
	state, reason := meta.ConditionTrue, "None"
	if slices.Contains(wanted.Faulty, wanted.Device) {
		state, reason = meta.ConditionFalse, "Xid95"
	}
	condition := applymeta.Condition().WithType("Healthy").WithStatus(state).
		WithReason(reason).WithMessage("").WithLastTransitionTime(meta.Now())
	status := apply.AllocatedDeviceStatus().WithDriver(p.settings.driver).WithPool(p.settings.node).
		WithDevice(wanted.Device).WithConditions(condition)
	claim := apply.ResourceClaim(wanted.Claim, meta.NamespaceDefault).
		WithStatus(apply.ResourceClaimStatus().WithDevices(status))
	options := meta.ApplyOptions{FieldManager: p.settings.driver, Force: true}
	_, err := p.client.ResourceV1().ResourceClaims(meta.NamespaceDefault).ApplyStatus(ctx, claim, options)
	if err != nil {
		return fmt.Errorf("status of claim %s: %w", wanted.Claim, err)
	}
	return nil
}

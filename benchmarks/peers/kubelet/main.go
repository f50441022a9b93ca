// Command kubelet makes the calls of a kubelet on a driver's sockets and times them: registration, prepare,
// unprepare, the health stream. It is one program for every driver under measurement.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "k8s.io/kubelet/pkg/apis/dra-health/v1"
	dra "k8s.io/kubelet/pkg/apis/dra/v1"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"vitals.internal/benchmarks/peers/internal/lines"
)

const (
	patience   = 30 * time.Second
	callLimit  = 45 * time.Second
	lookPeriod = time.Millisecond
)

type order struct {
	Op       string         `json:"op"`
	Registry string         `json:"registry"`
	Claims   [][]*dra.Claim `json:"claims"`
	Callers  int            `json:"callers"`
	ApartMS  int            `json:"apart_ms"`
}

// kubelet is registered with at most one driver.
type kubelet struct {
	connection *grpc.ClientConn
	forget     context.CancelFunc
}

func main() {
	var ours kubelet
	if err := lines.Each(ours.take); err != nil {
		log.Fatal(err)
	}
}

func (k *kubelet) take(wanted order) error {
	var answer any
	var err error
	switch wanted.Op {
	case "register":
		answer, err = k.register(wanted.Registry)
	case "forget":
		answer, err = k.forgotten()
	case "prepare":
		answer, err = timed(wanted, k.prepare)
	case "unprepare":
		answer, err = timed(wanted, k.unprepare)
	default:
		err = fmt.Errorf("order %q: unknown", wanted.Op)
	}
	if err != nil {
		answer = map[string]string{"error": err.Error()}
	}
	lines.Say(answer)
	return nil
}

func (k *kubelet) register(registry string) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	connection, info, err := identified(ctx, registry)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	answered := lines.Now()
	status := &registration.RegistrationStatus{PluginRegistered: true}
	client := registration.NewRegistrationClient(connection)
	if _, err := client.NotifyRegistrationStatus(ctx, status); err != nil {
		return nil, err
	}
	k.connection, err = dial(info.Endpoint)
	if err != nil {
		return nil, err
	}
	stream, forget := context.WithCancel(context.Background())
	k.forget = forget
	go follow(stream, k.connection)
	return map[string]any{"answered": answered, "name": info.Name}, nil
}

// identified waits for a registration socket that answers. It polls often, since the time is a figure.
func identified(ctx context.Context, registry string) (*grpc.ClientConn, *registration.PluginInfo, error) {
	for ; ctx.Err() == nil; time.Sleep(lookPeriod) {
		found, err := filepath.Glob(filepath.Join(registry, "*.sock"))
		if err != nil {
			return nil, nil, err
		}
		for _, path := range found {
			connection, err := dial(path)
			if err != nil {
				return nil, nil, err
			}
			info, err := registration.NewRegistrationClient(connection).GetInfo(ctx, &registration.InfoRequest{})
			if err == nil {
				return connection, info, nil
			}
			connection.Close()
		}
	}
	return nil, nil, fmt.Errorf("no driver answered in %s", registry)
}

func dial(path string) (*grpc.ClientConn, error) {
	return grpc.NewClient("unix:"+path, grpc.WithAuthority("localhost"),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func (k *kubelet) forgotten() (any, error) {
	k.forget()
	return map[string]any{}, k.connection.Close()
}

// follow prints each health message: its instant and its unhealthy devices.
func follow(ctx context.Context, connection *grpc.ClientConn) {
	stream, err := health.NewDRAResourceHealthClient(connection).NodeWatchResources(
		ctx, &health.NodeWatchResourcesRequest{}, grpc.WaitForReady(true))
	if err != nil {
		return
	}
	for {
		message, err := stream.Recv()
		if err != nil {
			return
		}
		at, sick := lines.Now(), []string{}
		for _, device := range message.Devices {
			if device.Health == health.HealthStatus_UNHEALTHY {
				sick = append(sick, device.Device.DeviceName)
			}
		}
		lines.Say(map[string]any{"health": sick, "at": at, "devices": len(message.Devices)})
	}
}

func (k *kubelet) prepare(ctx context.Context, claims []*dra.Claim) error {
	answer, err := dra.NewDRAPluginClient(k.connection).NodePrepareResources(
		ctx, &dra.NodePrepareResourcesRequest{Claims: claims})
	if err != nil {
		return err
	}
	for _, claim := range claims {
		entry := answer.Claims[claim.Uid]
		if entry == nil || entry.Error != "" || len(entry.Devices) == 0 {
			return fmt.Errorf("claim %s: %s", claim.Name, text(entry))
		}
	}
	return nil
}

func (k *kubelet) unprepare(ctx context.Context, claims []*dra.Claim) error {
	answer, err := dra.NewDRAPluginClient(k.connection).NodeUnprepareResources(
		ctx, &dra.NodeUnprepareResourcesRequest{Claims: claims})
	if err != nil {
		return err
	}
	for _, claim := range claims {
		entry := answer.Claims[claim.Uid]
		if entry == nil || entry.Error != "" {
			return fmt.Errorf("claim %s: %s", claim.Name, text(entry))
		}
	}
	return nil
}

// timed has each caller make its calls one after the other, and returns the nanoseconds of every call.
func timed(wanted order, call func(context.Context, []*dra.Claim) error) (any, error) {
	callers := max(1, wanted.Callers)
	took, troubles := make([]int64, len(wanted.Claims)), make([]string, len(wanted.Claims))
	var all sync.WaitGroup
	started := lines.Now()
	for caller := range callers {
		all.Go(func() {
			for number := caller; number < len(wanted.Claims); number += callers {
				ctx, cancel := context.WithTimeout(context.Background(), callLimit)
				began := lines.Now()
				err := call(ctx, wanted.Claims[number])
				took[number] = lines.Now() - began
				cancel()
				if err != nil {
					troubles[number] = err.Error()
				}
				time.Sleep(time.Duration(wanted.ApartMS) * time.Millisecond)
			}
		})
	}
	all.Wait()
	if trouble := strings.Trim(strings.Join(troubles, "; "), "; "); trouble != "" {
		return nil, fmt.Errorf("%s", trouble)
	}
	return map[string]any{"took": took, "altogether": lines.Now() - started}, nil
}

func text(entry any) string {
	content, err := json.Marshal(entry)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return string(content)
}

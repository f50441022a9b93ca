// Command driver is the Go peer: a DRA driver on the upstream helper that does the least that is correct. It gets faults
// as orders from its caller, and has no other source of health.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	resource "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/dynamic-resource-allocation/kubeletplugin"

	"vitals.internal/benchmarks/peers/internal/lines"
)

// unthrottled: the client's default of 5 calls a second would measure the client, not the driver.
const unthrottled = -1

type settings struct {
	driver, node, uid, kubeconfig, registry, data, cdi, devices string
}

func main() {
	var given settings
	flag.StringVar(&given.driver, "driver", "", "the driver's name")
	flag.StringVar(&given.node, "node", "", "the node's name, which is the pool's too")
	flag.StringVar(&given.uid, "uid", "", "the pod's UID, in the names of the sockets")
	flag.StringVar(&given.kubeconfig, "kubeconfig", "", "how to reach the API server")
	flag.StringVar(&given.registry, "registry", "", "the kubelet's folder of registration sockets")
	flag.StringVar(&given.data, "data", "", "the driver's folder")
	flag.StringVar(&given.cdi, "cdi", "", "the folder of CDI files")
	flag.StringVar(&given.devices, "devices", "", "a JSON file with the devices to publish")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, given); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, given settings) error {
	config, err := clientcmd.BuildConfigFromFlags("", given.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = unthrottled
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	devices, err := read(given.devices)
	if err != nil {
		return err
	}
	ours := &plugin{
		preparations: &preparations{
			driver:     given.driver,
			folder:     given.cdi,
			checkpoint: filepath.Join(given.data, "checkpoint.json"),
			claims:     map[types.UID]prepared{},
		},
		health: newHealth(given.node, devices),
	}
	helper, err := kubeletplugin.Start(ctx, ours,
		kubeletplugin.DriverName(given.driver),
		kubeletplugin.NodeName(given.node),
		kubeletplugin.KubeClient(client),
		kubeletplugin.RollingUpdate(types.UID(given.uid)),
		kubeletplugin.RegistrarDirectoryPath(given.registry),
		kubeletplugin.PluginDataDirectoryPath(given.data),
		kubeletplugin.Serialize(false),
	)
	if err != nil {
		return err
	}
	defer helper.Stop()
	told := &publisher{settings: given, client: client, helper: helper, health: ours.health, devices: devices}
	if err := told.publish(ctx, nil); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- lines.Each(func(wanted order) error { return told.take(ctx, wanted) }) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

func read(path string) ([]resource.Device, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var devices []resource.Device
	return devices, json.Unmarshal(content, &devices)
}

// Command descriptors prints the file descriptors of the kubelet's plugin protocols as upstream's Go code holds
// them: one JSON object, API path to FileDescriptorProto. A test compares them with the protos of this project.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	health1 "k8s.io/kubelet/pkg/apis/dra-health/v1"
	health1alpha1 "k8s.io/kubelet/pkg/apis/dra-health/v1alpha1"
	dra1 "k8s.io/kubelet/pkg/apis/dra/v1"
	dra1beta1 "k8s.io/kubelet/pkg/apis/dra/v1beta1"
	registration1 "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	// Any message of a file leads to the whole file, whatever the generator called the file's own variable.
	messages := map[string]protoreflect.ProtoMessage{
		"dra/v1":                &dra1.NodePrepareResourcesRequest{},
		"dra/v1beta1":           &dra1beta1.NodePrepareResourcesRequest{},
		"dra-health/v1":         &health1.NodeWatchResourcesRequest{},
		"dra-health/v1alpha1":   &health1alpha1.NodeWatchResourcesRequest{},
		"pluginregistration/v1": &registration1.InfoRequest{},
	}
	files := map[string]json.RawMessage{}
	for path, message := range messages {
		file := protodesc.ToFileDescriptorProto(message.ProtoReflect().Descriptor().ParentFile())
		text, err := protojson.Marshal(file)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		files[path] = text
	}
	return json.NewEncoder(os.Stdout).Encode(files)
}

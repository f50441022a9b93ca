// Command watch is the independent observer: it watches one path of the API server and prints, for each event, the
// instant at which its line was read, and the line. It decodes nothing.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"vitals.internal/benchmarks/peers/internal/lines"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	path := flag.String("path", "", "what to watch, with its query")
	flag.Parse()
	if err := follow(*kubeconfig, *path); err != nil {
		log.Fatal(err)
	}
}

func follow(kubeconfig, path string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	answer, err := client.Get(config.Host + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("watch of %s: %s", path, answer.Status)
	}
	reader, out := bufio.NewReaderSize(answer.Body, 1<<20), bufio.NewWriterSize(os.Stdout, 1<<20)
	fmt.Fprintln(out, "open")
	if err := out.Flush(); err != nil {
		return err
	}
	for {
		line, err := reader.ReadBytes('\n')
		at := lines.Now()
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "%d %s", at, line)
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

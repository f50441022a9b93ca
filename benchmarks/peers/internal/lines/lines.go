// Package lines is the protocol between the harness and a peer: one JSON object a line on standard input, answers on standard
// output, and instants of CLOCK_MONOTONIC, which every process of the machine shares.
package lines

import (
	"bufio"
	"encoding/json"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const maxLine = 16 << 20

var printing sync.Mutex

// Now returns nanoseconds of CLOCK_MONOTONIC.
func Now() int64 {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		panic(err)
	}
	return at.Nano()
}

// Say prints one answer.
func Say(answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	printing.Lock()
	defer printing.Unlock()
	os.Stdout.Write(append(text, '\n'))
}

// Each calls take with every order until standard input ends, when the harness has exited.
func Each[T any](take func(T) error) error {
	scanner := bufio.NewScanner(os.Stdin)
	scanner.Buffer(make([]byte, 1<<16), maxLine)
	for scanner.Scan() {
		var order T
		if err := json.Unmarshal(scanner.Bytes(), &order); err != nil {
			return err
		}
		if err := take(order); err != nil {
			return err
		}
	}
	return scanner.Err()
}

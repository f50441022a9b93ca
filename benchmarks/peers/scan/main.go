// Command scan reads kernel records as the common monitors do: it takes the header apart, then tries a list of regular
// expressions on each text, one for XIDs among a dozen for disks, memory and hung tasks. It prints its findings and its
// CPU time. The file is in memory before the clock starts.
package main

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"

	"golang.org/x/sys/unix"

	"vitals.internal/benchmarks/peers/internal/lines"
)

// The conditions are those that node-problem-detector's kernel monitor looks for (config/kernel-monitor.json), in words of
// our own.
var rules = []*regexp.Regexp{
	regexp.MustCompile(`NVRM: Xid \(.*?\): (\d+)`),
	regexp.MustCompile(`Killed process \d+ \(.+\) total-vm:\d+kB`),
	regexp.MustCompile(`task \S+:\d+ blocked for more than \d+ seconds`),
	regexp.MustCompile(`task docker:\d+ blocked for more than \d+ seconds`),
	regexp.MustCompile(`unregister_netdevice: waiting for \w+`),
	regexp.MustCompile(`BUG: unable to handle .* at .*`),
	regexp.MustCompile(`divide error: \d+ \[#\d+\]`),
	regexp.MustCompile(`EXT4-fs error .*`),
	regexp.MustCompile(`EXT4-fs warning .*`),
	regexp.MustCompile(`Buffer I/O error .*`),
	regexp.MustCompile(`XFS .* [Ss]hutting down filesystem`),
	regexp.MustCompile(`CE memory read error .*`),
	regexp.MustCompile(`Remounting filesystem read-only`),
}

type record struct {
	priority, sequence, microseconds uint64
	text                             []byte
}

type answer struct {
	Lines   int     `json:"lines"`
	Xids    int     `json:"xids"`
	Others  int     `json:"others"`
	Lost    uint64  `json:"lost"`
	Seconds float64 `json:"seconds"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "scan: expected one file")
		os.Exit(2)
	}
	content, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "scan: %v\n", err)
		os.Exit(2)
	}
	before := cpuSeconds()
	found := scan(content)
	found.Seconds = cpuSeconds() - before
	lines.Say(found)
}

func scan(content []byte) answer {
	var found answer
	var previous uint64
	for len(content) > 0 {
		line := content
		if end := bytes.IndexByte(content, '\n'); end >= 0 {
			line, content = content[:end], content[end+1:]
		} else {
			content = nil
		}
		found.Lines++
		read, ok := parse(line)
		if !ok {
			continue
		}
		if previous != 0 && read.sequence > previous+1 {
			found.Lost += read.sequence - previous - 1
		}
		previous = read.sequence
		for number, rule := range rules {
			if !rule.Match(read.text) {
				continue
			}
			if number == 0 {
				found.Xids++
			} else {
				found.Others++
			}
		}
	}
	return found
}

func parse(line []byte) (record, bool) {
	header, text, ok := bytes.Cut(line, []byte(";"))
	if !ok {
		return record{}, false
	}
	fields := bytes.Split(header, []byte(","))
	if len(fields) < 3 {
		return record{}, false
	}
	var numbers [3]uint64
	for at := range numbers {
		number, err := strconv.ParseUint(string(fields[at]), 10, 64)
		if err != nil {
			return record{}, false
		}
		numbers[at] = number
	}
	return record{priority: numbers[0], sequence: numbers[1], microseconds: numbers[2], text: text}, true
}

func cpuSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

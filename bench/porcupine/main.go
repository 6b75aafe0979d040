// Command porcupine checks recorded histories with github.com/anishathalye/porcupine, as a second opinion for
// chaos/checker. It reads the history contract (docs/checker.md), single-key operations only, and prints one JSON line
// for each file: verdict ok, illegal or unknown, seconds from opening the file, and peak memory.
//
//	porcupine [-revisions] [-timeout 60s] FILE...
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

type line struct {
	Meta        *json.RawMessage `json:"meta"`
	Process     int              `json:"process"`
	Op          string           `json:"op"`
	Key         string           `json:"key"`
	Value       *string          `json:"value"`
	Expect      *string          `json:"expect"`
	Invoke      int64            `json:"invoke_ns"`
	Return      *int64           `json:"return_ns"`
	Outcome     string           `json:"outcome"`
	Revision    int64            `json:"revision"`
	ModRevision int64            `json:"mod_revision"`
	Deleted     *int             `json:"deleted"`
	Succeeded   *bool            `json:"succeeded"`
}

// cell is the state of one key. Without -revisions mod and last stay 0. A mod of -1 is not known (an unknown write).
type cell struct {
	present bool
	value   string
	mod     int64
	last    int64
}

func text(value *string) (bool, string) {
	if value == nil {
		return false, ""
	}
	return true, *value
}

func holds(state cell, value *string) bool {
	present, v := text(value)
	return state.present == present && state.value == v
}

// step is the machine for one key. With revisions it is a relaxation of the whole store's: it does not know what other
// keys did, so what is illegal here is illegal there.
func step(state cell, op *line, revisions bool) (bool, cell) {
	if op.Outcome == "unknown" {
		if revisions && op.Revision > 0 {
			fits := op.Revision > state.last && (op.Op == "put" || holds(state, op.Expect))
			return fits, cell{present: true, value: *op.Value, mod: op.Revision, last: op.Revision}
		}
		return true, unknown(state, op)
	}
	next := state
	wrote := false
	switch op.Op {
	case "put":
		next, wrote = cell{present: true, value: *op.Value}, true
	case "delete":
		if op.Deleted != nil && (*op.Deleted > 0) != state.present {
			return false, state
		}
		if wrote = state.present; wrote {
			next = cell{}
		}
	case "cas":
		if holds(state, op.Expect) != *op.Succeeded {
			return false, state
		}
		if wrote = *op.Succeeded; wrote {
			next = cell{present: true, value: *op.Value}
		}
	case "get":
		if !holds(state, op.Value) {
			return false, state
		}
	}
	if !revisions || op.Revision == 0 {
		return true, next
	}
	if op.Revision < state.last || (wrote && op.Revision == state.last) {
		return false, state
	}
	next.last = op.Revision
	if wrote {
		next.mod = op.Revision
	} else if op.Op == "get" && op.ModRevision > 0 {
		if state.mod != -1 && state.mod != op.ModRevision {
			return false, state
		}
		next.mod = op.ModRevision
	}
	return true, next
}

// unknown is what a write of unknown outcome does when it takes effect; it returns never, so it may come last.
func unknown(state cell, op *line) cell {
	done := cell{mod: -1, last: state.last}
	switch {
	case op.Op == "delete" && !state.present, op.Op == "cas" && !holds(state, op.Expect):
		return state
	case op.Op != "delete":
		done.present, done.value = true, *op.Value
	}
	return done
}

func model(revisions bool) porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			keys := map[string][]porcupine.Operation{}
			for _, op := range history {
				key := op.Input.(*line).Key
				keys[key] = append(keys[key], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range keys {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() interface{} { return cell{} },
		Step: func(state, input, _ interface{}) (bool, interface{}) {
			return step(state.(cell), input.(*line), revisions)
		},
	}
}

func read(name string) ([]porcupine.Operation, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var history []porcupine.Operation
	lines := bufio.NewScanner(file)
	lines.Buffer(make([]byte, 1<<16), 1<<24)
	for lines.Scan() {
		op := &line{}
		if err := json.Unmarshal(lines.Bytes(), op); err != nil {
			return nil, err
		}
		if op.Meta != nil || op.Outcome == "fail" || (op.Outcome == "unknown" && op.Op == "get") {
			continue
		}
		end := int64(1) << 62
		if op.Return != nil {
			end = *op.Return
		}
		history = append(history, porcupine.Operation{ClientId: op.Process, Input: op, Call: op.Invoke, Return: end})
	}
	return history, lines.Err()
}

// settle does for unknown writes what etcd's own robustness tests do, else their number is an exponent: one whose value
// is written once and was read with a mod revision gets that as its revision; those whose value nobody saw are left out
// of the first history returned (an order without them is an order), and kept in the second.
func settle(history []porcupine.Operation) (fewer, all []porcupine.Operation) {
	type pair struct{ key, value string }
	writers, seen := map[pair]int{}, map[pair]int64{}
	for _, one := range history {
		op := one.Input.(*line)
		if op.Op == "put" || op.Op == "cas" {
			writers[pair{op.Key, *op.Value}]++
		}
		if op.Op == "get" && op.Value != nil {
			seen[pair{op.Key, *op.Value}] = max(seen[pair{op.Key, *op.Value}], op.ModRevision)
		} else if op.Op == "cas" && op.Expect != nil {
			seen[pair{op.Key, *op.Expect}] = max(seen[pair{op.Key, *op.Expect}], 0)
		}
	}
	for _, one := range history {
		op := one.Input.(*line)
		if op.Outcome == "unknown" && op.Op != "delete" {
			mod, found := seen[pair{op.Key, *op.Value}]
			if found && writers[pair{op.Key, *op.Value}] == 1 {
				op.Revision = mod
			}
			if !found {
				all = append(all, one)
				continue
			}
		}
		fewer, all = append(fewer, one), append(all, one)
	}
	return fewer, all
}

func peakMiB() int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for _, field := range strings.Split(string(status), "\n") {
		if strings.HasPrefix(field, "VmHWM:") {
			kib, _ := strconv.Atoi(strings.Fields(field)[1])
			return kib / 1024
		}
	}
	return 0
}

func main() {
	revisions := flag.Bool("revisions", false, "use the revisions that were answered")
	timeout := flag.Duration("timeout", 60*time.Second, "give up after this")
	flag.Parse()
	verdicts := map[porcupine.CheckResult]string{porcupine.Ok: "ok", porcupine.Illegal: "illegal", porcupine.Unknown: "unknown"}
	for _, name := range flag.Args() {
		began := time.Now()
		history, err := read(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(2)
		}
		fewer, all := settle(history)
		result := porcupine.CheckOperationsTimeout(model(*revisions), fewer, *timeout)
		if result == porcupine.Illegal && len(fewer) < len(all) {
			result = porcupine.CheckOperationsTimeout(model(*revisions), all, *timeout)
		}
		answer, _ := json.Marshal(map[string]interface{}{
			"file": name, "verdict": verdicts[result], "seconds": time.Since(began).Seconds(), "peak_mib": peakMiB(),
		})
		fmt.Println(string(answer))
	}
}

// franz-go speaks the scenarios' protocol (tests/clients/README.md).
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Request holds what any command may be asked with.
type Request struct {
	ID              int               `json:"id"`
	Do              string            `json:"do"`
	Bootstrap       string            `json:"bootstrap"`
	Topic           string            `json:"topic"`
	Group           string            `json:"group"`
	Member          string            `json:"member"`
	Protocol        string            `json:"protocol"`
	Instance        *string           `json:"instance"`
	SessionMs       int               `json:"session_ms"`
	Codec           string            `json:"codec"`
	Idempotent      *bool             `json:"idempotent"`
	Batch           int               `json:"batch"`
	Records         []Record          `json:"records"`
	Start           map[string]int64  `json:"start"`
	Count           int               `json:"count"`
	Committed       bool              `json:"committed"`
	Partition       int32             `json:"partition"`
	Partitions      int32             `json:"partitions"`
	Offset          int64             `json:"offset"`
	Before          int64             `json:"before"`
	Timestamp       int64             `json:"timestamp"`
	Config          map[string]string `json:"config"`
	Name            string            `json:"name"`
	Value           string            `json:"value"`
	Source          string            `json:"source"`
	Target          string            `json:"target"`
	TransactionalID string            `json:"transactional_id"`
	Ends            map[string]int64  `json:"ends"`
	Stop            *Stop             `json:"stop"`
}

// Record is one as the protocol carries it: bytes are base64, null is nil.
type Record struct {
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Timestamp *int64  `json:"timestamp"`
	Key       []byte  `json:"key"`
	Value     []byte  `json:"value"`
	Headers   [][]any `json:"headers"`
}

// Stop names the step in which the harness wants the process to die.
type Stop struct {
	Step  string `json:"step"`
	After int    `json:"after"`
}

func (s *Stop) at(step string, transactions int) {
	if s != nil && s.Step == step && transactions >= s.After {
		event("at", map[string]any{"step": step})
		select {}
	}
}

var out sync.Mutex

func say(line map[string]any) {
	out.Lock()
	defer out.Unlock()
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

func event(name string, body map[string]any) {
	body["event"] = name
	body["at"] = float64(time.Now().UnixMicro()) / 1e6
	say(body)
}

func main() {
	commands := map[string]func(Request) (any, error){
		"produce": produce, "read": read, "join": join, "leave": leave, "transform": transform,
		"time": timeOf, "create": create, "describe": describe, "widen": widen, "config": config, "alter": alter,
		"delete_records": deleteRecords, "offsets": offsets, "commit": commit, "committed": committed,
		"groups": groups, "group": group, "delete_group": deleteGroup, "delete": remove,
	}
	requests := bufio.NewReader(os.Stdin)
	for {
		line, err := requests.ReadBytes('\n')
		if err != nil {
			return
		}
		var request Request
		if err := json.Unmarshal(line, &request); err != nil {
			panic(err)
		}
		answer := map[string]any{"id": request.ID}
		found, err := commands[request.Do](request)
		if err != nil {
			fmt.Fprintln(os.Stderr, request.Do, err)
			answer["error"] = err.Error()
			var known *kerr.Error
			if errors.As(err, &known) {
				answer["code"] = known.Code
			}
		} else {
			answer["ok"] = found
		}
		say(answer)
	}
}

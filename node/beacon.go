package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tributary-es/tributary/internal/wholefile"
)

// Beacon tells other programs on this machine where the server of a data folder listens.
type Beacon struct {
	HTTP string `json:"http"`
	GRPC string `json:"grpc"`
	// Kafka, Redis and ClickHouse are where these are found; empty when switched off or not up yet.
	Kafka      string `json:"kafka,omitempty"`
	Redis      string `json:"redis,omitempty"`
	ClickHouse string `json:"clickhouse_http,omitempty"`
	PID        int    `json:"pid"`
	// Run tells this run of the server from any other; GET /v1/health/live answers with it.
	Run     string `json:"run"`
	Version string `json:"version"`
}

const beaconFile = "server.json"

// Beacon says where the node and what it works with are found.
func (n *Node) Beacon() Beacon {
	b := Beacon{
		HTTP: n.server.HTTPAddr(), GRPC: n.server.GRPCAddr(), PID: os.Getpid(), Run: n.run, Version: n.config.Version,
		Redis: withoutPassword(n.redis.client.Address()), ClickHouse: n.click.address(),
	}
	if n.kafka.mirror != nil {
		b.Kafka = strings.Join(n.kafka.options.Brokers, ",")
	}
	return b
}

func (n *Node) lightBeacon() error {
	b := n.Beacon()
	body, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return fmt.Errorf("encode beacon: %w", err)
	}
	return wholefile.Write(filepath.Join(n.config.Data, beaconFile), append(body, '\n'))
}

func (n *Node) douseBeacon() error {
	err := os.Remove(filepath.Join(n.config.Data, beaconFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// FindServer returns where the server of a data folder listens, and whether one does. A beacon that a killed server left
// behind does not count, nor one that was copied with the folder, whose server runs on another: what answers there must be the
// run that lit it, and say that it works on this very folder. When ctx ends before that is known the error is ctx's.
func FindServer(ctx context.Context, data string) (Beacon, bool, error) {
	var b Beacon
	body, err := os.ReadFile(filepath.Join(data, beaconFile))
	if err != nil || json.Unmarshal(body, &b) != nil {
		return Beacon{}, false, nil
	}
	folder, err := folderIdentity(data)
	if err != nil {
		return Beacon{}, false, err
	}
	live, err := askLive(ctx, b.HTTP)
	if ctx.Err() != nil {
		return Beacon{}, false, fmt.Errorf("look for the server of %s: %w", data, ctx.Err())
	}
	if err != nil || b.Run == "" || live.Run != b.Run || live.Folder != folder {
		return Beacon{}, false, nil
	}
	return b, true, nil
}

// ServersBeside returns the folders beside data, in the order of their names, on which servers run: those that somebody may have meant who
// named a folder without one.
func ServersBeside(ctx context.Context, data string) ([]string, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, fmt.Errorf("look beside %s: %w", data, err)
	}
	entries, err := os.ReadDir(filepath.Dir(data))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look beside %s: %w", data, err)
	}
	var out []string
	for _, e := range entries {
		beside := filepath.Join(filepath.Dir(data), e.Name())
		if beside == data {
			continue
		}
		if _, runs, err := FindServer(ctx, beside); ctx.Err() != nil {
			return nil, err
		} else if runs && err == nil { // a folder that cannot be looked into is not one to name
			out = append(out, beside)
		}
	}
	return out, nil
}

// liveAnswer is what a server says of itself.
type liveAnswer struct {
	Run    string `json:"run"`
	Folder string `json:"folder"`
}

func askLive(ctx context.Context, address string) (live liveAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/v1/health/live", nil)
	if err != nil {
		return live, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return live, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return live, fmt.Errorf("HTTP %d", resp.StatusCode)
	}
	err = json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&live)
	return live, err
}

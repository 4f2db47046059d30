package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tributary-es/tributary/internal/engine"
)

// lagWork is the work of the rows that measureLag returns.
const lagWork = "lag"

// lagClients append at once, in an open loop: none waits for another.
const lagClients = 64

// warmUp is how long each is under load before it is measured: brokers and MirrorMaker compile while they run.
const warmUp = 5 * time.Second

// measureLag measures how long an event takes from a site to another, on two Kafka servers: as Tributary replicates it, then as
// MirrorMaker 2 copies it. Both get rate events a second of s.size bytes, for s.duration.
//
// Tributary's time is from the append's call until a reader has the event, synced to disk at both sites; MirrorMaker's from the producer's
// call until a consumer has the record, which no broker has synced.
func measureLag(ctx context.Context, scratch string, s settings, rate float64) (rows []Row, err error) {
	var servers [2]*engine.Kafka
	for i := range servers {
		servers[i], err = engine.StartKafka(ctx, engine.KafkaOptions{Dir: filepath.Join(scratch, "kafka-"+strconv.Itoa(i))})
		if err != nil {
			return nil, fmt.Errorf("%w (bin/tributary setup fetches it)", err)
		}
		defer func() { err = errors.Join(err, servers[i].Close()) }()
	}
	for _, carrier := range []struct {
		name, check string
		measure     func(ctx context.Context, dir string, from, to string, s settings, rate float64) (string, Figures, error)
	}{
		{"tributary", "synced to disk at both sites, through the topic of the first", lagOfTributary},
		{"mirrormaker2", "one topic copied from broker to broker, acknowledged by both, synced by none", lagOfMirrorMaker},
	} {
		dir := filepath.Join(scratch, carrier.name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return rows, fmt.Errorf("make a folder: %w", err)
		}
		version, figures, err := carrier.measure(ctx, dir, servers[0].Addr(), servers[1].Addr(), s, rate)
		if errors.Is(err, errMissing) {
			fmt.Fprintf(os.Stderr, "%s is left out, %v\n", carrier.name, err)
			continue
		}
		if err != nil {
			return rows, fmt.Errorf("%s: %w", carrier.name, err)
		}
		row := Row{Peer: carrier.name, Version: version, Check: carrier.check, Work: lagWork, Clients: lagClients, Size: s.size, Figures: figures}
		fmt.Fprintf(os.Stderr, "%s\n", row)
		rows = append(rows, row)
	}
	return rows, nil
}

// lagOfTributary has two servers follow each other's topic, and asks its own bench.
func lagOfTributary(ctx context.Context, dir, from, to string, s settings, rate float64) (version string, f Figures, err error) {
	program, err := filepath.Abs(tributaryProgram)
	if err != nil {
		return "", f, fmt.Errorf("find the server: %w", err)
	}
	said, err := exec.CommandContext(ctx, program, "version").Output()
	if err != nil {
		return "", f, missing("make build (%v)", err)
	}
	names, brokers := [2]string{"one", "two"}, [2]string{from, to}
	var grpc, http [2]int
	for i := range names {
		if grpc[i], err = freePort(); err == nil {
			http[i], err = freePort()
		}
		if err != nil {
			return "", f, err
		}
	}
	for i, name := range names {
		data := filepath.Join(dir, name)
		if err := os.Mkdir(data, 0o755); err != nil {
			return "", f, fmt.Errorf("make a folder: %w", err)
		}
		site, err := startChild(ctx, data, http[i], nil, program, "serve", "--site", name, "--data", filepath.Join(data, "data"), "--clickhouse", "off",
			"--http", loopback(http[i]), "--grpc", loopback(grpc[i]), "--kafka", brokers[i], "--peer", names[1-i]+"="+loopback(grpc[1-i])+","+brokers[1-i])
		if err != nil {
			return "", f, err
		}
		defer func() { err = errors.Join(err, site.stop()) }()
	}
	for _, port := range http {
		if err := ready(ctx, port); err != nil {
			return "", f, err
		}
	}
	for _, duration := range []time.Duration{warmUp, s.duration} {
		bench := exec.CommandContext(ctx, program, "bench", "lag", "--from", loopback(grpc[0]), "--to", loopback(grpc[1]), "--json",
			"--clients", strconv.Itoa(lagClients), "--rate", strconv.FormatFloat(rate, 'f', -1, 64), "--size", strconv.Itoa(s.size), "--duration", duration.String())
		bench.Stderr = os.Stderr
		answer, err := bench.Output()
		if err != nil {
			return "", f, fmt.Errorf("bench lag: %w", err)
		}
		if err := json.Unmarshal(answer, &f); err != nil {
			return "", f, fmt.Errorf("answer of bench lag: %w", err)
		}
	}
	return strings.TrimPrefix(strings.TrimSpace(string(said)), "tributary "), f, nil
}

// ready waits until a server takes commands.
func ready(ctx context.Context, port int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for said := "nothing"; ; {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(port)+"/v1/health/ready", nil)
		if err != nil {
			return fmt.Errorf("ask a server whether it is ready: %w", err)
		}
		if resp, err := http.DefaultClient.Do(request); err != nil {
			said = err.Error()
		} else {
			body, _ := io.ReadAll(resp.Body) // what was read is for the error alone
			said = resp.Status + " " + string(body)
			if err := resp.Body.Close(); err == nil && resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a server that takes commands: %w, it said %s", ctx.Err(), said)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

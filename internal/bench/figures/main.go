package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("say measure, peers, lag or write")
	}
	switch args[0] {
	case "measure":
		if err := measure(ctx, args[1:]); err != nil {
			return err
		}
	case "peers", "lag":
		if len(args) != 2 {
			return errors.New(args[0] + " wants the file with the lines of internal/bench/peers")
		}
		if err := take(args[0] == "lag", args[1]); err != nil {
			return err
		}
	case "write":
	default:
		return fmt.Errorf("%q is unknown: say measure, peers, lag or write", args[0])
	}
	return write()
}

func measure(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("measure", flag.ContinueOnError)
	only := flags.String("only", "", "names of rows, separated by commas; empty means all")
	runs := flags.Int("runs", 3, "of each row")
	binary := flags.String("binary", "bin/tributary", "the program that is measured")
	machine := flags.String("machine", "", "what it runs on, in words; empty keeps what is there")
	if err := flags.Parse(args); err != nil {
		return err
	}
	record, err := readRecord()
	if err != nil {
		return err
	}
	if *machine != "" {
		record.Machine = *machine
	}
	version, err := exec.CommandContext(ctx, *binary, "version").Output()
	if err != nil {
		return fmt.Errorf("ask %s for its version: %w", *binary, err)
	}
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(*only, ",") {
		wanted[name] = name != ""
	}
	for i := range rows {
		row := &rows[i]
		if row.From != "" || *only != "" && !wanted[row.Name] {
			continue
		}
		seen := Seen{Name: row.Name, Date: today(), Version: strings.TrimSpace(string(version))}
		for range *runs {
			answer, err := runOnce(ctx, *binary, row)
			if err != nil {
				return err
			}
			seen.Runs = append(seen.Runs, answer)
			fmt.Fprintf(os.Stderr, "%s: rate %s, %s %s\n", row.Name, answer["rate"], row.Share, answer[row.Share])
		}
		record.put(seen)
		if err := record.save(); err != nil { // each row, for the rest takes long
			return err
		}
	}
	return nil
}

func runOnce(ctx context.Context, binary string, row *Row) (map[string]json.RawMessage, error) {
	cmd := exec.CommandContext(ctx, binary, row.args()...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", row.command(), err)
	}
	var answer map[string]json.RawMessage
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", row.command(), err)
	}
	return answer, nil
}

// take replaces the lines of the peers, or those of the lag between sites.
func take(lag bool, path string) error {
	record, err := readRecord()
	if err != nil {
		return err
	}
	lines, err := readLines(path)
	if err != nil {
		return err
	}
	if lag {
		record.Lag, record.LagDate = lines, today()
	} else {
		record.Peers, record.PeersDate = lines, today()
	}
	return record.save()
}

func readLines(path string) ([]Peer, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read lines of peers: %w", err)
	}
	defer file.Close()
	var peers []Peer
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		var p Peer
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("line of a peer %q: %w", lines.Text(), err)
		}
		peers = append(peers, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read lines of peers: %w", err)
	}
	return peers, nil
}

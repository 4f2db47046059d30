package main

import "strings"

// Row is a line of the page: what is measured, with which arguments of tributary, and what is wanted.
type Row struct {
	Name string // for -only
	What string
	Goal string
	Args string
	// Share is the field of the answer that is compared with the goal, Of what it is a share of. Empty where the goal is
	// a rate.
	Share, Of string
	// Unit, when set, is that of Share, which is no share then. From names the row whose run is shown, when it is another.
	Unit, From string
}

// rows are the figures of the event store, in the order of the page.
var rows = []Row{
	{Name: "append-1", What: "append in process, 1 client", Goal: "0.75 of the raw file, not under 0.70", Args: "bench append --raw --clients 1", Share: "ratio", Of: "the raw file"},
	{Name: "append-64", What: "append in process, 64 clients", Goal: "0.9 of the raw file, not under 0.80", Args: "bench append --raw --clients 64", Share: "ratio", Of: "the raw file"},
	{Name: "append-1024", What: "append in process, 1,024 clients", Goal: "0.5 of the raw file, not under 0.40", Args: "bench append --raw --clients 1024", Share: "ratio", Of: "the raw file"},
	{Name: "append-batches", What: "append in process, 16 clients × 100 events", Goal: "1 M events/s", Args: "bench append --raw --clients 16 --batch 100", Share: "ratio", Of: "the raw file"},
	{Name: "append-condition", What: "append with a condition on a tag, 64 clients, disjoint tags", Goal: "0.8 of the rate without", Args: "bench append --condition --clients 64", Share: "plain_ratio", Of: "appends without"},
	{Name: "append-grpc", What: "append over gRPC, 256 clients", Goal: "0.8 of empty gRPC calls", Args: "bench append --grpc --raw --clients 256", Share: "echo_ratio", Of: "empty calls"},
	{Name: "session", What: "append session, 256 in flight", Goal: "100 k events/s", Args: "bench session --in-flight 256"},
	{Name: "append-grpc-batches", What: "append over gRPC, 16 clients × 100 events", Goal: "1.5 of the best durable peer", Args: "bench append --grpc --clients 16 --batch 100"},
	{Name: "read", What: "the whole log read in process", Goal: "5 M events/s", Args: "bench read"},
	{Name: "read-grpc", What: "the whole log read over gRPC", Goal: "1.5 M events/s", Args: "bench read --grpc"},
	{Name: "load", What: "streams of 20 events loaded in process, 64 clients, of 50,000 streams", Goal: "100 k loads/s", Args: "bench load"},
	{Name: "load-grpc", What: "the same over gRPC", Goal: "0.7 of calls that answer as many bytes", Args: "bench load --grpc", Share: "echo_ratio", Of: "such calls"},
	{Name: "start", What: "10 M events over 100,000 streams, 64 clients: written to disk", Goal: "at most 4 times the payload", Args: "bench start", Share: "written", Of: "the payload"},
	{From: "start", What: "the same store opened after kill -9", Goal: "at most 2,000 ms", Args: "bench start", Share: "killed_ms", Unit: "ms"},
	{From: "start", What: "the same store opened after a clean stop", Goal: "at most 500 ms", Args: "bench start", Share: "clean_ms", Unit: "ms"},
	{From: "start", What: "resident memory while it is filled, at most", Goal: "at most 512 MB", Args: "bench start", Share: "highest_mb", Unit: "MB"},
	{Name: "subscribe", What: "delivery to 100 subscribers beside 10 slow ones, 2,000 appends a second", Args: "bench subscribe"},
}

// command returns how a reader repeats the row.
func (r *Row) command() string { return "tributary " + r.Args + " --json" }

func (r *Row) args() []string { return append(strings.Fields(r.Args), "--json") }

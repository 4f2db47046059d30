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
}

// rows are the figures of the event store, in the order of the page.
var rows = []Row{
	{"append-1", "append in process, 1 client", "0.75 of the raw file, not under 0.70", "bench append --raw --clients 1", "ratio", "the raw file"},
	{"append-64", "append in process, 64 clients", "0.9 of the raw file, not under 0.80", "bench append --raw --clients 64", "ratio", "the raw file"},
	{"append-1024", "append in process, 1,024 clients", "0.5 of the raw file, not under 0.40", "bench append --raw --clients 1024", "ratio", "the raw file"},
	{"append-batches", "append in process, 16 clients × 100 events", "1 M events/s", "bench append --raw --clients 16 --batch 100", "ratio", "the raw file"},
	{"append-grpc", "append over gRPC, 256 clients", "0.8 of empty gRPC calls", "bench append --grpc --raw --clients 256", "echo_ratio", "empty calls"},
	{"session", "append session, 256 in flight", "100 k events/s", "bench session --in-flight 256", "", ""},
	{"append-grpc-batches", "append over gRPC, 16 clients × 100 events", "1.5 of the best durable peer", "bench append --grpc --clients 16 --batch 100", "", ""},
	{"read", "the whole log read in process", "5 M events/s", "bench read", "", ""},
	{"read-grpc", "the whole log read over gRPC", "1.5 M events/s", "bench read --grpc", "", ""},
	{"load", "streams of 20 events loaded in process, 64 clients, of 50,000 streams", "100 k loads/s", "bench load", "", ""},
	{"load-grpc", "the same over gRPC", "0.7 of calls that answer as many bytes", "bench load --grpc", "echo_ratio", "such calls"},
	{"subscribe", "delivery to 100 subscribers beside 10 slow ones, 2,000 appends a second", "", "bench subscribe", "", ""},
}

// command returns how a reader repeats the row.
func (r *Row) command() string { return "tributary " + r.Args + " --json" }

func (r *Row) args() []string { return append(strings.Fields(r.Args), "--json") }

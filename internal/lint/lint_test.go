package lint

import (
	"flag"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write the table of import rules into docs/overview.md")

const repository = "../.."

// TestRepository holds this repository to the rules.
func TestRepository(t *testing.T) {
	root := os.DirFS(repository)
	if *update {
		updateOverview(t, root)
	}
	tree, err := Load(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Sources) < 20 {
		t.Fatalf("found %d Go files beneath %s: this test has to run in the repository", len(tree.Sources), repository)
	}
	for _, finding := range Check(tree) {
		t.Error(finding)
	}
}

func updateOverview(t *testing.T, root fs.FS) {
	t.Helper()
	text, err := fs.ReadFile(root, overview)
	if err != nil {
		t.Fatal(err)
	}
	updated, ok := withTable(string(text))
	if !ok {
		t.Fatalf("%s has no marks for the table", overview)
	}
	if err := os.WriteFile(repository+"/"+overview, []byte(updated), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tree reads a small tree written as "-- path --" lines, each followed by the file's content.
func tree(t *testing.T, archive string) *Tree {
	t.Helper()
	files := fstest.MapFS{}
	var file *fstest.MapFile
	for line := range strings.Lines(archive) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "-- "); ok {
			file = &fstest.MapFile{}
			files[strings.TrimSuffix(name, " --")] = file
			continue
		}
		if file != nil {
			file.Data = append(file.Data, line...)
		}
	}
	loaded, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// TestRules shows that each rule finds what it is there for, at the place where it is, and nothing in what is right.
// Marks that the rules look for are put together here, so that this file holds none.
func TestRules(t *testing.T) {
	long := strings.Repeat("\n", maxLines)
	tests := []struct {
		name    string
		rule    func(*Tree) []Finding
		archive string
		want    []string // path:line and a part of the message, in the order found
	}{
		{
			name: "a layer imports what is above it",
			rule: Imports,
			archive: `
-- queries/page.go --
package queries

import (
	"context"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/schemas/gen/tributary/api/v1"
)
`,
			want: []string{"queries/page.go:6: queries must not import commands; of ours it may import: projections eventstore"},
		},
		{
			name: "an aggregate imports another, the server imports commerce, a reader of files imports a store",
			rule: Imports,
			archive: `
-- commerce/order/order.go --
package order

import "github.com/tributary-es/tributary/commerce/inventory"
-- commerce/retail/reader.go --
package retail

import "github.com/tributary-es/tributary/eventstore"
-- internal/server/routes.go --
package server

import "github.com/tributary-es/tributary/commerce/order"
-- node/node.go --
package node

import "github.com/tributary-es/tributary/commerce/order"
`,
			want: []string{
				"commerce/order/order.go:3: commerce/order must not import commerce/inventory",
				"commerce/retail/reader.go:3: commerce/retail must not import eventstore",
				"internal/server/routes.go:3: internal/server must not import commerce/order",
			},
		},
		{
			name: "drivers stay with their owners, tests apart",
			rule: Imports,
			archive: `
-- eventstore/pebblestore/open.go --
package pebblestore

import "github.com/cockroachdb/pebble/v2/vfs"
-- eventstore/memstore/store.go --
package memstore

import "github.com/cockroachdb/pebble/v2"
-- node/embedded.go --
package node

import (
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kfake"
)
-- node/embedded_test.go --
package node

import "github.com/redis/go-redis/v9"
-- commands/bus.go --
package commands

import "github.com/ClickHouse/clickhouse-go/v2"
`,
			want: []string{
				"commands/bus.go:3: github.com/ClickHouse/clickhouse-go/v2 is a driver; only these may import it: projections/clickview",
				"eventstore/memstore/store.go:3: github.com/cockroachdb/pebble/v2 is a driver",
				"node/embedded.go:4: github.com/segmentio/kafka-go/protocol is a driver",
			},
		},
		{
			name: "the domain brings no modules along",
			rule: Imports,
			archive: `
-- commerce/payment/payment.go --
package payment

import (
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)
`,
			want: []string{"commerce/payment/payment.go:4: commerce/payment must not import google.golang.org/grpc; foreign modules it may import: google.golang.org/protobuf"},
		},
		{
			name: "what is for tests is imported by tests",
			rule: Imports,
			archive: `
-- commerce/order/order.go --
package order

import "github.com/tributary-es/tributary/commands/commandtest"
-- commerce/order/order_test.go --
package order

import "github.com/tributary-es/tributary/commands/commandtest"
-- node/node.go --
package node

import "testing"
-- eventstore/storetest/suite.go --
package storetest

import "testing"
`,
			want: []string{
				"commerce/order/order.go:3: commands/commandtest is for tests only",
				"node/node.go:3: testing belongs in _test.go files",
			},
		},
		{
			name: "a package without a row, an example that leans on the shop",
			rule: Imports,
			archive: `
-- plumbing/pipe.go --
package plumbing
-- plumbing/valve.go --
package plumbing
-- examples/loyalty/main.go --
package main

import "github.com/tributary-es/tributary/commerce/order"
`,
			want: []string{
				"examples/loyalty/main.go:3: examples/loyalty must not import commerce/order",
				"plumbing: no row of internal/lint/layers.go",
			},
		},
		{
			name: "clock and randomness in the domain",
			rule: Purity,
			archive: `
-- commerce/order/place.go --
package order

import (
	"crypto/rand"
	clock "time"

	"github.com/google/uuid"
)

const week = 7 * 24 * clock.Hour

func late(t clock.Time) bool { return clock.Since(t) > week }

var now = clock.Now
-- commerce/order/place_test.go --
package order

import "time"

var start = time.Now()
-- commands/bus.go --
package commands

import "time"

var start = time.Now()
-- commerce/api/orders.go --
package api

import "time"

var start = time.Now()
`,
			want: []string{
				"commerce/order/place.go:4: the domain has no randomness: crypto/rand",
				"commerce/order/place.go:7: the domain has no randomness: github.com/google/uuid",
				"commerce/order/place.go:12: the domain has no clock: time.Since",
				"commerce/order/place.go:14: the domain has no clock: time.Now",
			},
		},
		{
			name: "a library that prints",
			rule: Output,
			archive: `
-- projections/runner.go --
package projections

import (
	"fmt"
	"log"
	"os"
)

func report() {
	fmt.Println("done")
	fmt.Fprintln(os.Stdout, fmt.Sprintf("%d", 1))
}
-- cmd/tributary/main.go --
package main

import "fmt"

func main() { fmt.Println("hello") }
`,
			want: []string{
				"projections/runner.go:10: a library does not print",
				"projections/runner.go:11: a library does not write to standard output",
				"projections/runner.go:5: log with the caller's slog.Logger",
			},
		},
		{
			name: "a file of two ideas, while tests and generated files may be long",
			rule: Length,
			archive: `
-- node/node.go --
package node
` + long + `
-- node/node_test.go --
package node
` + long + `
-- schemas/gen/a.pb.go --
// Code generated by protoc-gen-go. DO NOT EDIT.

package gen
` + long + `
-- node/config.go --
package node
`,
			want: []string{"node/node.go: 602 lines, the limit is 600"},
		},
		{
			name: "packages that say nothing",
			rule: Names,
			archive: `
-- commands/helpers/strings.go --
// Package helpers helps.
package helpers
`,
			want: []string{"commands/helpers: package helpers says nothing"},
		},
		{
			name: "a package without a comment; one file's comment is enough, a test's is not",
			rule: Names,
			archive: `
-- replication/link.go --
package replication
-- replication/link_test.go --
// Package replication is not described here.
package replication
-- queries/page.go --
package queries
-- queries/doc.go --
// Package queries answers.
package queries
`,
			want: []string{"replication: package replication has no package comment"},
		},
		{
			name: "unfinished work",
			rule: Finished,
			archive: `
-- node/node.go --
package node

// TO` + `DO: close the store.
var open = "TO` + `DO in a string is somebody's data"

/* This is not yet impl` + `emented. */
`,
			want: []string{"node/node.go:3: the comment says", "node/node.go:6: the comment says"},
		},
		{
			name: "paths of one machine, in any text",
			rule: Places,
			archive: `
-- docs/operations.md --
Data live in /var/lib/tributary,
not in /wor` + `k/main/data.
-- .ci/run --
cd /roo` + `t/main
`,
			want: []string{".ci/run:1: /roo", "docs/operations.md:2: /wor"},
		},
		{
			name: "wire names",
			rule: WireNames,
			archive: `
-- commerce/order/events.go --
package order

const (
	created = "order.created.v1"
	listed  = "stock-code.line_added.v12"
	camel   = "order.lineAdded.v1"
	zero    = "order.created.v0"
	short   = "created.v1"
	file    = "schemas/order/v1"
	suffix  = ".created.v1"
)
`,
			want: []string{
				`commerce/order/events.go:6: "order.lineAdded.v1" is no wire name`,
				`commerce/order/events.go:7: "order.created.v0" is no wire name`,
				`commerce/order/events.go:8: "created.v1" is no wire name`,
			},
		},
		{
			name: "a table in the overview that is not the law",
			rule: Overview,
			archive: `
-- docs/overview.md --
# Overview
` + tableBegin + `
| package | may import |
` + tableEnd,
			want: []string{"docs/overview.md: the table of import rules is not the one"},
		},
		{
			name:    "an overview that lost its table",
			rule:    Overview,
			archive: "-- docs/overview.md --\n# Overview\n",
			want:    []string{"docs/overview.md: the marks around the table"},
		},
		{
			name:    "the overview as it should be",
			rule:    Overview,
			archive: "-- docs/overview.md --\n# Overview\n" + tableBegin + "\n" + LayersTable() + "\n" + tableEnd,
		},
		{
			name: "invariants and their tests",
			rule: Invariants,
			archive: `
-- docs/invariants.md --
| number | invariant | shown by |
|---|---|---|
| S1 | one | ` + "`eventstore/storetest.gapless`" + ` |
| S2 | two | ` + "`eventstore.TestGone`" + ` |
| S3 | three | ` + "`eventstore.TestOther`" + ` |
| S4 | four | — |
| S4 | four again | — |
| S5 | five | soon |
-- eventstore/storetest/suite.go --
package storetest

// gapless shows S1.
func gapless() {}
-- eventstore/store_test.go --
package eventstore

// TestOther shows S30.
func TestOther() {}
`,
			want: []string{
				"docs/invariants.md:4: S2: there is no test TestGone in eventstore",
				"docs/invariants.md:4: S2: no test of the row names the number",
				"docs/invariants.md:5: S3: no test of the row names the number",
				"docs/invariants.md:7: S4: the number is given twice",
				"docs/invariants.md:8: S5: the last column holds neither",
			},
		},
		{
			name: "where protos live and where their Go goes",
			rule: Schemas,
			archive: `
-- schemas/tributary/order/v1/events.proto --
option go_package = "github.com/tributary-es/tributary/schemas/gen/tributary/order/v1;orderv1";
-- schemas/tributary/order/v1/values.proto --
option go_package = "github.com/tributary-es/tributary/schemas/gen/order;order";
-- schemas/tributary/order/v1/none.proto --
syntax = "proto3";
-- proto/order.proto --
option go_package = "github.com/tributary-es/tributary/schemas/gen/proto;order";
`,
			want: []string{
				"proto/order.proto: protos live in",
				"schemas/tributary/order/v1/none.proto: option go_package",
				"schemas/tributary/order/v1/values.proto: option go_package",
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, finding := range test.rule(tree(t, test.archive)) {
				got = append(got, finding.String())
			}
			ok := slices.EqualFunc(got, test.want, func(got, want string) bool { return strings.HasPrefix(got, want) })
			if !ok {
				t.Errorf("found:\n  %s\nwant, each a beginning:\n  %s", strings.Join(got, "\n  "), strings.Join(test.want, "\n  "))
			}
		})
	}
}

// TestDriversHaveOwners keeps the two tables together: whoever owns a driver has a row of its own or one that covers it.
func TestDriversHaveOwners(t *testing.T) {
	for _, d := range drivers {
		for owner := range strings.FieldsSeq(d.owners) {
			if _, ok := layerOf(strings.TrimSuffix(owner, "*") + strings.Repeat("x", strings.Count(owner, "*"))); !ok {
				t.Errorf("%s owns %s and has no row among the layers", owner, d.modules)
			}
		}
	}
}

// TestLoadSkips shows what is no part of the tree: built and hidden folders and fixtures, while the embedded sample is.
func TestLoadSkips(t *testing.T) {
	loaded := tree(t, `
-- bin/x.go --
package x
-- data/x.go --
package x
-- .cache/x.go --
package x
-- replication/testdata/x.go --
package x
-- testdata/retail/embed.go --
package retail
-- eventstore/data/data.go --
package data
`)
	var got []string
	for _, s := range loaded.Sources {
		got = append(got, s.Path)
	}
	want := []string{"eventstore/data/data.go", "testdata/retail/embed.go"}
	if !slices.Equal(got, want) {
		t.Errorf("loaded %q, want %q", got, want)
	}
}

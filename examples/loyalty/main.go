// Loyalty keeps the bonus points of customers: an aggregate, a projection and a query of one's own, on Tributary.
//
//	go run . [DATA]          # HTTP=127.0.0.1:8081 and GRPC=… in the environment name other addresses
//	curl -X POST http://127.0.0.1:8080/v1/points/ann/earn -d '{"points": 50}'
//	curl http://127.0.0.1:8080/v1/points/ann
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"strconv"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/node"
	"github.com/tributary-es/tributary/projections"
	"github.com/tributary-es/tributary/queries"
)

type ( // commands, and events; the state is the balance
	Command interface{ customer() string }
	Earn    struct {
		Customer string
		Points   int64
	}
	Spend  Earn
	Event  interface{ change() int64 }
	Earned struct{ Points int64 }
	Spent  Earned
)

func (e Earn) customer() string  { return e.Customer }
func (s Spend) customer() string { return s.Customer }
func (e Earned) change() int64   { return e.Points }
func (s Spent) change() int64    { return -s.Points }

var codec = commands.JSONCodec(map[string]Event{"points.earned.v1": Earned{}, "points.spent.v1": Spent{}})

var points = commands.Aggregate[int64, Command, Event]{
	Category: "points", ID: Command.customer, Codec: codec,
	Decide: func(balance int64, c Command) ([]Event, error) {
		switch c := c.(type) {
		case Earn:
			if c.Points > 0 {
				return []Event{Earned{c.Points}}, nil
			}
		case Spend:
			if c.Points > balance {
				return nil, commands.Reject("points.insufficient", c.Customer+" has "+strconv.FormatInt(balance, 10)+" points")
			}
			if c.Points > 0 {
				return []Event{Spent{c.Points}}, nil
			}
		}
		return nil, commands.Reject("points.not_positive", "give a number of points from 1 on")
	},
	Evolve: func(balance int64, e Event) int64 { return balance + e.change() },
}

var balances = projections.Projection[projections.Keys]{
	Name: "balances", Version: 1, Types: codec.Types(),
	Apply: func(w projections.Keys, r *eventstore.Recorded) error {
		e, err := codec.Decode(r)
		if err == nil {
			w.HashAdd("balance", r.Stream.ID, e.change())
		}
		return err
	},
}

func balance(ctx context.Context, model queries.KeyReader, param func(string) string) (any, error) {
	text, err := model.HashField(ctx, "balance", param("customer"))
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return map[string]any{"customer": param("customer"), "points": n}, err
}

func main() {
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	config := node.Config{Data: append(flag.Args(), "loyalty-data")[0], HTTP: os.Getenv("HTTP"), GRPC: os.Getenv("GRPC"), ClickHouse: node.Off}
	config.Domains = []node.Domain{{
		Name: "loyalty",
		Register: func(b *commands.Bus) error {
			return commands.Register[int64, Command, Event](b, points, Earn{}, Spend{})
		},
		Keys:     &balances,
		Commands: map[string]any{"POST /v1/points/{customer}/earn": Earn{}, "POST /v1/points/{customer}/spend": Spend{}},
		Queries:  map[string]node.Query{"GET /v1/points/{customer}": balance},
	}}
	if err := node.Serve(ctx, config); err != nil {
		log.Fatal("loyalty: ", err)
	}
}

// Package importer carries out a retail plan as commands of a running shop.
//
// Every command carries the key of its item as idempotency key, so that an import that was cut off, or is repeated,
// changes only what is still missing. Opening stock is in place before the first order is placed; orders, returns and
// adjustments are then issued in order of time, several at once. The import is done when every command is durable; the
// checkout goes on behind it.
package importer

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tributary-es/tributary/commerce/retail"
	commerceapiv1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/api/v1"
)

// Options of an import. Zero values mean the defaults.
type Options struct {
	// Parallel is how many commands are under way at once; default 32.
	Parallel int
	// Patience is how long a command is tried again while the server cannot take it; default 2 min.
	Patience time.Duration
	// Progress, when set, is told how many items of how many are done. It is called from several goroutines.
	Progress func(done, total int)
}

// Result says what an import did.
type Result struct {
	// Items is the number of commands; Repeated is how many of them had been applied before.
	Items, Repeated int
	// Lines is the number of input lines they account for.
	Lines int
	// Position is the furthest position that a receipt named.
	Position string
}

// Run issues the plan's commands and returns when all are durable. It ends with the first command that is refused.
func Run(ctx context.Context, client commerceapiv1.CommandServiceClient, plan *retail.Plan, o Options) (Result, error) {
	if o.Parallel <= 0 {
		o.Parallel = 32
	}
	if o.Patience <= 0 {
		o.Patience = 2 * time.Minute
	}
	r := &run{client: client, options: o, total: plan.Counts().Items()}
	opening := func(yield func(retail.Item) bool) {
		for item := range plan.Opening() {
			if !yield(item) {
				return
			}
		}
	}
	if err := r.all(ctx, opening); err != nil {
		return Result{}, err
	}
	if err := r.all(ctx, plan.Work()); err != nil {
		return Result{}, err
	}
	return Result{
		Items: int(r.done.Load()), Repeated: int(r.repeated.Load()), Lines: int(r.lines.Load()), Position: r.furthest.String(),
	}, nil
}

type run struct {
	client   commerceapiv1.CommandServiceClient
	options  Options
	total    int
	done     atomic.Int64
	repeated atomic.Int64
	lines    atomic.Int64
	furthest furthest
}

// all issues the items, in their order, several at once.
func (r *run) all(ctx context.Context, items func(func(retail.Item) bool)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.options.Parallel)
	for item := range items {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error { return r.one(ctx, item) })
	}
	return g.Wait()
}

func (r *run) one(ctx context.Context, item retail.Item) error {
	ctx = metadata.AppendToOutgoingContext(ctx, "idempotency-key", item.Key())
	receipt, err := r.patiently(ctx, item)
	if err != nil {
		return fmt.Errorf("import %s: %w", item.Key(), err)
	}
	if receipt.GetDuplicate() {
		r.repeated.Add(1)
	}
	r.furthest.observe(receipt.GetPosition())
	r.lines.Add(int64(item.LineCount()))
	if done := r.done.Add(1); r.options.Progress != nil {
		r.options.Progress(int(done), r.total)
	}
	return nil
}

// patiently repeats a command that the server could not take just now.
func (r *run) patiently(ctx context.Context, item retail.Item) (*commerceapiv1.Receipt, error) {
	giveUp := time.Now().Add(r.options.Patience)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		receipt, err := Issue(ctx, r.client, item)
		switch status.Code(err) {
		case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.ResourceExhausted:
		default:
			return receipt, err
		}
		if time.Now().After(giveUp) {
			return nil, fmt.Errorf("tried for %s: %w", r.options.Patience, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// Issue gives the command of an item, once. Its idempotency key is for the caller to put into ctx.
func Issue(ctx context.Context, client commerceapiv1.CommandServiceClient, item retail.Item) (*commerceapiv1.Receipt, error) {
	wait := grpc.WaitForReady(true)
	switch i := item.(type) {
	case retail.OpeningStock:
		return client.ReceiveStock(ctx, &commerceapiv1.ReceiveStockRequest{StockCode: i.StockCode, Quantity: i.Units, Reference: i.Key()}, wait)
	case retail.Order:
		return client.PlaceOrder(ctx, &commerceapiv1.PlaceOrderRequest{
			Id: i.Invoice, CustomerId: i.Customer, Country: i.Country, Currency: retail.Currency,
			Lines: lines(i.Lines, 1), PlacedAt: timestamppb.New(i.At),
		}, wait)
	case retail.Return:
		return client.ReceiveReturn(ctx, &commerceapiv1.ReceiveReturnRequest{
			Id: i.Invoice, CustomerId: i.Customer, Country: i.Country, Currency: retail.Currency,
			Lines: lines(i.Lines, -1), ReceivedAt: timestamppb.New(i.At),
		}, wait)
	case retail.StockAdjustment:
		return client.AdjustStock(ctx, &commerceapiv1.AdjustStockRequest{
			StockCode: i.Line.StockCode, Delta: i.Change, Reason: i.Line.Description, Document: document(i.Line),
			AdjustedAt: timestamppb.New(i.Line.At),
		}, wait)
	case retail.PaymentAdjustment:
		return client.AdjustPayment(ctx, &commerceapiv1.AdjustPaymentRequest{
			Id: i.Line.Invoice, Amount: i.Line.Amount.String(), Currency: i.Line.Amount.Currency(), Reason: i.Line.Description,
			Document: document(i.Line), StockCode: i.Line.StockCode, AdjustedAt: timestamppb.New(i.Line.At),
		}, wait)
	}
	return nil, fmt.Errorf("item %T is unknown", item)
}

// lines gives the lines with their quantities times sign: returns are written with negative quantities, and taken back
// as units that come back.
func lines(in []retail.Line, sign int64) []*commerceapiv1.OrderLine {
	out := make([]*commerceapiv1.OrderLine, len(in))
	for i, l := range in {
		out[i] = &commerceapiv1.OrderLine{
			StockCode: l.StockCode, Description: l.Description, Quantity: sign * l.Quantity, UnitPrice: l.UnitPrice.String(),
			Number: uint32(l.Ordinal),
		}
		if !l.At.Equal(in[0].At) {
			out[i].At = timestamppb.New(l.At)
		}
	}
	return out
}

func document(l retail.Line) *commerceapiv1.Document {
	return &commerceapiv1.Document{
		Id: l.Invoice, Line: uint32(l.Ordinal), CustomerId: l.Customer, Country: l.Country,
		Quantity: l.Quantity, UnitPrice: l.UnitPrice.String(), Currency: l.UnitPrice.Currency(),
	}
}

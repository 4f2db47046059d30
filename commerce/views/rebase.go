package views

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/eventstore"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// rebase has the cancellation of an order say what it cancels: the order that counts, as it then was. Another site may have
// confirmed the order meanwhile, or created another with its id; the event repeats what its own site knew.
func rebase(before []eventstore.Recorded, e *eventstore.Recorded) error {
	if e.Type != order.CancelledV1 {
		return nil
	}
	var said commercev1.OrderCancelled
	if err := decode(e, &said); err != nil {
		return err
	}
	now := proto.CloneOf(&said)
	for i := range before {
		switch before[i].Type {
		case order.CreatedV1:
			var o commercev1.OrderCreated
			if err := decode(&before[i], &o); err != nil {
				return err
			}
			now.From = string(order.Created)
			now.CustomerId, now.Country, now.Currency, now.Lines = o.GetCustomerId(), o.GetCountry(), o.GetCurrency(), o.GetLines()
			now.Total, now.PlacedAtMs, now.VoucherCode = o.GetTotal(), o.GetAtMs(), o.GetVoucherCode()
		case order.ConfirmedV1:
			now.From = string(order.Confirmed)
		}
	}
	if proto.Equal(now, &said) {
		return nil
	}
	payload, err := proto.Marshal(now)
	if err != nil {
		return fmt.Errorf("write %s: %w", e.Type, err)
	}
	e.Payload = payload
	return nil
}

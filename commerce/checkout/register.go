package checkout

import (
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/order"
	"github.com/tributary-es/tributary/commerce/payment"
	"github.com/tributary-es/tributary/commerce/returns"
)

// Register adds the aggregates that the sagas give commands to to a bus: order, inventory, payment and returns.
func Register(b *commands.Bus) error {
	for _, register := range []func(*commands.Bus) error{
		order.Register, inventory.Register, payment.Register, returns.Register,
	} {
		if err := register(b); err != nil {
			return fmt.Errorf("register shop: %w", err)
		}
	}
	return nil
}

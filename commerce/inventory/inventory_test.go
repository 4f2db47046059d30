package inventory_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/inventory"
	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

const (
	code = "85123A"
	ms   = 1291191960000
)

func received(n int64, ref string) *commercev1.InventoryReceived {
	return &commercev1.InventoryReceived{Quantity: n, Reference: ref, AtMs: ms}
}

func reserved(name string, n int64) *commercev1.InventoryReserved {
	return &commercev1.InventoryReserved{Reservation: name, Quantity: n, AtMs: ms}
}

func confirmed(name string, n int64) *commercev1.InventoryConfirmed {
	return &commercev1.InventoryConfirmed{Reservation: name, Quantity: n, AtMs: ms}
}

func released(name string, n int64) *commercev1.InventoryReleased {
	return &commercev1.InventoryReleased{Reservation: name, Quantity: n, AtMs: ms}
}

func barred(name string) *commercev1.InventoryBarred {
	return &commercev1.InventoryBarred{Reservation: name, AtMs: ms}
}

func returned(ref string, n int64) *commercev1.InventoryReturned {
	return &commercev1.InventoryReturned{Reference: ref, Quantity: n, AtMs: ms}
}

func adjusted(delta int64, reason string) *commercev1.InventoryAdjusted {
	return &commercev1.InventoryAdjusted{Delta: delta, Reason: reason, AtMs: ms}
}

func try(name string, n int64) inventory.Try {
	return inventory.Try{Code: code, Reservation: name, Quantity: n, At: at}
}

func confirm(name string) inventory.Confirm {
	return inventory.Confirm{Code: code, Reservation: name, At: at}
}

func cancel(name string) inventory.Cancel {
	return inventory.Cancel{Code: code, Reservation: name, At: at}
}

func receive(n int64, ref string) inventory.Receive {
	return inventory.Receive{Code: code, Quantity: n, Reference: ref, At: at}
}

func giveBack(ref string, n int64) inventory.ReturnGoods {
	return inventory.ReturnGoods{Code: code, Quantity: n, Reference: ref, At: at}
}

func adjust(delta int64, reason string) inventory.Adjust {
	return inventory.Adjust{Code: code, Delta: delta, Reason: reason, At: at}
}

// writtenOff is an adjustment from line 2 of invoice 536589.
func writtenOff(delta int64) inventory.Adjust {
	return inventory.Adjust{Code: code, Delta: delta, At: at, Document: &inventory.Document{
		ID: "536589", Line: 2, Country: "United Kingdom", Quantity: delta, UnitPrice: money.MustParse("0", "GBP"),
	}}
}

func writtenOffEvent(delta int64) *commercev1.InventoryAdjusted {
	return &commercev1.InventoryAdjusted{Delta: delta, AtMs: ms, Document: &commercev1.Document{
		Id: "536589", Line: 2, Country: "United Kingdom", Quantity: delta, UnitPrice: &commercev1.Money{Currency: "GBP", Amount: "0"},
	}}
}

// TestCommands goes through every command in every situation that matters to it; of Try, Confirm and Cancel that is the
// whole table of the package's documentation. Each scenario checks C1 and C2.
func TestCommands(t *testing.T) {
	type events = []inventory.Event
	stock := received(10, "")
	for name, c := range map[string]struct {
		given    events
		when     inventory.Command
		then     events
		rejected string
	}{
		"receive":                         {nil, receive(10, ""), events{received(10, "")}, ""},
		"receive again, no reference":     {events{stock}, receive(10, ""), events{stock}, ""},
		"receive with a reference":        {nil, receive(10, "D1"), events{received(10, "D1")}, ""},
		"receive a reference twice":       {events{received(10, "D1")}, receive(10, "D1"), nil, ""},
		"receive a reference differently": {events{received(10, "D1")}, receive(11, "D1"), nil, inventory.CodeReferenceDiffers},

		"try":                              {events{stock}, try("1", 4), events{reserved("1", 4)}, ""},
		"try all":                          {events{stock}, try("1", 10), events{reserved("1", 10)}, ""},
		"try with no stock":                {nil, try("1", 1), nil, inventory.CodeInsufficient},
		"try more than there is":           {events{stock}, try("1", 11), nil, inventory.CodeInsufficient},
		"try more than is available":       {events{stock, reserved("1", 4)}, try("2", 7), nil, inventory.CodeInsufficient},
		"try what is left":                 {events{stock, reserved("1", 4)}, try("2", 6), events{reserved("2", 6)}, ""},
		"try twice":                        {events{stock, reserved("1", 4)}, try("1", 4), nil, ""},
		"try twice, all of it":             {events{stock, reserved("1", 10)}, try("1", 10), nil, ""},
		"try differently":                  {events{stock, reserved("1", 4)}, try("1", 5), nil, inventory.CodeReservationDiffers},
		"try what was confirmed":           {events{stock, reserved("1", 4), confirmed("1", 4)}, try("1", 4), nil, ""},
		"try differently what is gone":     {events{stock, reserved("1", 4), confirmed("1", 4)}, try("1", 3), nil, inventory.CodeReservationDiffers},
		"try what was released":            {events{stock, reserved("1", 4), released("1", 4)}, try("1", 4), nil, inventory.CodeReservationCancelled},
		"try what was barred":              {events{stock, barred("1")}, try("1", 4), nil, inventory.CodeReservationCancelled},
		"try what a confirmation left":     {events{stock, reserved("1", 4), confirmed("1", 4)}, try("2", 7), nil, inventory.CodeInsufficient},
		"try what a release freed":         {events{stock, reserved("1", 4), released("1", 4)}, try("2", 10), events{reserved("2", 10)}, ""},
		"try what a return brought":        {events{returned("C1", 2)}, try("1", 2), events{reserved("1", 2)}, ""},
		"try what an adjustment brought":   {events{adjusted(2, "found")}, try("1", 2), events{reserved("1", 2)}, ""},
		"try what an adjustment took":      {events{stock, adjusted(-8, "lost")}, try("1", 3), nil, inventory.CodeInsufficient},
		"another reservation after a bar":  {events{stock, barred("1")}, try("2", 4), events{reserved("2", 4)}, ""},
		"confirm":                          {events{stock, reserved("1", 4)}, confirm("1"), events{confirmed("1", 4)}, ""},
		"confirm the right one":            {events{stock, reserved("1", 4), reserved("2", 5)}, confirm("2"), events{confirmed("2", 5)}, ""},
		"confirm twice":                    {events{stock, reserved("1", 4), confirmed("1", 4)}, confirm("1"), nil, ""},
		"confirm nothing":                  {events{stock}, confirm("1"), nil, inventory.CodeReservationUnknown},
		"confirm what was released":        {events{stock, reserved("1", 4), released("1", 4)}, confirm("1"), nil, inventory.CodeReservationCancelled},
		"confirm what was barred":          {events{barred("1")}, confirm("1"), nil, inventory.CodeReservationCancelled},
		"cancel":                           {events{stock, reserved("1", 4)}, cancel("1"), events{released("1", 4)}, ""},
		"cancel the right one":             {events{stock, reserved("1", 4), reserved("2", 5)}, cancel("1"), events{released("1", 4)}, ""},
		"cancel twice":                     {events{stock, reserved("1", 4), released("1", 4)}, cancel("1"), nil, ""},
		"cancel before try":                {events{stock}, cancel("1"), events{barred("1")}, ""},
		"cancel before try, no stock":      {nil, cancel("1"), events{barred("1")}, ""},
		"cancel before try, twice":         {events{barred("1")}, cancel("1"), nil, ""},
		"cancel what was confirmed":        {events{stock, reserved("1", 4), confirmed("1", 4)}, cancel("1"), nil, inventory.CodeReservationConfirmed},
		"return":                           {nil, giveBack("C1", 2), events{returned("C1", 2)}, ""},
		"return twice":                     {events{returned("C1", 2)}, giveBack("C1", 2), nil, ""},
		"return differently":               {events{returned("C1", 2)}, giveBack("C1", 3), nil, inventory.CodeReferenceDiffers},
		"a delivery is no return":          {events{received(2, "C1")}, giveBack("C1", 2), events{returned("C1", 2)}, ""},
		"adjust up":                        {nil, adjust(5, "found"), events{adjusted(5, "found")}, ""},
		"adjust up twice, no document":     {events{adjusted(5, "found")}, adjust(5, "found"), events{adjusted(5, "found")}, ""},
		"adjust down to nothing":           {events{stock}, adjust(-10, "lost"), events{adjusted(-10, "lost")}, ""},
		"adjust below zero":                {events{stock}, adjust(-11, "lost"), nil, inventory.CodeBelowZero},
		"adjust below zero from nothing":   {nil, adjust(-1, "lost"), nil, inventory.CodeBelowZero},
		"adjust down to what is reserved":  {events{stock, reserved("1", 4)}, adjust(-6, "lost"), events{adjusted(-6, "lost")}, ""},
		"adjust into what is reserved":     {events{stock, reserved("1", 4)}, adjust(-7, "lost"), nil, inventory.CodeBelowReserved},
		"adjust up with all reserved":      {events{stock, reserved("1", 10)}, adjust(1, "found"), events{adjusted(1, "found")}, ""},
		"adjust from a document":           {events{stock}, writtenOff(-10), events{writtenOffEvent(-10)}, ""},
		"adjust from a document by 0":      {nil, writtenOff(0), events{writtenOffEvent(0)}, ""},
		"adjust from a document twice":     {events{stock, writtenOffEvent(-10)}, writtenOff(-10), nil, ""},
		"adjust from a document otherwise": {events{stock, writtenOffEvent(-9)}, writtenOff(-10), nil, inventory.CodeReferenceDiffers},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := commandtest.For(t, inventory.Aggregate()).Given(c.given...).When(c.when)
			if c.rejected != "" {
				outcome.ThenRejected(c.rejected)
			} else {
				outcome.Then(c.then...)
			}
		})
	}
}

func TestStateAfterAStory(t *testing.T) {
	a := inventory.Aggregate()
	s := a.Zero()
	for _, e := range []inventory.Event{
		received(100, "D1"), reserved("1", 10), reserved("2", 20), confirmed("1", 10), released("2", 20),
		reserved("3", 5), barred("4"), returned("C1", 2), adjusted(-7, "lost"),
	} {
		s = a.Evolve(s, e)
	}
	if s.OnHand != 85 || s.Reserved != 5 || s.Available() != 80 {
		t.Errorf("on hand %d, reserved %d, available %d; want 85, 5, 80", s.OnHand, s.Reserved, s.Available())
	}
	for name, want := range map[string]inventory.Reservation{
		"1": {Outcome: inventory.Confirmed, Quantity: 10}, "2": {Outcome: inventory.Cancelled, Quantity: 20},
		"3": {Outcome: inventory.Open, Quantity: 5}, "4": {Outcome: inventory.Cancelled}, "5": {},
	} {
		if got := s.Reservation(name); got != want {
			t.Errorf("reservation %s = %+v, want %+v", name, got, want)
		}
	}
}

func TestInvalidCommands(t *testing.T) {
	document := func(f func(*inventory.Document)) inventory.Adjust {
		c := writtenOff(-10)
		f(c.Document)
		return c
	}
	long := strings.Repeat("x", inventory.MaxTextBytes+1)
	for name, c := range map[string]struct {
		when     inventory.Command
		mentions string
	}{
		"no code":                     {inventory.Receive{Quantity: 1, At: at}, "stream id is empty"},
		"receive 0":                   {receive(0, ""), "quantity 0 is not 1 to"},
		"receive too much":            {receive(inventory.MaxQuantity+1, ""), "quantity 1000000000001"},
		"receive, long reference":     {receive(1, long), "reference has 501 bytes"},
		"receive without time":        {inventory.Receive{Code: code, Quantity: 1}, "time is missing"},
		"try 0":                       {try("1", 0), "quantity 0"},
		"try -1":                      {try("1", -1), "quantity -1"},
		"try too much":                {try("1", inventory.MaxTry+1), "quantity 5000000000001"},
		"try without reservation":     {try("", 1), "reservation is empty"},
		"try without time":            {inventory.Try{Code: code, Reservation: "1", Quantity: 1}, "time is missing"},
		"confirm without reservation": {confirm(""), "reservation is empty"},
		"confirm without time":        {inventory.Confirm{Code: code, Reservation: "1"}, "time is missing"},
		"cancel without reservation":  {cancel(""), "reservation is empty"},
		"cancel without time":         {inventory.Cancel{Code: code, Reservation: "1"}, "time is missing"},
		"return 0":                    {giveBack("C1", 0), "quantity 0"},
		"return without reference":    {giveBack("", 1), "reference is empty"},
		"return without time":         {inventory.ReturnGoods{Code: code, Reference: "C1", Quantity: 1}, "time is missing"},
		"adjust by 0":                 {adjust(0, "why"), "changes nothing"},
		"adjust without reason":       {adjust(1, ""), "reason is empty"},
		"adjust too much":             {adjust(-inventory.MaxQuantity-1, "why"), "the limit is"},
		"adjust, not UTF-8":           {adjust(1, "\xff"), "reason is not valid UTF-8"},
		"adjust without time":         {inventory.Adjust{Code: code, Delta: 1, Reason: "why"}, "time is missing"},
		"document without id":         {document(func(d *inventory.Document) { d.ID = "" }), "document id is empty"},
		"document line 0":             {document(func(d *inventory.Document) { d.Line = 0 }), "document line 0"},
		"document, long country":      {document(func(d *inventory.Document) { d.Country = long }), "document country has 501 bytes"},
		"document, long customer":     {document(func(d *inventory.Document) { d.CustomerID = long }), "document customer id has 501 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			commandtest.For(t, inventory.Aggregate()).When(c.when).ThenInvalid(c.mentions)
		})
	}
}

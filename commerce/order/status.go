package order

// Status is how far an order has come. It is a value: compare it with ==.
type Status string

// The statuses. They are written so in events, read models and JSON. The zero value is an order that does not exist.
const (
	None      Status = ""
	Created   Status = "created"
	Confirmed Status = "confirmed"
	Shipped   Status = "shipped"
	Cancelled Status = "cancelled"
)

// CanTransitionTo reports whether an order of status s may become one of status next.
func (s Status) CanTransitionTo(next Status) bool {
	switch s {
	case None:
		return next == Created
	case Created:
		return next == Confirmed || next == Cancelled
	case Confirmed:
		return next == Shipped || next == Cancelled
	}
	return false
}

// Final reports whether nothing can change any more.
func (s Status) Final() bool { return s == Shipped || s == Cancelled }

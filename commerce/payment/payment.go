package payment

import (
	"fmt"

	"github.com/tributary-es/tributary/commands"
	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Category is the category of the payments' streams; a stream's id is that of the order, return or adjustment.
const Category = "payment"

// Codes of refusals.
const (
	CodeDeclined          = "payment.declined"
	CodeAlreadyAuthorized = "payment.already_authorized"
	CodeNotAuthorized     = "payment.not_authorized"
	CodeVoided            = "payment.voided"
	CodeCaptured          = "payment.captured"
	CodeNotCaptured       = "payment.not_captured"
	CodeRefundExceeds     = "payment.refund_exceeds"
	CodeAlreadyRefunded   = "payment.already_refunded"
	CodeHasPayment        = "payment.has_payment"
	CodeCurrencyDiffers   = "payment.currency_differs"
	CodeReferenceDiffers  = "payment.reference_differs"
)

// Aggregate returns the aggregate of the payment.
func Aggregate() commands.Aggregate[State, Command, Event] {
	return commands.Aggregate[State, Command, Event]{
		Category:    Category,
		ID:          Command.paymentID,
		Validate:    validate,
		Decide:      decide,
		Evolve:      evolve,
		Codec:       Codec(),
		AtEverySite: "the site that took an order or a return moves its money",
	}
}

// Register adds the payment and its commands to a bus.
func Register(b *commands.Bus) error {
	return commands.Register[State, Command, Event](b, Aggregate(), Authorize{}, Capture{}, Void{}, Refund{}, RefundUnreferenced{}, Adjust{})
}

func decide(s State, c Command) ([]Event, error) {
	if s.fault != nil {
		return nil, s.fault
	}
	switch c := c.(type) {
	case Authorize:
		return authorize(s, c)
	case Capture:
		return capture(s, c)
	case Void:
		return void(s, c)
	case Refund:
		return refundCaptured(s, c)
	case RefundUnreferenced:
		return refundUnreferenced(s, c)
	case Adjust:
		return adjust(s, c)
	}
	return nil, fmt.Errorf("payment: no such command: %T", c)
}

func authorize(s State, c Authorize) ([]Event, error) {
	switch {
	case s.Status == Voided:
		return nil, commands.Reject(CodeVoided, fmt.Sprintf("payment %s was voided", c.ID))
	case s.Unreferenced:
		return nil, commands.Reject(CodeAlreadyRefunded, fmt.Sprintf("payment %s is a refund without a payment", c.ID))
	case s.Status != None && s.Amount == c.Amount && s.Method == c.Method:
		return nil, nil
	case s.Status != None:
		return nil, commands.Reject(CodeAlreadyAuthorized, fmt.Sprintf(
			"payment %s is %s with %s by %s", c.ID, s.Status, in(s.Amount), s.Method))
	}
	if reason := declined(c); reason != "" {
		return nil, commands.Reject(CodeDeclined, reason)
	}
	return []Event{&commercev1.PaymentAuthorized{
		OrderId:    c.OrderID,
		CustomerId: c.CustomerID,
		Amount:     c.Amount.Proto(),
		Method:     c.Method,
		AtMs:       c.At.UnixMilli(),
	}}, nil
}

// declined says why an amount is not authorized, empty when it is.
func declined(c Authorize) string {
	if c.Method == MethodDeclined {
		return "the method " + MethodDeclined + " is always declined"
	}
	if c.Limit.IsZero() {
		return ""
	}
	above, err := c.Amount.Cmp(c.Limit)
	switch {
	case err != nil:
		return fmt.Sprintf("the limit of %s says nothing of %s", in(c.Limit), c.Amount.Currency())
	case above > 0:
		return fmt.Sprintf("%s is above the limit of %s", in(c.Amount), in(c.Limit))
	}
	return ""
}

func capture(s State, c Capture) ([]Event, error) {
	switch s.Status {
	case Authorized:
		return []Event{&commercev1.PaymentCaptured{CustomerId: s.CustomerID, Amount: s.Amount.Proto(), AtMs: c.At.UnixMilli()}}, nil
	case Captured:
		return nil, nil
	case Voided:
		return nil, commands.Reject(CodeVoided, fmt.Sprintf("payment %s was voided", c.ID))
	}
	return nil, commands.Reject(CodeNotAuthorized, fmt.Sprintf("payment %s was not authorized", c.ID))
}

func void(s State, c Void) ([]Event, error) {
	switch {
	case s.Status == Voided:
		return nil, nil
	case s.Status == Captured, s.Unreferenced:
		return nil, commands.Reject(CodeCaptured, fmt.Sprintf("money of payment %s has moved: refund it instead", c.ID))
	}
	return []Event{&commercev1.PaymentVoided{
		CustomerId: s.CustomerID, Amount: s.Amount.Proto(), Reason: c.Reason, AtMs: c.At.UnixMilli(),
	}}, nil
}

func refundCaptured(s State, c Refund) ([]Event, error) {
	if c.Reference != "" {
		if done, err := s.repeats(c.ID, reference{refund, c.Reference}, c.Amount); done || err != nil {
			return nil, err
		}
	}
	switch {
	case s.Status != Captured:
		return nil, commands.Reject(CodeNotCaptured, fmt.Sprintf("nothing was captured of payment %s", c.ID))
	case c.Amount.Currency() != s.Amount.Currency():
		return nil, commands.Reject(CodeCurrencyDiffers, fmt.Sprintf(
			"payment %s is in %s, the refund in %s", c.ID, s.Amount.Currency(), c.Amount.Currency()))
	}
	left, err := s.Amount.Sub(s.Refunded)
	if err != nil {
		return nil, fmt.Errorf("payment %s: %w", c.ID, err)
	}
	above, err := c.Amount.Cmp(left)
	if err != nil {
		return nil, fmt.Errorf("payment %s: %w", c.ID, err)
	}
	if above > 0 {
		return nil, commands.Reject(CodeRefundExceeds, fmt.Sprintf(
			"%s of payment %s are left, %s cannot be refunded", in(left), c.ID, in(c.Amount)))
	}
	return []Event{&commercev1.PaymentRefunded{
		CustomerId: s.CustomerID,
		Amount:     c.Amount.Proto(),
		Reason:     c.Reason,
		Reference:  c.Reference,
		AtMs:       c.At.UnixMilli(),
	}}, nil
}

func refundUnreferenced(s State, c RefundUnreferenced) ([]Event, error) {
	switch {
	case s.Status != None:
		return nil, commands.Reject(CodeHasPayment, fmt.Sprintf("payment %s is %s: refund that one", c.ID, s.Status))
	case s.Unreferenced && s.Refunded == c.Amount:
		return nil, nil
	case s.Unreferenced:
		return nil, commands.Reject(CodeAlreadyRefunded, fmt.Sprintf("%s were refunded as %s before", in(s.Refunded), c.ID))
	}
	return []Event{&commercev1.PaymentRefunded{
		CustomerId:   c.CustomerID,
		Amount:       c.Amount.Proto(),
		Reason:       c.Reason,
		Unreferenced: true,
		AtMs:         c.At.UnixMilli(),
	}}, nil
}

func adjust(s State, c Adjust) ([]Event, error) {
	adjusted := &commercev1.PaymentAdjusted{Amount: c.Amount.Proto(), Reason: c.Reason, AtMs: c.At.UnixMilli()}
	if d := c.Document; d != nil {
		if done, err := s.repeats(c.ID, documentReference(d.ID, uint32(d.Line)), c.Amount); done || err != nil {
			return nil, err
		}
		adjusted.Document, adjusted.StockCode = d.proto(), d.StockCode
	}
	return []Event{adjusted}, nil
}

// repeats reports whether a reference was counted before, and refuses it when it was counted with another amount.
func (s State) repeats(id string, ref reference, amount money.Amount) (bool, error) {
	before, ok := s.counted[ref]
	if ok && before != amount {
		return false, commands.Reject(CodeReferenceDiffers, fmt.Sprintf(
			"payment %s: %s was counted with %s before, now with %s", id, ref.name, in(before), in(amount)))
	}
	return ok, nil
}

// in writes an amount with its currency.
func in(a money.Amount) string {
	if a.Currency() == "" {
		return a.String()
	}
	return a.String() + " " + a.Currency()
}

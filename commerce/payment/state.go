package payment

import (
	"fmt"
	"strconv"

	"github.com/tributary-es/tributary/commerce/money"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

// Status is how far a payment has come. It is a value: compare it with ==.
type Status string

// The statuses. The zero value is a payment that nothing was asked of.
const (
	None       Status = ""
	Authorized Status = "authorized"
	Captured   Status = "captured"
	Voided     Status = "voided"
)

// State is what a payment has come to.
type State struct {
	Status     Status
	CustomerID string
	// Method is how it was authorized.
	Method string
	// Amount is what was authorized; it stays when captured.
	Amount money.Amount
	// Refunded is the sum of the refunds; Unreferenced says that they rest on no payment.
	Refunded     money.Amount
	Unreferenced bool

	counted map[reference]money.Amount
	// fault is the first recorded amount that made no sense. Evolve cannot return it, so Decide does.
	fault error
}

// reference is what counts once, by the kind of event that counted it.
type reference struct {
	kind referenceKind
	name string
}

type referenceKind uint8

const (
	refund referenceKind = iota
	documentLine
)

// documentReference names the line of a document.
func documentReference(id string, line uint32) reference {
	return reference{documentLine, id + "/" + strconv.FormatUint(uint64(line), 10)}
}

func evolve(s State, e Event) State {
	switch e := e.(type) {
	case *commercev1.PaymentAuthorized:
		s.Status, s.CustomerID, s.Method = Authorized, e.GetCustomerId(), e.GetMethod()
		s.Amount = s.amount(e.GetAmount())
	case *commercev1.PaymentCaptured:
		s.Status = Captured
	case *commercev1.PaymentVoided:
		s.Status = Voided
	case *commercev1.PaymentRefunded:
		amount := s.amount(e.GetAmount())
		s.Unreferenced = e.GetUnreferenced()
		s.refunded(amount)
		if e.GetReference() != "" {
			s.count(reference{refund, e.GetReference()}, amount)
		}
	case *commercev1.PaymentAdjusted:
		amount := s.amount(e.GetAmount())
		if d := e.GetDocument(); d != nil {
			s.count(documentReference(d.GetId(), d.GetLine()), amount)
		}
	}
	return s
}

func (s *State) refunded(amount money.Amount) {
	sum, err := s.Refunded.Add(amount)
	s.blame(err)
	s.Refunded = sum
}

func (s *State) count(ref reference, amount money.Amount) {
	if s.counted == nil {
		s.counted = make(map[reference]money.Amount)
	}
	s.counted[ref] = amount
}

// amount reads a recorded amount.
func (s *State) amount(m *commercev1.Money) money.Amount {
	a, err := money.FromProto(m)
	s.blame(err)
	return a
}

func (s *State) blame(err error) {
	if s.fault == nil && err != nil {
		s.fault = fmt.Errorf("recorded amount: %w", err)
	}
}

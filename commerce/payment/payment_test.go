package payment_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tributary-es/tributary/commands/commandtest"
	"github.com/tributary-es/tributary/commerce/money"
	"github.com/tributary-es/tributary/commerce/payment"
	commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"
)

var at = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

const ms = 1291191960000

func gbp(number string) money.Amount { return money.MustParse(number, "GBP") }

func pounds(number string) *commercev1.Money { return gbp(number).Proto() }

func authorize(change ...func(*payment.Authorize)) payment.Authorize {
	c := payment.Authorize{ID: "1", OrderID: "1", CustomerID: "17850", Amount: gbp("139.12"), Method: "card", At: at}
	for _, f := range change {
		f(&c)
	}
	return c
}

func limit(l money.Amount) func(*payment.Authorize) {
	return func(c *payment.Authorize) { c.Limit = l }
}

func method(m string) func(*payment.Authorize) {
	return func(c *payment.Authorize) { c.Method = m }
}

func amount(a money.Amount) func(*payment.Authorize) {
	return func(c *payment.Authorize) { c.Amount = a }
}

func refund(number, reference string) payment.Refund {
	return payment.Refund{ID: "1", Amount: gbp(number), Reason: "broken", Reference: reference, At: at}
}

func unreferenced(number string) payment.RefundUnreferenced {
	return payment.RefundUnreferenced{ID: "1", CustomerID: "17850", Amount: gbp(number), Reason: "return 1", At: at}
}

// badDebt is line 1 of invoice A563186.
func badDebt(price string) payment.Adjust {
	return payment.Adjust{ID: "1", Amount: gbp(price), Reason: "Adjust bad debt", At: at, Document: &payment.Document{
		ID: "A563186", Line: 1, StockCode: "B", Country: "United Kingdom", Quantity: 1, UnitPrice: gbp(price),
	}}
}

func authorized() *commercev1.PaymentAuthorized {
	return &commercev1.PaymentAuthorized{OrderId: "1", CustomerId: "17850", Amount: pounds("139.12"), Method: "card", AtMs: ms}
}

func captured() *commercev1.PaymentCaptured {
	return &commercev1.PaymentCaptured{CustomerId: "17850", Amount: pounds("139.12"), AtMs: ms}
}

func voided() *commercev1.PaymentVoided {
	return &commercev1.PaymentVoided{CustomerId: "17850", Amount: pounds("139.12"), Reason: "order cancelled", AtMs: ms}
}

func voidedBefore() *commercev1.PaymentVoided {
	return &commercev1.PaymentVoided{Reason: "order cancelled", AtMs: ms}
}

func refunded(number, reference string) *commercev1.PaymentRefunded {
	return &commercev1.PaymentRefunded{CustomerId: "17850", Amount: pounds(number), Reason: "broken", Reference: reference, AtMs: ms}
}

func refundedAlone(number string) *commercev1.PaymentRefunded {
	return &commercev1.PaymentRefunded{CustomerId: "17850", Amount: pounds(number), Reason: "return 1", Unreferenced: true, AtMs: ms}
}

func adjusted(number string) *commercev1.PaymentAdjusted {
	return &commercev1.PaymentAdjusted{Amount: pounds(number), Reason: "found", AtMs: ms}
}

func badDebtEvent(price string) *commercev1.PaymentAdjusted {
	return &commercev1.PaymentAdjusted{
		Amount: pounds(price), Reason: "Adjust bad debt", AtMs: ms, StockCode: "B",
		Document: &commercev1.Document{Id: "A563186", Line: 1, Country: "United Kingdom", Quantity: 1, UnitPrice: pounds(price)},
	}
}

// TestCommands goes through every command in every status; each scenario checks C1 and C2.
func TestCommands(t *testing.T) {
	type events = []payment.Event
	var (
		capture      = payment.Capture{ID: "1", At: at}
		void         = payment.Void{ID: "1", Reason: "order cancelled", At: at}
		adjust       = payment.Adjust{ID: "1", Amount: gbp("-5"), Reason: "found", At: at}
		isAuthorized = events{authorized()}
		isCaptured   = events{authorized(), captured()}
		isVoided     = events{authorized(), voided()}
		isRefund     = events{refundedAlone("10")}
	)
	for name, c := range map[string]struct {
		given    events
		when     payment.Command
		then     events
		rejected string
	}{
		"authorize":                           {nil, authorize(), events{authorized()}, ""},
		"authorize at the limit":              {nil, authorize(limit(gbp("139.12"))), events{authorized()}, ""},
		"authorize above the limit":           {nil, authorize(limit(gbp("139.119"))), nil, payment.CodeDeclined},
		"authorize with another's limit":      {nil, authorize(limit(money.MustParse("1000", "EUR"))), nil, payment.CodeDeclined},
		"authorize with a limit of nothing":   {nil, authorize(limit(gbp("0"))), events{authorized()}, ""},
		"authorize by the declined method":    {nil, authorize(method(payment.MethodDeclined)), nil, payment.CodeDeclined},
		"authorize twice":                     {isAuthorized, authorize(), nil, ""},
		"authorize another amount":            {isAuthorized, authorize(amount(gbp("1"))), nil, payment.CodeAlreadyAuthorized},
		"authorize by another method":         {isAuthorized, authorize(method("invoice")), nil, payment.CodeAlreadyAuthorized},
		"authorize what was captured":         {isCaptured, authorize(), nil, ""},
		"authorize otherwise when captured":   {isCaptured, authorize(amount(gbp("1"))), nil, payment.CodeAlreadyAuthorized},
		"authorize what was voided":           {isVoided, authorize(), nil, payment.CodeVoided},
		"authorize what was voided before":    {events{voidedBefore()}, authorize(), nil, payment.CodeVoided},
		"authorize on a refund":               {isRefund, authorize(), nil, payment.CodeAlreadyRefunded},
		"capture":                             {isAuthorized, capture, events{captured()}, ""},
		"capture twice":                       {isCaptured, capture, nil, ""},
		"capture nothing":                     {nil, capture, nil, payment.CodeNotAuthorized},
		"capture what was voided":             {isVoided, capture, nil, payment.CodeVoided},
		"void":                                {isAuthorized, void, events{voided()}, ""},
		"void twice":                          {isVoided, void, nil, ""},
		"void before authorize":               {nil, void, events{voidedBefore()}, ""},
		"void before authorize, twice":        {events{voidedBefore()}, void, nil, ""},
		"void what was captured":              {isCaptured, void, nil, payment.CodeCaptured},
		"void a refund":                       {isRefund, void, nil, payment.CodeCaptured},
		"refund all":                          {isCaptured, refund("139.12", ""), events{refunded("139.12", "")}, ""},
		"refund too much":                     {isCaptured, refund("139.121", ""), nil, payment.CodeRefundExceeds},
		"refund in parts":                     {append(isCaptured, refunded("39.12", "")), refund("100", ""), events{refunded("100", "")}, ""},
		"refund too much in parts":            {append(isCaptured, refunded("39.13", "")), refund("100", ""), nil, payment.CodeRefundExceeds},
		"refund the same part again":          {append(isCaptured, refunded("9", "")), refund("9", ""), events{refunded("9", "")}, ""},
		"refund with a reference":             {isCaptured, refund("9", "R1"), events{refunded("9", "R1")}, ""},
		"refund a reference twice":            {append(isCaptured, refunded("9", "R1")), refund("9", "R1"), nil, ""},
		"refund a reference twice, all of it": {append(isCaptured, refunded("139.12", "R1")), refund("139.12", "R1"), nil, ""},
		"refund a reference differently":      {append(isCaptured, refunded("9", "R1")), refund("8", "R1"), nil, payment.CodeReferenceDiffers},
		"refund another reference":            {append(isCaptured, refunded("9", "R1")), refund("9", "R2"), events{refunded("9", "R2")}, ""},
		"refund nothing":                      {nil, refund("1", ""), nil, payment.CodeNotCaptured},
		"refund what is not captured":         {isAuthorized, refund("1", ""), nil, payment.CodeNotCaptured},
		"refund what was voided":              {isVoided, refund("1", ""), nil, payment.CodeNotCaptured},
		"refund in another currency": {
			isCaptured, payment.Refund{ID: "1", Amount: money.MustParse("1", "EUR"), Reason: "x", At: at}, nil, payment.CodeCurrencyDiffers,
		},
		"refund without payment":            {nil, unreferenced("10"), events{refundedAlone("10")}, ""},
		"refund without payment twice":      {isRefund, unreferenced("10"), nil, ""},
		"refund without payment otherwise":  {isRefund, unreferenced("11"), nil, payment.CodeAlreadyRefunded},
		"refund unreferenced what was paid": {isCaptured, unreferenced("10"), nil, payment.CodeHasPayment},
		"refund what rests on no payment":   {isRefund, refund("1", ""), nil, payment.CodeNotCaptured},
		"adjust":                            {nil, adjust, events{adjusted("-5")}, ""},
		"adjust twice, no document":         {events{adjusted("-5")}, adjust, events{adjusted("-5")}, ""},
		"adjust what was captured":          {isCaptured, adjust, events{adjusted("-5")}, ""},
		"adjust up from a document":         {nil, badDebt("1200.05"), events{badDebtEvent("1200.05")}, ""},
		"adjust down from a document":       {nil, badDebt("-75.125"), events{badDebtEvent("-75.125")}, ""},
		"adjust from a document twice":      {events{badDebtEvent("-75.125")}, badDebt("-75.125"), nil, ""},
		"adjust from a document otherwise":  {events{badDebtEvent("-75.125")}, badDebt("-75"), nil, payment.CodeReferenceDiffers},
	} {
		t.Run(name, func(t *testing.T) {
			outcome := commandtest.For(t, payment.Aggregate()).Given(c.given...).When(c.when)
			if c.rejected != "" {
				outcome.ThenRejected(c.rejected)
			} else {
				outcome.Then(c.then...)
			}
		})
	}
}

func TestADeclinedPaymentMayBeTriedAgain(t *testing.T) {
	commandtest.For(t, payment.Aggregate()).
		When(authorize(method(payment.MethodDeclined))).ThenRejected(payment.CodeDeclined).
		When(authorize()).Then(authorized())
}

func TestInvalidCommands(t *testing.T) {
	document := func(f func(*payment.Adjust)) payment.Adjust {
		c := badDebt("1200.05")
		f(&c)
		return c
	}
	long := strings.Repeat("x", payment.MaxTextBytes+1)
	for name, c := range map[string]struct {
		when     payment.Command
		mentions string
	}{
		"no id":                          {payment.Capture{At: at}, "stream id is empty"},
		"authorize for no order":         {authorize(func(c *payment.Authorize) { c.OrderID = "" }), "order id is empty"},
		"authorize by no method":         {authorize(method("")), "method is empty"},
		"authorize no currency":          {authorize(amount(money.Amount{})), "amount has no currency"},
		"authorize less than nothing":    {authorize(amount(gbp("-1"))), "amount -1 GBP is negative"},
		"authorize, limit negative":      {authorize(limit(gbp("-1"))), "limit -1 GBP is negative"},
		"authorize, long customer":       {authorize(func(c *payment.Authorize) { c.CustomerID = long }), "customer id has 501 bytes"},
		"authorize without time":         {authorize(func(c *payment.Authorize) { c.At = time.Time{} }), "time is missing"},
		"capture without time":           {payment.Capture{ID: "1"}, "time is missing"},
		"void without reason":            {payment.Void{ID: "1", At: at}, "reason is empty"},
		"void without time":              {payment.Void{ID: "1", Reason: "x"}, "time is missing"},
		"refund nothing":                 {refund("0", ""), "amount 0 GBP is not positive"},
		"refund less":                    {refund("-1", ""), "amount -1 GBP is not positive"},
		"refund without reason":          {payment.Refund{ID: "1", Amount: gbp("1"), At: at}, "reason is empty"},
		"refund, long reference":         {refund("1", long), "reference has 501 bytes"},
		"refund without time":            {payment.Refund{ID: "1", Amount: gbp("1"), Reason: "x"}, "time is missing"},
		"unreferenced refund of nothing": {unreferenced("0"), "amount 0 GBP is not positive"},
		"unreferenced without reason":    {payment.RefundUnreferenced{ID: "1", Amount: gbp("1"), At: at}, "reason is empty"},
		"unreferenced, long customer":    {payment.RefundUnreferenced{ID: "1", CustomerID: long, Amount: gbp("1"), Reason: "x", At: at}, "customer id has 501 bytes"},
		"unreferenced without time":      {payment.RefundUnreferenced{ID: "1", Amount: gbp("1"), Reason: "x"}, "time is missing"},
		"adjust by 0":                    {payment.Adjust{ID: "1", Amount: gbp("0"), Reason: "x", At: at}, "changes nothing"},
		"adjust without currency":        {payment.Adjust{ID: "1", Reason: "x", At: at}, "amount has no currency"},
		"adjust without reason":          {payment.Adjust{ID: "1", Amount: gbp("1"), At: at}, "reason is empty"},
		"adjust without time":            {payment.Adjust{ID: "1", Amount: gbp("1"), Reason: "x"}, "time is missing"},
		"document without id":            {document(func(c *payment.Adjust) { c.Document.ID = "" }), "document id is empty"},
		"document line 0":                {document(func(c *payment.Adjust) { c.Document.Line = 0 }), "document line 0"},
		"document, long code":            {document(func(c *payment.Adjust) { c.Document.StockCode = long }), "document stock code has 501 bytes"},
		"document, long customer":        {document(func(c *payment.Adjust) { c.Document.CustomerID = long }), "document customer id has 501 bytes"},
		"document, long country":         {document(func(c *payment.Adjust) { c.Document.Country = long }), "document country has 501 bytes"},
		"document says another amount":   {document(func(c *payment.Adjust) { c.Document.Quantity = 2 }), "amount 1200.05 GBP is not 2 × 1200.05 GBP"},
	} {
		t.Run(name, func(t *testing.T) {
			commandtest.For(t, payment.Aggregate()).When(c.when).ThenInvalid(c.mentions)
		})
	}
}

// TestARecordedAmountThatMakesNoSense: what cannot be read stops the payment, it does not count as nothing.
func TestARecordedAmountThatMakesNoSense(t *testing.T) {
	a := payment.Aggregate()
	broken := captured()
	s := a.Evolve(payment.State{}, &commercev1.PaymentAuthorized{Amount: &commercev1.Money{Currency: "GBP", Amount: "1e3"}})
	s = a.Evolve(s, broken)
	if events, err := a.Decide(s, refund("1", "")); err == nil || !strings.Contains(err.Error(), `recorded amount: read amount: "1e3"`) {
		t.Errorf("decided %v, %v", events, err)
	}
}

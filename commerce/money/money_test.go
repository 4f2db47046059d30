package money

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestParseAndString(t *testing.T) {
	for in, want := range map[string]string{
		"2.55": "2.55", "2.50": "2.5", "0": "0", "-0": "0", "-0.000": "0", "0.001": "0.001",
		"-11062.06": "-11062.06", "007": "7", "00.10": "0.1", "1.0000000000000": "1", "0.000000001": "0.000000001",
		"999999999999999999.999999999": "999999999999999999.999999999", "-999999999999999999": "-999999999999999999",
		strings.Repeat("0", 300) + "1": "1",
	} {
		a, err := Parse(in, "GBP")
		if err != nil {
			t.Errorf("Parse(%q): %v", in, err)
			continue
		}
		if a.String() != want || a.Currency() != "GBP" {
			t.Errorf("Parse(%q) = %s %s, want %s GBP", in, a, a.Currency(), want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct {
		number, currency string
		want             error
	}{
		{"", "GBP", ErrSyntax},
		{"-", "GBP", ErrSyntax},
		{".", "GBP", ErrSyntax},
		{".5", "GBP", ErrSyntax},
		{"5.", "GBP", ErrSyntax},
		{"+5", "GBP", ErrSyntax},
		{"--5", "GBP", ErrSyntax},
		{"1e3", "GBP", ErrSyntax},
		{"1,000", "GBP", ErrSyntax},
		{" 1", "GBP", ErrSyntax},
		{"1.2.3", "GBP", ErrSyntax},
		{"NaN", "GBP", ErrSyntax},
		{"٣", "GBP", ErrSyntax},
		{"1000000000000000000", "GBP", ErrOverflow},
		{strings.Repeat("9", 300), "GBP", ErrOverflow},
		{"0.0000000001", "GBP", ErrScale},
		{"1", "", ErrCurrency},
		{"1", "gbp", ErrCurrency},
		{"1", "GBPX", ErrCurrency},
	} {
		a, err := Parse(c.number, c.currency)
		if !errors.Is(err, c.want) || a != (Amount{}) {
			t.Errorf("Parse(%q, %q) = %v, %v; want %v", c.number, c.currency, a, err, c.want)
		}
	}
}

func TestCurrenciesDoNotMix(t *testing.T) {
	pound, euro := MustParse("1", "GBP"), MustParse("1", "EUR")
	if _, err := pound.Add(euro); !errors.Is(err, ErrCurrency) {
		t.Errorf("Add: %v", err)
	}
	if _, err := pound.Sub(euro); !errors.Is(err, ErrCurrency) {
		t.Errorf("Sub: %v", err)
	}
	if _, err := pound.Cmp(euro); !errors.Is(err, ErrCurrency) {
		t.Errorf("Cmp: %v", err)
	}
	if pound == euro || pound.Equal(euro) {
		t.Error("a pound equals a euro")
	}
}

func TestZeroValueIsNeutral(t *testing.T) {
	pound := MustParse("1.25", "GBP")
	for name, f := range map[string]func() (Amount, error){
		"0+x": func() (Amount, error) { return Amount{}.Add(pound) },
		"x+0": func() (Amount, error) { return pound.Add(Amount{}) },
		"x-0": func() (Amount, error) { return pound.Sub(Amount{}) },
	} {
		if got, err := f(); err != nil || got != pound {
			t.Errorf("%s = %s %s, %v", name, got, got.Currency(), err)
		}
	}
	if c, err := pound.Cmp(Amount{}); err != nil || c != 1 {
		t.Errorf("Cmp with the zero value = %d, %v", c, err)
	}
}

func TestOverflowIsAnError(t *testing.T) {
	most := MustParse("999999999999999999.999999999", "GBP")
	least := MustParse("0.000000001", "GBP")
	if _, err := most.Add(least); !errors.Is(err, ErrOverflow) {
		t.Errorf("Add: %v", err)
	}
	if _, err := most.Neg().Sub(least); !errors.Is(err, ErrOverflow) {
		t.Errorf("Sub: %v", err)
	}
	for _, n := range []int64{2, -2, math.MaxInt64, math.MinInt64} {
		if _, err := most.Mul(n); !errors.Is(err, ErrOverflow) {
			t.Errorf("Mul(%d): %v", n, err)
		}
	}
	if got, err := most.Mul(-1); err != nil || got != most.Neg() {
		t.Errorf("Mul(-1) = %s, %v", got, err)
	}
}

func TestFromUnits(t *testing.T) {
	for _, c := range []struct {
		units int64
		scale uint8
		want  string
	}{{255, 2, "2.55"}, {-1, 9, "-0.000000001"}, {7, 0, "7"}, {0, 4, "0"}, {math.MinInt64, 9, "-9223372036.854775808"}} {
		if got, err := FromUnits(c.units, c.scale, "GBP"); err != nil || got.String() != c.want {
			t.Errorf("FromUnits(%d, %d) = %s, %v; want %s", c.units, c.scale, got, err, c.want)
		}
	}
	if _, err := FromUnits(math.MaxInt64, 0, "GBP"); !errors.Is(err, ErrOverflow) {
		t.Errorf("FromUnits beyond the bounds: %v", err)
	}
	if _, err := FromUnits(1, 10, "GBP"); !errors.Is(err, ErrScale) {
		t.Errorf("FromUnits with ten decimals: %v", err)
	}
}

func TestWireForms(t *testing.T) {
	data, err := json.Marshal(MustParse("-2.550", "GBP"))
	if err != nil || string(data) != `{"currency":"GBP","amount":"-2.55"}` {
		t.Errorf("JSON = %s, %v", data, err)
	}
	text, err := MustParse("-2.550", "GBP").MarshalText()
	if err != nil || string(text) != "-2.55 GBP" {
		t.Errorf("text = %s, %v", text, err)
	}
	for _, bad := range []string{`{"currency":"GBP","amount":2.55}`, `{"currency":"","amount":"1"}`, `{}`, `"2.55"`} {
		kept := MustParse("1", "EUR")
		if err := json.Unmarshal([]byte(bad), &kept); err == nil || kept != MustParse("1", "EUR") {
			t.Errorf("%s was read as %s %s", bad, kept, kept.Currency())
		}
	}
}

// amounts draws amounts over the whole range, near its edges, and as prices are.
func amounts(currency string) *rapid.Generator[Amount] {
	return rapid.Custom(func(t *rapid.T) Amount {
		number := rapid.OneOf(
			rapid.StringMatching(`-?[0-9]{1,4}(\.[0-9]{1,3})?`),
			rapid.StringMatching(`-?[0-9]{1,18}(\.[0-9]{1,9})?`),
			rapid.StringMatching(`-?99999999999999999[0-9]\.99999999[0-9]`),
		).Draw(t, "number")
		return MustParse(number, currency)
	})
}

// rat is the amount as math/big sees its text.
func rat(t *rapid.T, a Amount) *big.Rat {
	r, ok := new(big.Rat).SetString(a.String())
	if !ok {
		t.Fatalf("%q is no number", a.String())
	}
	return r
}

// expect compares an operation with exact rational arithmetic, bounds included.
func expect(t *rapid.T, operation string, got Amount, err error, want *big.Rat) {
	bound, _ := new(big.Rat).SetString("1000000000000000000")
	if new(big.Rat).Abs(want).Cmp(bound) >= 0 {
		if !errors.Is(err, ErrOverflow) {
			t.Fatalf("%s = %s, %v; want ErrOverflow for %s", operation, got, err, want)
		}
		return
	}
	if err != nil || rat(t, got).Cmp(want) != 0 {
		t.Fatalf("%s = %s, %v; want %s", operation, got, err, want.FloatString(9))
	}
	text := got.String()
	if text == "-0" || strings.ContainsAny(text, "eE+") || strings.Contains(text, ".") && text[len(text)-1] == '0' {
		t.Fatalf("%s is written %q", operation, text)
	}
	if again := MustParse(text, "GBP"); again != got {
		t.Fatalf("%s: %q reads back as another value: %s", operation, text, cmp.Diff(got, again))
	}
}

// TestArithmeticIsExact shows D1.
func TestArithmeticIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := amounts("GBP").Draw(t, "a"), amounts("GBP").Draw(t, "b")
		n := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1200, 1200)).Draw(t, "n")
		x, y := rat(t, a), rat(t, b)

		sum, err := a.Add(b)
		expect(t, "a+b", sum, err, new(big.Rat).Add(x, y))
		difference, err := a.Sub(b)
		expect(t, "a-b", difference, err, new(big.Rat).Sub(x, y))
		product, err := a.Mul(n)
		expect(t, "a*n", product, err, new(big.Rat).Mul(x, new(big.Rat).SetInt64(n)))
		expect(t, "-a", a.Neg(), nil, new(big.Rat).Neg(x))

		order, err := a.Cmp(b)
		if err != nil || order != x.Cmp(y) || (order == 0) != (a == b) {
			t.Fatalf("Cmp = %d, %v, == %v; want %d", order, err, a == b, x.Cmp(y))
		}
		if a.Sign() != x.Sign() || a.IsZero() != (x.Sign() == 0) {
			t.Fatalf("sign %d, zero %v; want %d", a.Sign(), a.IsZero(), x.Sign())
		}
	})
}

func TestWireFormsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.OneOf(amounts("GBP"), amounts("EUR"), rapid.Just(Amount{})).Draw(t, "a")
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		var fromJSON, fromText Amount
		if err := json.Unmarshal(data, &fromJSON); err != nil || fromJSON != a {
			t.Fatalf("%s reads back as %v, %v", data, fromJSON, err)
		}
		text, err := a.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := fromText.UnmarshalText(text); err != nil || fromText != a {
			t.Fatalf("%s reads back as %v, %v", text, fromText, err)
		}
	})
}

// FuzzParse: whatever the text, Parse agrees with math/big on what it accepts.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"2.55", "-0", "1e3", ".5", "999999999999999999.999999999", "0.0000000001", "-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := Parse(s, "GBP")
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(s)
		got, gotOK := new(big.Rat).SetString(a.String())
		if !ok || !gotOK || want.Cmp(got) != 0 {
			t.Fatalf("Parse(%q) = %s", s, a)
		}
	})
}

func TestArithmeticDoesNotAllocate(t *testing.T) {
	price, total := MustParse("2.55", "GBP"), MustParse("1104.37", "GBP")
	n := testing.AllocsPerRun(100, func() {
		line, _ := price.Mul(-12)
		total, _ = total.Add(line)
	})
	if n != 0 {
		t.Errorf("Mul and Add allocate %v times", n)
	}
}

var sink Amount

func BenchmarkMulAdd(b *testing.B) {
	b.ReportAllocs()
	price := MustParse("2.55", "GBP")
	var total Amount
	for b.Loop() {
		line, _ := price.Mul(6)
		total, _ = total.Add(line)
	}
	sink = total
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sink, _ = Parse("2.55", "GBP")
	}
}

func BenchmarkString(b *testing.B) {
	b.ReportAllocs()
	a := MustParse("1104.37", "GBP")
	for b.Loop() {
		_ = a.String()
	}
}

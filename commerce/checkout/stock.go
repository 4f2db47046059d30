package checkout

import commercev1 "github.com/tributary-es/tributary/schemas/gen/tributary/commerce/v1"

// units are the units of one stock code.
type units struct {
	code     string
	quantity int64
}

// byCode sums the lines up by stock code, in the order in which the codes appear first.
func byCode(lines []*commercev1.Line) []units {
	places := make(map[string]int, len(lines))
	stock := make([]units, 0, len(lines))
	for _, l := range lines {
		place, known := places[l.GetStockCode()]
		if !known {
			place = len(stock)
			places[l.GetStockCode()] = place
			stock = append(stock, units{code: l.GetStockCode()})
		}
		stock[place].quantity += l.GetQuantity()
	}
	return stock
}

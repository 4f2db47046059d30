package money_test

import (
	"fmt"

	"github.com/tributary-es/tributary/commerce/money"
)

func Example() {
	price, err := money.Parse("0.850", "GBP")
	if err != nil {
		fmt.Println(err)
		return
	}
	line, err := price.Mul(12)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(line, line.Currency())

	_, err = line.Add(money.MustParse("1", "EUR"))
	fmt.Println(err)
	// Output:
	// 10.2 GBP
	// add: currency: GBP and EUR do not mix
}

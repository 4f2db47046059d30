#!/usr/bin/env python3
"""Figures of retail CSV files, computed straight from the files.

usage: retailsums.py FILE...

Reads invoice lines (plain CSV or gzip) and prints one JSON object: what an
import of these files must show in Redis and in ClickHouse, under the names that
`tributary demo --json` uses. It is the other side of a comparison and therefore
shares nothing with the importer: Python's standard library and no more.

Sums of money are exact decimals, printed as strings without exponent and
without trailing zeros. Definitions:

  orders, shipped  invoices of digits with a line of positive quantity and price
  stock_codes      distinct codes as written, lines of A invoices apart
  on_hand          units returned on C invoices, and units of price 0 and
                   positive quantity on invoices of digits
  customers        distinct, guests not counted
  net, by_...      sums of Quantity x UnitPrice over all lines
"""

import csv
import decimal
import gzip
import io
import json
import sys

# Every sum is exact, or the script fails.
CONTEXT = decimal.Context(prec=100, traps=[decimal.Inexact, decimal.InvalidOperation, decimal.Overflow])


def lines(path):
    with open(path, "rb") as raw:
        data = raw.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    text = io.StringIO(data.decode("utf-8-sig"), newline="")
    yield from csv.DictReader(text, strict=True)


def plain(value):
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def sums(paths):
    count = 0
    invoices, orders, customers, codes = set(), set(), set(), set()
    returned = found = 0
    net = decimal.Decimal(0)
    by = {"day": {}, "month": {}, "country": {}, "stock": {}}

    for path in paths:
        for line in lines(path):
            count += 1
            invoice, code = line["InvoiceNo"], line["StockCode"]
            quantity, price = int(line["Quantity"]), CONTEXT.create_decimal(line["UnitPrice"])
            date = line["InvoiceDate"]

            invoices.add(invoice)
            if not invoice.startswith("A"):
                codes.add(code)
            if line["CustomerID"]:
                customers.add(line["CustomerID"].removesuffix(".0"))
            if invoice.startswith("C"):
                returned += max(-quantity, 0)
            elif not invoice.startswith("A") and quantity > 0:
                if price > 0:
                    orders.add(invoice)
                elif price == 0:
                    found += quantity

            amount = CONTEXT.multiply(decimal.Decimal(quantity), price)
            net = CONTEXT.add(net, amount)
            for name, key in (("day", date[:10]), ("month", date[:7]), ("country", line["Country"]), ("stock", code)):
                by[name][key] = CONTEXT.add(by[name].get(key, decimal.Decimal(0)), amount)

    return {
        "redis": {
            "orders": len(orders),
            "shipped": len(orders),
            "stock_codes": len(codes),
            "on_hand": returned + found,
        },
        "clickhouse": {
            "lines": count,
            "invoices": len(invoices),
            "returns": sum(1 for invoice in invoices if invoice.startswith("C")),
            "customers": len(customers),
            "net": plain(net),
            **{"by_" + name: {key: plain(by[name][key]) for key in sorted(by[name])} for name in by},
        },
    }


def main(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stderr)
        return 0 if arguments else 2
    json.dump(sums(arguments), sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

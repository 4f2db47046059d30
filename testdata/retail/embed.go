// Package retailsample carries the retail sample in the binary, so that a first
// start has real orders to show without a file or a network. README.md beside it
// names the source of the data and the terms of its use (CC BY 4.0).
package retailsample

import _ "embed"

// Name is what the sample is called where a file name is wanted.
const Name = "sample-2010-12.csv.gz"

//go:embed sample-2010-12.csv.gz
var compressed string

// Compressed returns the sample as it lies in the repository: CSV in gzip.
func Compressed() string { return compressed }

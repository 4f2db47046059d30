// Package e2e holds the end-to-end tests: they start the built binary, embedded and against real Kafka, Redis and
// ClickHouse, and look at what it does through other programs' eyes: plain HTTP, plain RESP, plain SQL, a foreign Kafka
// client, exit codes. There is nothing here but tests.
//
//	go test ./node/e2e                                  the form that runs with every change
//	go test ./node/e2e -long -timeout 60m               longer outages, larger imports
//	go test ./node/e2e -run Demo -demo.inputs 'G/*.gz'  the demo's contract on other files
package e2e
